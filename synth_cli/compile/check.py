"""What is wrong with a spec beyond its shape: every problem, without calling anything or importing anybody's code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_cli.compile.inputs import known_columns
from synth_cli.compile.plan import ProviderOf, backend_of, engine_of, model_of, settings_of
from synth_cli.compile.requests import FORMATS
from synth_cli.errors import Problem, SynthError
from synth_cli.spec.backend import BackendParams, engines_of
from synth_cli.spec.hints import suggest
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import Step
from synth_cli.spec.schema import SchemaError, schema_of
from synth_cli.template import Template, Templates, TemplateSyntaxError

Where = tuple[str | int, ...]
AFTER = frozenset({"response", "item", "reply"})
RAW = frozenset({"system", "user"})


@dataclass(frozen=True, slots=True)
class Rooms:
    """What other rooms know and this one must ask."""

    provider_of: ProviderOf
    output_columns: Callable[[Step, Any, frozenset[str] | None], frozenset[str] | None]
    collisions: Callable[[Step, Any, frozenset[str] | None], Sequence[str]]


def problems(loaded: Loaded, rooms: Rooms) -> Iterator[Problem]:
    """All problems of a spec whose shape is right."""
    spec, places = loaded.spec, loaded.places
    at_top = spec.steps is None
    columns = None
    try:
        columns = known_columns(spec.input, folder=loaded.folder)
    except SynthError as error:
        yield places.problem(("input",), error.message, error.hint)
    templates = Templates(vars=spec.vars, seed=spec.seed)
    yield from _input(loaded, templates, columns)
    if spec.steps is not None and any(step.type != "llm" or step.from_ is not None for step in spec.steps):
        # what such chains pass on cannot be told before they can be run
        columns = None
    for position, step in enumerate(spec.resolved()):
        own: Where = () if at_top else ("steps", position)
        checked = _Checked(loaded, step, own, templates, columns, rooms)
        yield from checked.problems()
        columns = checked.output()


def _input(loaded: Loaded, templates: Templates, columns: frozenset[str] | None) -> Iterator[Problem]:
    source = loaded.spec.input
    if source is None:
        return
    where: Where = ("input", "where")
    if source.where is not None:
        yield from _names(loaded, where, _compile(loaded, where, templates.expression, source.where), columns)
    for name, node in (source.columns or {}).items():
        yield from _names(
            loaded,
            ("input", "columns", name),
            _compile(loaded, ("input", "columns", name), templates.value, node),
            columns,
        )
    for name in [source.key] if isinstance(source.key, str) else source.key or ():
        if columns is not None and name not in columns:
            yield _unknown(loaded, ("input", "key"), name, columns)


Compiled = Template | Problem | None


def _compile(loaded: Loaded, where: Where, compiler: Callable[[Any], Template], node: Any) -> Compiled:
    if node is None:
        return None
    try:
        return compiler(node)
    except TemplateSyntaxError as error:
        return loaded.places.problem((*where, *error.path), f"not a template: {error}")


def _names(
    loaded: Loaded, where: Where, compiled: Compiled, columns: Iterable[str] | None, *, after: bool = False
) -> Iterator[Problem]:
    """The problems of one template: its syntax, and the names that nothing provides."""
    if isinstance(compiled, Problem):
        yield compiled
        return
    if compiled is None:
        return
    known = None if columns is None else frozenset(columns)
    for name in sorted(compiled.vars - loaded.spec.vars.keys()):
        yield _unknown(loaded, where, f"vars.{name}", frozenset(f"vars.{known_var}" for known_var in loaded.spec.vars))
    if known is None:
        return
    for name in sorted(compiled.names - known):
        yield _unknown(loaded, where, name, known)
    if not after:
        for name in sorted((compiled.reserved & AFTER) - known):
            yield loaded.places.problem(
                where, f"'{name}' is not there before the answer", "use it in check, columns or keep_if"
            )


def _unknown(loaded: Loaded, where: Where, name: str, known: frozenset[str]) -> Problem:
    near = suggest(name, known)
    hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
    return loaded.places.problem(where, f"nothing provides '{name}'", hint)


class _Checked:
    """The checks of one step, given the columns that reach it (None: not known)."""

    def __init__(
        self,
        loaded: Loaded,
        step: Step,
        own: Where,
        templates: Templates,
        columns: frozenset[str] | None,
        rooms: Rooms,
    ) -> None:
        self.loaded, self.step, self.own = loaded, step, own
        self.templates, self.columns, self.rooms = templates, columns, rooms
        self.schema: Any = None

    def at(self, *keys: str | int) -> Where:
        """Where a key of this step stands: its own place, or the top's that it inherits."""
        return (*self.own, *keys)

    def problems(self) -> Iterator[Problem]:
        step = self.step
        if step.type == "llm":
            yield from self._model()
            yield from self._prompt()
        yield from self._response()
        yield from self._after()

    def output(self) -> frozenset[str] | None:
        if self.step.turns is not None or self.step.type not in ("llm", "map"):
            return None
        return self.rooms.output_columns(self.step, self.schema, self.columns)

    def _problem(self, where: Where, message: str, hint: str = "") -> Problem:
        return self.loaded.places.problem(where, message, hint)

    def _model(self) -> Iterator[Problem]:
        step, members = self.step, self.step.model
        if members is None or isinstance(members, list):
            return
        model = model_of(step)
        if model.name in self.loaded.spec.models:
            return
        settings = settings_of(step, model)
        try:
            self.rooms.provider_of(model.name, backend_of(step, model), base_url=settings.base_url)
        except SynthError as error:
            yield self._problem(self.at("model"), error.message, error.hint)
        engine = engine_of(step, model, settings)
        yield from self._engine_params(step.backend_params, engine, self.at("backend_params"))
        if isinstance(members, type(model)):
            yield from self._engine_params(model.backend_params, engine, self.at("model", "backend_params"))
        params = {**(step.generation_params or {}), **(model.generation_params or {})}
        for name in ("max_tokens", "min_tokens"):
            other = getattr(settings, name)
            if other is not None and name in params and params[name] != other:
                yield self._problem(
                    self.at("backend_params", name), f"{name} is {other} here and {params[name]} in generation_params"
                )

    def _engine_params(self, params: BackendParams | None, engine: str, where: Where) -> Iterator[Problem]:
        if params is None:
            return
        for name in sorted(params.model_fields_set):
            engines = engines_of(name)
            inherited = self.own and not self.loaded.places.find((*where, name))[2]
            if engine not in engines and not inherited and getattr(params, name) is not None:
                belongs = " and ".join(engines)
                yield self._problem(
                    (*where, name), f"'{name}' belongs to the engine {belongs}; this step's is {engine}"
                )

    def _prompt(self) -> Iterator[Problem]:
        step = self.step
        value = self.templates.value
        if isinstance(step.prompt, str):
            yield from self._template(self.at("prompt"), value, step.prompt)
        elif step.prompt is not None:
            yield from self._template(self.at("prompt", "system"), value, step.prompt.system)
            yield from self._template(self.at("prompt", "user"), value, step.prompt.user)
        if isinstance(step.messages, str):
            yield from self._template(self.at("messages"), value, step.messages)
        for position, message in enumerate(step.messages if isinstance(step.messages, list) else ()):
            yield from self._template(self.at("messages", position), value, message.model_dump(exclude_unset=True))
        if isinstance(step.tools, str):
            yield from self._template(self.at("tools"), value, step.tools)
        if step.prompt_format not in ("chat", *FORMATS):
            where = self.at("prompt_format")
            yield from _names(self.loaded, where, _compile(self.loaded, where, value, step.prompt_format), RAW)

    def _template(
        self,
        where: Where,
        compiler: Callable[[Any], Template],
        node: Any,
        columns: frozenset[str] | None = None,
        *,
        after: bool = False,
    ) -> Iterator[Problem]:
        known = self.columns if columns is None else columns
        if self.columns is None:
            known = None
        yield from _names(self.loaded, where, _compile(self.loaded, where, compiler, node), known, after=after)

    def _response(self) -> Iterator[Problem]:
        response = self.step.response
        if response is None:
            return
        if response.schema_ is not None:
            try:
                self.schema = schema_of(response.schema_, folder=self.loaded.folder)
            except SchemaError:
                # the loader has said so already, with the place
                self.schema = {}
        if isinstance(response.choice, str):
            yield from self._template(self.at("response", "choice"), self.templates.value, response.choice)
        checks = response.check if isinstance(response.check, list) else [response.check]
        for position, check in enumerate(checks):
            where = self.at("response", "check", *((position,) if isinstance(response.check, list) else ()))
            yield from self._template(where, self.templates.expression, check, after=True)

    def _after(self) -> Iterator[Problem]:
        """`each`, `columns`, `keep_if`, `parse`, `carry`."""
        step, loaded = self.step, self.loaded
        yield from self._template(self.at("each"), self.templates.expression, step.each, after=True)
        seen = set(self.columns or ())
        for name, node in (step.columns or {}).items():
            where = self.at("columns", name)
            yield from self._template(where, self.templates.value, node, frozenset(seen), after=True)
            seen.add(name)
        if step.keep_if is not None:
            made = self.rooms.output_columns(step, self.schema, self.columns)
            if made is not None and self.columns is not None:
                yield from self._template(
                    self.at("keep_if"), self.templates.expression, step.keep_if, frozenset(seen | made), after=True
                )
            else:
                compiled = _compile(loaded, self.at("keep_if"), self.templates.expression, step.keep_if)
                yield from _names(loaded, self.at("keep_if"), compiled, None, after=True)
        for name in self.rooms.collisions(step, self.schema, self.columns):
            yield self._problem(
                self.at("response"),
                f"the answer's column '{name}' would overwrite the carried column '{name}'",
                "rename it with columns:, or leave it behind with carry:",
            )
        for position, name in enumerate(step.carry if isinstance(step.carry, list) else ()):
            if self.columns is not None and name not in self.columns:
                yield _unknown(loaded, self.at("carry", position), name, self.columns)
        if step.parse is not None:
            yield from self._parse(step.parse)

    def _parse(self, reference: str) -> Iterator[Problem]:
        where = self.at("parse")
        module, _, function = reference.rpartition(":")
        if not module or not function.isidentifier():
            yield self._problem(where, f"{reference!r} is not path.py:function or package.module:function")
        elif module.endswith(".py") and not Path(self.loaded.folder, module).is_file():
            yield self._problem(where, f"there is no file {module} in {self.loaded.folder}")
