"""The pass that writes: rows in the order of the input, joined by id with what the ledger holds, shaped into output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from synth_cli.compile.script import Past
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.row import Finished, Row, Sampled
from synth_cli.core.state import Invalid
from synth_cli.outputs.candidate import Sink
from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.turns import Dropped
from synth_cli.report.causes import Causes, Drops
from synth_cli.run.failures import Failures
from synth_cli.run.marks import Marking
from synth_cli.run.passage import Chain, children
from synth_cli.run.running import Running
from synth_cli.run.stage import EachStage, ModelStage, Open, Seen, WholeStage, gone_through
from synth_cli.stores.ledger import SqliteLedger

NOT_ASKED = Fault(FaultKind.MISSING, "not answered yet; run again to ask")


@dataclass(slots=True)
class StepCounts:
    """What became of the rows of one step."""

    rows_in: int = 0
    rows_out: int = 0
    filtered: int = 0
    failed: int = 0
    unasked: int = 0


@dataclass(slots=True)
class Counts:
    """What became of the rows: `rows_in`, `failed`, `kept` and `unasked` count input rows, the others output rows."""

    rows_in: int = 0
    rows_out: int = 0
    good: int = 0
    """Those of them that are not only there because `on_failure` keeps them."""
    filtered: int = 0
    reused: int = 0
    """Answers that were there before this run."""
    failed: int = 0
    """Input rows of which something failed, in whatever step."""
    kept: int = 0
    """Failed, and in the output all the same."""
    unasked: int = 0
    """Failed only because some of their requests have not been asked yet."""
    causes: Causes = field(default_factory=Causes)
    drops: Drops = field(default_factory=Drops)
    steps: dict[str, StepCounts] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether at least one row came through, or none failed: there may be nothing to come."""
        return self.good > 0 or not self.failed


