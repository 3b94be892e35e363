"""`synth serve`: the command line of vLLM's own server for a model of a spec, and how a spec then asks it.

Options of the server: https://docs.vllm.ai/en/stable/cli/serve.html
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from synth_cli.compile.plan import Plan, Voice, plan
from synth_cli.core.machine import Wanted, obstacles
from synth_cli.engines.vllm import settings as vllm
from synth_cli.errors import MissingExtra, SetupError, SpecError, UsageError
from synth_cli.providers.resolve import provider_of
from synth_cli.run.hardware import machine
from synth_cli.run.local import wanted_of
from synth_cli.run.prepare import problems_of
from synth_cli.spec.load import load

MODULE = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` starts; there also where the distribution has no command of that name."""
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Serving:
    """A server to start. `model` is the name by which requests ask for what it serves."""

    command: tuple[str, ...]
    model: str
    address: str
    """Up to and with /v1, as seen from this machine."""
    wanted: Wanted
    """What it takes of the machine."""

    @property
    def lines(self) -> str:
        """The lines by which a spec asks this server."""
        said = {"model": {"name": self.model, "backend": "vllm", "base_url": self.address}}
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=1000)


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
    made = plan(load(path, sets=sets, profile=profile, environ=environ), provider_of)
    chosen = _chosen(made, step, path)
    model, params = provider_of(chosen.name, "vllm")[1], chosen.settings
    settings = vllm.settings_of(model, params, folder=made.folder)
    if machine(environ).build == "cpu":
        settings = replace(settings, args={**vllm.on_cpu(environ), **settings.args})
    said = arguments(settings, model, host=host, port=port, copies=params.data_parallel_size)
    asked = "127.0.0.1" if host in ANYWHERE else host
    address = f"http://{f'[{asked}]' if ':' in asked else asked}:{port}/v1"
    # a server's copies are its own processes, whatever the spec's would run on
    wanted = replace(wanted_of(replace(chosen, engine="vllm")) or Wanted(), ray=False, cluster=None)
    return Serving((sys.executable, "-m", MODULE, *said), model, address, wanted)


def ready(found: Serving, environ: Mapping[str, str]) -> None:
    """Finds what is in the way before anything is loaded. Raises MissingExtra or SetupError."""
    for obstacle in obstacles(found.wanted, machine(environ)):
        if obstacle.package:
            raise MissingExtra(obstacle.package, "synth serve", vllm.INSTALL)
        raise SetupError(obstacle.message, hint=obstacle.hint)


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
        said |= {"enable_lora": True, "max_lora_rank": vllm.rank_of(lora)}
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


def _chosen(made: Plan, step: str | None, path: Path) -> Voice:
    """The model of the spec that vLLM runs, or that of the step."""
    found: dict[str, list[Voice]] = {}
    for each in made.steps:
        for voice in each.voices:
            if voice.terms.backend == "vllm":
                found.setdefault(each.name, []).append(voice)
    if not found:
        raise UsageError(f"{path} has no model that vLLM runs", hint="give it `engine: vllm`, or `backend: vllm`")
    fitting: list[Voice] = []
    for name, voices in found.items():
        # steps often share one model, and a pool may name one twice
        fitting += [one for one in voices if step in (None, name) and not any(_same(one, seen) for seen in fitting)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(found)
    if not fitting:
        raise UsageError(f"the step {step} has no model that vLLM runs", hint=f"--step {known}")
    whose = str(path) if step is None else f"the step {step}"
    raise UsageError(
        f"{whose} has {len(fitting)} models that vLLM runs, and a server has one",
        hint=f"choose with --step: {known}" if step is None else "give each a step of its own",
    )


def _same(one: Voice, other: Voice) -> bool:
    return (one.name, one.settings) == (other.name, other.settings)
