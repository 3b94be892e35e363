"""What asking needs at hand: budget, clock, display, signals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from synth_cli.core.budget import Allowance
from synth_cli.core.events import Reserved
from synth_cli.core.ports import Progress, RateLimits
from synth_cli.core.shift import Ending, Shift, Tally
from synth_cli.report.live import Display, by_step
from synth_cli.run.halt import Halt
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired

REFRESH = 0.25
"""Seconds between two looks of the display."""
LOGGED = 60.0
"""Seconds between two lines about the progress in the run's log."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the asking came to; `ending` is None when nothing is left to ask."""

    ending: Ending | None = None
    tally: Tally = field(default_factory=Tally)
    signum: int | None = None
    limits: RateLimits | None = None
    """What the provider's headers said last."""
    notes: tuple[str, ...] = ()
    rows: int = 0
    """Of the input, as far as it was read."""
    reused: int = 0
    """Answers that were there before."""
    failed: int = 0
    """Requests that had failed before, and rows that could not be asked."""


@dataclass(frozen=True, slots=True)
class Desk:
    """`chance` draws between 0 and 1; clocks are monotonic seconds."""

    wired: Wired
    running: Running
    display: Display
    environ: Mapping[str, str]
    chance: Callable[[], float]
    halt: Halt

    def shift(self, announce: Callable[[Reserved], None], ended: Callable[[], None] | None = None) -> Shift:
        """The budget and the time that are left. `announce` takes what may be in flight."""
        deadline = deadline_of(self.running, time.monotonic())
        return Shift(allowance=self._allowance(announce), deadline=deadline, ended=ended)

    def _allowance(self, announce: Callable[[Reserved], None]) -> Allowance | None:
        """What is left of the round's budget; None where there is none."""
        running = self.running
        limits = running.plan.limits
        if limits.cost is None and limits.tokens is None:
            return None
        spent_cost, spent_tokens = running.ledger.spent(running.round)
        return Allowance(
            running.run,
            max_cost=limits.cost,
            max_tokens=limits.tokens,
            spent_cost=spent_cost,
            spent_tokens=spent_tokens,
            announce=announce,
        )

    @asynccontextmanager
    async def watched(self, progress: Callable[[], Progress]) -> AsyncIterator[None]:
        """Shows progress at a fixed rate, and writes it into the log now and then; signals stop or leave."""
        loop = asyncio.get_running_loop()
        with self.halt.listening(loop), self.display:
            watcher = loop.create_task(self._watch(progress))
            try:
                yield
            finally:
                watcher.cancel()
                self.display.update(progress())
                self.running.journal.write(line(progress()))

    async def _watch(self, progress: Callable[[], Progress]) -> None:
        due = time.monotonic() + LOGGED
        while True:
            self.display.update(progress())
            if time.monotonic() >= due:
                due += LOGGED
                self.running.journal.write(line(progress()))
            await asyncio.sleep(REFRESH)


async def simulator(leave: AsyncExitStack, **settings: Any) -> str:
    """Starts the simulated model on loopback; returns its address."""
    from synth_cli.simulator import Settings, Simulator

    server = await leave.enter_async_context(Simulator(Settings(**settings)))
    return str(server.url)


def surroundings(environ: Mapping[str, str], simulator_url: str | None) -> Mapping[str, str]:
    """The variables that requests obey: no proxy stands between this process and the model that it simulates."""
    return environ if simulator_url is None else {}


def line(progress: Progress) -> str:
    """The progress as the log has it."""
    cost = "unknown" if progress.cost is None else f"${progress.cost:.4f}"
    total = "" if progress.total is None else f" of {progress.total}"
    note = f"; {by_step(progress)}" if progress.steps else ""
    note += f"; {progress.note}" if progress.note else ""
    return (
        f"{progress.answered} answered, {progress.reused} reused, {progress.failed + progress.unsent} failed{total}; "
        f"{progress.retries} retries, {progress.rate_limited} rate limited, {progress.in_flight} in flight; "
        f"tokens {progress.input_tokens} in, {progress.output_tokens} out; cost {cost}{note}"
    )


def deadline_of(running: Running, now: float) -> float | None:
    """When the run is to stop, on the clock that says `now`."""
    limit = running.plan.limits.seconds
    return None if limit is None else now + limit - (time.time() - running.started)