class Marks:
    """A set of row indices: a bit each, for there may be millions."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, index: int) -> None:
        place, bit = divmod(index, 8)
        if place >= len(self._bits):
            self._bits.extend(bytes(max(place + 1, 2 * len(self._bits)) - len(self._bits)))
        if not self._bits[place] >> bit & 1:
            self._bits[place] |= 1 << bit
            self.count += 1

    def __contains__(self, index: int) -> bool:
        place, bit = divmod(index, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)


class Passing:
    """A `Visitor` that lets through what is answered."""

    asking = False

    def __init__(self) -> None:
        self.rows = 0

    def read(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)

    def gap(self, stage: WholeStage, rows: int) -> bool:
        return True

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None:
        self.note(row, finished)

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        """What is left out has not failed."""

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        samples = [one if isinstance(one, Sampled) else unasked(one, place) for place, one in enumerate(seen.samples)]
        finished = stage.shaper.finish(seen.row, samples)
        self.note(seen.row, finished)
        return finished

    def note(self, row: Row, finished: Finished) -> None:
        """What a row became in one step."""


class Writing:
    """A `Visitor` that counts, and notes failures in failed.jsonl.

    `ended`: the run ended before all was asked. Then only what failed is noted, with `tried` also what was asked and
    is not answered; rows that nobody asked about are nobody's failure.
    """

    asking = False

    def __init__(
        self,
        failures: IO[bytes],
        ledger: SqliteLedger,
        started: float,
        *,
        ended: bool = False,
        tried: bool = False,
        marking: Marking | None = None,
    ) -> None:
        self._failures = Failures(failures, ledger)
        self._started = started
        self._ended = ended
        self._tried = tried
        self._marking = marking
        self._failed, self._asked = Marks(), Marks()
        self._kept = Marks()
        self._nulls: set[bytes] = set()
        """Ids of kept rows of which nothing came, as long as no other row came out."""
        self.counts = Counts()

    def read(self, rows: Sequence[Row]) -> None:
        self.counts.rows_in += len(rows)
        if self._marking is not None:
            self._marking.read(rows)

    def gap(self, stage: WholeStage, rows: int) -> bool:
        """What is answered is gone on with, if this is the end of it."""
        return not self._ended

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        counts, step, row = self.counts, self._step(stage.name), seen.row
        step.rows_in += 1
        if self._ended and seen.open:
            self._note_open(stage, seen)
            return None
        samples = [one if isinstance(one, Sampled) else unasked(one, place) for place, one in enumerate(seen.samples)]
        finished = stage.shaper.finish(row, samples)
        counts.reused += sum(one.replied is not None and one.replied.at < self._started for one in samples)
        self._finished(step, row, finished)
        if finished.failures:
            by_sample = {one.sample: one for one in samples}
            for sample, cause in finished.failures:
                self.counts.causes.add(cause)
                self._failures.asked(stage, row, by_sample[sample], cause)
            asked = any(cause is not NOT_ASKED for _, cause in finished.failures)
            step.unasked += not asked
            # a row of which some samples came is in the output for their sake
            nothing = len(finished.failures) == len(samples)
            self._mark(row, asked=asked, kept=nothing and bool(finished.rows))
        return finished

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None:
        step = self._step(stage.name)
        step.rows_in += 1
        self._finished(step, row, finished)
        if row.id in self._nulls:
            # what is computed of nothing is nothing
            self._nulls.update([child.id for child in children(row, finished)])
        for _, cause in finished.failures:
            self.counts.causes.add(cause)
            self._failures.computed(stage, row, cause)
            self._mark(row, asked=True, kept=bool(finished.rows))

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        step = self._step(stage.name)
        step.rows_in += rows
        step.rows_out += made
        step.filtered += left_out
        self.counts.filtered += left_out

    def formatted(self, rows: Sequence[Row], formatter: Formatter, most: int | None = None) -> list[Mapping[str, Any]]:
        """Rows that came out of the last step, in the shape that is written; at most so many in all."""
        made: list[Mapping[str, Any]] = []
        for row in rows:
            shaped = formatter.shape(row.values)
            if isinstance(shaped, Dropped):
                self.counts.drops.add(shaped.reason, row.index)
            else:
                made.append(shaped if self._marking is None else self._marking.marked(row.index, shaped))
                self.counts.good += row.id not in self._nulls
        if self.counts.good:
            self._nulls.clear()
        made = made if most is None else made[: most - self.counts.rows_out]
        self.counts.rows_out += len(made)
        return made

    def close(self) -> Counts:
        """The counts, once all rows have gone by."""
        counts = self.counts
        counts.failed, counts.kept = self._failed.count, self._kept.count
        counts.unasked = self._failed.count - self._asked.count
        return counts

    def _step(self, name: str) -> StepCounts:
        return self.counts.steps.setdefault(name, StepCounts())

    def _finished(self, step: StepCounts, row: Row, finished: Finished) -> None:
        step.rows_out += len(finished.rows)
        step.filtered += finished.filtered
        step.failed += bool(finished.failures)
        self.counts.filtered += finished.filtered
        if finished.nulls and finished.rows and not self.counts.good:
            made = children(row, finished)
            self._nulls.update([made[place].id for place in finished.nulls])

    def _mark(self, row: Row, *, asked: bool, kept: bool) -> None:
        self._failed.add(row.index)
        if asked:
            self._asked.add(row.index)
        if kept:
            self._kept.add(row.index)

    def _note_open(self, stage: ModelStage, seen: Seen) -> None:
        """Of a row that is not there yet: what failed of it, and what was tried."""
        for place, one in enumerate(seen.samples):
            cause: Fault | Invalid | None = None
            if isinstance(one, Sampled):
                cause = one.cause
            elif self._tried:
                cause = one.history.faults[-1].fault if one.history.faults else one.stands.invalid
            if cause is not None:
                sampled = one if isinstance(one, Sampled) else halfway(one, place, cause)
                self.counts.causes.add(cause)
                self._failures.asked(stage, seen.row, sampled, cause)
                self._mark(seen.row, asked=True, kept=False)


def unasked(one: Open, place: int) -> Sampled:
    return halfway(one, place, NOT_ASKED)


def halfway(one: Open, place: int, cause: Fault | Invalid | None) -> Sampled:
    """A sample of which the latest request is still open, with those before it."""
    so_far = (*one.past, Past(one.draft, False, id=one.request.id))
    attempts = one.attempts + len(one.history.replies) + len(one.history.faults)
    return Sampled(one.request.id, place, cause=cause, attempts=attempts, **gone_through(so_far))


def note_failures(chain: Chain, ledger: SqliteLedger, started: float, failed: Path, *, tried: bool) -> Counts:
    """Writes failed.jsonl of a run that ended before all was asked; counts the failures, and how far rows came."""
    with failed.open("wb") as failures:
        visitor = Writing(failures, ledger, started, ended=True, tried=tried)
        for _ in chain.again(visitor).rows():
            pass
        counts = visitor.close()
    if not counts.failed:
        failed.unlink()
    return Counts(failed=counts.failed, causes=counts.causes, steps=counts.steps)


def came_through(chain: Chain, formatter: Formatter) -> Iterator[tuple[int, int]]:
    """Rows of the input that were read so far, and rows of the output that can be made of them; the last is all."""
    gathering, made = Passing(), 0
    for chunk in chain.again(gathering).rows():
        made += sum(not isinstance(formatter.shape(row.values), Dropped) for row in chunk)
        yield gathering.rows, made
    yield gathering.rows, made


def write(chain: Chain, running: Running, sinks: Sequence[Sink], formatter: Formatter) -> Counts:
    """Writes the candidates' rows, in their format, and failed.jsonl; memory stays flat."""
    failed, options, target = running.folder.failed_path, running.options, running.plan.target
    with failed.open("wb") as failures:
        marking = None if options.shard is None else Marking(options.shard, running)
        visitor = Writing(failures, running.ledger, running.started, marking=marking)
        for chunk in chain.again(visitor).rows():
            wanted = [row for row in chunk if options.part is None or row.index in options.part]
            rows = visitor.formatted(wanted, formatter, None if target is None else target.rows)
            if rows:
                for sink in sinks:
                    sink.write(rows)
        counts = visitor.close()
    if not counts.failed:
        failed.unlink()
    return counts
