"""What a JSON Schema says about the fields of an object, references within it followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_CHAIN = 16
"""References to references that are followed."""


def resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """The schema that a chain of local `$ref` leads to; itself where there is none."""
    for _ in range(LONGEST_CHAIN):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        target: Any = root
        for part in reference.lstrip("#/").split("/"):
            if part:
                key = part.replace("~1", "/").replace("~0", "~")
                target = target.get(key) if isinstance(target, Mapping) else None
        schema = target
    return schema


def fields_of(schema: Any, root: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The names of an object's properties in order, those of `allOf` too; none where it has no named fields."""
    if not isinstance(schema, Mapping):
        return ()
    root = schema if root is None else root
    schema = resolved(schema, root)
    if not isinstance(schema, Mapping):
        return ()
    names = dict.fromkeys(schema.get("properties") or ())
    for part in schema.get("allOf") or ():
        names |= dict.fromkeys(fields_of(part, root))
    return tuple(names)


def part_of(schema: Any, path: Iterable[str]) -> Any:
    """The schema of a member of a member…; None where the schema does not say."""
    if not isinstance(schema, Mapping):
        return None
    part: Any = resolved(schema, schema)
    for name in path:
        part = resolved((part.get("properties") or {}).get(name), schema) if isinstance(part, Mapping) else None
    return part


def item_of(schema: Any, path: Iterable[str]) -> Any:
    """The schema of the items of the list at `path`; None where the schema does not say."""
    part = part_of(schema, path)
    return resolved(part.get("items"), schema) if isinstance(part, Mapping) else None


def all_fields(schema: Any, root: Mapping[str, Any]) -> frozenset[str] | None:
    """The names of an object's fields, where there can be no others; else None."""
    schema = resolved(schema, root)
    if not isinstance(schema, Mapping) or schema.get("type") != "object" or schema.get("allOf"):
        return None
    return frozenset(schema.get("properties") or ()) if schema.get("additionalProperties") is False else None
