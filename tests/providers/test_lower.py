from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cli.core.request import Constraint
from synth_cli.providers.lower import Lowered, instructed, lower, strict

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "default": "x"},
        "age": {"type": ["integer", "null"], "minimum": 0},
        "born": {"type": "string", "format": "date"},
        "site": {"type": "string", "format": "uri", "pattern": "^(?=a)b"},
    },
    "required": ["name"],
}
STRICT_PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"], "minimum": 0},
        "born": {"type": "string", "format": "date"},
        "site": {"type": "string"},
    },
    "required": ["name", "age", "born", "site"],
    "additionalProperties": False,
}
NODE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "title": "Node",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node", "description": "x"}, {"type": "null"}]}},
        }
    },
}


def test_a_schema_is_said_in_the_strict_subset() -> None:
    """Every field is required, nothing may be added, what strict mode refuses is left to the validation here."""
    assert strict(PERSON) == STRICT_PERSON


def test_an_optional_field_is_asked_for_and_never_null() -> None:
    """A field that may be left out but not be null stays so: null would not be valid against the user's schema."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    lowered = strict(schema)
    assert lowered is not None
    assert not jsonschema_rs.is_valid(lowered, {"a": None})
    assert jsonschema_rs.is_valid(schema, {"a": "x"})


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"allOf": [{"$ref": "#/$defs/A"}], "description": "d"},
            {"$ref": "#/$defs/A"},
        ),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 1}, None),
    ],
)
def test_other_words_for_the_same_are_translated(node: dict[str, Any], said: dict[str, Any] | None) -> None:
    """const, oneOf, a single allOf and enums without a type are said in the words that strict mode knows."""
    lowered = strict({"type": "object", "properties": {"x": node}})
    assert lowered is not None
    expected = said or {"type": "array", "items": {"type": "integer"}, "minItems": 1}
    assert lowered["properties"]["x"] == expected


def test_a_model_that_refers_to_itself_has_an_object_at_the_root() -> None:
    """The root's reference is followed, the definitions stay, siblings of a reference go."""
    node = {
        "type": "object",
        "title": "Node",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
        "required": ["next"],
        "additionalProperties": False,
    }
    assert strict(NODE) == {**node, "$defs": {"Node": node}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"anyOf": [{"type": "object"}]},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}, {"minLength": 1}]}}},
        {"type": "object", "properties": {"a": {"enum": [1, "b"]}}},
        {"$ref": "#/$defs/Missing"},
    ],
)
def test_what_cannot_be_said_is_sent_whole(schema: dict[str, Any]) -> None:
    """Free keys, any, tuples and roots that are not objects: the host gets the user's schema without `strict`."""
    assert strict(schema) is None
    sent = lower(Constraint("schema", schema), "strict").fields
    assert sent == {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


_values = st.recursive(
    st.one_of(
        st.sampled_from(
            [
                {"type": "string", "minLength": 1},
                {"type": "integer", "minimum": 2, "maximum": 9},
                {"type": ["number", "null"]},
                {"type": "boolean"},
                {"enum": ["a", "b"]},
                {"const": "c"},
            ]
        )
    ),
    lambda inner: st.one_of(
        inner.map(lambda node: {"type": "array", "items": node, "maxItems": 3}),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(
            lambda fields: {"type": "object", "properties": fields, "required": sorted(fields)[:1]}
        ),
        st.tuples(inner, inner).map(lambda pair: {"anyOf": list(pair)}),
    ),
    max_leaves=6,
)


def _example(node: dict[str, Any]) -> Any:
    """A value that is valid against a node of the shapes above, with every field there."""
    if "const" in node:
        return node["const"]
    if "enum" in node:
        return node["enum"][0]
    if "anyOf" in node:
        return _example(node["anyOf"][0])
    kind = node["type"]
    if kind == "object":
        return {name: _example(part) for name, part in node["properties"].items()}
    if kind == "array":
        return [_example(node["items"])]
    return {"string": "x", "integer": 5, "boolean": True}.get(kind if isinstance(kind, str) else "")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("xyz"), _values, min_size=1))
def test_lowering_never_forbids_a_full_answer(fields: dict[str, Any]) -> None:
    """What is valid against the user's schema, with all its fields, is valid against the one that is sent."""
    schema = {"type": "object", "properties": fields}
    example = _example(schema)
    assert jsonschema_rs.is_valid(schema, example)
    lowered = strict(schema)
    assert lowered is not None
    assert jsonschema_rs.is_valid(lowered, example)


