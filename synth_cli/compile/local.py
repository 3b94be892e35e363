"""What is wrong with a step whose model runs on this machine, as far as it can be told without vLLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_cli.compile.models import refs_of
from synth_cli.compile.plan import sampling_of, settings_of
from synth_cli.core.guidance import regex_refused, schema_refused
from synth_cli.errors import Problem
from synth_cli.spec.backend import BackendParams
from synth_cli.spec.hints import NOT_PARAMS, mistyped_param
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import HERE, Model, Step, engine_of
from synth_cli.spec.places import Where

CONFIGS = ("config.json", "params.json")
"""What a model's folder has: Hugging Face's description, or Mistral's."""
OTHER_BACKEND = frozenset({"structured_outputs_config", "tool_call_parser"})
"""Engine arguments with which structured outputs are not left to guidance."""
ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Local:
    """What others know of such models."""

    params: Callable[[Mapping[str, Any]], Sequence[tuple[str, str]]]
    """Sampling parameters → (name, what is wrong with it) for each that vLLM does not take."""
    context: Callable[[str, BackendParams, Path], int | None]
    """(model, settings, the spec's folder) → the most that `max_model_length` may be; None where nobody knows."""
    heads: Callable[[str, BackendParams, Path], int | None]
    """(model, settings, the spec's folder) → its attention heads; None where nobody knows."""


def problems(step: Step, model: Model, where: Sequence[Where], loaded: Loaded, local: Local) -> Iterator[Problem]:
    """The problems of one model of a vLLM step.

    `where` are the places whose `generation_params` and `backend_params` go into it, the one that wins first.
    """
    settings = settings_of(step, model)
    for name, message in local.params(sampling_of(step, model, settings)):
        # a name that is wrong everywhere the loader has found
        if name not in NOT_PARAMS and mistyped_param(name) is None:
            place = _place("generation_params", (name,), where, loaded)
            yield loaded.places.key_problem(place, message)
    folder = loaded.folder
    name = model.name.removeprefix(HERE)
    if (wrong := _no_model(name, folder)) is not None:
        yield loaded.places.problem(_named(where[0], loaded), *wrong)
    else:
        for keys, message, hint in _too_large(name, settings, folder, local):
            yield loaded.places.problem(_place("backend_params", keys, where, loaded), message, hint)
    if settings.lora_path is not None and (wrong := _no_adapter(settings.lora_path, folder)) is not None:
        yield loaded.places.problem(_place("backend_params", ("lora_path",), where, loaded), *wrong)
    if settings.chat_template is not None and (wrong := _no_template(settings.chat_template, folder)) is not None:
        yield loaded.places.problem(_place("backend_params", ("chat_template",), where, loaded), *wrong)


def written_as_path(model: str) -> bool:
    """Whether a model's name can only be a place on this machine: a hub's is `name` or `owner/name`."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def refused(step: Step, schema: Any, loaded: Loaded) -> tuple[str, str, str] | None:
    """(the constraint's key, what is wrong with it, a hint) where vLLM would refuse every request of the step."""
    response = step.response
    if response is None or not any(_guided(step, loaded.spec.named(ref)) for _, ref in refs_of(step)):
        return None
    if response.regex is not None and (why := regex_refused(response.regex)) is not None:
        return "regex", f"vLLM does not take this regular expression: {why}", "write it without that"
    if schema and (why := schema_refused(schema)) is not None:
        return "schema", f"vLLM does not take this schema: {why}", ""
    return None


def _guided(step: Step, model: Model) -> bool:
    """Whether the model runs here and nobody chose another backend for its structured outputs."""
    settings = settings_of(step, model)
    here = engine_of(step, model, served=bool(settings.base_url)) == "vllm"
    return here and not OTHER_BACKEND & (settings.engine_args or {}).keys()


def _too_large(
    name: str, settings: BackendParams, folder: Path, local: Local
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(keys in `backend_params`, what is wrong, a hint) of what is more than the model has."""
    keys, asked = _told(settings, "max_model_length", "max_model_len")
    longest = None if asked is None else local.context(name, settings, folder)
    if asked is not None and longest is not None and asked > longest:
        message = f"{keys[-1]} is {asked:,}, and this model takes {longest:,} tokens"
        yield keys, message, f"write {longest}, or leave it out"
    keys, parts = _told(settings, "tensor_parallel_size", "tensor_parallel_size")
    heads = local.heads(name, settings, folder) if parts is not None and parts > 1 else None
    if parts is not None and heads is not None and heads % parts:
        fitting = [str(size) for size in range(1, heads + 1) if heads % size == 0]
        message = f"{keys[-1]} is {parts}, which does not divide this model's {heads} attention heads"
        yield keys, message, f"write one of {', '.join(fitting)}"


def _told(settings: BackendParams, ours: str, theirs: str) -> tuple[tuple[str, ...], int | None]:
    """A count and where it stands: engine arguments win over the language's own."""
    args = settings.engine_args or {}
    if theirs not in args:
        return (ours,), getattr(settings, ours)
    value = args[theirs]
    return ("engine_args", theirs), value if isinstance(value, int) and not isinstance(value, bool) else None


def _place(params: str, keys: tuple[str, ...], where: Sequence[Where], loaded: Loaded) -> Where:
    """Where a parameter is written: the first of the places that has it."""
    places = [(*place, params, *keys) for place in where]
    return next((place for place in places if loaded.places.find(place)[2]), places[0])


def _named(where: Where, loaded: Loaded) -> Where:
    named = (*where, "name")
    return named if loaded.places.find(named)[2] else where


def _no_model(name: str, folder: Path) -> tuple[str, str] | None:
    path = _path(name, folder)
    if path.is_file() or any((path / config).is_file() for config in CONFIGS):
        return None
    if path.is_dir():
        return f"the folder {name} holds no model: it has no {CONFIGS[0]}", "give the folder that a model was saved in"
    if written_as_path(name):
        return f"there is no model in {name}", f"paths are relative to {folder}; a hub's model is owner/name"
    return None


def _no_adapter(path: str, folder: Path) -> tuple[str, str] | None:
    if (_path(path, folder) / ADAPTER).is_file():
        return None
    return f"there is no LoRA adapter in {path}", f"give the folder that has its {ADAPTER}, relative to {folder}"


def _no_template(given: str, folder: Path) -> tuple[str, str] | None:
    """A template itself has braces or lines, the name of its file neither."""
    if "{" in given or "\n" in given or _path(given, folder).is_file():
        return None
    return f"there is no file {given}", f"give a Jinja file, relative to {folder}, or the template itself"


def _path(given: str, folder: Path) -> Path:
    return folder / Path(given).expanduser()
