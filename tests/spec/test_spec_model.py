"""Steps with the job's defaults in them."""

from __future__ import annotations

from synth_cli.spec.model import Model, Spec, Step
from synth_cli.spec.numbers import seconds


def steps(data: dict[str, object]) -> tuple[Step, ...]:
    return Spec.model_validate(data).resolved()


def said(step: Step) -> dict[str, object]:
    return step.model_dump(exclude_unset=True, by_alias=True)


def test_one_step() -> None:
    """A spec without steps is one step named main."""
    (step,) = steps({"model": "m", "prompt": "p", "name": "job"})
    assert (step.name, step.model, step.prompt, step.samples, step.type) == ("main", "m", "p", 1, "llm")


def test_defaults_for_steps() -> None:
    """The two params mappings merge by key, the rest is replaced."""
    data = {
        "model": "m",
        "carry": False,
        "generation_params": {"temperature": 1, "top_p": 1},
        "backend_params": {"max_retries": 5, "stream": True},
        "steps": [
            {"name": "a", "prompt": "p"},
            {
                "name": "b",
                "model": "n",
                "carry": ["x"],
                "generation_params": {"top_p": 0},
                "backend_params": {"max_retries": 1},
            },
        ],
    }
    assert [said(step) for step in steps(data)] == [
        {
            "name": "a",
            "prompt": "p",
            "model": "m",
            "carry": False,
            "generation_params": {"temperature": 1, "top_p": 1},
            "backend_params": {"max_retries": 5, "stream": True},
        },
        {
            "name": "b",
            "model": "n",
            "carry": ["x"],
            "generation_params": {"temperature": 1, "top_p": 0},
            "backend_params": {"max_retries": 1, "stream": True},
        },
    ]


def test_parameters_of_another_engine_are_not_inherited() -> None:
    """A default for one engine does not trouble a step of another; the step's own parameters all stay."""
    data = {
        "model": "m",
        "backend_params": {"max_retries": 5, "stream": True, "tensor_parallel_size": 2},
        "steps": [
            {"name": "a", "prompt": "p"},
            {"name": "b", "prompt": "p", "engine": "vllm", "backend_params": {"batch_size": 8}},
            {"name": "c", "prompt": "p", "model": {"name": "m", "backend": "vllm"}},
            {"name": "d", "prompt": "p", "model": {"name": "m", "backend": "vllm", "base_url": "http://x/v1"}},
        ],
    }
    params = [said(step).get("backend_params") for step in steps(data)]
    assert params == [
        {"max_retries": 5, "stream": True},
        {"max_retries": 5, "tensor_parallel_size": 2, "batch_size": 8},
        {"max_retries": 5, "tensor_parallel_size": 2},
        {"max_retries": 5, "stream": True},
    ]


def test_models_that_are_named_once() -> None:
    """A name of `models` stands for its mapping, over which a step may say more; it leads to no other name."""
    spec = Spec.model_validate(
        {
            "models": {
                "judge": {
                    "name": "writer",
                    "engine": "batch",
                    "generation_params": {"temperature": 0, "top_p": 1},
                    "backend_params": {"max_retries": 2, "batch_size": 9},
                },
                "writer": "openai/gpt-5-mini",
            },
            "prompt": "p",
            "model": "writer",
        }
    )
    more = {"name": "judge", "generation_params": {"top_p": 0.5}, "backend_params": {"batch_size": 4}}
    assert [spec.named(ref) for ref in ("writer", "else", "judge", Model.model_validate(more))] == [
        Model(name="openai/gpt-5-mini"),
        Model(name="else"),
        spec.models["judge"],
        Model.model_validate(
            {
                "name": "writer",
                "engine": "batch",
                "generation_params": {"temperature": 0, "top_p": 0.5},
                "backend_params": {"max_retries": 2, "batch_size": 4},
            }
        ),
    ]


def test_what_any_of_a_steps_models_needs_is_inherited() -> None:
    """Named models, pools, fallbacks and conversations say which engines a step has."""
    data = {
        "models": {"here": {"name": "m", "backend": "vllm"}, "bulk": {"name": "m", "engine": "batch"}},
        "model": "m",
        "backend_params": {"stream": True, "tensor_parallel_size": 2, "completion_window": "24h"},
        "steps": [
            {"name": "a", "prompt": "p", "model": "here"},
            {"name": "b", "prompt": "p", "model": ["m", "bulk"]},
            {"name": "c", "prompt": "p", "fallback": ["here"]},
            {"name": "d", "turns": {"user": {"model": "bulk"}, "assistant": {"model": "here"}}, "model": "here"},
        ],
    }
    params = [said(step)["backend_params"] for step in steps(data)]
    assert params == [
        {"tensor_parallel_size": 2},
        {"stream": True, "completion_window": "24h"},
        {"stream": True, "tensor_parallel_size": 2},
        {"tensor_parallel_size": 2, "completion_window": "24h"},
    ]


def test_durations() -> None:
    """Times are seconds, or numbers with a unit."""
    given = ["90", 90, "90s", "30m", "5h", "2d", "1h30m", "1.5h", "1_000", "0", "x", "5x", "-3", True]
    assert [seconds(each) for each in given] == [
        90,
        90,
        90,
        1800,
        18000,
        172800,
        5400,
        5400,
        1000,
        None,
        None,
        None,
        None,
        None,
    ]
