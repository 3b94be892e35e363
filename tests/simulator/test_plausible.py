from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cli.simulator.draw import Draw
from synth_cli.simulator.patterns import PatternError, matching
from synth_cli.simulator.plausible import Plausible
from synth_cli.simulator.prose import words_of
from synth_cli.simulator.schemas import SchemaError

NAMES = st.sampled_from(["title", "name", "email", "steps", "minutes", "tags", "x", "userId", "birth_date", "größe"])
FORMATS = ["date", "time", "date-time", "email", "uri", "uuid", "ipv4", "ipv6", "hostname", "duration", "regex"]


@st.composite
def strings(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["free", "length", "format", "pattern"]))
    if kind == "length":
        low = draw(st.integers(0, 200))
        return {"type": "string", "minLength": low, "maxLength": low + draw(st.integers(0, 80))}
    if kind == "format":
        return {"type": "string", "format": draw(st.sampled_from(FORMATS))}
    if kind == "pattern":
        return {"type": "string", "pattern": draw(st.sampled_from(PATTERNS))}
    return {"type": "string"}


PATTERNS = [
    r"^[A-Z]{2}-\d{3,5}$",
    r"\d+",
    r"^(foo|bar)(-[a-z]+)*$",
    r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
    r"^#[0-9a-fA-F]{6}$",
    r"^\S+( \S+){2,4}$",
    r"^(?:\+\d{1,3} )?\(\d{3}\) \d{3}-\d{4}$",
    r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$",
]


@st.composite
def numbers(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    schema: dict[str, Any] = {"type": kind}
    low = draw(st.integers(-1000, 1000))
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.integers(12, 300))
    if draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 5] if kind == "integer" else [1, 0.5, 0.25, 3]))
    return schema


LEAVES = st.one_of(
    strings(),
    numbers(),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.just({"enum": ["easy", "hard", None, 3]}),
    st.just({"const": {"a": [1]}}),
    st.just({}),
    st.just(True),
)


def larger(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    @st.composite
    def arrays(draw: Any) -> dict[str, Any]:
        low = draw(st.integers(0, 4))
        schema: dict[str, Any] = {"type": "array", "items": draw(parts), "minItems": low}
        if draw(st.booleans()):
            schema["maxItems"] = low + draw(st.integers(0, 3))
        if draw(st.booleans()):
            schema["prefixItems"] = draw(st.lists(parts, min_size=1, max_size=2))
            schema.pop("maxItems", None)
        return schema

    @st.composite
    def objects(draw: Any) -> dict[str, Any]:
        properties = draw(st.dictionaries(NAMES, parts, max_size=4))
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        schema["required"] = draw(st.lists(st.sampled_from(sorted(properties) or ["other"]), unique=True))
        more = draw(st.sampled_from(["closed", "open", "some"]))
        if more == "closed" and "other" not in schema["required"]:
            schema["additionalProperties"] = False
        if more == "some":
            schema["additionalProperties"] = draw(parts)
            schema["minProperties"] = draw(st.integers(0, 6))
        return schema

    return st.one_of(
        arrays(),
        objects(),
        st.lists(parts, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        parts.map(lambda part: {"oneOf": [part, {"type": "null"}]} if part not in (True, {}) else part),
        parts.map(lambda part: {"allOf": [part, {"description": "both"}]}),
    )


SCHEMAS = st.recursive(LEAVES, larger, max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, st.integers(0, 2**64 - 1))
def test_every_value_is_valid(schema: Any, key: int) -> None:
    """Whatever the schema, the value fits it, and its formats too."""
    value = Plausible(schema)(Draw(key, words_of("a friendly recipe of thai cuisine")))
    jsonschema_rs.validate(schema, value, validate_formats=True)


@settings(max_examples=50, deadline=None)
@given(SCHEMAS, st.integers(0, 2**64 - 1))
def test_equal_keys_give_equal_values(schema: Any, key: int) -> None:
    """A value is a function of schema and key: another `Plausible` draws the same."""
    assert Plausible(schema)(Draw(key, ("a", "b"))) == Plausible(schema)(Draw(key, ("a", "b")))


HARD = {
    "reference": {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "minimum": 5}}},
    "recursive": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "label": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                },
                "required": ["label", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/tree",
    },
    "linked": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    },
    "linked, with neighbours": {
        "type": "object",
        "properties": {
            "next": {"$ref": "#", "minProperties": 1},
            "last": {"anyOf": [{"$ref": "#"}, {"type": "object", "maxProperties": 3}], "type": "object"},
        },
        "required": ["last"],
    },
    "all of with references": {
        "$defs": {"named": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"type": "object", "properties": {"age": {"type": "integer", "minimum": 3}}, "required": ["age"]},
        ],
    },
    "reference with neighbours": {
        "$defs": {"n": {"type": "integer"}},
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/n", "minimum": 90, "maximum": 91, "description": "…"}},
        "required": ["n"],
    },
    "union with a base": {
        "type": "object",
        "properties": {"kind": {"type": "string"}},
        "required": ["kind"],
        "oneOf": [
            {"properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["lives"]},
            {"properties": {"kind": {"const": "dog"}, "bark": {"type": "boolean"}}, "required": ["bark"]},
        ],
    },
    "conditional": {
        "type": "object",
        "properties": {"country": {"enum": ["US", "NL"]}, "code": {"type": "string"}},
        "required": ["country", "code"],
        "if": {"properties": {"country": {"const": "US"}}},
        "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
        "else": {"properties": {"code": {"pattern": "^[0-9]{4} [A-Z]{2}$"}}},
    },
    "not": {"type": "integer", "minimum": 1, "maximum": 3, "not": {"const": 2}},
    "unique": {"type": "array", "items": {"enum": [1, 2, 3, 4]}, "uniqueItems": True, "minItems": 4},
    "contains": {"type": "array", "items": {"type": "integer"}, "contains": {"const": 7}, "minItems": 3},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^f_[a-z]+$": {"type": "integer"}},
        "additionalProperties": False,
        "minProperties": 2,
        "required": ["f_own"],
    },
    "a map": {"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 3},
    "property names": {"type": "object", "propertyNames": {"pattern": "^[A-Z]{3}$"}, "minProperties": 2},
    "tuple of draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer"}, {"type": "string"}],
        "additionalItems": False,
        "minItems": 2,
    },
    "draft 4 limits": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "integer",
        "minimum": 4,
        "exclusiveMinimum": True,
        "maximum": 6,
        "exclusiveMaximum": True,
    },
    "narrow": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "a pattern with lengths": {"type": "string", "pattern": "^[a-z]+$", "minLength": 30, "maxLength": 32},
    "a password": {"type": "string", "pattern": r"^(?=.*\d)(?=.*[a-z]).{8,}$"},
    "large": {"type": "integer", "minimum": 10**15},
    "dependent": {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
}


