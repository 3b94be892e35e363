"""A Ray cluster: one that runs already, or this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth_cli.errors import MissingExtra, SetupError

INSTALL = "pip install 'synth-cli[ray]'"
STORE = 256 << 20
"""Bytes for objects on this machine: requests and answers go from process to process, hardly any stays."""
QUIET: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # in later versions an actor without a GPU would else not see those that its engine's processes are given
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True, slots=True)
class Need:
    """What one worker takes."""

    gpus: float = 0
    cpus: float = 1
    apart: bool = False
    """Whether its GPUs may be on several machines."""


class Cluster:
    """Connected from `join` until `leave`. All of a process are one: Ray is left when the last of them leaves."""

    _joined = 0
    _joining = threading.Lock()

    def __init__(self, ray: Any, address: str | None) -> None:
        self.ray = ray
        self.address = address

    @classmethod
    async def join(cls, address: str | None, *, needed_for: str) -> Cluster:
        """The cluster at this address; without one (or with 'local'), Ray is started on this machine.

        Takes some seconds. Raises MissingExtra without Ray, SetupError where no cluster answers.
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
        # in a thread of its own, so that the display goes on
        await asyncio.to_thread(cls._connect, ray, address)
        _signals_are_ours()
        return cls(ray, address)

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
                where = "on this machine" if address is None else f"at {address}"
                raise SetupError(
                    f"there is no Ray {where}: {' '.join(str(error).split())}",
                    hint="see that the cluster runs (ray status), and that its Ray and Python are the same as here",
                ) from None
            cls._joined += 1

    @classmethod
    def _disconnect(cls, ray: Any) -> None:
        with cls._joining:
            cls._joined -= 1
            if not cls._joined:
                ray.shutdown()

    async def leave(self) -> None:
        """Ends what was started here; of another's cluster, the connection."""
        await asyncio.to_thread(self._disconnect, self.ray)

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


def _signals_are_ours() -> None:
    """Ray puts handlers of its own under those of Python, which write a trace of the stack for every signal."""
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.getsignal(signum))
