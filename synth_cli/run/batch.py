"""Driving the batch engine: advance, wait, advance again, until nothing is open and nothing is left to ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from synth_cli.compile.plan import Plan
from synth_cli.core.ports import Progress, Task
from synth_cli.core.work import Ending, Tally
from synth_cli.engines.batch import BatchEngine, BatchSettings
from synth_cli.engines.recording import GroupRecord
from synth_cli.providers.batches import batch_client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.report.words import counted
from synth_cli.run.desk import Asked, Desk, deadline_of, simulator, surroundings
from synth_cli.run.options import RunOptions
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired, endpoint, place_of, price_of, simulated
from synth_cli.stores.folder import StateFolder
from synth_cli.stores.ledger import SqliteLedger

JITTER = 0.1
"""Share of the interval by which looks are spread, so that many jobs do not ask at the same second."""
SIMULATED_SECONDS = 2.0
"""What a batch takes at the simulated model, which is looked at more often than others."""


@dataclass(frozen=True, slots=True)
class Office:
    """All that looking after a job's batches needs; a run has it, and so have `status` and `cancel`."""

    plan: Plan
    options: RunOptions
    state: StateFolder
    ledger: SqliteLedger
    environ: Mapping[str, str]
    log: Callable[[str], None]

    async def engine(self, leave: AsyncExitStack) -> BatchEngine:
        """The engine for the plan's provider; what `leave` is given is undone at the end."""
        step, root = self.plan.steps[0], self.state.root
        folder = root / "batches"
        folder.mkdir(parents=True, exist_ok=True)
        url = await simulator(
            step, self.options, leave, batch_seconds=SIMULATED_SECONDS, folder=str(root / "simulator")
        )
        transport = AiohttpTransport(environ=surroundings(self.environ, url))
        leave.push_async_callback(transport.close)
        settings = step.settings
        place = endpoint(step, self.environ, url)
        model = batch_client(place, transport, window=settings.completion_window)
        leave.push_async_callback(model.close)
        own = BatchSettings(
            step=step.name,
            job=self.plan.name,
            place=place_of(step, self.options),
            batch_size=settings.batch_size,
            delete_successful=settings.delete_successful_batch_files,
            delete_failed=settings.delete_failed_batch_files,
            price=price_of(step, self.options),
            metadata=self.plan.loaded.spec.labels,
        )
        return BatchEngine(model, self.ledger, own, folder=folder, log=self.log)


def office_of(running: Running, environ: Mapping[str, str]) -> Office:
    return Office(running.plan, running.options, running.state, running.ledger, environ, running.journal.write)


async def drive(desk: Desk, leave: AsyncExitStack) -> Asked:
    """Until the job is asked through; with `--no-wait` once."""
    wired, running = desk.wired, desk.running
    engine = await office_of(running, desk.environ).engine(leave)
    record = GroupRecord(running.ledger)
    leave.callback(record.flush)
    stopped = asyncio.Event()
    open_now = frozenset(running.ledger.standing().pending)
    through = False
    async with desk.watched(lambda: progress_of(wired, engine)):
        while True:
            # what is left to ask changes only when a batch has ended: else the input need not be read again
            ending = await _advance(desk, engine, record, stopped, again=not through)
            before, open_now = open_now, frozenset(running.ledger.standing().pending)
            if ending is not None or (engine.finished and not through):
                break
            if through and before - open_now:
                through = False
                continue
            through = bool(open_now)
            if running.options.no_wait:
                ending = Ending("pending", waiting(engine))
                break
            ending = await _pause(desk, stopped, engine.note)
            if ending is not None:
                break
    return Asked(ending, tally_of(engine), desk.halt.signum)


async def _advance(
    desk: Desk, engine: BatchEngine, record: GroupRecord, stopped: asyncio.Event, *, again: bool
) -> Ending | None:
    """Once; `again`: over the whole input. Returns what ends the run."""
    # what is announced of a batch is itself what holds its worst case
    allowance = desk.allowance(lambda reserved: None)
    feed = desk.wired.feed() if again else None
    tasks: Iterator[Task] = iter(()) if feed is None else iter(feed)
    work = desk.work(tasks, record, allowance, outstanding=engine.outstanding)

    def stop() -> None:
        work.stop()
        stopped.set()

    desk.halt.stop = stop
    if stopped.is_set():
        work.stop()
    trouble = engine.note
    await engine.advance(work, record)
    if work.ending is not None and work.ending.why == "deadline":
        return late(engine.note or trouble)
    if work.ending is not None and work.ending.why == "budget" and engine.outstanding:
        # what the open batches do not use of what is held for them can still be spent
        return None
    if work.ending is None and feed is not None and feed.passed.stopped:
        return Ending("on_failure", feed.passed.stopped)
    return work.ending


async def _pause(desk: Desk, stopped: asyncio.Event, note: str) -> Ending | None:
    """Until the next look is due, somebody stops the run, or its time is over; `note` is the latest trouble."""
    plan = desk.wired.plan
    interval = plan.settings.batch_check_interval
    if simulated(plan, desk.running.options):
        interval = min(interval, SIMULATED_SECONDS / 2)
    wait = interval * (1 + JITTER * (2 * desk.chance() - 1))
    now = time.monotonic()
    deadline = deadline_of(desk.running, now)
    over = deadline is not None and now + wait >= deadline
    if over and deadline is not None:
        wait = max(0.0, deadline - now)
    try:
        await asyncio.wait_for(stopped.wait(), wait)
    except TimeoutError:
        return late(note) if over else None
    return Ending("stopped")


def late(note: str) -> Ending:
    """The end of a run whose time is over; `note` is the latest trouble, which may be why it took so long."""
    said = "the time allowed for a run is over"
    return Ending("deadline", f"{said}; {note}" if note else said)


def waiting(engine: BatchEngine) -> str:
    """What a run that does not wait leaves open."""
    number = sum(standing.outcome is None for standing in engine.batches)
    if not number:
        return engine.note or "nothing could be submitted yet"
    said = f"{counted(number, 'batch', 'batches')} with {counted(engine.outstanding, 'request')} open at the provider"
    return f"{said}; {engine.note}" if engine.note else said


def tally_of(engine: BatchEngine) -> Tally:
    found = engine.collected
    return Tally(
        answered=found.replies,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cost=found.cost,
        unpriced=found.unpriced,
    )


def progress_of(wired: Wired, engine: BatchEngine) -> Progress:
    passed, found = wired.passed, engine.collected
    return Progress(
        total=passed.requests if passed.complete else wired.total,
        answered=found.replies,
        failed=passed.failed + passed.refused,
        reused=max(0, passed.answered - found.replies),
        in_flight=sum(one.total for one in engine.batches if one.outcome is None),
        retries=0,
        rate_limited=0,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cost=None if found.unpriced else found.cost,
        note=engine.note,
        batches=engine.batches,
        time_of_day=time.time(),
    )
