"""Opening the engine over workers that run the model themselves: in this process's care, or as actors of Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from synth_cli.compile.plan import Voice
from synth_cli.engines.crew import Hired, Say, Start
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.ray.cluster import Cluster
from synth_cli.engines.ray.remote import start_on
from synth_cli.engines.vllm.settings import ModelSettings, settings_of
from synth_cli.providers.clients import read
from synth_cli.spec.backend import BackendParams, Distributed

LOG = "engine.log"
"""vLLM's own log, in the run's folder."""
ROOM = 256
"""Most requests in an engine at once where the spec does not say."""


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
    settings = settings_of(voice.terms.model, voice.settings, folder=folder, log=log)
    copies = voice.settings.data_parallel_size
    if copies > 1 or voice.settings.distributed is not None:
        starts = await on_cluster(settings, voice.settings, leave, say)
    else:
        starts = [here(settings, say)]
    engine = LocalEngine(starts, clock=time.monotonic, log=say)
    leave.push_async_callback(engine.close)
    await engine.open()
    return engine


def here(settings: ModelSettings, tell: Say) -> Start:
    """Starts a worker in the care of this process."""

    async def start(say: Say) -> Hired:
        def told(words: str) -> None:
            say(words)
            tell(words)

        return await hire(settings, told)

    return start


async def hire(settings: ModelSettings, say: Say) -> Hired:
    """Loads the model, where this is called."""
    from synth_cli.engines.vllm.worker import VllmWorker

    worker = await VllmWorker.start(settings, say=say)
    return Hired(worker, settings.in_flight or ROOM)


async def on_cluster(settings: ModelSettings, params: BackendParams, leave: AsyncExitStack, say: Say) -> list[Start]:
    """Starts for as many workers as are wanted, as actors of Ray."""
    wanted = params.distributed or Distributed(workers=params.data_parallel_size)
    what = "backend_params.data_parallel_size" if params.distributed is None else "backend_params.distributed"
    say("starting Ray" if wanted.address is None else f"connecting to Ray at {wanted.address}")
    cluster = await Cluster.join(wanted.address, needed_for=what, log=say)
    leave.push_async_callback(cluster.leave)
    need = cluster.need(gpus_of(settings, wanted, cluster.gpus()))
    cluster.check(need, wanted.workers)
    args = dict(settings.args)
    if need.apart:
        args.setdefault("distributed_executor_backend", "ray")
    # a worker elsewhere cannot write into our folder
    settings = replace(settings, args=args, log=settings.log if wanted.address is None else None)
    return [start_on(cluster, partial(hire, settings), need, read, tell=say)] * wanted.workers


def gpus_of(settings: ModelSettings, wanted: Distributed, present: float) -> float:
    """What a worker takes of a cluster that has so many GPUs.

    A copy takes what its parallelism says, or more where the spec does; on machines without any, none.
    """
    if "gpus_per_worker" in wanted.model_fields_set:
        return max(wanted.gpus_per_worker, settings.gpus) if wanted.gpus_per_worker >= 1 else wanted.gpus_per_worker
    return settings.gpus if present else 0
