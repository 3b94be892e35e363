"""Spec → Plan: what a run will do, as data. One interpreter executes it and another prints it, so neither can lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from synth_cli.compile.tools import tools_of
from synth_cli.core.request import Constraint, Terms
from synth_cli.errors import Problem
from synth_cli.spec.addresses import is_url
from synth_cli.spec.backend import BackendParams
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import Input, Model, Response, Step
from synth_cli.spec.schema import schema_of
from synth_cli.template import Templates


class ProviderOf(Protocol):
    """(model as written, backend or None) → (backend, the model's own name); raises UsageError for an unknown one."""

    def __call__(self, model: str, backend: str | None, *, base_url: str | None = None) -> tuple[str, str]: ...


ENGINES = frozenset({"online", "batch", "vllm"})
"""Those that this version has."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """When the output is published; without `floor` it is published whenever a row succeeded."""

    min_rows: int = 0
    max_error_rate: float | None = None
    floor: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the round (USD, tokens) and of this run (seconds). None: unlimited."""

    cost: float | None = None
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class StepPlan:
    """One step, ready to be drafted and judged."""

    step: Step
    engine: str
    settings: BackendParams
    terms: Terms
    schema: Mapping[str, Any] | None
    templates: Templates

    @property
    def name(self) -> str:
        return self.step.name


@dataclass(frozen=True)
class Plan:
    """A job. `outputs` are absolute paths or URLs."""

    name: str
    seed: int
    loaded: Loaded
    source: Input | None
    steps: tuple[StepPlan, ...]
    outputs: tuple[str, ...]
    acceptance: Acceptance
    limits: Limits
    templates: Templates
    """For the expressions and samplers of the input."""

    @property
    def folder(self) -> Path:
        return self.loaded.folder


def plan(loaded: Loaded, provider_of: ProviderOf, *, simulate: bool = False) -> Plan:
    """The plan of a spec that `check.problems` found nothing wrong with."""
    spec = loaded.spec
    steps = tuple(step_plan(step, loaded, provider_of, simulate=simulate) for step in spec.resolved())
    paths = spec.output.path if spec.output.path is not None else f"{loaded.name}.jsonl"
    return Plan(
        name=loaded.name,
        seed=spec.seed,
        loaded=loaded,
        source=spec.input,
        steps=steps,
        outputs=tuple(absolute(path, loaded.folder) for path in ([paths] if isinstance(paths, str) else paths)),
        acceptance=_acceptance(loaded, steps),
        limits=_limits(loaded),
        templates=Templates(vars=spec.vars, seed=spec.seed, step="input"),
    )


def absolute(path: str, folder: Path) -> str:
    """A path relative to the spec's folder; URLs as they are."""
    return path if is_url(path) else str(folder / path)


def step_plan(step: Step, loaded: Loaded, provider_of: ProviderOf, *, simulate: bool) -> StepPlan:
    """One step with its model's own settings merged in.

    The simulated model answers equal requests equally, so samples and equal rows are told apart by a seed.
    """
    model = model_of(step)
    settings = settings_of(step, model)
    backend, name = provider_of(model.name, backend_of(step, model), base_url=settings.base_url)
    schema = schema_in(step.response, loaded)
    params = dict(sampling_of(step, model, settings))
    if simulate or backend == "simulator":
        params.setdefault("seed", loaded.spec.seed)
    terms = Terms(
        backend=backend,
        model=name,
        endpoint=settings.base_url or "",
        params={key: value for key, value in params.items() if value is not None},
        constraint=constraint_of(step.response, schema),
        completion=step.prompt_format != "chat",
        tools=tools_of(step.tools) if isinstance(step.tools, list) else None,
        tool_choice=step.tool_choice,
    )
    templates = Templates(vars=loaded.spec.vars, seed=loaded.spec.seed, step=step.name)
    # behind the plan there is one place for settings: what the model's own say is in the step's
    step = step.model_copy(update={"backend_params": settings})
    return StepPlan(step, engine_of(step, model, settings), settings, terms, schema, templates)


def model_of(step: Step) -> Model:
    """The step's model; a list of models is a pool, which `unsupported` has refused."""
    model = step.model
    if isinstance(model, list):
        model = model[0]
    return Model(name=model or "") if model is None or isinstance(model, str) else model


def settings_of(step: Step, model: Model) -> BackendParams:
    """The step's backend parameters under the model's own, its shorthands included."""
    settings = step.backend_params or BackendParams()
    if model.backend_params is not None:
        settings = settings.overlaid(model.backend_params)
    said = {key: getattr(model, key) for key in ("base_url", "api_key", "headers")}
    return settings.overlaid(BackendParams.model_construct(_fields_set=None, **{k: v for k, v in said.items() if v}))


def sampling_of(step: Step, model: Model, settings: BackendParams) -> Mapping[str, Any]:
    """The sampling parameters, with what vLLM's backend parameters say in their place."""
    given = {name: getattr(settings, name) for name in ("max_tokens", "min_tokens")}
    said = {name: value for name, value in given.items() if value is not None}
    return {**said, **(step.generation_params or {}), **(model.generation_params or {})}


def backend_of(step: Step, model: Model) -> str | None:
    if model.backend is not None:
        return model.backend
    return "vllm" if (model.engine or step.engine) == "vllm" else None


def engine_of(step: Step, model: Model, settings: BackendParams) -> str:
    """`engine: vllm` implies the backend; the backend vllm with a `base_url` is a server, asked online."""
    engine = model.engine or step.engine
    if engine == "vllm" or (engine is None and backend_of(step, model) == "vllm"):
        return "online" if settings.base_url else "vllm"
    return engine or "online"


def schema_in(response: Response | None, loaded: Loaded) -> Mapping[str, Any] | None:
    if response is None or response.schema_ is None:
        return None
    return schema_of(response.schema_, folder=loaded.folder)


def constraint_of(response: Response | None, schema: Mapping[str, Any] | None) -> Constraint | None:
    """What goes to the model; a `choice` that is a template is put in for each row."""
    if response is None:
        return None
    if schema is not None:
        return Constraint("schema", schema)
    if response.choice is not None:
        return Constraint("choice", response.choice) if isinstance(response.choice, list) else None
    if response.regex is not None:
        return Constraint("regex", response.regex)
    return Constraint("grammar", response.grammar) if response.grammar is not None else None


def _acceptance(loaded: Loaded, steps: tuple[StepPlan, ...]) -> Acceptance:
    accept = loaded.spec.accept
    everything = any(step.settings.require_all_responses for step in steps)
    if accept is None and not everything:
        return Acceptance()
    rate = accept.max_error_rate if accept is not None else None
    return Acceptance(
        min_rows=(accept.min_rows or 0) if accept is not None else 0,
        max_error_rate=0.0 if everything else rate,
        floor=True,
    )


def _limits(loaded: Loaded) -> Limits:
    budget = loaded.spec.budget
    if budget is None:
        return Limits()
    return Limits(budget.max_cost_usd, budget.max_tokens, budget.max_time)


def unsupported(loaded: Loaded) -> Iterator[Problem]:
    """What parses and validates but this version cannot run yet."""
    for where, what in _used(loaded):
        yield loaded.places.problem(where, f"{what}: not in this version yet")


def _used(loaded: Loaded) -> Iterator[tuple[tuple[str, ...], str]]:
    spec = loaded.spec
    yield from (((key,), key) for key in ("models", "steps", "target_rows") if getattr(spec, key))
    if isinstance(spec.model, list):
        yield ("model",), "a list of models"
    step = spec.resolved()[0]
    yield from (((key,), key) for key in ("fallback", "refine", "turns") if getattr(step, key))
    model = model_of(step)
    settings = settings_of(step, model)
    engine = engine_of(step, model, settings)
    if engine not in ENGINES:
        yield ("engine",) if spec.engine else ("model",), f"the engine {engine}"
