"""What is wrong with a spec beyond its shape: every problem, without calling anything or importing anybody's code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synth_cli.compile import local
from synth_cli.compile.inputs import known_columns
from synth_cli.compile.names import REPLY, Known, Texts
from synth_cli.compile.plan import ProviderOf, backend_of, engine_of, model_of, settings_of
from synth_cli.compile.requests import FORMATS
from synth_cli.core.row import Row
from synth_cli.errors import Problem, SynthError
from synth_cli.spec import formats
from synth_cli.spec.backend import BackendParams, engines_of
from synth_cli.spec.fields import all_fields, fields_of, item_of
from synth_cli.spec.hints import suggest
from synth_cli.spec.load import Loaded
from synth_cli.spec.model import Input, Model, ModelRef, Step
from synth_cli.spec.places import Where
from synth_cli.spec.schema import SchemaError, schema_of
from synth_cli.steps import samplers
from synth_cli.template import TemplateError, Templates, TemplateSyntaxError, scope

RAW = Known(frozenset({"system", "user"}))


@dataclass(frozen=True, slots=True)
class Rooms:
    """What other rooms know and this one must ask."""

    provider_of: ProviderOf
    output_columns: Callable[[Step, Any, frozenset[str] | None], frozenset[str] | None]
    collisions: Callable[[Step, Any, frozenset[str] | None], Sequence[str]]
    grammar_problem: Callable[[str], str | None]
    local: local.Local


def problems(loaded: Loaded, rooms: Rooms) -> Iterator[Problem]:
    """All problems of a spec whose shape is right."""
    spec = loaded.spec
    texts = Texts(loaded, Templates(vars=spec.vars, seed=spec.seed))
    columns = yield from _input(spec.input, texts)
    for name, model in spec.models.items():
        yield from _provider(model, ("models", name), loaded, rooms)
    if spec.steps is not None and any(step.type != "llm" or step.from_ is not None for step in spec.steps):
        # what such chains pass on cannot be told before they can be run
        columns = None
    for position, step in enumerate(spec.resolved()):
        checked = _Checked(texts, step, loaded.at(position), columns, rooms)
        yield from checked.problems()
        columns = checked.output()
    yield from map(loaded.places.of, formats.problems(spec.output, columns))


def _input(source: Input | None, texts: Texts) -> Generator[Problem, None, frozenset[str] | None]:
    """Yields the problems of the input and returns its columns."""
    loaded, columns = texts.loaded, None
    own = None if source is None else source.model_copy(update={"columns": None})
    try:
        columns = known_columns(own, folder=loaded.folder)
    except SynthError as error:
        yield loaded.places.problem(("input",), error.message, error.hint)
    if source is None:
        return columns
    drawn = source.columns or {}
    for position, (name, node) in enumerate(drawn.items()):
        where: Where = ("input", "columns", name)
        known = Known(columns, later=frozenset(list(drawn)[position + 1 :]))
        found = list(texts.value(where, node, known))
        yield from found
        if not found:
            for place, message in samplers.problems({name: node}, texts.templates):
                yield loaded.places.problem(("input", *place), message)
        columns = None if columns is None else columns | {name}
    yield from texts.expression(("input", "where"), source.where, Known(columns))
    for name in [source.key] if isinstance(source.key, str) else source.key or ():
        if columns is not None and name not in columns:
            yield texts.unknown(("input", "key"), name, columns)
    return columns


def _provider(ref: ModelRef, where: Where, loaded: Loaded, rooms: Rooms, step: Step | None = None) -> Iterator[Problem]:
    """Whether somebody is known to have this model."""
    models = loaded.spec.models
    model = ref if isinstance(ref, Model) else Model(name=ref)
    if step is not None and model.name in models:
        return
    step = step if step is not None else Step(name="main")
    settings = settings_of(step, model)
    try:
        rooms.provider_of(model.name, backend_of(step, model), base_url=settings.base_url)
    except SynthError as error:
        near = suggest(model.name, models)
        hint = f"did you mean '{near}', which 'models' names?" if near else error.hint
        place = where if isinstance(ref, str) else (*where, "backend" if "backend" in error.message else "name")
        yield loaded.places.problem(place, error.message, hint)


class _Checked:
    """The checks of one step, given the columns that reach it (None: not known)."""

    def __init__(self, texts: Texts, step: Step, own: Where, columns: frozenset[str] | None, rooms: Rooms) -> None:
        self.texts, self.loaded, self.step, self.own = texts, texts.loaded, step, own
        self.columns, self.rooms = columns, rooms
        self.schema: Any = None
        response = step.response
        if response is not None and response.schema_ is not None:
            try:
                self.schema = schema_of(response.schema_, folder=self.loaded.folder)
            except SchemaError:
                # the loader has said so already, with the place
                self.schema = {}

    def at(self, *keys: str | int) -> Where:
        """Where a key of this step stands: its own place, or the top's that it inherits."""
        return (*self.own, *keys)

    def problems(self) -> Iterator[Problem]:
        step = self.step
        if step.type == "llm":
            yield from self._models()
            yield from self._prompt()
        yield from self._response()
        yield from self._after()

    def output(self) -> frozenset[str] | None:
        if self.step.turns is not None or self.step.type not in ("llm", "map"):
            return None
        return self.rooms.output_columns(self.step, self.schema, self.columns)

    def _problem(self, where: Where, message: str, hint: str = "") -> Problem:
        return self.loaded.places.problem(where, message, hint)

    def _models(self) -> Iterator[Problem]:
        step, turns = self.step, self.step.turns
        refs: list[tuple[Where, ModelRef | None]] = []
        if isinstance(step.model, list):
            refs += [(self.at("model", position), ref) for position, ref in enumerate(step.model)]
        else:
            refs.append((self.at("model"), step.model))
            if step.model is not None:
                yield from self._settings(step.model)
        refs += [(self.at("fallback", position), ref) for position, ref in enumerate(step.fallback or ())]
        if turns is not None:
            refs += [(self.at("turns", side, "model"), getattr(turns, side).model) for side in ("user", "assistant")]
        for where, ref in refs:
            if ref is not None:
                yield from _provider(ref, where, self.loaded, self.rooms, step)
                yield from self._local(ref, where)

    def _local(self, ref: ModelRef, where: Where) -> Iterator[Problem]:
        """A model that runs on this machine."""
        name = ref if isinstance(ref, str) else ref.name
        named = self.loaded.spec.models.get(name)
        step = self.step.model_copy(update={"model": ref if named is None else named})
        model = model_of(step)
        if engine_of(step, model, settings_of(step, model)) == "vllm":
            places = [where if named is None else ("models", name), self.own, ()]
            yield from local.problems(step, model, places, self.loaded, self.rooms.local)

    def _settings(self, ref: ModelRef) -> Iterator[Problem]:
        """The parameters of the one model against its engine."""
        named = self.loaded.spec.models.get(ref) if isinstance(ref, str) else None
        step = self.step if named is None else self.step.model_copy(update={"model": named})
        model = model_of(step)
        settings = settings_of(step, model)
        engine = engine_of(step, model, settings)
        yield from self._engine_params(step.backend_params, engine, self.at("backend_params"))
        if isinstance(ref, Model):
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
                belongs = f"engine{'s' if len(engines) > 1 else ''} {' and '.join(engines)}"
                yield self._problem((*where, name), f"'{name}' belongs to the {belongs}; this step's is {engine}")

    def _prompt(self) -> Iterator[Problem]:
        step, value, known = self.step, self.texts.value, Known(self.columns)
        if isinstance(step.prompt, str):
            yield from value(self.at("prompt"), step.prompt, known)
        elif step.prompt is not None:
            said = step.prompt.model_dump(exclude_unset=True)
            yield from value(self.at("prompt"), said, known)
        if isinstance(step.messages, str):
            yield from value(self.at("messages"), step.messages, known)
        for position, message in enumerate(step.messages if isinstance(step.messages, list) else ()):
            yield from value(self.at("messages", position), message.model_dump(exclude_unset=True), known)
        if isinstance(step.tools, str):
            yield from value(self.at("tools"), step.tools, known)
        if step.prompt_format not in ("chat", *FORMATS):
            yield from value(self.at("prompt_format"), step.prompt_format, RAW)

    def _known(self, columns: frozenset[str] | None, *after: str) -> Known:
        """What is there after the answer; the fields of `response` and `item` where there can be no others."""
        members: dict[str, frozenset[str]] = {"reply": REPLY}
        schema = self.schema
        elsewhere = {name: f"response.{name}" for name in fields_of(schema)}
        if schema and (fields := all_fields(schema, schema)) is not None:
            members["response"] = fields
        if "item" in after and (item := self._item()) is not None:
            members["item"] = item
            elsewhere |= {name: f"item.{name}" for name in item}
        return Known(columns, frozenset({"response", "reply", *after}), members, elsewhere=elsewhere)

    def _item(self) -> frozenset[str] | None:
        """The fields of each item, where `each` is a plain path into the answer."""
        if not isinstance(self.step.each, str) or not self.schema:
            return None
        try:
            path = self.texts.templates.expression(self.step.each).path
        except TemplateSyntaxError:
            return None
        return all_fields(item_of(self.schema, path[1:]), self.schema) if path[:1] == ("response",) else None

    def _response(self) -> Iterator[Problem]:
        response = self.step.response
        if response is None:
            return
        if isinstance(response.choice, str):
            yield from self.texts.value(self.at("response", "choice"), response.choice, Known(self.columns))
        if response.grammar is not None and (wrong := self.rooms.grammar_problem(response.grammar)) is not None:
            hint = "write it in GBNF (root ::= …) or Lark (start: …)"
            yield self._problem(self.at("response", "grammar"), wrong, hint)
        known = self._known(self.columns)
        # a reply is judged wherever it turns up again, and there nobody knows what was sent
        known = replace(known, members={**(known.members or {}), "reply": REPLY - {"messages"}})
        for position, check in enumerate(response.check if isinstance(response.check, list) else [response.check]):
            where = self.at("response", "check", *((position,) if isinstance(response.check, list) else ()))
            yield from self.texts.expression(where, check, known)

    def _after(self) -> Iterator[Problem]:
        """`each`, `columns`, `keep_if`, `parse`, `carry`."""
        step = self.step
        yield from self.texts.expression(self.at("each"), step.each, self._known(self.columns))
        if step.each is not None and not self._may_be_list(step.each):
            yield self._problem(
                self.at("each"), "'each' gives no list", "write each: response.field, a list of the answer"
            )
        items = ("item",) if step.each is not None else ()
        seen, written = self.columns, step.columns or {}
        for position, (name, node) in enumerate(written.items()):
            known = self._known(seen, *items)
            known = replace(known, later=frozenset(list(written)[position + 1 :]))
            yield from self.texts.value(self.at("columns", name), node, known)
            seen = None if seen is None else seen | {name}
        made = self.rooms.output_columns(step, self.schema, self.columns)
        finished = None if made is None or seen is None else seen | made
        known = self._known(finished, *items)
        if step.group_samples:
            # there `response` and `reply` are lists of the samples' own
            known = replace(known, members={})
        yield from self.texts.expression(self.at("keep_if"), step.keep_if, known)
        for name in self.rooms.collisions(step, self.schema, self.columns):
            yield self._problem(
                self.at("response"),
                f"the answer's column '{name}' would overwrite the carried column '{name}'",
                "rename it with columns:, or leave it behind with carry:",
            )
        for position, name in enumerate(step.carry if isinstance(step.carry, list) else ()):
            if self.columns is not None and name not in self.columns:
                yield self.texts.unknown(self.at("carry", position), name, self.columns)
        if step.parse is not None:
            yield from self._parse(step.parse)

    def _may_be_list(self, each: str | bool) -> bool:
        try:
            template = self.texts.templates.expression(each)
            return not template.constant or isinstance(template.render(scope(Row(0, b"", {}))), list)
        except (TemplateSyntaxError, TemplateError):
            # said elsewhere, or only rows can tell
            return True

    def _parse(self, reference: str) -> Iterator[Problem]:
        where = self.at("parse")
        module, _, function = reference.rpartition(":")
        path = Path(self.loaded.folder, module)
        if not module or not function.isidentifier():
            yield self._problem(where, f"'{reference}' is not path.py:function or package.module:function")
        elif module.endswith(".py") and not path.is_file():
            yield self._problem(where, f"there is no file {module} in {self.loaded.folder}")
        elif module.endswith(".py"):
            yield from self._function(path, module, function)

    def _function(self, path: Path, module: str, function: str) -> Iterator[Problem]:
        """Whether the file is Python and has the function: read, not run."""
        where = self.at("parse")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            said = error.msg if isinstance(error, SyntaxError) else str(error)
            yield self._problem(where, f"{module}{line} is not Python: {said}")
            return
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        # whatever else binds a name may bind this one
        others = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.Expr)]
        if function in names or any(function in ast.dump(node) or "'*'" in ast.dump(node) for node in others):
            return
        near = suggest(function, names)
        hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(sorted(names)) or 'none'}"
        yield self._problem(where, f"there is no function '{function}' in {module}", hint)
