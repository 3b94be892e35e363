"""The type of each column, inferred over all rows. Pure.

int and float give float; anything else that does not agree becomes JSON text, at the deepest level where it
disagrees. A key that some mappings lack is null there, a column that some rows lack likewise.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

MANY_FIELDS = 256
"""Mappings that have more different keys between them are data, not structure: they become JSON text."""

ScalarName: TypeAlias = Literal["null", "bool", "int", "float", "text", "bytes", "date", "local", "utc", "json"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """`local` is a time without a zone, `utc` one with; `null` a column that never had a value."""

    name: ScalarName


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Kind


@dataclass(frozen=True, slots=True)
class Struct:
    fields: tuple[tuple[str, Kind], ...]


Kind: TypeAlias = Scalar | ListOf | Struct

JSON = Scalar("json")
_INT, _FLOAT, _BIG = 2, 4, 8
_ALONE: Mapping[int, ScalarName] = {
    0: "null",
    1: "bool",
    _INT: "int",
    _FLOAT: "float",
    _INT | _FLOAT: "float",
    16: "text",
    32: "bytes",
    64: "date",
    128: "local",
    256: "utc",
}
"""The sets of kinds of value that have one type between them. `_BIG` is in none: beyond 64 bits only text is exact."""
_BITS: Mapping[type, int] = {type(None): 0, bool: 1, float: _FLOAT, str: 16, bytes: 32, datetime.date: 64}


class _Seen:
    """What one place of the rows has held so far."""

    __slots__ = ("bits", "fields", "item", "loose")

    def __init__(self) -> None:
        self.bits = 0
        self.item: _Seen | None = None
        self.fields: dict[str, _Seen] | None = None
        self.loose = False

    def look(self, value: Any) -> None:
        kind = type(value)
        bit = _BITS.get(kind)
        if bit is not None:
            self.bits |= bit
        elif kind is int:
            self.bits |= _INT if -(2**63) <= value < 2**63 else _BIG
        elif kind is dict:
            self._look_inside(value)
        elif kind is list:
            if self.item is None:
                self.item = _Seen()
            for item in value:
                self.item.look(item)
        else:
            assert kind is datetime.datetime, kind
            self.bits |= 128 if value.tzinfo is None else 256

    def _look_inside(self, value: dict[str, Any]) -> None:
        fields = self.fields
        if fields is None:
            fields = self.fields = {}
        if self.loose:
            return
        for name, item in value.items():
            field = fields.get(name)
            if field is None:
                field = fields[name] = _Seen()
            field.look(item)
        if len(fields) > MANY_FIELDS:
            self.loose = True
            fields.clear()

    def kind(self) -> Kind:
        if self.fields is not None:
            if self.bits or self.item is not None or not self.fields:
                return JSON
            return Struct(tuple((name, seen.kind()) for name, seen in self.fields.items()))
        if self.item is not None:
            return JSON if self.bits else ListOf(self.item.kind())
        name = _ALONE.get(self.bits)
        return JSON if name is None else Scalar(name)


class Columns:
    """Looks at rows of JSON values, bytes, dates and times; `kinds` in the order in which columns first appeared."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def look(self, row: Mapping[str, Any]) -> None:
        columns = self._seen
        for name, value in row.items():
            seen = columns.get(name)
            if seen is None:
                seen = columns[name] = _Seen()
            seen.look(value)

    def kinds(self, expected: Iterable[str] = ()) -> dict[str, Kind]:
        """Columns that were expected and never seen come last, of kind `null`."""
        kinds = {name: seen.kind() for name, seen in self._seen.items()}
        for name in expected:
            kinds.setdefault(name, Scalar("null"))
        return kinds
