"""`synth serve`: the command line of vLLM's own server for a model of a spec, and how a spec then asks it.

Options of the server: https://docs.vllm.ai/en/stable/cli/serve.html
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from synth_cli.compile.plan import backend_of, engine_of, model_of, settings_of
from synth_cli.engines.vllm import settings as vllm
from synth_cli.errors import MissingExtra, SpecError, UsageError
from synth_cli.providers.resolve import provider_of
from synth_cli.run.prepare import problems_of
from synth_cli.spec.backend import BackendParams
from synth_cli.spec.load import Loaded, load
from synth_cli.spec.model import Step

MODULE = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` starts; there also where the distribution has no command of that name."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of adapters, as vLLM takes them."""
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Serving:
    """A server to start. `model` is the name by which requests ask for what it serves."""

    command: tuple[str, ...]
    model: str
    address: str
    """Up to and with /v1, as seen from this machine."""

    @property
    def lines(self) -> str:
        """The lines by which a spec asks this server."""
        said = {"model": {"name": self.model, "backend": "vllm", "base_url": self.address}}
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=1000)


@dataclass(frozen=True, slots=True)
class Served:
    """A model of a spec that vLLM runs."""

    step: str
    model: str
    params: BackendParams


def serving(
    path: Path,
    *,
    step: str | None,
    host: str,
    port: int,
    sets: Sequence[str],
    profile: str | None,
    environ: Mapping[str, str],
) -> Serving:
    """The server of a spec's vLLM model, or of the one of `step`.

    Raises SpecError with all that is wrong with the spec, UsageError where it has no such model or several.
    """
    found = tuple(problems_of(path, sets=sets, profile=profile, environ=environ))
    if found:
        raise SpecError(found)
    loaded = load(path, sets=sets, profile=profile, environ=environ)
    chosen = _chosen(tuple(_served(loaded)), step, path)
    settings = vllm.settings_of(chosen.model, chosen.params, folder=loaded.folder)
    copies = chosen.params.data_parallel_size
    command = (sys.executable, "-m", MODULE, *arguments(settings, chosen.model, host=host, port=port, copies=copies))
    asked = "127.0.0.1" if host in ANYWHERE else host
    return Serving(command, chosen.model, f"http://{f'[{asked}]' if ':' in asked else asked}:{port}/v1")


def installed() -> None:
    """Raises MissingExtra where there is no vLLM to start."""
    if find_spec("vllm") is None:
        raise MissingExtra("vllm", "synth serve", vllm.INSTALL)


def arguments(settings: vllm.ModelSettings, name: str, *, host: str, port: int, copies: int = 1) -> Iterator[str]:
    """The options of vLLM's server for these settings; `name` is what requests call the model.

    With a LoRA adapter the name means the adapter; the model without it is called `name-base`.
    """
    said: dict[str, Any] = {"host": host, "port": port, "model": settings.model}
    lora = settings.lora_path
    said["served_model_name"] = name if lora is None else f"{name}-base"
    if copies > 1:
        said["data_parallel_size"] = copies
    if lora is not None:
        said |= {"enable_lora": True, "max_lora_rank": rank_of(Path(lora))}
    said |= settings.args
    if settings.chat_template is not None:
        said["chat_template"] = settings.chat_template
    if settings.content_format != "auto":
        said["chat_template_content_format"] = settings.content_format
    if settings.template_args:
        said["default_chat_template_kwargs"] = settings.template_args
    if settings.tool_parser is not None:
        said |= {"enable_auto_tool_choice": True, "tool_call_parser": settings.tool_parser}
    for key, value in said.items():
        yield from _option(key, value)
    if lora is not None:
        yield from ("--lora-modules", f"{name}={lora}")


def _option(key: str, value: Any) -> Iterator[str]:
    """One argument by its Python name as the command line takes it."""
    option = "--" + key.replace("_", "-")
    match value:
        case None:
            return
        case True:
            yield option
        case False:
            yield option.replace("--", "--no-", 1)
        case Mapping():
            yield from (option, json.dumps(value, ensure_ascii=False))
        case list() | tuple():
            yield from (option, *map(str, value))
        case _:
            # with a sign of equality a value may begin with a dash
            yield f"{option}={value}"


def rank_of(adapter: Path) -> int:
    """The least of the ranks that vLLM takes that an adapter fits in."""
    said = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    rank = int(said.get("r", 16))
    return next((each for each in RANKS if each >= rank), rank)


def _served(loaded: Loaded) -> Iterator[Served]:
    """Every model of the spec that vLLM runs, each once."""
    seen: set[tuple[str, str]] = set()
    for step in loaded.spec.resolved():
        refs = step.model if isinstance(step.model, list) else [step.model]
        for ref in refs:
            named = loaded.spec.models.get(ref, ref) if isinstance(ref, str) else ref
            one = _one(step.model_copy(update={"model": named}))
            if one is not None and (one.model, str(one.params)) not in seen:
                seen.add((one.model, str(one.params)))
                yield one


def _one(step: Step) -> Served | None:
    model = model_of(step)
    params = settings_of(step, model)
    if backend_of(step, model) != "vllm" and engine_of(step, model, params) != "vllm":
        return None
    return Served(step.name, provider_of(model.name, "vllm")[1], params)


def _chosen(served: Sequence[Served], step: str | None, path: Path) -> Served:
    fitting = [one for one in served if step in (None, one.step)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(dict.fromkeys(one.step for one in served))
    if not served:
        raise UsageError(f"{path} has no model that vLLM runs", hint="give it `engine: vllm`, or `backend: vllm`")
    if not fitting:
        raise UsageError(f"the step {step} has no model that vLLM runs", hint=f"--step {known}")
    raise UsageError(
        f"{path} has {len(fitting)} models that vLLM runs, and a server has one",
        hint=f"choose with --step: {known}" if step is None else "give each a step of its own",
    )
