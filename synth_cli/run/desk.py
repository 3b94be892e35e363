"""What a drive needs at hand, and what all drives do alike: rules, budget, the clock, the display."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from synth_cli.compile.plan import StepPlan
from synth_cli.core.budget import Allowance
from synth_cli.core.events import Reserved
from synth_cli.core.ports import Progress, RateLimits, Record, Task
from synth_cli.core.reply import Reply
from synth_cli.core.request import Message
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.state import Invalid
from synth_cli.core.work import HOPELESS, Ending, Rules, StepWork, Tally
from synth_cli.report.live import Display
from synth_cli.run.halt import Halt
from synth_cli.run.options import RunOptions
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired, simulated

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


@dataclass(frozen=True, slots=True)
class Desk:
    """`chance` draws between 0 and 1; clocks are monotonic seconds."""

    wired: Wired
    running: Running
    display: Display
    environ: Mapping[str, str]
    chance: Callable[[], float]
    halt: Halt

    def work(
        self, tasks: Iterator[Task], record: Record, allowance: Allowance | None, *, outstanding: int = 0
    ) -> StepWork:
        """The step's work over these tasks; `outstanding` requests are in open batches."""
        deadline = deadline_of(self.running, time.monotonic())
        return StepWork(
            tasks,
            rules_of(self.wired),
            record,
            chance=self.chance,
            allowance=allowance,
            deadline=deadline,
            outstanding=outstanding,
        )

    def allowance(self, announce: Callable[[Reserved], None]) -> Allowance | None:
        """What is left of the round's budget; None where there is none. `announce` takes what may be in flight."""
        if self.wired.worst is None:
            return None
        running = self.running
        limits = running.plan.limits
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


async def simulator(step: StepPlan, options: RunOptions, leave: AsyncExitStack, **settings: Any) -> str | None:
    """Starts the simulated model on loopback when it is wanted; returns its address."""
    if not simulated(step, options):
        return None
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
    note = f"; {progress.note}" if progress.note else ""
    return (
        f"{progress.answered} answered, {progress.reused} reused, {progress.failed} failed{total}; "
        f"{progress.retries} retries, {progress.rate_limited} rate limited, {progress.in_flight} in flight; "
        f"tokens {progress.input_tokens} in, {progress.output_tokens} out; cost {cost}{note}"
    )


def rules_of(wired: Wired) -> Rules:
    """How the step's requests are treated."""
    settings = wired.plan.settings
    most = settings.max_concurrent_requests
    return Rules(
        step=wired.plan.name,
        retry=RetryPolicy(settings.max_retries),
        judge=wired.policy.judge,
        reask=_reask(wired),
        price=wired.price,
        worst=wired.worst,
        stop_on_failure=wired.plan.step.on_failure == "stop",
        # batches are not asked so often that the first answers could tell
        hopeless_after=sys.maxsize if wired.plan.engine == "batch" else max(HOPELESS, 2 * (most or 0)),
    )


def _reask(wired: Wired) -> Callable[[Task, Reply, Invalid], tuple[Message, ...]] | None:
    reask = wired.policy.reask
    if reask is None:
        return None
    return lambda task, reply, invalid: reask(task.request.messages, reply, invalid)


def deadline_of(running: Running, now: float) -> float | None:
    """When the run is to stop, on the clock that says `now`."""
    limit = running.plan.limits.seconds
    return None if limit is None else now + limit - (time.time() - running.started)
