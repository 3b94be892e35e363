"""`synth cancel`: ends a job's open batches, and keeps what was done in them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from synth_cli.compile.plan import Plan
from synth_cli.core.events import RunClosed
from synth_cli.core.ports import BatchStanding, Progress
from synth_cli.core.shift import Ending, Shift, total
from synth_cli.core.work import StepWork
from synth_cli.engines.batch import BatchEngine
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import SynthError, Unfinished, UsageError
from synth_cli.report.live import Display
from synth_cli.report.words import counted
from synth_cli.run.again import command
from synth_cli.run.asking import on_loop
from synth_cli.run.batch import office_of, tally_of
from synth_cli.run.desk import Asked, Desk
from synth_cli.run.flow import voices_of as voices_of_chain
from synth_cli.run.halt import Halt
from synth_cli.run.job import code_of, ended_by
from synth_cli.run.opening import opened
from synth_cli.run.options import RunOptions
from synth_cli.run.wire import voices_of, wire

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
        voices = voices_of(running.plan)
        if not any(voice.engine == "batch" for voice in voices):
            engines = ", ".join(dict.fromkeys(voice.engine for voice in voices)) or "none"
            raise UsageError(f"{running.plan.name} has engine: {engines}, which has no batches")
        with wire(running) as wired:
            halt = Halt()
            found = on_loop(_cancel(Desk(wired, running, display(running.plan), environ, random.random, halt)))
            running.ledger.append([RunClosed(running.run, code_of(found.error), time.time())])
            return found


async def _cancel(desk: Desk) -> Cancelled:
    running, office = desk.running, office_of(desk.running, desk.environ)
    async with AsyncExitStack() as leave:
        engines = await office.engines(leave)
        stages = voices_of_chain(desk.wired.chain)
        rules = [stages[account.voices[0]].rules[account.voices[0][1]] for account in office.accounts()]
        record = GroupRecord(running.ledger)
        leave.callback(record.flush)
        stopped = asyncio.Event()
        desk.halt.stop = stopped.set
        ending: Ending | None = None
        async with desk.watched(lambda: progress_of(engines)):
            asked = sum([await engine.cancel(record) for engine in engines])
            until = time.monotonic() + PATIENCE
            while True:
                for engine, own in zip(engines, rules, strict=True):
                    shift = Shift()
                    work = StepWork(
                        iter(()), own, record, chance=desk.chance, shift=shift, outstanding=engine.outstanding
                    )
                    await engine.advance(work, record)
                    ending = ending or shift.ending
                over = stopped.is_set() or time.monotonic() >= until
                if ending is not None or over or not any(engine.outstanding for engine in engines):
                    break
                await asyncio.sleep(LOOK)
        batches = tuple(standing for engine in engines for standing in engine.batches)
        left = sum(standing.outcome is None for standing in batches)
        kept = sum(engine.collected.replies for engine in engines)
        return Cancelled(asked, left, kept, batches, _error(desk, ending, left))


def progress_of(engines: Sequence[BatchEngine]) -> Progress:
    tally = total(tally_of(engine) for engine in engines)
    batches = tuple(standing for engine in engines for standing in engine.batches)
    return Progress(
        answered=tally.answered,
        in_flight=sum(one.total for one in batches if one.outcome is None),
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        cost=None if tally.unpriced else tally.cost,
        note="; ".join(engine.note for engine in engines if engine.note),
        batches=batches,
        time_of_day=time.time(),
    )


def _error(desk: Desk, ending: Ending | None, left: int) -> SynthError | None:
    hint = f"look again: {command('cancel', desk.running.plan, desk.running.options)}"
    if ending is not None:
        return ended_by(Asked(ending), hint)
    if not left:
        return None
    return Unfinished(f"{counted(left, 'batch has', 'batches have')} not ended yet at the provider", hint=hint)
