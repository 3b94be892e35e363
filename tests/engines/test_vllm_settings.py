"""A spec's backend parameters as the settings of a worker."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from synth_cli.engines.vllm.settings import ModelSettings, settings_of
from synth_cli.errors import SetupError
from synth_cli.spec.backend import BackendParams

STRUCTURED = {"structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True}}


def test_what_is_not_said_is_left_to_the_worker(tmp_path: Path) -> None:
    """Only the way of structured outputs is ours."""
    assert settings_of("org/model", BackendParams(), folder=tmp_path) == ModelSettings("org/model", STRUCTURED)


def test_every_parameter_of_the_language_has_its_argument(tmp_path: Path) -> None:
    """Under vLLM's names."""
    params = BackendParams(
        tensor_parallel_size=2,
        enforce_eager=True,
        max_model_length=512,
        gpu_memory_utilization=0.5,
        dtype="float16",
        quantization="awq",
        batch_size=32,
    )
    settings = settings_of("org/model", params, folder=tmp_path)
    assert settings.args == {
        **STRUCTURED,
        "tensor_parallel_size": 2,
        "enforce_eager": True,
        "max_model_len": 512,
        "gpu_memory_utilization": 0.5,
        "dtype": "float16",
        "quantization": "awq",
        "max_num_seqs": 32,
    }
    assert (settings.in_flight, settings.gpus) == (32, 2)


def test_engine_args_win(tmp_path: Path) -> None:
    """They are handed over as they are; those of vLLM's server are taken by the worker."""
    params = BackendParams(
        max_model_length=512,
        engine_args={
            "max_model_len": 256,
            "structured_outputs_config": {"backend": "xgrammar"},
            "pipeline_parallel_size": 3,
            "reasoning_parser": "deepseek_r1",
            "tool_call_parser": "hermes",
            "enable_auto_tool_choice": True,
            "default_chat_template_kwargs": {"enable_thinking": False},
            "chat_template_content_format": "openai",
        },
    )
    settings = settings_of("org/model", params, folder=tmp_path)
    assert settings == ModelSettings(
        "org/model",
        {
            "max_model_len": 256,
            "structured_outputs_config": {"backend": "xgrammar"},
            "pipeline_parallel_size": 3,
            "reasoning_parser": "deepseek_r1",
        },
        content_format="openai",
        template_args={"enable_thinking": False},
        tool_parser="hermes",
    )
    assert (settings.gpus, settings.reasoning_parser) == (3, "deepseek_r1")


def test_a_model_in_a_folder_is_found_from_the_specs_folder(tmp_path: Path) -> None:
    """By an absolute path, so that it does not matter where the worker runs; other names are the hub's."""
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    found = str(tmp_path / "models" / "tiny")
    for name in ("models/tiny", "./models/tiny", found):
        assert settings_of(name, BackendParams(), folder=tmp_path).model == found
    assert settings_of("models/other", BackendParams(), folder=tmp_path).model == "models/other"


def test_an_adapter_must_be_there(tmp_path: Path) -> None:
    """vLLM's engine would end at the first request."""
    with pytest.raises(SetupError, match="there is no LoRA adapter in"):
        settings_of("m", BackendParams(lora_path="lora"), folder=tmp_path)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text('{"r": 8}')
    settings = settings_of("m", BackendParams(lora_path="lora"), folder=tmp_path)
    assert settings.lora_path == str(tmp_path / "lora")


def test_a_chat_template_is_a_file_or_itself(tmp_path: Path) -> None:
    """A worker on another machine gets the text."""
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    assert (
        settings_of("m", BackendParams(chat_template="chat.jinja"), folder=tmp_path).chat_template == "{{ messages }}"
    )
    assert settings_of("m", BackendParams(chat_template="{{ x }}"), folder=tmp_path).chat_template == "{{ x }}"
    with pytest.raises(SetupError, match=r"chat_template: .*nothing\.jinja cannot be read"):
        settings_of("m", BackendParams(chat_template="nothing.jinja"), folder=tmp_path)


def test_tools_choose_the_backend_that_reads_them(tmp_path: Path) -> None:
    """How a call must look is written in a way that only one backend knows."""
    params = BackendParams(engine_args={"tool_call_parser": "hermes"})
    assert settings_of("m", params, folder=tmp_path).args == {
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}
    }


def test_settings_can_be_sent(tmp_path: Path) -> None:
    """To a worker in another process."""
    settings = settings_of("m", BackendParams(engine_args={"seed": 1}), folder=tmp_path, log=tmp_path / "log")
    assert pickle.loads(pickle.dumps(settings)) == settings
