"""Asking what is left to ask, on one event loop, with the engine that the plan names."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from synth_cli.errors import Interrupted
from synth_cli.report.live import Display
from synth_cli.run import online
from synth_cli.run.again import again
from synth_cli.run.desk import Asked, Desk
from synth_cli.run.halt import Halt
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired, simulated

T = TypeVar("T")


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
        for _ in wired.feed().requests():
            pass
        return Asked()
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
        if desk.wired.plan.engine == "batch":
            from synth_cli.run import batch

            return await batch.drive(desk, leave)
        if desk.wired.plan.engine == "vllm" and not simulated(desk.wired.plan, desk.running.options):
            from synth_cli.run import vllm

            return await vllm.drive(desk, leave)
        return await online.drive(desk, leave)
