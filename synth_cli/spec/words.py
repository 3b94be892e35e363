"""Types written as a word: `str`, `list[int]?`, `enum[easy, "very hard"]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from synth_cli.spec.hints import suggest

WORDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "str": {"type": "string"},
        "int": {"type": "integer"},
        "float": {"type": "number"},
        "bool": {"type": "boolean"},
        "any": {},
    }
)
_ELSEWHERE = {
    "string": "str",
    "text": "str",
    "integer": "int",
    "number": "float",
    "double": "float",
    "boolean": "bool",
    "list": "list[T]",
    "array": "list[T]",
    "dict": "{field: T}",
    "object": "{field: T}",
    "optional": "T?",
    "literal": "enum[a, b]",
    "null": "T?",
    "none": "T?",
    "date": "str",
    "datetime": "str",
}
_BRACKETED = re.compile(r"(?P<head>[A-Za-z_]*)\s*\[(?P<inner>.*)\]", re.DOTALL)
_ITEM = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^,\]\[]*?))\s*(?:,|$)""")


class WordError(ValueError):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse_word(text: str) -> dict[str, Any]:
    """The JSON Schema of a type written as one word.

    Raises:
        WordError: It is no type.
    """
    word = text.strip()
    if word.endswith("?"):
        return nullable(parse_word(word[:-1]))
    if word in WORDS:
        return dict(WORDS[word])
    if (found := _BRACKETED.fullmatch(word)) is not None:
        head, inner = found["head"], found["inner"]
        if head in {"list", ""}:
            return {"type": "array", "items": parse_word(inner)}
        if head == "enum":
            return {"type": "string", "enum": _values(inner)}
        right = _ELSEWHERE.get(head.lower()) or suggest(head, ("list", "enum"))
        raise WordError(f"'{_cut(word)}' is not a type", f"write {right}" if right else "write list[T] or enum[a, b]")
    right = _ELSEWHERE.get(word.lower()) or (suggest(word, WORDS) if len(word) < 12 else None)
    known = "a type is one of str, int, float, bool, any, [T], list[T], enum[a, b], T?, {field: T}"
    raise WordError(f"'{_cut(word)}' is not a type", f"write {right}" if right else known)


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, or null."""
    kind = schema.get("type")
    if kind is None or isinstance(kind, list):
        return schema
    if kind in {"array", "object"}:
        return {"anyOf": [schema, {"type": "null"}]}
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [kind, "null"], **values}


def _values(inner: str) -> list[str]:
    values: list[str] = []
    position = 0
    while position < len(inner):
        found = _ITEM.match(inner, position)
        if found is None:
            raise WordError(f"'enum[{_cut(inner)}]' cannot be read", "put a value with , or [ ] in quotes")
        position = found.end()
        values.append(next(each for each in (found["double"], found["single"], found["bare"]) if each is not None))
    if not values or "" in values:
        raise WordError("an enum needs values", "write enum[a, b]")
    if len(set(values)) != len(values):
        raise WordError("an enum has each value once")
    return values


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}…"
