"""The pass of `synth plan`: what is left to ask, counted for each step and model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from synth_cli.compile.flow import INPUT
from synth_cli.core.row import Finished, Row, Sampled
from synth_cli.run.outlook import NOTHING, Range
from synth_cli.run.passage import Chain
from synth_cli.run.stage import EachStage, ModelStage, Open, Seen, Stage, WholeStage

FAN_OUT = 10
"""Rows that an answer may become where `each` makes several of it: a guess."""


@dataclass(slots=True)
class Counted:
    """Requests, and the bytes of those that are new."""

    new: int = 0
    answered: int = 0
    failed: int = 0
    pending: int = 0
    """In open batches."""
    bytes: int = 0
    largest: int = 0
    """Bytes of the largest new one."""
    further: Range = NOTHING
    """That follow for samples which have begun: they take several."""


class Counting:
    """A `Visitor` that counts what is left to ask, for each step and model."""

    asking = True

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.rows = 0
        self.refused = 0
        self.counted: defaultdict[tuple[str, int], Counted] = defaultdict(Counted)
        self.arrived: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        """Rows that each step has still to give: they wait for an answer, or for others."""

    def read(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)

    def gap(self, stage: WholeStage, rows: int) -> bool:
        self.arrived[stage.name] += rows
        self.held[stage.name] += rows
        return False

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None:
        self.arrived[stage.name] += 1

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        self.arrived[stage.name] += rows

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        self.arrived[stage.name] += 1
        if seen.refused is not None:
            self.refused += 1
        else:
            for place, one in enumerate(seen.samples):
                if isinstance(one, Open):
                    self._open(stage, one)
                else:
                    self._past(stage, one.asked or ((stage.plan.members[place], one.cause is None),))
        if seen.open:
            self.held[stage.name] += 1 if stage.plan.step.group_samples else len(seen.samples)
            return None
        samples = [one for one in seen.samples if isinstance(one, Sampled)]
        return stage.shaper.finish(seen.row, samples) if self._chain.readers(stage.name) else Finished()

    def _open(self, stage: ModelStage, one: Open) -> None:
        self._past(stage, [(past.draft.voice, past.valid) for past in one.past])
        count = self.counted[stage.name, one.draft.voice]
        if one.pending:
            count.pending += 1
        else:
            count.new += 1
            count.bytes += one.request.input_bytes
            count.largest = max(count.largest, one.request.input_bytes)
        first = one.past[0].draft.voice if one.past else one.draft.voice
        for voice in stage.script.rest(first, sum(past.valid for past in one.past))[1:]:
            follows = self.counted[stage.name, voice]
            follows.further = Range(follows.further.low + (not stage.script.may_end), follows.further.high + 1)

    def _past(self, stage: ModelStage, asked: Sequence[tuple[int, bool]]) -> None:
        for voice, answered in asked:
            self.counted[stage.name, voice].answered += answered
            self.counted[stage.name, voice].failed += not answered

    def arriving(self, stage: Stage) -> Range:
        """Rows that may come to a step when what is missing before it is there: nobody knows how many."""
        low = high = 0.0
        for source in stage.plan.sources:
            if source != INPUT:
                made = self._made(self._chain.stages[source])
                low, high = low + made.low, high + made.high
        return Range(low, high)

    def _made(self, stage: Stage) -> Range:
        """Rows that a step may give when what is missing is there."""
        more, step, held = self.arriving(stage), stage.plan.step, self.held[stage.name]
        samples = 1 if step.group_samples else stage.plan.samples or 1
        several = step.each is not None or step.parse is not None or step.type == "python"
        fewer = several or step.keep_if is not None or step.type in ("dedup", "group")
        high = (held + more.high * samples) * (FAN_OUT if several else 1)
        return Range(0.0 if fewer else held + more.low * samples, high)

    def asking_for(self, stage: ModelStage, voice: int) -> Range:
        """Requests to a model that may be made yet: of samples that have begun, and of rows to come."""
        rows, further = self.arriving(stage), self.counted[stage.name, voice].further
        low, high = further.low, further.high
        for member in stage.plan.members:
            whom = stage.script.rest(member, 0)
            low += rows.low * (whom[:1] if stage.script.may_end else whom).count(voice)
            high += rows.high * whom.count(voice)
        return Range(low, high)
