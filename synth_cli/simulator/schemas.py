"""What a JSON Schema says, put together: references followed, `allOf` and its neighbours merged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote

Schema: TypeAlias = Mapping[str, Any]

MOST_MERGES = 64


class SchemaError(ValueError):
    """No value can be made for the schema; the message says why."""


def resolve(root: Any, reference: str) -> Any:
    """The part of `root` that a local reference (`#/$defs/x`, `#`) names. Nothing is ever fetched."""
    if not reference.startswith("#"):
        raise SchemaError(f"the reference '{reference}' is not local to the schema")
    pointer = unquote(reference[1:])
    if pointer and not pointer.startswith("/"):
        for part in subschemas(root):
            if part.get("$anchor") == pointer or part.get("$id") == reference or part.get("id") == reference:
                return part
        raise SchemaError(f"the reference '{reference}' leads nowhere")
    found = root
    for name in pointer.split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise SchemaError(f"the reference '{reference}' leads nowhere")
    return found


def subschemas(node: Any) -> Sequence[Mapping[str, Any]]:
    """Every mapping in the schema, the outer ones first."""
    found: list[Mapping[str, Any]] = []
    left = [node]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            found.append(part)
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
    return found


def gather(schema: Any, root: Any) -> Schema | bool:
    """The schema without `allOf` and with references that have neighbours merged in; a lone `$ref` is left alone.

    A lone reference stays so that a recursive schema remains finite.
    """
    return _gather(schema, root, [0])


def _gather(schema: Any, root: Any, merges: list[int]) -> Schema | bool:
    merges[0] += 1
    if merges[0] > MOST_MERGES:
        raise SchemaError("it has too many nested references and allOf")
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise SchemaError(f"a schema is a mapping, not {type(schema).__name__}")
    parts = list(schema.get("allOf") or ())
    if "$ref" in schema and (parts or len(schema.keys() - IDLE) > 1):
        parts.append(resolve(root, schema["$ref"]))
    if not parts:
        return schema
    merged: Schema | bool = {key: value for key, value in schema.items() if key not in ("allOf", "$ref")}
    for part in parts:
        while isinstance(part, Mapping) and set(part.keys() - IDLE) == {"$ref"}:
            merges[0] += 1
            if merges[0] > MOST_MERGES:
                raise SchemaError("its references go in a circle")
            part = resolve(root, part["$ref"])  # noqa: PLW2901
        merged = both(merged, _gather(part, root, merges))
    return merged


IDLE = frozenset({"$schema", "$id", "$defs", "definitions", "title", "description", "default", "examples", "$comment"})
LARGER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"})
SMALLER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"})


def both(one: Schema | bool, other: Schema | bool) -> Schema | bool:
    """A schema whose values fit both, as far as that can be said in one; what cannot is found by validation."""
    if one is False or other is False:
        return False
    if one is True:
        return other
    if other is True:
        return one
    merged = dict(one)
    for key, value in other.items():
        merged[key] = together(key, merged[key], value) if key in merged and merged[key] != value else value
    return merged


def together(key: str, one: Any, other: Any) -> Any:
    if key in LARGER:
        return max(one, other)
    if key in SMALLER:
        return min(one, other)
    match key:
        case "type":
            return common_types(one, other)
        case "enum":
            return [value for value in one if value in other]
        case "required":
            return list(dict.fromkeys([*one, *other]))
        case "properties" | "patternProperties" | "$defs" | "definitions":
            return {
                name: {"allOf": [one[name], other[name]]} if name in one and name in other else part
                for name, part in {**one, **other}.items()
            }
        case "items" | "additionalProperties" | "propertyNames" | "contains":
            if one is False or other is False:
                return False
            return {"allOf": [one, other]}
        case "uniqueItems":
            return one or other
        case "anyOf" | "oneOf":
            return [{"allOf": [left, right]} for left in one for right in other]
        case "multipleOf":
            return math.lcm(one, other) if isinstance(one, int) and isinstance(other, int) else other
        case _:
            return one


def types_of(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def common_types(one: Any, other: Any) -> list[str]:
    left, right = types_of(one), types_of(other)
    found = [name for name in left if name in right]
    if "integer" in left + right and "integer" not in found and {"integer", "number"} <= {*left, *right}:
        found.append("integer")
    return found