@pytest.mark.parametrize("name", HARD)
def test_the_harder_corners_of_json_schema(name: str) -> None:
    """References, recursion, unions and conditions end, and in a valid value, whatever the key."""
    plausible = Plausible(HARD[name])
    for key in range(40):
        jsonschema_rs.validate(HARD[name], plausible(Draw(key)))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"enum": []},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/missing"},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
        {"type": "strin"},
    ],
)
def test_what_has_no_value_is_said(schema: Any) -> None:
    """A schema that nothing fits, or that is none, is an error and not an endless search."""
    with pytest.raises(SchemaError):
        Plausible(schema)(Draw(1))


def test_values_look_like_what_the_fields_are_called() -> None:
    """Names of fields, single or in a list, decide what the texts and numbers are."""
    schema = {
        "type": "object",
        "properties": {
            "userEmail": {"type": "string"},
            "publication_year": {"type": "integer"},
            "cities": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "name": {"type": "string"},
        },
        "required": ["userEmail", "publication_year", "cities", "name"],
    }
    value = Plausible(schema)(Draw(7))
    assert value == {
        "userEmail": value["userEmail"],
        "publication_year": value["publication_year"],
        "cities": value["cities"],
        "name": value["name"],
    }
    assert re.fullmatch(r"[a-z]+\.[a-z]+\d+@example\.com", value["userEmail"])
    assert 1950 <= value["publication_year"] <= 2026
    assert all(re.fullmatch(r"[A-Z][a-z]+", city) for city in value["cities"])
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", value["name"])


def test_a_field_does_not_depend_on_its_neighbours() -> None:
    """Adding a field to a schema changes no other field's value."""
    few = {"type": "object", "properties": {"title": {"type": "string"}}}
    more = {"type": "object", "properties": {"age": {"type": "integer"}, "title": {"type": "string"}}}
    assert Plausible(few)(Draw(3))["title"] == Plausible(more)(Draw(3))["title"]


@pytest.mark.parametrize(
    "pattern",
    [
        *PATTERNS,
        r"(yes|no)",
        r"[^\x00-\x7F]+",
        r"(?P<year>\d{4})-(?P=year)",
        r"(?<word>[a-z]+)!",
        r"(a)?(?(1)b|c)",
        r"(?i)answer: (positive|negative)",
        r"\p{Lu}\p{Ll}+",
        r".{3,10}",
        r"a*?b+?c??",
        r"(?>ab|a)c",
        r"[\w.+-]+@\w+\.\w{2,3}",
        r"(?=.*\d)(?=.*[A-Z])[A-Za-z\d]{8,}",
        r"\bword\b",
        r"^$",
        r"",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"x(?!y)[a-z]",
    ],
)
def test_a_text_matches_its_whole_pattern(pattern: str) -> None:
    """The text is matched whole, by Python's own engine, for many keys."""
    spoken = pattern.replace(r"\p{Lu}", "[A-Z]").replace(r"\p{Ll}", "[a-z]").replace("(?<word>", "(?P<word>")
    for key in range(20):
        text = matching(pattern, Draw(key), whole=True)
        assert re.fullmatch(spoken, text), text


@pytest.mark.parametrize("pattern", ["(", "[z-a]", r"a(?!a)(?=a)", "a{100000}"])
def test_a_pattern_without_a_text_is_said(pattern: str) -> None:
    """What cannot be read, or matches nothing, is an error."""
    with pytest.raises(PatternError):
        matching(pattern, Draw(1), whole=True)
