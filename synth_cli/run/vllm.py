"""Driving the engine over workers that run the model themselves: in this process's care, or as actors of Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from synth_cli.compile.plan import StepPlan
from synth_cli.core.events import Reserved
from synth_cli.core.ports import Progress
from synth_cli.core.work import Ending, StepWork
from synth_cli.engines.crew import Hired, Say, Start
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.ray.cluster import Cluster, Need
from synth_cli.engines.ray.remote import start_on
from synth_cli.engines.recording import GroupRecord
from synth_cli.engines.vllm.settings import ModelSettings, settings_of
from synth_cli.providers.clients import read
from synth_cli.run.desk import Asked, Desk
from synth_cli.run.feed import Feed
from synth_cli.run.wire import Wired
from synth_cli.spec.backend import BackendParams, Distributed

LOG = "engine.log"
"""vLLM's own log, in the run's folder."""
ROOM = 256
"""Most requests in an engine at once where the spec does not say."""


async def drive(desk: Desk, leave: AsyncExitStack) -> Asked:
    """Asks until the work is done. The model is loaded only if there is anything to ask."""
    wired, running = desk.wired, desk.running
    record = GroupRecord(running.ledger)
    leave.callback(record.flush)

    def announce(reserved: Reserved) -> None:
        record.add(reserved)
        record.flush()

    allowance = desk.allowance(announce)
    feed = wired.feed()
    tasks = iter(feed)
    first = next(tasks, None)
    work = desk.work(iter(()) if first is None else chain([first], tasks), record, allowance)
    opening = Opening(desk, work)
    async with desk.watched(lambda: opening.progress(wired, feed)):
        if first is not None and await opening.opened(leave):
            assert opening.engine is not None
            await opening.engine.advance(work, record)
    if allowance is not None:
        allowance.close()
    ending = work.ending or (Ending("on_failure", feed.passed.stopped) if feed.passed.stopped else None)
    return Asked(ending, work.tally, desk.halt.signum)


class Opening:
    """The engine from its start on, and what the display shows meanwhile."""

    def __init__(self, desk: Desk, work: StepWork) -> None:
        self._desk = desk
        self._work = work
        self._said = ""
        self.engine: LocalEngine | None = None

    async def opened(self, leave: AsyncExitStack) -> bool:
        """Whether it came up: a signal before that ends the run with nothing in flight."""
        desk, work = self._desk, self._work
        wired, running = desk.wired, desk.running
        log = running.folder.path / LOG
        making = asyncio.ensure_future(opened(wired.plan, running.plan.folder, desk.environ, leave, self._say, log=log))

        def stop() -> None:
            work.stop()
            making.cancel()

        desk.halt.stop = stop
        try:
            self.engine = await making
        except asyncio.CancelledError:
            if not work.stopping or desk.halt.signum is None:
                raise
            return False
        finally:
            desk.halt.stop = work.stop
        return True

    def _say(self, words: str) -> None:
        self._said = words
        self._desk.running.journal.write(words)

    def progress(self, wired: Wired, feed: Feed) -> Progress:
        tally, passed, engine = self._work.tally, feed.passed, self.engine
        starting = f"starting the engine: {self._said}" if self._said else "starting the engine"
        return Progress(
            total=passed.requests if passed.complete else wired.total,
            answered=tally.answered,
            failed=tally.failed + passed.failed + passed.refused,
            reused=passed.answered,
            in_flight=0 if engine is None else engine.in_flight,
            retries=tally.retries,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            cost=None if tally.unpriced else tally.cost,
            note=(starting if self._said else "") if engine is None else engine.note,
        )


async def opened(
    step: StepPlan,
    folder: Path,
    environ: Mapping[str, str],
    leave: AsyncExitStack,
    say: Callable[[str], None],
    *,
    log: Path | None = None,
) -> LocalEngine:
    """An engine whose model is loaded; what `leave` is given ends it.

    Paths in the step are relative to `folder`. `say` hears how far the start is, and later of workers that were
    lost; `log` is the file for vLLM's own log. Raises SynthError where it cannot be started.
    """
    settings = settings_of(step.terms.model, step.settings, folder=folder, log=log)
    copies = step.settings.data_parallel_size
    if copies > 1 or step.settings.distributed is not None:
        starts = await on_cluster(settings, step.settings, leave, say)
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
    cluster = await Cluster.join(wanted.address, wanted.workers, needed_for=what)
    leave.push_async_callback(cluster.leave)
    need = need_of(settings, wanted, cluster.gpus(), cluster.most_gpus_of_a_node())
    cluster.check(need, wanted.workers)
    args = dict(settings.args)
    if need.apart:
        args.setdefault("distributed_executor_backend", "ray")
    # a worker elsewhere cannot write into our folder
    settings = replace(settings, args=args, log=settings.log if wanted.address is None else None)
    return [start_on(cluster, partial(hire, settings), need, read, tell=say)] * wanted.workers


def need_of(settings: ModelSettings, wanted: Distributed, gpus: float, of_a_node: float) -> Need:
    """What a worker takes on a cluster that has so many GPUs, at most so many of them in one machine.

    A copy takes what its parallelism says, or more where the spec does; on machines without any, none.
    """
    if "gpus_per_worker" in wanted.model_fields_set:
        own = max(wanted.gpus_per_worker, settings.gpus) if wanted.gpus_per_worker >= 1 else wanted.gpus_per_worker
    else:
        own = settings.gpus if gpus else 0
    return Need(own, apart=own > 1 and 0 < of_a_node < own)
