"""Which columns a step gives, told from the spec alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synth_cli.spec.fields import fields_of, item_of
from synth_cli.spec.model import OVERRIDE, Step
from synth_cli.template import Templates, TemplateSyntaxError


def item_fields(step: Step, schema: Any) -> tuple[str, ...] | None:
    """The fields that each `item` spreads into; ("item",) where it is no mapping; None where that cannot be told."""
    if not isinstance(step.each, str) or not isinstance(schema, Mapping):
        return None
    try:
        path = Templates(vars={}, seed=0).expression(step.each).path
    except TemplateSyntaxError:
        return None
    if path[:1] != ("response",):
        return None
    item = item_of(schema, path[1:])
    if not isinstance(item, Mapping):
        return None
    names = fields_of(item, schema)
    if names:
        return names
    return ("item",) if item.get("type") in ("string", "integer", "number", "boolean", "array") else None


def response_columns(step: Step, schema: Any) -> tuple[str, ...] | None:
    """The columns that come from the answer, in order; None where only the rows can tell."""
    if step.parse is not None:
        return None
    if step.columns is not None:
        return tuple(step.columns)
    tools = ("tool_calls",) if step.tools is not None else ()
    if step.each is not None:
        items = item_fields(step, schema)
        return None if items is None else (*items, *tools)
    if step.type != "llm":
        return ()
    if step.turns is not None:
        return ("messages",)
    return (*(fields_of(schema) or ("response",)), *tools)


def carried_columns(step: Step, inputs: frozenset[str] | None) -> frozenset[str] | None:
    """The input columns that go along; None where the input's are not known."""
    if step.carry is False:
        return frozenset()
    left = {OVERRIDE} if step.type == "llm" else frozenset()
    if isinstance(step.carry, list):
        return frozenset(step.carry) - left
    return None if inputs is None else inputs - left


def output_columns(step: Step, schema: Any, inputs: frozenset[str] | None) -> frozenset[str] | None:
    """The columns of the step's rows, given those of its input; None where they cannot be told."""
    made, carried = response_columns(step, schema), carried_columns(step, inputs)
    return None if made is None or carried is None else carried | frozenset(made)


def collisions(step: Step, schema: Any, inputs: frozenset[str] | None) -> list[str]:
    """Fields of the answer that would silently overwrite a carried column, as far as both are known."""
    if step.parse is not None or step.columns is not None:
        return []
    spread = fields_of(schema) if step.each is None else item_fields(step, schema) or ()
    if step.each is not None and spread == ("item",):
        spread = ()
    carried = carried_columns(step, inputs) or frozenset()
    return [name for name in spread if name in carried]
