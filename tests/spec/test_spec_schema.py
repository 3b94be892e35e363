"""The mini-language of `response.schema` and its other forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synth_cli.spec.fields import fields_of
from synth_cli.spec.schema import SchemaError, schema_of

HERE = Path(__file__).parent
TEXT = {"type": "string"}


def field(node: Any) -> Any:
    """The JSON Schema of one field."""
    return schema_of({"f": node}, folder=HERE)["properties"]["f"]


def wrong(node: Any, folder: Path = HERE) -> list[tuple[Any, ...]]:
    with pytest.raises(SchemaError) as caught:
        schema_of(node, folder=folder)
    return [(problem.where, f"{problem.message}; {problem.hint}".rstrip("; ")) for problem in caught.value.problems]


def test_an_object() -> None:
    """All fields are required, others are not allowed, the order is kept."""
    schema = schema_of({"b": "str", "a": [{"n": "int"}]}, folder=HERE)
    inner = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    assert schema == {
        "type": "object",
        "properties": {"b": TEXT, "a": {"type": "array", "items": inner}},
        "required": ["b", "a"],
        "additionalProperties": False,
    }
    assert fields_of(schema) == ("b", "a")


@pytest.mark.parametrize(
    ("node", "schema"),
    [
        ("str", TEXT),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("any", {}),
        ("int?", {"type": ["integer", "null"]}),
        ("any?", {}),
        ("list[str]", {"type": "array", "items": TEXT}),
        (["str"], {"type": "array", "items": TEXT}),
        ("list[str?]?", {"anyOf": [{"type": "array", "items": {"type": ["string", "null"]}}, {"type": "null"}]}),
        ("enum[easy, very hard]", {"type": "string", "enum": ["easy", "very hard"]}),
        ("enum['a, b', \"c\"]?", {"type": ["string", "null"], "enum": ["a, b", "c", None]}),
        ("list[enum[a, b]]", {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}),
        ({"enum": ["a", 1]}, {"type": "string", "enum": ["a", "1"]}),
        ({"type": "int", "minimum": 1, "description": "d"}, {"type": "integer", "minimum": 1, "description": "d"}),
        ({"type": ["str"], "min_length": 2}, {"type": "array", "items": TEXT, "minItems": 2}),
        ({"type": "str", "max_length": 2, "pattern": "^a"}, {"type": "string", "maxLength": 2, "pattern": "^a"}),
        (
            {"type": "list[str]?", "max_length": 2, "description": "d"},
            {"description": "d", "anyOf": [{"type": "array", "items": TEXT, "maxItems": 2}, {"type": "null"}]},
        ),
    ],
)
def test_types(node: Any, schema: Any) -> None:
    """Each type of the mini-language has one JSON Schema."""
    assert field(node) == schema


def test_objects_said_explicitly() -> None:
    """`object:` is an object even of fields called type; further keys beside `type` are fields."""
    assert field({"object": {"type": "str"}})["properties"] == {"type": TEXT}
    assert field({"type": "str", "size": "int"})["properties"] == {"type": TEXT, "size": {"type": "integer"}}
    assert field({"enum": "str"})["properties"] == {"enum": TEXT}
    assert schema_of({"type": "str", "description": "str"}, folder=HERE)["required"] == ["type", "description"]


def test_defaults() -> None:
    """A field with a default may be missing."""
    schema = schema_of({"a": {"type": "str", "default": "x"}, "b": "int"}, folder=HERE)
    assert (schema["required"], schema["properties"]["a"]) == (["b"], {"type": "string", "default": "x"})


@pytest.mark.parametrize(
    ("node", "where", "words"),
    [
        ({"type": "str"}, (), "write object: {type: str} for an object with these fields, or just str for one value"),
        ({"type": "str", "description": "str"}, (), "may be one field or an object"),
        ({"enum": ["str"]}, (), "write enum[str], or object: {enum: [str]}"),
        ("string", (), "'string' is not a type; write str"),
        ("strr", (), "'strr' is not a type; write str"),
        ("List[str]", (), "write list[T]"),
        ("enum[]", (), "an enum needs values"),
        ("enum[a, a]", (), "an enum has each value once"),
        (["a", "b"], (), "a list type has exactly one element, not 2"),
        (None, (), "nothing is not a type"),
        (5, (), "5 is not a type"),
        ({}, (), "an object needs at least one field"),
        ({"type": "string"}, ("type",), "'string' is not a type; write str"),
        ({"type": "string", "minLength": 1}, ("type",), "'string' is not a type here; write str"),
        ({"type": "str", "minLength": 3}, ("minLength",), "did you mean 'min_length'?"),
        ({"type": "str", "enum": ["a", "b"]}, ("enum",), "write type: enum[a, b]"),
        ({"type": "str", "minimum": 3}, ("minimum",), "'minimum' is for int and float"),
        ({"type": "int", "max_length": 3}, ("max_length",), "'max_length' is for str and lists"),
        ({"type": "int", "minimum": "x"}, ("minimum",), "'minimum' must be a number"),
        ({"type": "str", "max_length": -1}, ("max_length",), "must be a whole number from 0 on"),
        ({"type": "int", "default": "x"}, ("default",), "the default does not fit its own type"),
        ({"type": "str", "pattern": "("}, ("pattern",), "regular expression"),
        ({"a": ["strin"]}, ("a", 0), "'strin' is not a type; write str"),
    ],
)
def test_what_is_no_type(node: Any, where: tuple[str, ...], words: str) -> None:
    """Each mistake is at its place and says what to write."""
    ((place, message),) = wrong({"f": node})
    assert place == ("f", *where)
    assert words in message


def test_all_mistakes_at_once() -> None:
    """Nothing hides behind the first mistake."""
    assert [place for place, _ in wrong({"a": "x1", "b": {"c": "x2", "d": ["x3"]}})] == [
        ("a",),
        ("b", "c"),
        ("b", "d", 0),
    ]


@pytest.mark.parametrize("root", ["str", ["str"], None, {"minimum": 3, "type": "int"}])
def test_the_root_is_a_mapping(root: Any) -> None:
    """The root is a mapping of fields."""
    assert wrong(root)


def test_json_schema() -> None:
    """A JSON Schema is taken as it is, if it is one."""
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/T"}}, "$defs": {"T": {"type": "string"}}}
    assert schema_of(schema, folder=HERE) is schema
    assert schema_of({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "array"}, folder=HERE)
    assert wrong({"type": "object", "properties": {"a": {"type": "strin"}}})[0][0] == ("properties", "a", "type")
    assert wrong({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}})


def test_a_pydantic_model(tmp_path: Path) -> None:
    """A model is found beside the spec, in a file or a package, with what it imports itself."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "words_beside.py").write_text("WORD = 'said'\n")
    (tmp_path / "pack" / "models.py").write_text(
        "from __future__ import annotations\nfrom pydantic import BaseModel\nimport words_beside\n"
        "class Leaf(BaseModel):\n    n: int\n"
        "class Tree(BaseModel):\n    leaves: list[Leaf]\n    next: Tree | None = None\n"
    )
    for reference in ({"python": "pack.models:Tree"}, "python: pack.models:Tree", {"python": "pack/models.py:Tree"}):
        assert fields_of(schema_of(reference, folder=tmp_path)) == ("leaves", "next")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere.models:M", "cannot import 'nowhere.models'"),
        ("nowhere.py:M", "there is no file"),
        ("odd:Missing", "'odd' has no 'Missing'"),
        ("odd:number", "'odd:number' is not a Pydantic model"),
        ("bad:M", "importing 'bad' failed: ZeroDivisionError"),
    ],
)
def test_models_that_cannot_be_had(tmp_path: Path, reference: str, words: str) -> None:
    """Whatever keeps a model from being imported is a problem of the spec."""
    (tmp_path / "odd.py").write_text("number = 5\n")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    ((place, message),) = wrong({"python": reference}, tmp_path)
    assert place == ("python",)
    assert words in message


def test_equal_module_names_in_two_folders(tmp_path: Path) -> None:
    """Two specs' modules of one name do not take each other's place."""
    fields = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "same.py").write_text(f"from pydantic import BaseModel\nclass M(BaseModel):\n    {name}: int\n")
        fields += fields_of(schema_of({"python": "same:M"}, folder=folder))
    assert fields == ["first", "second"]


def test_a_pydantic_model_with_a_number_beyond_64_bits_is_refused(tmp_path: Path) -> None:
    """No request could hold its schema."""
    (tmp_path / "big.py").write_text("from pydantic import BaseModel\nclass M(BaseModel):\n    n: int = 2**70\n")
    assert wrong({"python": "big.py:M"}, tmp_path) == [
        (("python",), "the JSON Schema of 'big.py:M' cannot be sent: Integer exceeds 64-bit range")
    ]
