"""The JSON Schema that editors complete and check specs with, made from the models.

It is as wide as the loader: numbers may be written as texts (`${NAME}` stands for one), keys that begin with `x-`
are free, and what overrides something (a spec that extends another, a profile) may leave out or null anything.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import BaseModel

from synth_cli.spec.keys import keys_of
from synth_cli.spec.model import INHERITED, Spec, StepKeys, Turns

DIALECT = "http://json-schema.org/draft-07/schema#"
NUMERIC = r"\$\{|^\s*-?[0-9._eE+-]+\s*$"
_OPEN = ("default", "const", "enum", "examples")


def editor_schema() -> dict[str, Any]:
    """A JSON Schema (draft 7) of specs."""
    made = Spec.model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
    definitions: dict[str, Any] = made.pop("$defs")
    definitions = {name: _widened(each) for name, each in definitions.items()}
    spec = _widened(made)
    for node, schema in ((Spec, spec), (Turns, definitions["Turns"])):
        _describe_references(node, schema)
    _schema_or_words(definitions)
    spec["properties"]["profiles"]["additionalProperties"] = {"$ref": "#/definitions/Overrides"}
    spec["patternProperties"] = {"^x-": {}}
    definitions["Overrides"] = _override(spec)
    for name, each in list(definitions.items()):
        if name != "Overrides":
            definitions[f"{name}Override"] = _override(each)
    steps = definitions["Overrides"]["properties"]["steps"]
    by_name = {"type": "object", "additionalProperties": {"$ref": "#/definitions/StepOverride"}}
    definitions["Overrides"]["properties"]["steps"] = {**_described(steps), "anyOf": [*steps["anyOf"], by_name]}
    spec["allOf"] = [_only_defaults_beside_steps()]
    return {
        "$schema": DIALECT,
        "title": "synth job spec",
        "if": {"required": ["extends"]},
        "then": {"$ref": "#/definitions/Overrides"},
        "else": {"$ref": "#/definitions/Spec"},
        "definitions": {"Spec": spec, **definitions},
    }


def _widened(node: Any) -> Any:
    """As the loader reads: numbers as texts, texts as numbers; and without the titles that nobody wrote."""
    if isinstance(node, list):
        return [_widened(each) for each in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    engines = node.get("engines")
    for key, value in node.items():
        if key == "engines" or (key == "title" and isinstance(value, str)):
            continue
        if key == "properties":
            result[key] = {name: _widened(each) for name, each in value.items()}
        else:
            result[key] = deepcopy(value) if key in _OPEN else _widened(value)
    if engines:
        result["description"] = f"{node['description']} Engines: {', '.join(engines)}."
    kind = node.get("type")
    if kind in {"integer", "number"} and "description" not in node:
        return _or_text(result)
    if kind in {"integer", "number"}:
        described = _described(result)
        bare = {key: value for key, value in result.items() if key not in described}
        return {**described, **_or_text(bare)}
    if kind == "string" and not {"enum", "pattern", "const"} & node.keys():
        result["type"] = ["string", "number"]
    if node.get("const") == 1:
        result.pop("type", None)
        result.pop("const")
        result["enum"] = [1, "1"]
    return result


def _describe_references(node: type[BaseModel], schema: dict[str, Any]) -> None:
    """Beside a bare reference this dialect allows no description."""
    for key, name in keys_of(node).items():
        if set(schema["properties"][key]) <= {"$ref", "description"}:
            reference = {"$ref": schema["properties"][key]["$ref"]}
            schema["properties"][key] = {"description": node.model_fields[name].description, "allOf": [reference]}


def _or_text(number: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [number, {"type": "string", "pattern": NUMERIC}]}


def _described(node: dict[str, Any]) -> dict[str, Any]:
    return {key: node[key] for key in ("description", "default") if key in node}


def _schema_or_words(definitions: dict[str, Any]) -> None:
    """What `response.schema` may be is checked by the loader; an editor is told the forms."""
    response = definitions["Response"]["properties"]["schema"]
    response["anyOf"] = [
        {"type": "object"},
        {"type": "string", "pattern": r"^(file://|python:|\$\{)"},
        {"type": "null"},
    ]


def _override(node: Any) -> Any:
    """The same for an override: nothing is required, null removes."""
    if isinstance(node, list):
        return [_override(each) for each in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "required":
            continue
        if key in _OPEN:
            result[key] = deepcopy(value)
        elif key == "$ref":
            name = value.rpartition("/")[2]
            result[key] = value if name == "Overrides" else f"{value}Override"
        elif key == "properties":
            result[key] = {name: _or_null(_override(each)) for name, each in value.items()}
        else:
            result[key] = _override(value)
    return result


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    described = _described(node)
    bare = {key: value for key, value in node.items() if key not in described}
    return {**described, "anyOf": [bare, {"type": "null"}]}


def _only_defaults_beside_steps() -> dict[str, Any]:
    own = sorted(set(keys_of(StepKeys)) - set(INHERITED))
    return {"if": {"required": ["steps"]}, "then": {"properties": dict.fromkeys(own, False)}}
