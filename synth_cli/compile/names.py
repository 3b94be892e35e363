"""The texts of a spec that are templates: their syntax, and whether anything provides the names they use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synth_cli.core.row import Row
from synth_cli.errors import Problem
from synth_cli.spec.hints import suggest
from synth_cli.spec.load import Loaded
from synth_cli.spec.places import Where
from synth_cli.template import AFTER, Template, TemplateError, Templates, TemplateSyntaxError, scope

REPLY = frozenset({"finish_reason", "reasoning", "model", "tool_calls", "logprobs", "usage", "cost", "messages", "raw"})
METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
"""`row.get('x')`, `item.items()`: whether such a member is called cannot be told here."""
PYTHON: Mapping[str, str] = {
    "len": "write x | length",
    "str": "write x | string",
    "int": "write x | int",
    "float": "write x | float",
    "sorted": "write x | sort",
    "sum": "write x | sum",
    "min": "write x | min",
    "max": "write x | max",
    "json": "write x | from_json, or x | tojson",
    "now": "there is no clock in a template",
    "today": "there is no clock in a template",
    "random": "write x | random",
    "None": "write none",
}
"""What people write who know Python, and what is there instead."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is there for a template at its place in a spec."""

    columns: frozenset[str] | None = None
    """None: only the rows can tell."""
    after: frozenset[str] = frozenset()
    """Which of `response`, `item` and `reply`."""
    members: Mapping[str, frozenset[str]] | None = None
    """Reserved name → its members, where there are surely no others."""
    later: frozenset[str] = frozenset()
    """Columns that are made further down."""
    elsewhere: Mapping[str, str] | None = None
    """Names that are there under another one: {"title": "response.title"}."""
    some: Mapping[str, tuple[str, ...]] | None = None
    """A column that only some rows have → the steps whose rows lack it."""
    asks: bool = True
    """Whether there will be an answer at all."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Finds what is wrong with a spec's templates, each problem at the text that it is in."""

    loaded: Loaded
    templates: Templates

    def value(self, where: Where, node: Any, known: Known) -> Iterator[Problem]:
        """Of a text, or any YAML value whose texts are templates."""
        for path, found in self.templates.texts(node):
            place = (*where, *path)
            if isinstance(found, TemplateSyntaxError):
                yield self._syntax(place, "template", found)
            else:
                yield from self._names(place, found, known)

    def expression(self, where: Where, node: str | bool | None, known: Known) -> Iterator[Problem]:
        if node is None:
            return
        try:
            compiled = self.templates.expression(node)
        except TemplateSyntaxError as error:
            yield self._syntax(where, "expression", error)
        else:
            yield from self._names(where, compiled, known)

    def unknown(self, where: Where, name: str, known: frozenset[str]) -> Problem:
        """Nothing provides this name."""
        near = suggest(name, known)
        hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
        return self.loaded.places.problem(where, f"nothing provides '{name}'", hint)

    def _syntax(self, where: Where, what: str, error: TemplateSyntaxError) -> Problem:
        line = f" (line {error.line} of the text)" if error.line > 1 else ""
        article = "an" if what[0] in "aeiou" else "a"
        return self.loaded.places.problem(where, f"not {article} {what}: {error.message}{line}")

    def _names(self, where: Where, used: Template, known: Known) -> Iterator[Problem]:
        declared = frozenset(self.loaded.spec.vars)
        for name in sorted(used.vars - declared):
            yield self.unknown(where, f"vars.{name}", frozenset(f"vars.{each}" for each in declared))
        if known.columns is not None:
            for name in sorted(used.names - known.columns):
                yield self._column(where, name, known, known.columns)
        for name in sorted((used.reserved & AFTER) - known.after):
            if name != "response" or (known.columns is not None and name not in known.columns):
                yield self._too_early(where, name, known)
        members = dict(known.members or {})
        if known.columns is not None:
            members["row"] = known.columns
        if used.vars and not used.names and used.reserved == {"vars"} and used.vars <= declared:
            yield from self._always(where, used)
        for owner, name in sorted(used.members):
            if owner in members and name not in members[owner] and name not in METHODS:
                yield self.unknown(where, f"{owner}.{name}", frozenset(f"{owner}.{each}" for each in members[owner]))

    def _always(self, where: Where, used: Template) -> Iterator[Problem]:
        """What is made of constants alone fails for every row or for none."""
        try:
            used.render(scope(Row(0, b"", {})))
        except TemplateError as error:
            yield self.loaded.places.problem(where, error.message)

    def _column(self, where: Where, name: str, known: Known, columns: frozenset[str]) -> Problem:
        hint = ""
        if known.some and name in known.some:
            lacking = " and ".join(f"'{step}'" for step in known.some[name])
            message = f"the rows of {lacking} have no '{name}'"
            hint = f"make it there too, or write row.get('{name}') or {name} | default('…')"
            return self.loaded.places.problem(where, message, hint)
        if name in known.later:
            hint = "it is made further down; a column sees the earlier ones"
        elif name in (known.elsewhere or {}):
            hint = f"did you mean '{(known.elsewhere or {})[name]}'?"
        elif name in self.loaded.spec.vars:
            hint = f"did you mean 'vars.{name}'?"
        elif name in PYTHON and suggest(name, columns) is None:
            hint = PYTHON[name]
        if hint:
            return self.loaded.places.problem(where, f"nothing provides '{name}'", hint)
        return self.unknown(where, name, columns)

    def _too_early(self, where: Where, name: str, known: Known) -> Problem:
        if name == "item" and ("response" in known.after or not known.asks):
            return self.loaded.places.problem(where, "'item' is there only with 'each'", "write each: …")
        if not known.asks:
            return self.loaded.places.problem(where, f"nothing provides '{name}'", "this step asks no model")
        if "response" in known.after:
            return self.loaded.places.problem(
                where, f"'{name}' is not there yet", "use it in check, columns or keep_if"
            )
        column = f"; the column is row['{name}']" if known.columns and name in known.columns else ""
        hint = f"use it in check, columns or keep_if{column}"
        return self.loaded.places.problem(where, f"'{name}' is not there before the answer", hint)
