"""The schema mini-language: what is sent, what is accepted, what validate says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk import Desk, serving


def schema(desk: Desk, node: Any) -> Any:
    """The JSON Schema that goes to a vLLM server, which takes it as it is."""
    desk.says(
        {
            "model": {"name": "m", "backend": "vllm", "base_url": "http://127.0.0.1:9/v1"},
            "prompt": "hi",
            "response": {"schema": node},
        }
    )
    (look,) = desk.preview()
    return look["body"]["response_format"]["json_schema"]["schema"]


def closed(**properties: Any) -> Any:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


STR = {"type": "string"}


@pytest.mark.parametrize(
    ("node", "meant"),
    [
        (
            {"a": "str", "b": "int", "c": "float", "d": "bool", "e": "any"},
            closed(a=STR, b={"type": "integer"}, c={"type": "number"}, d={"type": "boolean"}, e={}),
        ),
        (
            {"a": ["str"], "b": "list[int]", "c": [["str"]]},
            closed(
                a={"type": "array", "items": STR},
                b={"type": "array", "items": {"type": "integer"}},
                c={"type": "array", "items": {"type": "array", "items": STR}},
            ),
        ),
        (
            {"a": "enum[x, very y]", "b": {"enum": ["p", "q"]}},
            closed(a={"type": "string", "enum": ["x", "very y"]}, b={"type": "string", "enum": ["p", "q"]}),
        ),
        (
            {"a": "str?", "b": "list[str]?"},
            closed(a={"type": ["string", "null"]}, b={"anyOf": [{"type": "array", "items": STR}, {"type": "null"}]}),
        ),
        (
            {"a": [{"b": "str", "c": {"d": "int"}}]},
            closed(a={"type": "array", "items": closed(b=STR, c=closed(d={"type": "integer"}))}),
        ),
        (
            {"a": {"type": "int", "description": "how many", "minimum": 1, "maximum": 5}},
            closed(a={"type": "integer", "description": "how many", "minimum": 1, "maximum": 5}),
        ),
        (
            {"a": {"type": "str", "min_length": 2, "max_length": 5, "pattern": "^a"}},
            closed(a={"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^a"}),
        ),
        ({"a": {"type": ["str"], "min_length": 1}}, closed(a={"type": "array", "items": STR, "minItems": 1})),
        ({"a": {"object": {"type": "str", "description": "str"}}}, closed(a=closed(type=STR, description=STR))),
        ({"type": "str", "size": "int"}, closed(type=STR, size={"type": "integer"})),
    ],
)
def test_the_mini_language(desk: Desk, node: Any, meant: Any) -> None:
    """Each form means this JSON Schema; fields are required, in order, and no others are allowed."""
    assert schema(desk, node) == meant


def test_a_field_with_a_default_may_be_left_out(desk: Desk) -> None:
    """The default is put in where the answer has none."""
    with serving(lambda body: '{"a": "x"}') as server:
        node = {"a": "str", "b": {"type": "int", "default": 3}}
        assert desk.says({"model": server.model(), "prompt": "hi", "response": {"schema": node}}).rows() == [
            {"a": "x", "b": 3}
        ]


def test_a_json_schema_is_taken_as_it_is(desk: Desk) -> None:
    """A mapping with `$schema`, or with `type: object` and `properties`; in a file too."""
    own = {"type": "object", "properties": {"a": {"type": "string", "format": "email"}}, "required": []}
    with_draft = {"$schema": "https://json-schema.org/draft/2020-12/schema", **own}
    assert schema(desk, own) == own
    assert schema(desk, with_draft) == with_draft
    desk.write(s__json=json.dumps(own))
    assert schema(desk, "file://s.json") == own


@pytest.mark.parametrize("node", ["python:models_here:Recipe", {"python": "models_here:Recipe"}])
def test_a_pydantic_model(desk: Desk, node: Any) -> None:
    """`python: package.module:Model` beside the spec or installed; its fields are columns."""
    desk.write(
        models_here__py="from pydantic import BaseModel\n\n"
        "class Recipe(BaseModel):\n    title: str\n    minutes: int = 5\n"
    )
    with serving(lambda body: '{"title": "T"}') as server:
        assert desk.says({"model": server.model(), "prompt": "hi", "response": {"schema": node}}).rows() == [
            {"title": "T", "minutes": 5}
        ]


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ({"a": "string"}, "'string' is not a type; write str"),
        ({"a": "strr"}, "'strr' is not a type; write str"),
        ({"a": ["str", "int"]}, "a list type has exactly one element, not 2"),
        ({"a": None}, "nothing is not a type; write 'T?' for a value that may be null"),
        ({"a": {"type": "str", "minLength": 3}}, "unknown key 'minLength' beside 'type'; did you mean 'min_length'?"),
        (
            {"a": {"type": "str", "minimum": 3}},
            "'minimum' is for int and float; for texts and lists: min_length, max_length",
        ),
        (
            {"a": {"type": "str", "description": "str"}},
            "this mapping with 'type' may be one field or an object; write object: {type: str, description: str}",
        ),
        ({"a": {"type": "str", "pattern": "("}}, "this is no regular expression"),
        (["str"], "the root of a schema is a mapping, not a list"),
        ("str", "the root of a schema is a mapping"),
        ({}, "an object needs at least one field"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "this is not a JSON Schema"),
        (
            {"$schema": "draft-8", "type": "object"},
            "'draft-8' is no version of JSON Schema; write https://json-schema.org/draft/2020-12/schema",
        ),
        ("python:nowhere:Model", "nowhere"),
    ],
)
def test_validate_finds_what_is_no_schema(desk: Desk, node: Any, problem: str) -> None:
    """Exactly one problem, with its place and what to write."""
    problems = desk.says({"model": "simulator", "prompt": "hi", "response": {"schema": node}}).validate()
    assert (len(problems), problem in problems[0]) == (1, True), problems


def test_every_problem_of_a_schema_is_told(desk: Desk) -> None:
    """Each at its own line."""
    desk.says(
        "model: simulator\nprompt: hi\nresponse:\n  schema:\n    a: string\n"
        "    b: [int, str]\n    c: {type: int, pattern: x}\n"
    )
    assert [problem.partition(": ")[0] for problem in desk.validate()] == ["5:8", "6:5", "7:29"]


def test_the_simulator_answers_every_schema(desk: Desk) -> None:
    """Plausible, valid, and each row its own."""
    node = {
        "name": "str",
        "age": {"type": "int", "minimum": 18, "maximum": 20},
        "mood": "enum[calm, angry]",
        "notes": [{"text": "str", "score": "float?"}],
        "more": "any",
    }
    desk.says(
        {"model": "simulator", "input": {"count": 8}, "prompt": "hi", "response": {"schema": node}, "carry": False}
    )
    rows = desk.rows()
    assert all(list(row) == list(node) and 18 <= row["age"] <= 20 and row["mood"] in ("calm", "angry") for row in rows)
    assert len({row["name"] for row in rows}) > 1
