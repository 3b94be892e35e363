"""`synth cancel`: ends a job's open batches, and keeps what was done in them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from synth_cli.compile.plan import Plan
from synth_cli.core.events import RunClosed
from synth_cli.core.ports import BatchStanding
from synth_cli.core.work import Ending
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import SynthError, Unfinished, UsageError
from synth_cli.report.live import Display
from synth_cli.report.words import counted
from synth_cli.run.again import command
from synth_cli.run.asking import on_loop
from synth_cli.run.batch import office_of, progress_of
from synth_cli.run.desk import Asked, Desk
from synth_cli.run.halt import Halt
from synth_cli.run.job import code_of, ended_by
from synth_cli.run.opening import opened
from synth_cli.run.options import RunOptions
from synth_cli.run.wire import wire

PATIENCE = 60.0
"""Seconds for a provider to end what it was asked to end."""
LOOK = 2.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many batches were asked to end, are still open; how many answers were collected from them."""

    asked: int
    open: int
    kept: int
    batches: tuple[BatchStanding, ...]
    error: SynthError | None = None


def cancel(
    path: Path, options: RunOptions, *, environ: Mapping[str, str], display: Callable[[Plan], Display]
) -> Cancelled:
    """Cancels every open batch and collects what it did. The job's round stays open: run it again to go on."""
    with opened(path, options, environ, cancelling=True) as running:
        if running.plan.steps[0].engine != "batch":
            raise UsageError(f"{running.plan.name} has engine: {running.plan.steps[0].engine}, which has no batches")
        with wire(running) as wired:
            halt = Halt()
            found = on_loop(_cancel(Desk(wired, running, display(running.plan), environ, random.random, halt)))
            running.ledger.append([RunClosed(running.run, code_of(found.error), time.time())])
            return found


async def _cancel(desk: Desk) -> Cancelled:
    running, wired = desk.running, desk.wired
    async with AsyncExitStack() as leave:
        engine = await office_of(running, desk.environ).engine(leave)
        record = GroupRecord(running.ledger)
        leave.callback(record.flush)
        stopped = asyncio.Event()
        desk.halt.stop = stopped.set
        ending: Ending | None = None
        async with desk.watched(lambda: progress_of(wired, engine)):
            asked = await engine.cancel(record)
            until = time.monotonic() + PATIENCE
            while True:
                work = desk.work(iter(()), record, None, outstanding=engine.outstanding)
                await engine.advance(work, record)
                ending = work.ending
                over = stopped.is_set() or time.monotonic() >= until
                if ending is not None or over or not engine.outstanding:
                    break
                await asyncio.sleep(LOOK)
        left = sum(standing.outcome is None for standing in engine.batches)
        return Cancelled(asked, left, engine.collected.replies, engine.batches, _error(desk, ending, left))


def _error(desk: Desk, ending: Ending | None, left: int) -> SynthError | None:
    hint = f"look again: {command('cancel', desk.running.plan, desk.running.options)}"
    if ending is not None:
        return ended_by(Asked(ending), hint)
    if not left:
        return None
    return Unfinished(f"{counted(left, 'batch has', 'batches have')} not ended yet at the provider", hint=hint)
