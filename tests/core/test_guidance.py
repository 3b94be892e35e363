"""What vLLM's guidance backend takes."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.core.guidance import guided, regex_refused, schema_refused

TEXT = {"type": "string"}
LENIENT = {"x-guidance": {"lenient": True}}
LOOKING = "^(?=a)abc$"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}, "required": ["a"]},
        {"oneOf": [TEXT, {"type": "integer"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": TEXT, "minItems": 2}}},
    ],
)
def test_a_schema_that_is_taken_stays_as_it_is(schema: dict[str, Any]) -> None:
    """The very same one: nothing is said to a server that was not said before."""
    assert guided(schema) is schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": TEXT, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"type": "string", "not": {"const": "x"}}}},
        {"oneOf": [TEXT, {"type": "string", "maxLength": 4}]},
        {"type": "object", "properties": {"a": TEXT}, "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        {"type": "object", "properties": {"a": TEXT}, "minProperties": 1},
        {"type": "string", "format": "money"},
    ],
)
def test_keywords_that_it_does_not_know_are_passed_over(schema: dict[str, Any]) -> None:
    """They stay in the schema for backends that know them."""
    assert guided(schema) == schema | LENIENT
    assert schema_refused(schema) is None


def test_patterns_that_it_cannot_read_are_left_out() -> None:
    """And what would forbid an answer without them; a value that only looks like a pattern is not touched."""
    data = {"const": {"pattern": LOOKING}}
    readable = {"type": "string", "pattern": "^a"}
    looking = {"type": "string", "pattern": LOOKING}
    named = {"type": "object", "patternProperties": {LOOKING: TEXT}, "additionalProperties": False}
    schema = {"type": "object", "properties": {"pattern": looking, "b": readable, "c": data, "d": named}}
    assert guided(schema) == {
        "type": "object",
        "properties": {"pattern": TEXT, "b": readable, "c": data, "d": {"type": "object"}},
        **LENIENT,
    }
    assert schema_refused(schema) is None


def test_what_no_widening_helps_is_refused() -> None:
    """With the reason."""
    schema = {"type": "integer", "minimum": 3, "maximum": 2}
    assert schema_refused(schema) == "Unsatisfiable schema: minimum (3) is greater than maximum (2)"


@pytest.mark.parametrize(
    ("regex", "why"),
    [
        ("[a-c]{3}x", None),
        ("^(?i:a)$", None),
        ("(?=a)b", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "backreferences are not supported"),
        (r"\ba", r"lookarounds not supported yet; WordUnicode in regex /\ba/"),
    ],
)
def test_regular_expressions(regex: str, why: str | None) -> None:
    """Those without look-around and references back."""
    assert regex_refused(regex) == why