SCHEMA = Constraint("schema", PERSON, name="a person!")
CHOICE = Constraint("choice", ["a", "b", "a"])
REGEX = Constraint("regex", "[0-9]+")
LENIENT = {"x-guidance": {"lenient": True}}
GUIDED = {**PERSON, **LENIENT, "properties": {**PERSON["properties"], "site": {"type": "string", "format": "uri"}}}
"""Without the pattern that looks ahead."""
JSON_PROMPT = "Answer with one JSON value that is valid against this JSON Schema"


def _format(schema: Any, **more: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a_person_", **more, "schema": schema}}}


def test_a_vllm_server_is_told_to_pass_over_what_guidance_does_not_know() -> None:
    """In a chat and in a raw completion; backends that know the keyword still find it."""
    distinct = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    constraint, sent = Constraint("schema", distinct, "a person!"), distinct | LENIENT
    assert lower(constraint, "vllm") == Lowered(_format(sent))
    assert lower(constraint, "vllm", completion=True) == Lowered({"structured_outputs": {"json": sent}})
    assert constraint.value == distinct


@pytest.mark.parametrize(
    ("constraint", "structured", "lowered"),
    [
        (None, "strict", Lowered()),
        (SCHEMA, "strict", Lowered(_format(STRICT_PERSON, strict=True))),
        (SCHEMA, "schema", Lowered(_format(PERSON))),
        (SCHEMA, "vllm", Lowered(_format(GUIDED))),
        (CHOICE, "vllm", Lowered({"structured_outputs": {"choice": ["a", "b", "a"]}})),
        (REGEX, "vllm", Lowered({"structured_outputs": {"regex": "[0-9]+"}})),
        (REGEX, "strict", Lowered()),
        (REGEX, "json", Lowered()),
        (CHOICE, "json", Lowered()),
        (CHOICE, "tool", Lowered()),
    ],
)
def test_each_dialect_gets_what_it_can_take(constraint: Constraint | None, structured: Any, lowered: Lowered) -> None:
    """What a host cannot constrain is not sent: the answer is validated here anyway."""
    assert lower(constraint, structured) == lowered


def test_a_choice_is_a_schema_where_there_are_schemas() -> None:
    """It is asked for as `{"answer": …}` and read so."""
    lowered = lower(CHOICE, "strict")
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["a", "b"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    assert lowered.reading == ".choice"
    assert lowered.fields["response_format"]["json_schema"]["schema"] == schema


def test_json_mode_says_the_schema_in_the_prompt() -> None:
    """The body asks for JSON, the instruction holds the whole schema."""
    lowered = lower(SCHEMA, "json")
    assert lowered.fields == {"response_format": {"type": "json_object"}}
    assert lowered.instruction.startswith(JSON_PROMPT)
    assert '"minLength":1' in lowered.instruction


def test_a_tool_call_carries_the_schema_unless_there_are_tools() -> None:
    """The user's own tools are not mixed with ours: then it is JSON mode."""
    lowered = lower(SCHEMA, "tool")
    function = {"name": "a_person_", "description": "Gives the answer.", "parameters": PERSON}
    assert lowered == Lowered(
        {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "a_person_"}},
        },
        reading=".tool",
    )
    assert lower(SCHEMA, "tool", tools=True) == lower(SCHEMA, "json")


def test_a_raw_completion_is_constrained_by_vllm_only() -> None:
    """The prompt is sent byte for byte: no instruction is put into it."""
    assert lower(SCHEMA, "vllm", completion=True) == Lowered({"structured_outputs": {"json": GUIDED}})
    assert lower(SCHEMA, "json", completion=True) == Lowered()
    assert lower(CHOICE, "strict", completion=True) == Lowered()


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([{"role": "user", "content": "u"}], [{"role": "system", "content": "I"}, {"role": "user", "content": "u"}]),
        ([{"role": "system", "content": "s"}], [{"role": "system", "content": "s\n\nI"}]),
        ([{"role": "system", "content": ""}], [{"role": "system", "content": "I"}]),
        (
            [{"role": "developer", "content": [{"type": "text", "text": "s"}]}],
            [{"role": "developer", "content": [{"type": "text", "text": "s"}, {"type": "text", "text": "I"}]}],
        ),
        ([], [{"role": "system", "content": "I"}]),
    ],
)
def test_an_instruction_ends_the_system_turn(messages: list[Any], sent: list[Any]) -> None:
    """There is one system turn, and it comes first."""
    assert instructed(messages, "I") == sent
