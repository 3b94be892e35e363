"""What a machine has for models that run on it, and what of a job it cannot do. Pure: the machine is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

GIB = 1 << 30
Build: TypeAlias = Literal["cuda", "rocm", "cpu", "other"]
"""What the vLLM that is installed was built for; of the others it is not told here what they need."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """Memory in bytes; 0 where it is not known."""

    name: str = ""
    memory: int = 0
    free: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """`vllm` is the version of the one that is installed; None: there is none."""

    vllm: str | None = None
    build: Build = "cuda"
    ray: bool = False
    gpus: tuple[Gpu, ...] = ()
    """Those that a process started now would see, in its order."""
    narrowed: str = ""
    """The environment variable that chooses among the machine's GPUs, where there is one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step asks of the machines that its workers run on."""

    vllm: bool = True
    """False: the workers ask a server."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    workers: int = 1
    gpus_per_worker: float | None = None
    """Where the spec says it."""
    ray: bool = False
    cluster: str | None = None
    """The address of a Ray cluster: what its machines have is not known here."""
    memory_share: float | None = 0.9
    """Of each GPU's memory; None where vLLM is told the amount in another way."""

    @property
    def shards(self) -> int:
        """GPUs that one copy of the model is spread over."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def given(self) -> float | None:
        """GPUs of each worker, where that is what the spec says: a whole number is at least those of a copy."""
        each = self.gpus_per_worker
        return None if each is None or 1 <= each < self.shards else each

    @property
    def gpus(self) -> int:
        """GPUs that all workers take together."""
        each = self.shards if self.given is None else self.given
        return int(-(-each * self.workers // 1))


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a job cannot run here, and what to do. `package`: one that is not installed."""

    message: str
    hint: str = ""
    package: str = ""


def obstacles(wanted: Wanted, machine: Machine) -> Iterator[Obstacle]:
    """Everything that stands in the way, before anything is loaded."""
    if wanted.ray and not machine.ray:
        yield Obstacle("workers of their own run on Ray, which is not installed", package="ray")
    if not wanted.vllm or wanted.cluster is not None:
        return
    if machine.vllm is None:
        yield Obstacle("vLLM is not installed", package="vllm")
        return
    if machine.build not in ("cuda", "rocm"):
        return
    yield from _counted(wanted, machine)
    if machine.gpus and not wanted.ray:
        yield from _filled(wanted, machine.gpus[: wanted.gpus])


def _counted(wanted: Wanted, machine: Machine) -> Iterator[Obstacle]:
    here = len(machine.gpus)
    told = f"; {machine.narrowed} chooses among them" if machine.narrowed else ""
    if not here:
        said = f", as {machine.narrowed} says" if machine.narrowed else ""
        hint = "install vLLM's build for CPUs, or ask a vLLM that runs elsewhere: backend: vllm with its base_url"
        yield Obstacle(f"vLLM needs a GPU, and there is none here{said}", hint)
    elif wanted.gpus > here:
        has = f"{here} GPU{'s' * (here > 1)}"
        yield Obstacle(
            f"{wanted.gpus} GPUs are needed for {' x '.join(_factors(wanted))}, "
            f"and there {'are' if here > 1 else 'is'} {has} here{told}",
            "lower it, or name a Ray cluster that has them: distributed: {address: …}",
        )
    if wanted.given is not None and 0 < wanted.given < 1 < wanted.shards:
        yield Obstacle(
            f"one copy of the model takes {wanted.shards} GPUs, and gpus_per_worker is {wanted.given:g}",
            "leave it out, or give a whole number",
        )


def _factors(wanted: Wanted) -> Iterator[str]:
    if wanted.given is not None:
        yield f"gpus_per_worker {wanted.given:g}"
    elif wanted.shards > 1 or wanted.workers == 1:
        yield f"tensor_parallel_size {wanted.tensor_parallel}"
        if wanted.pipeline_parallel > 1:
            yield f"pipeline_parallel_size {wanted.pipeline_parallel}"
    if wanted.workers > 1:
        yield f"{wanted.workers} workers"


def _filled(wanted: Wanted, gpus: Sequence[Gpu]) -> Iterator[Obstacle]:
    """vLLM takes its share when it starts, and does not start where others have it."""
    if wanted.memory_share is None:
        return
    for position, gpu in enumerate(gpus):
        if gpu.free < gpu.memory * wanted.memory_share:
            free, whole = gpu.free / GIB, gpu.memory / GIB
            yield Obstacle(
                f"GPU {position} has {free:.1f} of {whole:.1f} GiB free, and gpu_memory_utilization is "
                f"{wanted.memory_share:g}",
                f"end what uses it, or set gpu_memory_utilization below {int(100 * free / whole) / 100:g}",
            )
