"""Asking what is left to ask, on one event loop: passes over the job until another would find nothing to do."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from synth_cli.core.events import Reserved
from synth_cli.core.ports import Progress, StepProgress
from synth_cli.core.shift import Ending, Shift, Tally, total
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import Interrupted, alone
from synth_cli.outputs.formats import Formatter
from synth_cli.report.live import Display
from synth_cli.run.again import again
from synth_cli.run.batch import Offices
from synth_cli.run.desk import Asked, Desk
from synth_cli.run.finish import came_through
from synth_cli.run.flow import Flow, Passed
from synth_cli.run.halt import Halt
from synth_cli.run.lanes import Engines, Lane
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired

T = TypeVar("T")
CAUTION = 0.9
"""Share of what is likely to be needed that is drawn at once."""


def on_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs on the fastest loop there is.

    What is alive now stays alive, so the collector need not look at it again, nor as often: it costs a tenth of the
    CPU time of a row.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    import uvloop

    return uvloop.run(main)


def ask(
    wired: Wired, running: Running, display: Display, environ: Mapping[str, str], *, chance: Callable[[], float]
) -> Asked:
    """Asks until nothing is left or something ends it. Raises Interrupted when told twice to stop."""
    if running.options.no_calls:
        flow = Flow(wired.chain, Shift())
        for _ in flow.scan():
            pass
        return Asked(flow.stopped, rows=flow.passed.rows, reused=flow.passed.answered)
    halt = Halt()
    try:
        return on_loop(_ask(Desk(wired, running, display, environ, chance, halt)))
    except asyncio.CancelledError:
        raise Interrupted(
            "left at once; what was answered is kept, what was in flight may be asked again",
            signum=halt.signum or signal.SIGINT,
            hint=again(running.plan, running.options),
        ) from None


async def _ask(desk: Desk) -> Asked:
    main = asyncio.current_task()
    assert main is not None
    desk.halt.leave = main.cancel
    async with AsyncExitStack() as leave:
        return await Asking(desk, leave).run()


class Asking:
    """One run's asking: made for it, run once."""

    def __init__(self, desk: Desk, leave: AsyncExitStack) -> None:
        self._desk = desk
        self._record = GroupRecord(desk.running.ledger)
        leave.callback(self._record.flush)
        self._engines = Engines(desk, leave)
        self._lanes = self._engines.lanes()
        self._offices = Offices(desk, self._record, leave)
        self._passed = Passed()
        self._before = 0
        """Answers of this run when the latest pass began."""
        self._failed_before = 0
        """Failures of this run then."""
        self._before_by_step: Counter[str] = Counter()
        """Its answers then, for each step."""
        self._live_now = True
        self._stopped = asyncio.Event()
        self._shift: Shift | None = None

    async def run(self) -> Asked:
        """Until nothing is left or something ends it."""
        self._desk.halt.stop = self._stop
        async with self._desk.watched(self._progress):
            ending = await self._all()
        if ending is None and self._stopped.is_set():
            # the signal came when all was asked: what is left to do is for another run
            ending = Ending("stopped")
        tally = self._tally()
        limits = next((lane.engine.limits for lane in self._lanes if lane.engine is not None), None)
        return Asked(
            ending,
            tally,
            self._desk.halt.signum,
            limits,
            rows=self._passed.rows,
            reused=self._reused(),
            failed=self._unsent(),
        )

    def _stop(self) -> None:
        self._stopped.set()
        if self._shift is not None:
            self._shift.end(Ending("stopped"))

    async def _all(self) -> Ending | None:
        """Everything; with `target_rows` the first of the input's rows, and more as long as too few came through."""
        plan, chain = self._desk.running.plan, self._desk.wired.chain
        target = plan.target
        if target is None:
            return await self._passes()
        most = target.candidates
        chain.bound.rows = target.rows if most is None else min(target.rows, most)
        while True:
            ending = await self._passes()
            if ending is not None or self._stopped.is_set():
                return ending
            counted = 0, 0
            for now in came_through(chain, Formatter(plan.loaded.spec.output)):
                counted = now
                await asyncio.sleep(0)
            read, made = counted
            bound = chain.bound.rows
            if made >= target.rows or read < bound or bound == most:
                return None
            wanted = bound + more_of(target.rows - made, read, made)
            chain.bound.rows = wanted if most is None else min(wanted, most)

    async def _passes(self) -> Ending | None:
        # without a model to ask, the rows are gone through all the same
        phases = phases_of(self._lanes) or ([] if self._offices else [[]])
        # what has come meanwhile is taken home, whatever else may end the run
        ending = await self._offices.collect(self._watch)
        if ending is not None:
            return ending
        while True:
            more = progress = False
            for phase in phases:
                flow, ending = await self._live(phase)
                if ending is not None and (ending.why != "budget" or self._offices.finished):
                    return ending
                # what open batches do not use of what is held for them can still be spent
                more |= flow.more or ending is not None
                progress |= flow.handed > 0
                if len(phases) > 1:
                    # the next model needs the memory
                    for lane in phase:
                        if lane.local:
                            await lane.close()
            if self._offices:
                ending = await self._offices.advance(self._watch, self._batches, fresh=progress)
                if ending is not None:
                    return ending
                progress |= self._offices.collected
                more |= self._offices.collected
            if more and progress:
                continue
            if not self._offices or self._offices.finished:
                return None
            ending = await self._offices.wait(self._stopped)
            if ending is not None:
                return ending

    async def _live(self, lanes: Iterable[Lane]) -> tuple[Flow, Ending | None]:
        """One pass with these engines, and what ended it before it was done."""
        chosen = list(lanes)

        def announce(reserved: Reserved) -> None:
            self._record.add(reserved)
            self._record.flush()

        def ended() -> None:
            for lane in chosen:
                lane.wake()

        def freed() -> None:
            for lane in chosen:
                lane.freed()

        shift = self._desk.shift(announce, ended)
        shift.freed = freed
        self._watch(shift)
        flow = self._flow(shift, live=True)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in chosen:
                    group.create_task(lane.tend(flow, shift, self._record))
            for _ in () if chosen else flow.scan():
                await asyncio.sleep(0)
        except BaseExceptionGroup as several:
            error = alone(several)
            raise error from error.__cause__
        finally:
            self._record.flush()
            for lane in chosen:
                lane.clear()
        if shift.allowance is not None:
            shift.allowance.close()
        if self._engines.failed is not None:
            raise self._engines.failed
        return flow, shift.ending or flow.stopped

    def _watch(self, shift: Shift) -> None:
        """A signal ends this from now on."""
        self._shift = shift
        if self._stopped.is_set():
            shift.end(Ending("stopped"))

    def _batches(self, shift: Shift) -> Flow:
        """A pass for requests that go into batches."""
        return self._flow(shift, live=False)

    def _flow(self, shift: Shift, *, live: bool) -> Flow:
        flow = Flow(self._desk.wired.chain, shift, live=live)
        self._passed, self._live_now, self._before = flow.passed, live, self._answered()
        tally = self._tally()
        self._before_by_step, self._failed_before = tally.steps, tally.failed
        return flow

    def _tally(self) -> Tally:
        return total((*(lane.tally for lane in self._lanes), *self._offices.tallies()))

    def _steps(self, now: Counter[str]) -> tuple[StepProgress, ...]:
        """How far each step has come; `now` are this run's answers. Nothing where there is only one."""
        passed = self._passed
        since = now - self._before_by_step if self._live_now else Counter[str]()
        names = [stage.name for stage in self._desk.wired.chain.stages.values() if stage.plan.voices]
        if len(names) < 2:
            return ()
        return tuple(StepProgress(name, passed.there[name] + since[name], passed.known[name]) for name in names)

    def _answered(self) -> int:
        return self._tally().answered

    def _reused(self) -> int:
        """Answers that were there before this run."""
        before = self._before if self._live_now else self._answered()
        return max(0, self._passed.answered - before)

    def _unsent(self) -> int:
        """Requests that had failed before this run, and rows that could not be asked."""
        before = self._failed_before if self._live_now else self._tally().failed
        return max(0, self._passed.failed - before) + self._passed.refused

    def _progress(self) -> Progress:
        wired, passed = self._desk.wired, self._passed
        tally = self._tally()
        known = passed.requests + passed.refused if passed.complete and wired.simple else wired.total
        notes = [note for note in (*(lane.note for lane in self._lanes), self._offices.note) if note]
        return Progress(
            total=known,
            answered=tally.answered,
            failed=tally.failed,
            unsent=self._unsent(),
            reused=self._reused(),
            in_flight=sum(lane.in_flight for lane in self._lanes) + self._offices.in_flight,
            retries=tally.retries,
            rate_limited=tally.rate_limited,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            cost=None if tally.unpriced else tally.cost,
            note="; ".join(dict.fromkeys(notes)),
            batches=self._offices.batches,
            time_of_day=self._offices.time_of_day,
            steps=self._steps(tally.steps),
        )


def more_of(missing: int, read: int, made: int) -> int:
    """How many more rows to draw so that hardly more come through than are missing: an answer that is not needed is
    paid for all the same, and each pass reads the job again."""
    likely = missing * read / made if made else 2 * read
    return max(missing, int(CAUTION * likely))


def phases_of(lanes: list[Lane]) -> list[list[Lane]]:
    """Engines that work at the same time. Models of this machine take its memory in turn: one in each phase."""
    local = [lane for lane in lanes if lane.local]
    together = [lane for lane in lanes if not lane.local]
    first = [*together, *local[:1]]
    return [*([first] if first else []), *([lane] for lane in local[1:])]
