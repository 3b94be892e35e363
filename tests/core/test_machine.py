"""What a machine cannot do, given what it has and what is wanted."""

from __future__ import annotations

import pytest

from synth_cli.core.machine import GIB, Gpu, Machine, Obstacle, Wanted, obstacles

FREE = Gpu("H200", 140 * GIB, 139 * GIB)
BUSY = Gpu("H200", 140 * GIB, 70 * GIB)
TWO = Machine("0.11.0", "cuda", True, (FREE, FREE))
ELSEWHERE = "lower it, or name a Ray cluster that has them: distributed: {address: …}"


def test_what_is_there_stands_in_no_way() -> None:
    """GPUs enough, with memory enough."""
    for wanted in (Wanted(), Wanted(tensor_parallel=2), Wanted(workers=2, ray=True)):
        assert list(obstacles(wanted, TWO)) == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(tensor_parallel=4), "4 GPUs are needed for tensor_parallel_size 4, and there are 2 GPUs here"),
        (Wanted(workers=3, ray=True), "3 GPUs are needed for 3 workers, and there are 2 GPUs here"),
        (
            Wanted(tensor_parallel=2, workers=2, ray=True),
            "4 GPUs are needed for tensor_parallel_size 2 x 2 workers, and there are 2 GPUs here",
        ),
        (
            Wanted(pipeline_parallel=3),
            "3 GPUs are needed for tensor_parallel_size 1 x pipeline_parallel_size 3, and there are 2 GPUs here",
        ),
        (
            Wanted(workers=5, gpus_per_worker=0.5, ray=True),
            "3 GPUs are needed for gpus_per_worker 0.5 x 5 workers, and there are 2 GPUs here",
        ),
    ],
)
def test_more_gpus_than_there_are(wanted: Wanted, message: str) -> None:
    """All that workers take together."""
    assert list(obstacles(wanted, TWO)) == [Obstacle(message, ELSEWHERE)]


def test_what_was_hidden_is_named() -> None:
    """A variable that chooses among GPUs may be why there are too few."""
    one = Machine("0.11.0", "cuda", False, (FREE,), "CUDA_VISIBLE_DEVICES")
    none = Machine("0.11.0", "cuda", False, (), "CUDA_VISIBLE_DEVICES")
    (few,), (nothing,) = obstacles(Wanted(tensor_parallel=2), one), obstacles(Wanted(), none)
    assert few.message == (
        "2 GPUs are needed for tensor_parallel_size 2, and there is 1 GPU here; CUDA_VISIBLE_DEVICES chooses among them"
    )
    assert nothing.message == "vLLM needs a GPU, and there is none here, as CUDA_VISIBLE_DEVICES says"


@pytest.mark.parametrize("build", ["cpu", "other"])
def test_a_build_for_something_else_needs_no_gpu(build: str) -> None:
    """What those need is theirs to say."""
    assert list(obstacles(Wanted(tensor_parallel=2), Machine("0.11.0", build))) == []  # type: ignore[arg-type]


def test_packages_that_are_missing() -> None:
    """vLLM for a model, Ray for several workers; a cluster has its own vLLM, and a server too."""
    bare = Machine()
    vllm = Obstacle("vLLM is not installed", package="vllm")
    ray = Obstacle("workers of their own run on Ray, which is not installed", package="ray")
    assert list(obstacles(Wanted(), bare)) == [vllm]
    assert list(obstacles(Wanted(workers=2, ray=True), bare)) == [ray, vllm]
    assert list(obstacles(Wanted(workers=2, ray=True, cluster="ray://head:10001"), bare)) == [ray]
    assert list(obstacles(Wanted(vllm=False, workers=2, ray=True), bare)) == [ray]
    assert list(obstacles(Wanted(workers=9, ray=True, cluster="auto"), Machine(None, "cuda", True))) == []


def test_memory_that_others_have() -> None:
    """vLLM takes its share at once: of the GPUs that it would use, in their order."""
    mixed = Machine("0.11.0", "cuda", True, (FREE, BUSY))
    said = Obstacle(
        "GPU 1 has 70.0 of 140.0 GiB free, and gpu_memory_utilization is 0.9",
        "end what uses it, or set gpu_memory_utilization below 0.5",
    )
    assert list(obstacles(Wanted(), mixed)) == []
    assert list(obstacles(Wanted(tensor_parallel=2), mixed)) == [said]
    assert list(obstacles(Wanted(tensor_parallel=2, memory_share=0.4), mixed)) == []
    assert list(obstacles(Wanted(tensor_parallel=2, memory_share=None), mixed)) == []
    # Ray chooses the GPUs itself
    assert list(obstacles(Wanted(workers=2, ray=True), mixed)) == []


def test_memory_that_nobody_tells_is_enough() -> None:
    """A driver may keep it to itself."""
    assert list(obstacles(Wanted(), Machine("0.11.0", "rocm", False, (Gpu("AMD GPU"),)))) == []


def test_a_worker_with_fewer_gpus_than_its_model() -> None:
    """It takes what a copy of the model takes; a part of a GPU is no part of several."""
    assert list(obstacles(Wanted(tensor_parallel=2, gpus_per_worker=1, ray=True), TWO)) == []
    many = Wanted(tensor_parallel=2, gpus_per_worker=1, workers=3, ray=True)
    assert list(obstacles(many, TWO)) == [
        Obstacle("6 GPUs are needed for tensor_parallel_size 2 x 3 workers, and there are 2 GPUs here", ELSEWHERE)
    ]
    said = "one copy of the model takes 2 GPUs, and gpus_per_worker is 0.5"
    half = Wanted(tensor_parallel=2, gpus_per_worker=0.5, ray=True)
    assert list(obstacles(half, TWO)) == [Obstacle(said, "leave it out, or give a whole number")]
