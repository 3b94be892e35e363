"""`response.schema`: the mini-language, a JSON Schema, or a Pydantic model, all as one JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs

from synth_cli.spec.hints import suggest
from synth_cli.spec.imported import ModelImportError, model_schema
from synth_cli.spec.places import Where
from synth_cli.spec.words import WORDS, WordError, parse_word

DESCRIBING = ("type", "description", "default", "minimum", "maximum", "min_length", "max_length", "pattern")
UNKNOWN_VERSION = "Unknown meta-schema"
_JSON_WORDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "[T]", "object": "{…}"}


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """`where` counts from the schema's own root."""

    where: Where
    message: str
    hint: str = ""


class SchemaError(Exception):
    """Everything that is wrong with one schema."""

    def __init__(self, problems: Sequence[SchemaProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


def schema_of(node: Any, *, folder: Path) -> dict[str, Any]:
    """The JSON Schema that a spec's `schema` means. A `file://` is read when the spec is loaded.

    Raises:
        SchemaError: With every problem found.
    """
    if isinstance(node, str):
        if node.startswith("python:"):
            return _imported(node.removeprefix("python:").strip(), folder, ())
        hint = "write a mapping of fields: {answer: T}, file://schema.json, or {python: module:Model}"
        raise SchemaError([SchemaProblem((), "the root of a schema is a mapping", hint)])
    if isinstance(node, list):
        hint = "write a mapping with one field for the list: items: […]"
        raise SchemaError([SchemaProblem((), "the root of a schema is a mapping, not a list", hint)])
    if not isinstance(node, dict):
        raise SchemaError([SchemaProblem((), "the root of a schema is a mapping", "write {field: T}")])
    if set(node) == {"python"} and isinstance(node["python"], str) and ":" in node["python"]:
        return _imported(node["python"].strip(), folder, ("python",))
    if is_json_schema(node):
        schema = node
    else:
        reader = _Reader()
        schema = reader.object(node, ())
        if reader.problems:
            raise SchemaError(reader.problems)
    return _checked(schema, own=schema is node)


def is_json_schema(node: Mapping[str, Any]) -> bool:
    return "$schema" in node or (node.get("type") == "object" and isinstance(node.get("properties"), dict))


def _imported(reference: str, folder: Path, where: Where) -> dict[str, Any]:
    try:
        return model_schema(reference, folder)
    except ModelImportError as error:
        raise SchemaError([SchemaProblem(where, error.message, error.hint)]) from error


def _checked(schema: dict[str, Any], *, own: bool) -> dict[str, Any]:
    try:
        jsonschema_rs.validator_for(schema)
    except jsonschema_rs.ValidationError as error:
        # the mini-language has no such levels: the place is the field's
        where = tuple(part for part in error.instance_path if own or part not in {"properties", "items"})
        if error.message.startswith(UNKNOWN_VERSION):
            raise SchemaError([_unknown_version(schema)]) from error
        said = f"this is not a JSON Schema: {error.message}"
        if error.message.endswith('is not a "regex"'):
            said = "this is no regular expression"
        raise SchemaError([SchemaProblem(where, said)]) from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        if str(error).startswith(UNKNOWN_VERSION):
            raise SchemaError([_unknown_version(schema)]) from error
        raise SchemaError([SchemaProblem((), f"this is not a JSON Schema: {error}")]) from error
    return schema


def _unknown_version(schema: Mapping[str, Any]) -> SchemaProblem:
    hint = "write https://json-schema.org/draft/2020-12/schema"
    return SchemaProblem(("$schema",), f"'{schema.get('$schema')}' is no version of JSON Schema", hint)


class _Reader:
    """Reads the mini-language and notes what it cannot read."""

    def __init__(self) -> None:
        self.problems: list[SchemaProblem] = []

    def object(self, node: Mapping[Any, Any], where: Where) -> dict[str, Any]:
        if not node:
            self.problem(where, "an object needs at least one field", "write any for whatever may come")
        properties = {str(name): self.field(value, (*where, str(name))) for name, value in node.items()}
        required = [name for name, value in properties.items() if "default" not in value]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def field(self, node: Any, where: Where) -> dict[str, Any]:
        match node:
            case str():
                return self.word(node, where)
            case list():
                return self.list(node, where)
            case dict():
                return self.mapping(node, where)
        hint = "write 'T?' for a value that may be null" if node is None else f"write one of {', '.join(WORDS)}"
        self.problem(where, f"{'nothing' if node is None else repr(node)} is not a type", hint)
        return {}

    def word(self, text: str, where: Where) -> dict[str, Any]:
        try:
            return parse_word(text)
        except WordError as error:
            self.problem(where, error.message, error.hint)
            return {}

    def list(self, node: Sequence[Any], where: Where) -> dict[str, Any]:
        if len(node) != 1:
            hint = "write [T] with one type for all items; for fixed values enum[a, b]"
            self.problem(where, f"a list type has exactly one element, not {len(node)}", hint)
            return {}
        return {"type": "array", "items": self.field(node[0], (*where, 0))}

    def mapping(self, node: Mapping[Any, Any], where: Where) -> dict[str, Any]:
        if set(node) == {"enum"} and isinstance(node["enum"], list):
            return self.enum(node["enum"], where)
        if set(node) == {"object"} and isinstance(node["object"], dict):
            return self.object(node["object"], (*where, "object"))
        if is_json_schema(node):
            return dict(node)
        if "type" in node and set(node) <= set(DESCRIBING):
            return self.described(node, where)
        if "type" in node and self.almost_described(node, where):
            return {}
        return self.object(node, where)

    def enum(self, values: Sequence[Any], where: Where) -> dict[str, Any]:
        if len(values) == 1 and isinstance(values[0], str) and _is_type(values[0]):
            hint = f"write enum[{values[0]}], or object: {{enum: [{values[0]}]}} for an object with a field 'enum'"
            self.problem(where, "this is an enum of one value, or an object with a field 'enum'", hint)
            return {}
        texts: list[str] = []
        for position, value in enumerate(values):
            if isinstance(value, bool | float) or not isinstance(value, str | int):
                self.problem((*where, "enum", position), "the values of an enum are texts", "put it in quotes")
            else:
                texts.append(str(value))
        if not values or len(set(texts)) != len(texts):
            self.problem(where, "an enum needs values, each once")
        return {"type": "string", "enum": texts}

    def described(self, node: Mapping[str, Any], where: Where) -> dict[str, Any]:
        if all(_is_type(value) for value in node.values()):
            fields = ", ".join(f"{key}: {_short(value)}" for key, value in node.items())
            alone = f"just {_short(node['type'])}" if len(node) == 1 else "another text for the description"
            hint = f"write object: {{{fields}}} for an object with these fields, or {alone} for one value"
            self.problem(where, "this mapping with 'type' may be one field or an object", hint)
            return {}
        before = len(self.problems)
        schema = self.field(node["type"], (*where, "type"))
        if len(self.problems) > before:
            return {}
        return self.limited(schema, node, where)

    def limited(self, schema: dict[str, Any], node: Mapping[str, Any], where: Where) -> dict[str, Any]:
        kinds = frozenset(_kinds(schema))
        limits: dict[str, Any] = {}
        for key, value in node.items():
            if key in {"type", "default"}:
                continue
            wrong = _wrong_limit(key, value, kinds)
            if wrong is not None:
                self.problem((*where, key), *wrong)
            elif key in {"min_length", "max_length"}:
                limits[key[:3] + ("Items" if "array" in kinds else "Length")] = value
            else:
                limits[key] = value
        result = {**schema, **limits} if "anyOf" not in schema else _inside(schema, limits)
        if "default" in node:
            result["default"] = node["default"]
            self.fitting_default(result, node["default"], where)
        return result

    def fitting_default(self, schema: dict[str, Any], default: Any, where: Where) -> None:
        try:
            error = next(jsonschema_rs.validator_for(schema).iter_errors(default), None)
        except (jsonschema_rs.ValidationError, ValueError) as invalid:
            place = (*where, "pattern") if "pattern" in schema else where
            message = getattr(invalid, "message", str(invalid))
            self.problem(place, f"this is no JSON Schema: {message}")
            return
        if error is not None:
            self.problem((*where, "default"), f"the default does not fit its own type: {error.message}")

    def almost_described(self, node: Mapping[str, Any], where: Where) -> bool:
        """A description of one field with a key too many or in JSON Schema's words."""
        strange = [str(key) for key in node if key not in DESCRIBING]
        said = node["type"]
        if isinstance(said, str) and said in _JSON_WORDS:
            word = _JSON_WORDS[said]
            self.problem((*where, "type"), f"'{said}' is not a type here", f"write {word}")
            return True
        texts = [key for key in strange if not _is_type(node[key])]
        if not _is_type(said) or not texts:
            return False
        for key in texts:
            near = suggest({"minLength": "min_length", "maxLength": "max_length"}.get(key, key), DESCRIBING)
            if key == "enum":
                self.problem((*where, key), "'enum' beside 'type'", "write type: enum[a, b]")
            else:
                hint = f"did you mean '{near}'?" if near else f"a field is described by {', '.join(DESCRIBING)}"
                self.problem((*where, key), f"unknown key '{key}' beside 'type'", hint)
        return True

    def problem(self, where: Where, message: str, hint: str = "") -> None:
        self.problems.append(SchemaProblem(where, message, hint))


def _wrong_limit(key: str, value: Any, kinds: frozenset[str]) -> tuple[str, str] | None:
    """Message and hint, if this key does not fit the type or its value is none."""
    match key:
        case "description":
            return None if isinstance(value, str) else ("'description' must be text", "")
        case "pattern":
            fits = "string" in kinds and isinstance(value, str)
            return None if fits else ("'pattern' is a regular expression for str", "")
        case "minimum" | "maximum":
            if not kinds & {"integer", "number"}:
                return f"'{key}' is for int and float", "for texts and lists: min_length, max_length"
            return None if _is_number(value) else (f"'{key}' must be a number, not {value!r}", "")
    if not kinds & {"string", "array"}:
        return f"'{key}' is for str and lists", "for numbers: minimum, maximum"
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if whole else (f"'{key}' must be a whole number from 0 on, not {value!r}", "")


def _is_type(node: Any) -> bool:
    """Whether a value reads as a type of the mini-language."""
    if isinstance(node, dict | list):
        reader = _Reader()
        reader.field(node, ())
        return not reader.problems
    if not isinstance(node, str):
        return False
    try:
        parse_word(node)
    except WordError:
        return False
    return True


def _short(node: Any) -> str:
    return node if isinstance(node, str) else "…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type")
    yield from kind if isinstance(kind, list) else [str(kind)]
    for each in schema.get("anyOf", ()):
        yield from _kinds(each)


def _inside(schema: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Limits of a value that may be null belong to the value's own alternative, its description to the whole."""
    own = {key: value for key, value in limits.items() if key != "description"}
    value, null = schema["anyOf"]
    described = {"description": limits["description"]} if "description" in limits else {}
    return {**described, "anyOf": [{**value, **own}, null]}
