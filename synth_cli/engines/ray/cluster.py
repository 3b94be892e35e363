"""A Ray cluster: one that runs already, or this machine."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeVar

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.engines.crew import NowhereError, Say
from synth_cli.engines.ray.reach import Door, aside, door, reach
from synth_cli.errors import MissingExtra, SetupError

T = TypeVar("T")

INSTALL = "pip install 'synth-cli[ray]'"
STORE = 256 << 20
"""Bytes for objects on this machine: requests and answers go from process to process, hardly any stays."""
QUIET: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # in later versions an actor without a GPU would else not see those that its engine's processes are given
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # after so many seconds without the cluster's head Ray ends our process: we notice before, and end the run in order
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
}
PATIENCE: Final = 120.0
"""Seconds that Ray has to start here, or to connect."""
PARTING: Final = 15.0
"""Seconds that it has to end."""
LOOK: Final = 5.0
"""Seconds between looks whether the cluster's head still answers."""
MISSES: Final = 4
"""So many looks in a row without an answer mean that the cluster is gone; a head may be started again."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one worker takes."""

    gpus: float = 0
    cpus: float = 1
    apart: bool = False
    """Whether its GPUs may be on several machines."""


class Cluster:
    """Connected from `join` until `leave`. All of a process are one: Ray is left when the last of them leaves.

    `at` is where its head answers; it is looked after all the time.
    """

    _joined = 0
    _joining = threading.Lock()

    def __init__(self, ray: Any, address: str | None, at: Door) -> None:
        self.ray = ray
        self.address = address
        self._watching = asyncio.get_running_loop().create_task(_answering(at))

    @classmethod
    async def join(cls, address: str | None, *, needed_for: str, log: Say) -> Cluster:
        """The cluster at this address; without one (or with 'local'), Ray is started on this machine.

        `log` hears what Ray would print. Takes some seconds. Raises MissingExtra without Ray, SetupError where no
        cluster answers.
        """
        environment = dict(QUIET)
        if address in (None, "local"):
            address = None
            # nobody else on this machine may run things in our name
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        for name, value in environment.items():
            os.environ.setdefault(name, value)
        try:
            # not in the thread that connects: Ray would not heed the environment
            import ray
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise MissingExtra("ray", needed_for, INSTALL) from None
        # what matters is raised
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        _hush(log)
        at = None if address is None else door(address)
        try:
            if at is not None:
                await reach(at)
            await _within(PATIENCE, ray, partial(cls._connect, ray, address))
        except OSError as error:
            raise _nobody(address, error.strerror or "no answer") from None
        _signals_are_ours()
        found = at or door(ray.get_runtime_context().gcs_address)
        assert found is not None
        return cls(ray, address, found)

    @classmethod
    def _connect(cls, ray: Any, address: str | None) -> None:
        said: dict[str, Any] = {"address": address, "log_to_driver": False, "configure_logging": False}
        if address is None:
            said |= {"address": "local", "include_dashboard": False, "object_store_memory": STORE}
        with cls._joining:
            try:
                if not ray.is_initialized():
                    ray.init(**said)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise _nobody(address, " ".join(str(error).split())) from None
            cls._joined += 1

    @classmethod
    def _disconnect(cls, ray: Any) -> None:
        with cls._joining:
            cls._joined -= 1
            if not cls._joined:
                ray.shutdown()

    async def leave(self) -> None:
        """Ends what was started here; of another's cluster, the connection."""
        self._watching.cancel()
        with suppress(TimeoutError):
            await _within(PARTING, self.ray, partial(self._disconnect, self.ray))

    @property
    def gone(self) -> bool:
        """Whether nothing can be asked of it any more."""
        return self._watching.done()

    async def while_there(self, doing: Coroutine[Any, Any, T]) -> T:
        """What comes of something that needs the cluster. Raises NowhereError once that is gone: Ray waits on."""
        where = f"the Ray cluster at {self.address}" if self.address else "Ray on this machine"
        nowhere = NowhereError(Fault(FaultKind.LOST, f"{where} is gone: its head does not answer any more"))
        if self.gone:
            # not even begun: what Ray does before it waits would stop our loop
            doing.close()
            raise nowhere
        task = asyncio.get_running_loop().create_task(doing)
        try:
            await asyncio.wait({task, self._watching}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise nowhere
        finally:
            task.cancel()
            await asyncio.wait({task})

    def need(self, gpus: float) -> Need:
        """What a worker with so many GPUs takes. The cores of this machine are not counted."""
        of_a_node = self.most_gpus_of_a_node()
        return Need(gpus, cpus=0 if self.address is None else 1, apart=gpus > 1 and 0 < of_a_node < gpus)

    def gpus(self) -> float:
        """GPUs that the cluster has now."""
        return float(self.ray.cluster_resources().get("GPU", 0))

    def most_gpus_of_a_node(self) -> float:
        """The most that one machine of it has now."""
        nodes = (node["Resources"] for node in self.ray.nodes() if node["Alive"])
        return max((float(resources.get("GPU", 0)) for resources in nodes), default=0.0)

    def check(self, need: Need, workers: int) -> None:
        """Raises SetupError for what this machine will never have room for; a cluster may still grow."""
        if self.address is not None or need.gpus * workers <= self.gpus():
            return
        raise SetupError(
            f"{workers} workers with {need.gpus:g} GPUs each are more than this machine's {self.gpus():g}",
            hint="lower data_parallel_size or distributed.workers, or give the address of a cluster",
        )


async def _answering(at: Door) -> None:
    """Until the head has not answered for long."""
    misses = 0
    while misses < MISSES:
        await asyncio.sleep(LOOK)
        try:
            await reach(at)
        except OSError:
            misses += 1
        else:
            misses = 0


async def _within(seconds: float, ray: Any, call: Callable[[], None]) -> None:
    """A call of Ray's that may never return. Raises TimeoutError."""
    try:
        async with asyncio.timeout(seconds):
            await aside(call)
    except (TimeoutError, asyncio.CancelledError):
        # its thread may keep for ever what Ray would wait for when our process ends
        atexit.unregister(ray.shutdown)
        raise


def _nobody(address: str | None, why: str) -> SetupError:
    return SetupError(
        f"there is no Ray {'on this machine' if address is None else f'at {address}'}: {why}",
        hint="see that the cluster runs (ray status), and that its Ray and Python are the same as here",
    )


def _hush(log: Say) -> None:
    """Ray prints what goes wrong on the cluster, whatever it is told: our stdout may be for a report alone."""
    loop = asyncio.get_running_loop()

    def printed(said: Mapping[str, Any], *_: Any, **__: Any) -> None:
        # called in a thread of Ray's, maybe when all is over
        with suppress(RuntimeError):
            for line in said["lines"]:
                loop.call_soon_threadsafe(log, f"Ray says: {' '.join(line.split())}")

    import_module("ray._private.worker").print_to_stdstream = printed  # type: ignore[attr-defined]


def _signals_are_ours() -> None:
    """Ray puts handlers of its own under those of Python, which write a trace of the stack for every signal."""
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.getsignal(signum))
