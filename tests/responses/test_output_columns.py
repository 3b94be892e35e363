"""The columns of a step, told from the spec alone."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.responses.columns import collisions, output_columns
from synth_cli.spec.fields import fields_of
from synth_cli.spec.model import Spec

SCHEMA = {
    "$ref": "#/$defs/Recipe",
    "$defs": {
        "Recipe": {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
        },
        "Step": {"type": "object", "properties": {"text": {"type": "string"}, "minutes": {"type": "integer"}}},
    },
}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def columns(inputs: set[str] | None, schema: Any = None, **keys: Any) -> set[str] | None:
    step = Spec.model_validate(keys).resolved()[0]
    found = output_columns(step, schema, None if inputs is None else frozenset(inputs))
    return None if found is None else set(found)


def test_fields_follow_references() -> None:
    """A Pydantic model's schema keeps its root under $defs."""
    assert fields_of(SCHEMA) == ("title", "steps", "tags")
    assert fields_of(None) == fields_of({"type": "array"}) == ()


@pytest.mark.parametrize(
    ("keys", "schema", "wanted"),
    [
        ({}, None, {"a", "response"}),
        ({"carry": False}, None, {"response"}),
        ({"carry": ["a"]}, SCHEMA, {"a", "title", "steps", "tags"}),
        ({"columns": {"x": 1, "a": 2}}, SCHEMA, {"a", "x"}),
        ({"each": "response.steps"}, SCHEMA, {"a", "text", "minutes"}),
        ({"each": "{{ response['tags'] }}"}, SCHEMA, {"a", "item"}),
        ({"each": "response.steps[:2]"}, SCHEMA, None),
        ({"each": "response.steps", "columns": {"x": 1}}, SCHEMA, {"a", "x"}),
        ({"parse": "a.py:f"}, SCHEMA, None),
        ({"tools": TOOLS}, None, {"a", "response", "tool_calls"}),
    ],
)
def test_output_columns(keys: dict[str, Any], schema: Any, wanted: set[str] | None) -> None:
    """Carried and response columns; None where only the rows can tell."""
    assert columns({"a", "generation_params"}, schema, **keys) == wanted


def test_unknown_inputs() -> None:
    """What is carried from an unknown input is unknown, unless it is listed or nothing."""
    assert columns(None) is None
    assert columns(None, carry=["z"]) == {"z", "response"}
    assert columns(None, carry=False) == {"response"}


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, ["title"]),
        ({"carry": False}, []),
        ({"carry": ["title"]}, ["title"]),
        ({"carry": ["other"]}, []),
        ({"columns": {"title": "x"}}, []),
        ({"parse": "a.py:f"}, []),
        ({"each": "response.steps"}, ["text"]),
        ({"each": "response.tags"}, []),
    ],
)
def test_collisions(keys: dict[str, Any], wanted: list[str]) -> None:
    """Fields and spread items that would overwrite a carried column; `columns` and `parse` may."""
    step = Spec.model_validate(keys).resolved()[0]
    assert collisions(step, SCHEMA, frozenset({"title", "text", "item", "response"})) == wanted


def test_the_default_column_does_not_collide() -> None:
    """`response` replaces a carried one."""
    assert collisions(Spec.model_validate({}).resolved()[0], None, frozenset({"response"})) == []
