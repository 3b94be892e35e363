"""Asking what is left to ask: the engine, its clock, the display and the signals, on one loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from synth_cli.core.budget import Allowance
from synth_cli.core.events import Reserved
from synth_cli.core.pacing import PaceSettings
from synth_cli.core.ports import Progress, RateLimits, Task
from synth_cli.core.reply import Reply
from synth_cli.core.request import Message
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.state import Invalid
from synth_cli.core.work import Ending, Rules, StepWork, Tally
from synth_cli.engines.online import OnlineEngine
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import Interrupted
from synth_cli.providers.clients import client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.report.live import Display
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired, endpoint, simulated

REFRESH = 0.25
"""Seconds between two looks of the display."""

CEILING = 1024
SPARE_FILES = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the asking came to; `ending` is None when nothing is left to ask."""

    ending: Ending | None = None
    tally: Tally | None = None
    signum: int | None = None
    limits: RateLimits | None = None
    """What the provider's headers said last."""
    notes: tuple[str, ...] = ()


class Halt:
    """Turns signals into an orderly end: the first stops taking work, the second leaves now."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.stop: Callable[[], None] = lambda: None
        self.leave: Callable[[], object] = lambda: None

    def __call__(self, signum: int) -> None:
        if self.signum is None:
            self.signum = signum
            print("\nsynth: finishing what is in flight; once more to leave now", file=sys.stderr)
            self.stop()
        else:
            self.leave()

    @contextmanager
    def listening(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        signals = (signal.SIGINT, signal.SIGTERM)
        for signum in signals:
            loop.add_signal_handler(signum, self, signum)
        try:
            yield
        finally:
            for signum in signals:
                loop.remove_signal_handler(signum)


def on_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs on the fastest loop there is.

    What is alive now stays alive, so the collector need not look at it again, nor as often: it costs a tenth of the
    CPU time of a row.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


def ask(
    wired: Wired, running: Running, display: Display, environ: Mapping[str, str], *, chance: Callable[[], float]
) -> Asked:
    """Asks until nothing is left or something ends it. Raises Interrupted when told twice to stop."""
    if running.options.no_calls:
        for _ in wired.feed.requests():
            pass
        return Asked()
    halt = Halt()
    try:
        return on_loop(_ask(wired, running, display, environ, chance, halt))
    except asyncio.CancelledError:
        raise Interrupted(
            "left at once; what was answered is kept, what was in flight may be asked again",
            signum=halt.signum or signal.SIGINT,
            hint=f"run again to go on: synth run {running.plan.loaded.path.name}",
        ) from None


async def _ask(
    wired: Wired,
    running: Running,
    display: Display,
    environ: Mapping[str, str],
    chance: Callable[[], float],
    halt: Halt,
) -> Asked:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        url = await _simulator(wired, running, stack)
        place = endpoint(wired.plan, running.options, environ, url)
        transport = None
        if not place.host.litellm:
            transport = AiohttpTransport(environ=environ)
            stack.push_async_callback(transport.close)
        model = client(place, transport)
        stack.push_async_callback(model.close)
        record = GroupRecord(running.ledger)
        stack.callback(record.flush)
        allowance = _allowance(wired, running, record)
        work = StepWork(
            iter(wired.feed),
            _rules(wired),
            record,
            chance=chance,
            allowance=allowance,
            deadline=_deadline(running, time.monotonic()),
        )
        engine = OnlineEngine(model, _pace(wired), clock=time.monotonic, chance=chance)
        main = asyncio.current_task()
        assert main is not None
        halt.stop, halt.leave = work.stop, main.cancel
        stack.enter_context(halt.listening(loop))
        stack.enter_context(display)
        watcher = loop.create_task(_watch(display, lambda: _progress(wired, work, engine)))
        try:
            await engine.advance(work, record)
        finally:
            watcher.cancel()
            display.update(_progress(wired, work, engine))
        if allowance is not None:
            allowance.close()
        return Asked(work.ending, work.tally, halt.signum)


async def _simulator(wired: Wired, running: Running, stack: AsyncExitStack) -> str | None:
    """Starts the simulated model on loopback when it is wanted; returns its address."""
    if not simulated(wired.plan, running.options):
        return None
    from synth_cli.simulator import Settings, Simulator

    server = await stack.enter_async_context(Simulator(Settings(seed=running.plan.seed)))
    return str(server.url)


def _rules(wired: Wired) -> Rules:
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
        hopeless_after=max(64, 2 * most) if most is not None else 64,
    )


def _reask(wired: Wired) -> Callable[[Task, Reply, Invalid], tuple[Message, ...]] | None:
    reask = wired.policy.reask
    if reask is None:
        return None
    return lambda task, reply, invalid: reask(task.request.messages, reply, invalid)


def _pace(wired: Wired) -> PaceSettings:
    settings = wired.plan.settings
    return PaceSettings(
        requests_per_minute=settings.max_requests_per_minute,
        tokens_per_minute=settings.max_tokens_per_minute,
        input_tokens_per_minute=settings.max_input_tokens_per_minute,
        output_tokens_per_minute=settings.max_output_tokens_per_minute,
        max_concurrent=settings.max_concurrent_requests,
        seconds_to_pause=settings.seconds_to_pause_on_rate_limit,
        ceiling=_ceiling(),
    )


def _ceiling() -> int:
    """Most connections that this process may open, with some left for its files."""
    if sys.platform == "win32":
        return CEILING
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CEILING if soft == resource.RLIM_INFINITY else max(1, min(CEILING, soft - SPARE_FILES))


def _allowance(wired: Wired, running: Running, record: GroupRecord) -> Allowance | None:
    if wired.worst is None:
        return None

    def announce(reserved: Reserved) -> None:
        record.add(reserved)
        record.flush()

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


def _deadline(running: Running, now: float) -> float | None:
    limit = running.plan.limits.seconds
    return None if limit is None else now + limit - (time.time() - running.started)


async def _watch(display: Display, progress: Callable[[], Progress]) -> None:
    while True:
        display.update(progress())
        await asyncio.sleep(REFRESH)


def _progress(wired: Wired, work: StepWork, engine: OnlineEngine) -> Progress:
    tally, passed = work.tally, wired.feed.passed
    return Progress(
        total=passed.requests if passed.complete else wired.total,
        answered=tally.answered,
        failed=tally.failed + passed.failed + passed.refused,
        reused=passed.answered,
        in_flight=engine.in_flight,
        retries=tally.retries,
        rate_limited=tally.rate_limited,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        cost=None if tally.unpriced else tally.cost,
        note=engine.note,
    )
