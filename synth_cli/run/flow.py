"""Asking, as rows flow: what a pass finds open is handed to the engines, and what they bring goes on at once.

A row whose answers have come is finished and goes to the next step, whose requests join the queues. Queues are short:
the input is read on only when all of them have room, so that memory stays flat however many rows there are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from synth_cli.compile.script import Past
from synth_cli.core.events import Replied
from synth_cli.core.ports import Task
from synth_cli.core.reply import Fault, Reply
from synth_cli.core.request import identify
from synth_cli.core.row import Context, Finished, Row, Sampled
from synth_cli.core.shift import Ending, Shift
from synth_cli.core.state import NOTHING, Invalid
from synth_cli.core.work import stopped_by
from synth_cli.run.passage import Chain, children, coming
from synth_cli.run.queue import Queue
from synth_cli.run.stage import EachStage, ModelStage, Open, Seen, WholeStage, written

HIGH: Final = 2048
"""Tasks that wait for an engine, above which the input is not read on."""
TOGETHER: Final = 16
"""Rows that come to a step are looked up together, as long as its engine has other things to do."""
NOTHING_MADE: Final = Finished()
ENDED: Final = object()
MOMENT: Final = 0.05
"""Seconds that a pass goes on without a task before others have their turn."""


@dataclass(slots=True)
class Passed:
    """What a pass has gone by so far: rows of the input, and requests and how they stood."""

    rows: int = 0
    requests: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    """Rows that could not even be drafted."""
    pending: int = 0
    """Requests in open batches."""
    complete: bool = False
    known: Counter[str] = field(default_factory=Counter)
    """Requests of each step."""
    there: Counter[str] = field(default_factory=Counter)
    """Those of them that were answered when the pass met them."""


class Flow:
    """One pass of asking, for some of a job's engines.

    `queues` has the queue of each (step, voice) that is asked in this pass: what is open for others is left for
    another. Where `live` is false, answers do not come while the pass goes on (batches), and nothing flows.
    """

    def __init__(self, chain: Chain, shift: Shift, *, live: bool = True) -> None:
        self._chain = chain
        self._shift = shift
        self._live = live
        self._order = {name: place for place, name in enumerate(chain.stages)}
        self._readers = {name: chain.readers(name) for name in chain.stages}
        self.queues: dict[tuple[str, int], Queue] = {}
        self.passed = Passed()
        self.asking = True
        self.handed = 0
        """Tasks that were handed out."""
        self.more = False
        """Whether another pass may find something to do."""
        self.stopped: Ending | None = None
        """What the pass came upon that ends the run, once what was found before it is asked."""
        self.waiting = [0] * len(self._order)
        """Tasks of each step that wait for an engine."""
        self._reading = False
        self._tracked = 0
        self._arrived: dict[str, list[Row]] = {}
        """Rows that came to a step and are not looked up yet."""
        self._exhausted = False
        self._scan = self._scanning()

    def queue(self, voices: Sequence[tuple[str, int]], woken: Callable[[], None] = lambda: None) -> Queue:
        """The queue of an engine that answers for these."""
        made = Queue(self, len(self._order), woken)
        self.queues.update(dict.fromkeys(voices, made))
        return made

    @property
    def over(self) -> bool:
        """Whether nothing will come any more."""
        return self._exhausted and not self._tracked and not self._arrived

    @property
    def reading(self) -> bool:
        """Whether the pass has still to go on, and may."""
        return not self._exhausted and self._shift.ending is None and self._room()

    def next(self, queue: Queue) -> Task | None:
        """A task for this queue's engine; None where none was found in a moment, or there is none."""
        if not self.found(queue):
            return None
        task = queue.pop()
        self.handed += task is not None
        return task

    def found(self, queue: Queue) -> bool:
        """Whether a task for this queue was found in a moment: signals and others must be heard in between."""
        until = time.monotonic() + MOMENT
        while not queue.size:
            if not self._take_up() and (not self._room() or next(self._scan, ENDED) is ENDED):
                break
            if time.monotonic() >= until:
                break
        return queue.size > 0

    def scan(self) -> Iterator[None]:
        """Goes through everything, step by step, without handing anything out."""
        return self._scan

    def crowded(self, step: int) -> bool:
        """Whether so much waits behind a step that it must not bring more."""
        return any(waiting > HIGH for waiting in self.waiting[step + 1 :])

    def taken(self, step: int) -> None:
        """A task of this step waits no longer."""
        self.waiting[step] -= 1
        if self.waiting[step] == HIGH:
            for queue in self.queues.values():
                queue.woken()

    def _room(self) -> bool:
        return all(waiting < HIGH for waiting in self.waiting)

    def _scanning(self) -> Iterator[None]:
        self._reading = True
        for _ in self._chain.first(self).rows():
            self._reading = False
            yield
            if self._shift.ending is not None:
                return
            if self.stopped is not None:
                break
            self._reading = True
        self._reading = False
        self.passed.complete = self.stopped is None
        self._exhausted = True

    # what the pass meets

    def read(self, rows: Sequence[Row]) -> None:
        self.passed.rows += len(rows)

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        passed = self.passed
        if self.stopped is not None:
            return None
        if seen.refused is not None:
            passed.refused += 1
            self._failed(stage, seen.row, seen.refused)
        else:
            passed.requests += len(seen.samples)
            passed.known[stage.name] += len(seen.samples)
        if not seen.open:
            for one in seen.samples:
                assert isinstance(one, Sampled)
                if one.cause is None:
                    passed.answered += 1
                    passed.there[stage.name] += 1
                elif seen.refused is None:
                    passed.failed += 1
                    self._failed(stage, seen.row, one.cause)
            return self._made(stage, seen.row, [one for one in seen.samples if isinstance(one, Sampled)])
        self._open(stage, seen)
        return None

    def _made(self, stage: ModelStage, row: Row, samples: Sequence[Sampled]) -> Finished:
        """What a row became, where somebody is to know."""
        if not self._readers[stage.name] and not stage.stops:
            return NOTHING_MADE
        finished = stage.shaper.finish(row, samples)
        for _, cause in finished.failures:
            self._failed(stage, row, cause)
        return finished

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None:
        for _, cause in finished.failures:
            self._failed(stage, row, cause)

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        """Nothing is asked for it."""

    def gap(self, stage: WholeStage, rows: int) -> bool:
        self.more = True
        return False

    # rows on their way

    def _open(self, stage: ModelStage, seen: Seen) -> None:
        """Hands what is open to the engines, and waits for it where something follows."""
        passed = self.passed
        tracked = self._live and (bool(self._readers[stage.name]) or stage.plan.several or stage.stops)
        run = None
        if tracked:
            run = _Run(stage, seen.row, [one if isinstance(one, Sampled) else None for one in seen.samples])
        for place, one in enumerate(seen.samples):
            if isinstance(one, Sampled):
                passed.answered += one.cause is None
                passed.there[stage.name] += one.cause is None
                passed.failed += one.cause is not None
                if one.cause is not None:
                    self._failed(stage, seen.row, one.cause)
            elif one.pending:
                passed.pending += 1
            else:
                self._ask(stage, one, None if run is None else _Sample(self, run, place, one), seen.row, place)

    def _ask(self, stage: ModelStage, one: Open, settling: _Sample | None, row: Row, sample: int) -> bool:
        """Queues a request; whether an engine of this pass will be asked."""
        queue = self.queues.get((stage.name, one.draft.voice))
        if queue is None:
            self.more = True
            return False
        rules, context = stage.rules[one.draft.voice], Context(row, sample)
        if one.history is NOTHING:
            task = Task(one.request, context, rules=rules, settling=settling)
        else:
            messages = stage.policies[one.draft.voice].again(one.request.messages, one.stands)
            task = Task(
                one.request.anew(len(one.history.replies)),
                context,
                one.history.tries + 1,
                one.history.attempts,
                messages,
                rules=rules,
                settling=settling,
            )
        self._tracked += settling is not None
        queue.add(self._order[stage.name], task)
        return True

    def settled(self, sample: _Sample, sampled: Sampled, *, value: Any) -> bool:
        """A request came to its end: the sample goes on, or the row. Whether the sample has failed."""
        self._tracked -= 1
        run, one = sample.run, sample.open
        stage, row = run.stage, run.row
        if stage.plan.several:
            past = (*one.past, Past(one.draft, sampled.cause is None, value))
            following = stage.script.following(row, past)
            if isinstance(following, Fault):
                sampled = Sampled(one.request.id, sampled.sample, cause=following, messages=sampled.messages)
            elif following is not None:
                request = identify(following, following.content(stage.epoch), one.request.id)
                further = stage.walk(row, following, request, None, past=past, asking=True)
                if isinstance(further, Open):
                    self.passed.requests += 1
                    self.passed.known[stage.name] += 1
                    if not further.pending:
                        self._ask(stage, further, _Sample(self, run, sample.place, further), row, sample.place)
                    self._wake()
                    return False
                sampled = further
            elif sampled.cause is None:
                sampled = Sampled(
                    sampled.request_id,
                    sampled.sample,
                    stage.script.value(row, past),
                    sampled.reply,
                    sampled.replied,
                    messages=sampled.messages,
                )
        if sampled.cause is not None:
            self._failed(stage, row, sampled.cause)
        run.samples[sample.place] = sampled
        done = [each for each in run.samples if each is not None]
        if len(done) == len(run.samples):
            self._on(stage.name, children(row, self._made(stage, row, done)))
        self._wake()
        return sampled.cause is not None

    def _on(self, name: str, rows: Sequence[Row]) -> None:
        """Rows of a step go to those that take them."""
        if not rows:
            return
        for reader in self._readers[name]:
            rows_here = coming(name, reader, list(rows))
            if isinstance(reader, ModelStage):
                arrived = self._arrived.setdefault(reader.name, [])
                arrived += rows_here
                if len(arrived) >= TOGETHER or self._idle(reader):
                    self._begin(reader)
            elif isinstance(reader, EachStage):
                for row in rows_here:
                    made = reader.finish(row)
                    self.each(reader, row, made)
                    self._on(reader.name, children(row, made))
            else:
                self.more = True

    def _idle(self, stage: ModelStage) -> bool:
        """Whether an engine that the step's rows go to has nothing else to do."""
        queues = (self.queues.get((stage.name, voice)) for voice in stage.plan.members)
        return any(queue is None or not queue.size for queue in queues)

    def _begin(self, stage: ModelStage) -> None:
        """Looks up the rows that came to a step, and hands out what is open of them."""
        for seen in stage.look(stage.begin(self._arrived.pop(stage.name), space=""), asking=True):
            finished = self.model(stage, seen)
            if finished is not None:
                self._on(stage.name, children(seen.row, finished))

    def _take_up(self) -> bool:
        """Looks up all rows that wait for that; whether there were any."""
        waiting = [self._chain.stages[name] for name in self._arrived]
        for stage in waiting:
            if isinstance(stage, ModelStage) and stage.name in self._arrived:
                self._begin(stage)
        return bool(waiting)

    def _failed(self, stage: ModelStage | EachStage, row: Row, cause: Fault | Invalid) -> None:
        if not stage.stops:
            return
        ending = Ending("on_failure", stopped_by(row, cause))
        if self._reading:
            self.stopped = self.stopped or ending
        else:
            self._shift.end(ending)

    def _wake(self) -> None:
        """Those with nothing to do may be done, or have something now."""
        if self.over:
            for queue in self.queues.values():
                queue.woken()


@dataclass(slots=True)
class _Run:
    """A row on its way through a step; `samples` that have not come are None."""

    stage: ModelStage
    row: Row
    samples: list[Sampled | None]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Satisfies `Settling`: one sample of such a row, and the request that it waits for."""

    flow: Flow
    run: _Run
    place: int
    open: Open

    def answered(self, replied: Replied, reply: Reply, value: Any) -> None:
        messages = written(self.open.draft) if replied.messages is None else replied.messages
        done = Sampled(self.open.request.id, self.place, value, reply, replied, messages=messages)
        self.flow.settled(self, done, value=value)

    def failed(self, cause: Fault | Invalid) -> bool:
        done = Sampled(self.open.request.id, self.place, cause=cause, messages=written(self.open.draft))
        return self.flow.settled(self, done, value=None)


def voices_of(chain: Chain) -> Mapping[tuple[str, int], ModelStage]:
    """Every model of every step."""
    return {
        (stage.name, voice): stage
        for stage in chain.stages.values()
        if isinstance(stage, ModelStage)
        for voice in range(len(stage.plan.voices))
    }
