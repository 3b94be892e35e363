"""`carry`, `each`, `columns`, `keep_if` of one step, compiled once; what they make of a row or of an answer to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.row import Row
from synth_cli.spec.model import OVERRIDE, Step
from synth_cli.template import Scope, Template, TemplateError, Templates

Made: TypeAlias = tuple[dict[str, Any], Mapping[str, Any]]
"""The made columns of one output row, and `response`, `item`, `reply` as `keep_if` sees them."""


class ShapeError(Exception):
    """A row or an answer has no output row; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Outline:
    """Raises TemplateSyntaxError at once for a template that is wrong in itself.

    `after` is what there is of an answer: `response` and `reply`, or nothing in a step that asks no model.
    """

    def __init__(self, step: Step, templates: Templates) -> None:
        self.carry = _carrier(step)
        self._each = None if step.each is None else templates.expression(step.each)
        self._columns: list[tuple[str, Template]] | None = None
        if step.columns is not None:
            self._columns = [(name, templates.value(node)) for name, node in step.columns.items()]
        self._keep_if = None if step.keep_if is None else templates.expression(step.keep_if)
        used = [template for _, template in self._columns or ()]
        self.used = (*used, *(template for template in (self._each, self._keep_if) if template is not None))
        """All its templates."""
        self.makes_items, self.has_columns = self._each is not None, self._columns is not None

    def by_item(self, row: Row, sample: int, after: Mapping[str, Any], carried: Mapping[str, Any]) -> list[Made]:
        """The columns for each item of `each`: computed ones, or what a mapping spreads into, or `item`."""
        assert self._each is not None
        items = rendered("each", self._each, Scope(row.values, row.index, row.id, sample, after))
        if not isinstance(items, list):
            raise ShapeError(fault("each", f"a list is wanted, not {_kind(items)}"))
        made: list[Made] = []
        for item in items:
            seen = {**after, "item": item}
            if self._columns is not None:
                columns = self.computed(row, sample, seen)
            elif isinstance(item, Mapping):
                columns = {str(name): value for name, value in item.items()}
                keep_apart(columns, carried, "an item")
            else:
                columns = {"item": item}
            made.append((columns, seen))
        return made

    def computed(self, row: Row, sample: int, after: Mapping[str, Any]) -> dict[str, Any]:
        """`columns` in order, each seeing the earlier ones."""
        columns: dict[str, Any] = {}
        seen = dict(row.values)
        scope = Scope(seen, row.index, row.id, sample, after)
        for name, template in self._columns or ():
            columns[name] = seen[name] = rendered(f"columns.{name}", template, scope)
        return columns

    def kept(self, row: Row, sample: int, carried: Mapping[str, Any], made: list[Made]) -> list[Made]:
        """Those rows that `keep_if` keeps. It sees the finished row, and the input's columns that were left behind."""
        if self._keep_if is None:
            return made
        kept: list[Made] = []
        for columns, after in made:
            scope = Scope({**row.values, **carried, **columns}, row.index, row.id, sample, after)
            if rendered("keep_if", self._keep_if, scope):
                kept.append((columns, after))
        return kept


def _carrier(step: Step) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """The columns of an input row that go along. A listed one that a row lacks is null: its rows differ in shape.

    Sampling parameters that a row has of its own go as far as the model that they are for.
    """
    if step.carry is False:
        return lambda values: {}
    if step.carry is True:
        return _without_override if step.type == "llm" else lambda values: values
    names = [name for name in step.carry if name != OVERRIDE or step.type != "llm"]
    return lambda values: {name: values.get(name) for name in names}


def _without_override(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if OVERRIDE not in values:
        return values
    return {name: value for name, value in values.items() if name != OVERRIDE}


def keep_apart(columns: Iterable[str], carried: Mapping[str, Any], whose: str) -> None:
    """Raises ShapeError for a field that would silently overwrite a carried column."""
    for name in columns:
        if name in carried:
            message = f"the field '{name}' of {whose} would overwrite the carried column; use columns or carry"
            raise ShapeError(Fault(FaultKind.TEMPLATE, message))


def rendered(key: str, template: Template, scope: Scope) -> Any:
    """Raises ShapeError that names the key."""
    try:
        return template.render(scope)
    except TemplateError as error:
        raise ShapeError(fault(key, error.message)) from None


def fault(key: str, message: str) -> Fault:
    return Fault(FaultKind.TEMPLATE, f"{key}: {message}")


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
