"""What is wrong with one step, given the columns that reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synth_cli.compile import checked_function, local
from synth_cli.compile.checked_models import ModelChecks, written
from synth_cli.compile.flow import Columns
from synth_cli.compile.names import REPLY, Known, Texts
from synth_cli.compile.plan import ProviderOf
from synth_cli.compile.requests import FORMATS
from synth_cli.core.row import Row
from synth_cli.errors import Problem
from synth_cli.spec.fields import all_fields, fields_of, item_of
from synth_cli.spec.model import Refine, Step, Turns
from synth_cli.spec.places import Where
from synth_cli.spec.schema import SchemaError, schema_of
from synth_cli.steps import samplers
from synth_cli.template import TemplateError, TemplateSyntaxError, scope

RAW = Known(frozenset({"system", "user"}))


@dataclass(frozen=True, slots=True)
class Rooms:
    """What other rooms know and this one must ask."""

    provider_of: ProviderOf
    output_columns: Callable[[Step, Any, frozenset[str] | None], frozenset[str] | None]
    collisions: Callable[[Step, Any, frozenset[str] | None], Sequence[str]]
    grammar_problem: Callable[[str], str | None]
    local: local.Local


class StepChecks:
    """`own` is where the step's keys stand: the top of a spec without `steps`."""

    def __init__(self, texts: Texts, step: Step, own: Where, columns: Columns, rooms: Rooms) -> None:
        self.texts, self.loaded, self.step, self.own = texts, texts.loaded, step, own
        self.columns, self.some, self.rooms = columns.every, columns.some, rooms
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
        return written(self.loaded, self.own, keys)

    def problems(self) -> Iterator[Problem]:
        match self.step.type:
            case "llm":
                yield from self._asking()
                yield from self._after()
            case "map":
                yield from self._after()
            case "sample":
                yield from sampled(self.texts, (*self.own, "columns"), self.step.columns, self._known(self.columns))
                yield from self._carry()
            case "python":
                function = self.step.function
                if function is not None:
                    where = self.at("function")
                    yield from checked_function.problems(function, where, self.loaded, packages=False)
            case _:
                yield from self._by()

    def output(self) -> frozenset[str] | None:
        """The columns that every row has behind the step."""
        return self.rooms.output_columns(self.step, self.schema, self.columns)

    def _problem(self, where: Where, message: str, hint: str = "") -> Problem:
        return self.loaded.places.problem(where, message, hint)

    def _known(self, columns: frozenset[str] | None, *after: str) -> Known:
        return Known(columns, frozenset(after), some=self.some, asks=self.step.type == "llm")

    def _asking(self) -> Iterator[Problem]:
        step = self.step
        rooms = self.rooms
        yield from ModelChecks(step, self.own, self.loaded, rooms.provider_of, rooms.local).problems()
        yield from self._prompt()
        if step.turns is not None:
            yield from self._turns(step.turns)
        yield from self._response()
        if step.refine is not None:
            yield from self._refine(step.refine)

    def _prompt(self) -> Iterator[Problem]:
        step, value, known = self.step, self.texts.value, self._known(self.columns)
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

    def _turns(self, turns: Turns) -> Iterator[Problem]:
        known = self._known(self.columns)
        sides = {"user": turns.user, "assistant": turns.assistant}
        for name, side in sides.items():
            yield from self.texts.value(self.at("turns", name, "system"), side.system, known)
        yield from self.texts.value(self.at("turns", "start"), turns.start, known)
        yield from self.texts.expression(self.at("turns", "until"), turns.until, self._known(self.columns, "response"))
        if turns.start is not None and turns.max == 1:
            message = "'turns.max' is 1 and 'start' is the first message: nobody would be asked"
            yield self._problem(self.at("turns", "max"), message, "it counts messages: write 2 or more")
        silent = [name for name, side in sides.items() if side.model is None]
        if silent and isinstance(self.step.model, list):
            hint = " and ".join(f"write turns.{name}.model" for name in silent)
            yield self._problem(self.at("model"), "a side of a conversation has one model, and this is a list", hint)
        if self.loaded.places.find((*self.own, "fallback"))[2] and self.step.fallback:
            message = "a conversation has no 'fallback'"
            yield self.loaded.places.key_problem((*self.own, "fallback"), message, "remove it")

    def _refine(self, refine: Refine) -> Iterator[Problem]:
        # a pass is made of the answer alone: nobody looks at how it came
        known = replace(self._answered(self.columns), after=frozenset({"response"}))
        yield from self.texts.value(self.at("refine", "prompt"), refine.prompt, known)
        yield from self.texts.expression(self.at("refine", "until"), refine.until, known)

    def _answered(self, columns: frozenset[str] | None, *after: str) -> Known:
        """What is there after the answer; the fields of `response` and `item` where there can be no others."""
        if self.step.type != "llm":
            return self._known(columns, *after)
        members: dict[str, frozenset[str]] = {"reply": REPLY}
        schema = self.schema
        elsewhere = {name: f"response.{name}" for name in fields_of(schema)}
        if schema and (fields := all_fields(schema, schema)) is not None:
            members["response"] = fields
        if "item" in after and (item := self._item()) is not None:
            members["item"] = item
            elsewhere |= {name: f"item.{name}" for name in item}
        known = self._known(columns, "response", "reply", *after)
        return replace(known, members=members, elsewhere=elsewhere)

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
            yield from self.texts.value(self.at("response", "choice"), response.choice, self._known(self.columns))
        if response.grammar is not None and (wrong := self.rooms.grammar_problem(response.grammar)) is not None:
            hint = "write it in GBNF (root ::= …) or Lark (start: …)"
            yield self._problem(self.at("response", "grammar"), wrong, hint)
        if (refused := local.refused(self.step, self.schema, self.loaded)) is not None:
            key, message, hint = refused
            yield self._problem(self.at("response", key), message, hint)
        known = self._answered(self.columns)
        # a reply is judged wherever it turns up again, and there nobody knows what was sent
        known = replace(known, members={**(known.members or {}), "reply": REPLY - {"messages"}})
        for position, check in enumerate(response.check if isinstance(response.check, list) else [response.check]):
            where = self.at("response", "check", *((position,) if isinstance(response.check, list) else ()))
            yield from self.texts.expression(where, check, known)

    def _after(self) -> Iterator[Problem]:
        """`each`, `columns`, `keep_if`, `parse`, `carry`."""
        step = self.step
        yield from self.texts.expression(self.at("each"), step.each, self._answered(self.columns))
        if step.each is not None and not self._may_be_list(step.each):
            of = "response.field, a list of the answer" if step.type == "llm" else "a column that is a list"
            yield self._problem(self.at("each"), "'each' gives no list", f"write each: {of}")
        items = ("item",) if step.each is not None else ()
        seen, made_here = self.columns, step.columns or {}
        for position, (name, node) in enumerate(made_here.items()):
            known = self._answered(seen, *items)
            known = replace(known, later=frozenset(list(made_here)[position + 1 :]))
            yield from self.texts.value(self.at("columns", name), node, known)
            seen = None if seen is None else seen | {name}
        made = self.output()
        finished = None if made is None or seen is None else seen | made
        known = self._answered(finished, *items)
        if step.group_samples:
            # there `response` and `reply` are lists of the samples' own
            known = replace(known, members={})
        yield from self.texts.expression(self.at("keep_if"), step.keep_if, known)
        reaching = None if self.columns is None else self.columns | self.some.keys()
        for name in self.rooms.collisions(step, self.schema, reaching):
            yield self._problem(
                self.at("response"),
                f"the answer's column '{name}' would overwrite the carried column '{name}'",
                "rename it with columns:, or leave it behind with carry:",
            )
        yield from self._carry()
        if step.parse is not None:
            yield from checked_function.problems(step.parse, self.at("parse"), self.loaded, packages=True)

    def _carry(self) -> Iterator[Problem]:
        carried = self.step.carry if isinstance(self.step.carry, list) else ()
        if self.loaded.places.find((*self.own, "carry"))[2]:
            for position, name in enumerate(carried):
                # of a column that only some rows have the others get null
                if self.columns is not None and name not in self.columns and name not in self.some:
                    yield self.texts.unknown((*self.own, "carry", position), name, self.columns | self.some.keys())

    def _by(self) -> Iterator[Problem]:
        by = self.step.by
        for position, name in enumerate([by] if isinstance(by, str) else by or ()):
            if self.columns is not None and name not in self.columns and name not in self.some:
                where = self.at("by", position) if isinstance(by, list) else self.at("by")
                yield self.texts.unknown(where, name, self.columns | self.some.keys())

    def _may_be_list(self, each: str | bool) -> bool:
        try:
            template = self.texts.templates.expression(each)
            return not template.constant or isinstance(template.render(scope(Row(0, b"", {}))), list)
        except (TemplateSyntaxError, TemplateError):
            # said elsewhere, or only rows can tell
            return True


def sampled(texts: Texts, where: Where, columns: Mapping[str, Any] | None, known: Known) -> Iterator[Problem]:
    """Of drawn columns: the input's, or those of a step."""
    drawn = columns or {}
    seen = known.columns
    for position, (name, node) in enumerate(drawn.items()):
        known = replace(known, columns=seen, later=frozenset(list(drawn)[position + 1 :]))
        found = list(texts.value((*where, name), node, known))
        yield from found
        if not found:
            for place, message in samplers.problems({name: node}, texts.templates):
                yield texts.loaded.places.problem((*where[:-1], *place), message)
        seen = None if seen is None else seen | {name}
