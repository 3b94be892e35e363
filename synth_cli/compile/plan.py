"""Spec → Plan: what a run will do, as data. One interpreter executes it and another prints it, so neither can lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from synth_cli.compile.flow import INPUT, sources_of
from synth_cli.compile.tools import tools_of
from synth_cli.core.request import Constraint, Terms
from synth_cli.spec.addresses import is_url
from synth_cli.spec.backend import BackendParams
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import SOURCES, Input, Model, ModelRef, Response, Step, backend_of, engine_of
from synth_cli.spec.schema import schema_of
from synth_cli.template import Templates


class ProviderOf(Protocol):
    """(model as written, backend or None) → (backend, the model's own name); raises UsageError for an unknown one."""

    def __call__(self, model: str, backend: str | None, *, base_url: str | None = None) -> tuple[str, str]: ...


CANDIDATES = 10
"""Inputs drawn for each row wanted, where neither the spec nor a source says where to end."""


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


@dataclass(frozen=True, slots=True)
class Target:
    """Inputs are drawn until so many rows came out, or so many were drawn."""

    rows: int
    candidates: int | None = None


@dataclass(frozen=True)
class Voice:
    """One model of a step, as it is asked."""

    name: str
    """As the spec writes it."""
    backend: str | None
    """The protocol, where the spec says it."""
    engine: str
    settings: BackendParams
    terms: Terms

    @property
    def title(self) -> str:
        """The model with its provider."""
        return f"{self.terms.backend}/{self.terms.model}"


@dataclass(frozen=True)
class StepPlan:
    """One step, ready to be drafted and judged. A step without a model has no voices."""

    step: Step
    voices: tuple[Voice, ...]
    """All its models: the pool's first, then the fallbacks', then the sides' of a conversation."""
    members: tuple[int, ...]
    """The voice of each sample of a row."""
    fallbacks: tuple[int, ...]
    """The voices that are asked in turn when the first one's answer failed for good."""
    sides: tuple[int, int] | None
    """The voices of a conversation: the user's, the assistant's."""
    sources: tuple[str, ...]
    """The steps whose rows it takes, one behind the other; `input` is the input."""
    schema: Mapping[str, Any] | None
    templates: Templates

    @cached_property
    def name(self) -> str:
        return self.step.name

    @property
    def samples(self) -> int:
        """Generations for each row."""
        return len(self.members)

    @cached_property
    def several(self) -> bool:
        """Whether a sample may take more than one request."""
        return bool(self.fallbacks or self.step.refine or self.sides)


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
    target: Target | None = None
    idle: tuple[str, ...] = ()
    """Steps whose rows no step that leads to the output takes: they are not run."""

    @property
    def folder(self) -> Path:
        return self.loaded.folder


def plan(loaded: Loaded, provider_of: ProviderOf, *, simulate: bool = False) -> Plan:
    """The plan of a spec that `check.problems` found nothing wrong with."""
    spec = loaded.spec
    resolved = spec.resolved()
    steps = tuple(
        step_plan(step, before, loaded, provider_of, simulate=simulate)
        for before, step in zip((INPUT, *(step.name for step in resolved)), resolved, strict=False)
    )
    paths = spec.output.path if spec.output.path is not None else f"{loaded.name}.jsonl"
    target = _target(loaded)
    needed = leading_to(steps[-1].name, {step.name: step for step in steps})
    idle = tuple(step.name for step in steps if step.name not in needed)
    steps = tuple(step for step in steps if step.name in needed)
    return Plan(
        name=loaded.name,
        seed=spec.seed,
        loaded=loaded,
        source=_source(spec.input, target),
        steps=steps,
        outputs=tuple(absolute(path, loaded.folder) for path in ([paths] if isinstance(paths, str) else paths)),
        acceptance=_acceptance(loaded, steps),
        limits=_limits(loaded),
        templates=Templates(vars=spec.vars, seed=spec.seed, step="input"),
        target=target,
        idle=idle,
    )


def leading_to(name: str, steps: Mapping[str, StepPlan]) -> frozenset[str]:
    """A step and all before it whose rows it takes."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one != INPUT and one not in found:
            found.add(one)
            waiting += steps[one].sources
    return frozenset(found)


def _target(loaded: Loaded) -> Target | None:
    """Where there is no source to end, the candidates are bounded all the same."""
    wanted, source = loaded.spec.target_rows, loaded.spec.input
    if wanted is None:
        return None
    endless = source is None or all(getattr(source, key) is None for key in SOURCES)
    return Target(wanted.rows, wanted.max_candidates or (CANDIDATES * wanted.rows if endless else None))


def _source(source: Input | None, target: Target | None) -> Input | None:
    """Without a source, `target_rows` stands in the place of `count`."""
    if target is None or (source is not None and any(getattr(source, key) is not None for key in SOURCES)):
        return source
    return (source or Input()).model_copy(update={"count": target.candidates})


def absolute(path: str, folder: Path) -> str:
    """A path relative to the spec's folder; URLs as they are."""
    return path if is_url(path) else str(folder / path)


def step_plan(step: Step, before: str, loaded: Loaded, provider_of: ProviderOf, *, simulate: bool) -> StepPlan:
    """One step with its models' own settings merged in; `before` is the step that stands before it, or the input."""
    schema = schema_in(step.response, loaded)
    pool, fallbacks, sides = refs_of(step)
    refs = [*pool, *fallbacks, *sides]
    voices = tuple(voice(step, ref, schema, loaded, provider_of, simulate=simulate) for ref in refs)
    first = len(pool)
    said = step.samples if "samples" in step.model_fields_set or len(pool) < 2 else len(pool)
    return StepPlan(
        step,
        voices,
        members=shares(max(1, len(pool)), said, f"{loaded.spec.seed}/{step.name}") if voices else (),
        fallbacks=tuple(range(first, first + len(fallbacks))),
        sides=(len(refs) - 2, len(refs) - 1) if sides else None,
        sources=sources_of(step, before),
        schema=schema,
        templates=Templates(vars=loaded.spec.vars, seed=loaded.spec.seed, step=step.name),
    )


def refs_of(step: Step) -> tuple[list[ModelRef | None], list[ModelRef], list[ModelRef | None]]:
    """The models of a step: its pool (or its one), those that stand in, and the sides of a conversation."""
    if step.type != "llm":
        return [], [], []
    own = step.model if isinstance(step.model, list) else [step.model]
    if step.turns is not None:
        first = own[0] if own else None
        return [], [], [step.turns.user.model or first, step.turns.assistant.model or first]
    return list(own), list(step.fallback or ()), []


def shares(members: int, samples: int, seed: str) -> tuple[int, ...]:
    """Who gives each sample: each member as many, and those that are left over to members drawn by the seed."""
    each, over = divmod(samples, members)
    drawn = sorted(range(members), key=lambda member: blake2b(f"{seed}/{member}".encode(), digest_size=8).digest())
    counts = [each + (member in drawn[:over]) for member in range(members)]
    return tuple(member for member, count in enumerate(counts) for _ in range(count))


def voice(
    step: Step,
    ref: ModelRef | None,
    schema: Mapping[str, Any] | None,
    loaded: Loaded,
    provider_of: ProviderOf,
    *,
    simulate: bool,
) -> Voice:
    """One model of a step. The simulated model answers equal requests equally, so samples and equal rows are told
    apart by a seed."""
    model = Model(name="") if ref is None else loaded.spec.named(ref)
    settings = settings_of(step, model)
    backend, name = provider_of(model.name, backend_of(step, model), base_url=settings.base_url)
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
    engine = engine_of(step, model, served=bool(settings.base_url))
    return Voice(model.name, backend_of(step, model), engine, settings, terms)


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
    everything = any(voice.settings.require_all_responses for step in steps for voice in step.voices)
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
