"""A row as a line of JSON: whatever Python value a spec, a source or a `parse` function put into it."""

from __future__ import annotations

import datetime
import io
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any, TypeAlias

import orjson

from synth_cli.errors import UsageError

Default: TypeAlias = Callable[[Any], Any]
INT64 = range(-(2**63), 2**64)
"""The integers that orjson writes itself."""


def lines(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Each row as one line, the newline included. Bytes are base64, NaN and infinity null, dates ISO 8601."""
    return _lines(rows, plain, orjson.OPT_APPEND_NEWLINE)


class Tagged:
    """Lines that remember bytes, dates and times, which JSON cannot tell from text, and integers beyond 64 bits.

    The tag is any text that occurs in no row's keys.
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._mark = orjson.dumps(tag)

    def lines(self, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
        return _lines(rows, self._plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME)

    def row(self, line: bytes) -> dict[str, Any]:
        """The row that was written as this line."""
        row: dict[str, Any] = orjson.loads(line)
        return self._untag(row) if self._mark in line else row

    def _plain(self, value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return {self._tag: ["bytes", b64encode(value).decode()]}
        if isinstance(value, datetime.datetime):
            return {self._tag: ["datetime", value.isoformat()]}
        if isinstance(value, datetime.date):
            return {self._tag: ["date", value.isoformat()]}
        if isinstance(value, int):
            return {self._tag: ["int", str(value)]}
        return plain(value)

    def _untag(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._untag(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and self._tag in value:
            kind, text = value[self._tag]
            if kind == "bytes":
                return b64decode(text)
            if kind == "int":
                return int(text)
            return datetime.datetime.fromisoformat(text) if kind == "datetime" else datetime.date.fromisoformat(text)
        return {name: self._untag(item) for name, item in value.items()}


def text(value: Any) -> str:
    """A value as JSON text, for a cell that has no other way to hold it."""
    return readable(value, plain).decode()


def readable(value: Any, default: Default, option: int = 0) -> bytes:
    """A value as JSON, also where it holds what orjson refuses. `default` is for what JSON does not know."""
    try:
        return orjson.dumps(value, default, option)
    except orjson.JSONEncodeError:
        careful = _careful(value, lambda rare: plain(rare) if isinstance(rare, int) else default(rare))
        return orjson.dumps(careful, default, option)


def plain(value: Any) -> Any:
    """One level closer to JSON. Raises TypeError for what has no meaning there."""
    match value:
        case bytes() | bytearray() | memoryview():
            return b64encode(value).decode()
        case Mapping():
            return dict(value)
        case int():
            return orjson.Fragment(str(value))
        case Decimal():
            # keeps every digit, which a float would not
            return orjson.Fragment(str(value)) if value.is_finite() else None
        case set() | frozenset():
            return sorted(value, key=repr)
        case PurePath():
            return str(value)
        case datetime.time() | datetime.date():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
    kind = type(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, known by shape so that numpy is never imported
        return value.tolist()
    if kind.__module__.partition(".")[0] == "PIL":
        image = io.BytesIO()
        value.save(image, format="PNG")
        return image.getvalue()
    raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__}")


def key(name: Any) -> str:
    """A column's name or a mapping's key as JSON has it."""
    if isinstance(name, str):
        return _whole(name)
    if name is None or isinstance(name, bool):
        return orjson.dumps(name).decode()
    return str(name)


def _lines(rows: Sequence[Mapping[str, Any]], default: Default, option: int) -> list[bytes]:
    dumps = orjson.dumps
    try:
        return [dumps(row, default, option) for row in rows]
    except orjson.JSONEncodeError:
        try:
            return [dumps(_careful_row(row, default), default, option) for row in rows]
        except orjson.JSONEncodeError as error:
            raise UsageError(f"a row cannot be written: {error}") from error


def _careful_row(row: Mapping[str, Any], default: Default) -> dict[str, Any]:
    careful: dict[str, Any] = {}
    for name, value in row.items():
        try:
            careful[key(name)] = _careful(value, default)
        except TypeError as error:
            raise UsageError(
                f"column '{name}': {error} cannot be written",
                hint="make it text, a number, a list or a mapping (in `columns` or `parse`)",
            ) from error
        except RecursionError as error:
            raise UsageError(f"column '{name}': nested too deeply to be written") from error
    return careful


def _careful(value: Any, default: Default) -> Any:
    """What orjson refuses made acceptable: keys that are not text, half surrogates, integers beyond 64 bits."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _whole(value)
    if kind is dict:
        return {key(name): _careful(item, default) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [_careful(item, default) for item in value]
    if kind is int and value not in INT64:
        return default(value)
    try:
        orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except orjson.JSONEncodeError:
        return _careful(default(value), default)
    return value


def _whole(value: str) -> str:
    """Half of a surrogate pair is no character: halves that belong together are joined, others replaced."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
