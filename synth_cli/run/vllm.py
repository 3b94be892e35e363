"""Opening the engine over workers that run the model themselves: in this process's care, or as actors of Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from synth_cli.compile.plan import Voice
from synth_cli.engines.crew import Hired, Say, Start
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.vllm.settings import ModelSettings, settings_of

LOG = "engine.log"
"""vLLM's own log, in the run's folder."""


async def opened(
    voice: Voice,
    folder: Path,
    environ: Mapping[str, str],
    leave: AsyncExitStack,
    say: Callable[[str], None],
    *,
    log: Path | None = None,
) -> LocalEngine:
    """An engine whose model is loaded; what `leave` is given ends it.

    Paths in the spec are relative to `folder`. `say` hears how far the start is, and later of workers that were
    lost; `log` is the file for vLLM's own log. Raises SynthError where it cannot be started.
    """
    engine = LocalEngine(await starts_of(voice, folder, leave, say, log), clock=time.monotonic, log=say)
    leave.push_async_callback(engine.close)
    await engine.open()
    return engine


async def starts_of(voice: Voice, folder: Path, leave: AsyncExitStack, say: Say, log: Path | None) -> list[Start]:
    """What starts each of the workers that the model is to have."""
    settings = settings_of(voice.terms.model, voice.settings, folder=folder, log=log)
    return [here(settings, say)]


def here(settings: ModelSettings, tell: Say) -> Start:
    """Starts a worker in the care of this process."""

    async def start(say: Say) -> Hired:
        from synth_cli.engines.vllm.worker import VllmWorker

        def told(words: str) -> None:
            say(words)
            tell(words)

        worker = await VllmWorker.start(settings, say=told)
        return Hired(worker, room_of(settings))

    return start


def room_of(settings: ModelSettings) -> int:
    """The most requests that a worker is given at once."""
    return settings.in_flight or 256
