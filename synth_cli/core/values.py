"""A row's values ↔ bytes, so that what comes back is what went in: also bytes, dates, decimals, NaN, images.

JSON where JSON says it all, which is nearly always; otherwise JSON in which other values stand as `{TAG: [kind,
content]}`, marked by its first byte. No pickle: a state folder may come from somebody else.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from typing import Any
from uuid import UUID

import orjson

from synth_cli.errors import UsageError

TAG = "\x00"
TAGGED = b"~"
STRICT = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
PLAIN = frozenset({str, int, bool, type(None)})
"""Types of which orjson keeps every value it accepts."""
SURROGATE = re.compile("[\\ud800-\\udfff]")
SCALARS: tuple[tuple[str, tuple[type, ...], Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    # (kind, types, written, read); a datetime is also a date
    ("bytes", (bytes, bytearray, memoryview), lambda value: b64encode(value).decode(), b64decode),
    ("datetime", (datetime,), datetime.isoformat, datetime.fromisoformat),
    ("date", (date,), date.isoformat, date.fromisoformat),
    ("time", (time,), time.isoformat, time.fromisoformat),
    ("timedelta", (timedelta,), lambda value: [value.days, value.seconds, value.microseconds], lambda c: timedelta(*c)),
    ("decimal", (Decimal,), str, Decimal),
    ("uuid", (UUID,), lambda value: value.hex, UUID),
    ("complex", (complex,), str, complex),
)
EXACT_SCALARS: Mapping[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    # what JSON cannot say of its own types
    float: ("float", repr, float),
    int: ("int", str, int),
    str: (
        "text",
        lambda value: b64encode(value.encode("utf-8", "surrogatepass")).decode(),
        lambda content: b64decode(content).decode("utf-8", "surrogatepass"),
    ),
}
READERS: Mapping[str, Callable[[Any], Any]] = {
    **{kind: read for kind, _, _, read in SCALARS},
    **{kind: read for kind, _, read in EXACT_SCALARS.values()},
}
BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)
COLLECTIONS: tuple[tuple[str, tuple[type, ...], Callable[[Any], Any]], ...] = (
    ("tuple", (tuple,), tuple),
    ("set", (set, frozenset), set),
)


def encode(values: Mapping[str, Any]) -> bytes:
    """Never contains a line break. Raises UsageError for a value that is of no kind known here."""
    try:
        data = orjson.dumps(values, option=STRICT)
    except TypeError:
        return TAGGED + orjson.dumps(_tagged(values, ""))
    # orjson writes some values as others (NaN as null, a UUID as text, a tuple as a list): comparing finds them
    if PLAIN.issuperset(map(type, values.values())) or orjson.loads(data) == values:
        return data
    return TAGGED + orjson.dumps(_tagged(values, ""))


def decode(data: bytes) -> dict[str, Any]:
    """Raises ValueError for bytes that `encode` did not write."""
    if data[:1] == TAGGED:
        values = _restored(orjson.loads(data[1:]))
        assert isinstance(values, dict)
        return values
    values = orjson.loads(data)
    assert isinstance(values, dict)
    return values


def _tagged(value: Any, column: str) -> Any:
    kind = type(value)
    if kind in PLAIN or kind is float:
        if _said_by_json(value):
            return value
        name, write, _ = EXACT_SCALARS[kind]
        return {TAG: [name, write(value)]}
    if isinstance(value, Mapping):
        return _tagged_mapping(value, column)
    if isinstance(value, list):
        return [_tagged(item, column) for item in value]
    for name, types, write, _ in SCALARS:
        if isinstance(value, types):
            return {TAG: [name, write(value)]}
    for name, types, _ in COLLECTIONS:
        if isinstance(value, types):
            assert isinstance(value, Iterable)
            return {TAG: [name, [_tagged(item, column) for item in value]]}
    # members of an enum and other subclasses are kept as the values they are
    if isinstance(value, Enum):
        return _tagged(value.value, column)
    for base, exact in BASES:
        if isinstance(value, base):
            return _tagged(exact(value), column)
    return _tagged_foreign(value, column)


def _said_by_json(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is not str or value.isascii() or not SURROGATE.search(value)


def _tagged_mapping(value: Mapping[Any, Any], column: str) -> Any:
    if TAG not in value and all(type(key) is str for key in value):
        return {key: _tagged(item, column or key) for key, item in value.items()}
    return {TAG: ["mapping", [[_tagged(key, column), _tagged(item, column)] for key, item in value.items()]]}


def _tagged_foreign(value: Any, column: str) -> Any:
    """Images of PIL and scalars of numpy, told by their shape so that neither is imported."""
    if hasattr(value, "mode") and hasattr(value, "tobytes") and hasattr(value, "getpalette"):
        info = {key: item for key, item in value.info.items() if isinstance(item, bytes | str | int | float | tuple)}
        palette = value.getpalette("RGB") if value.mode in {"P", "PA"} else None
        pixels = b64encode(value.tobytes()).decode()
        return {TAG: ["image", [value.mode, list(value.size), pixels, palette, value.format, _tagged(info, column)]]}
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _tagged(value.item(), column)
    if hasattr(value, "tolist"):
        return _tagged(value.tolist(), column)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise UsageError(
        f"the input column '{column}' holds a value of type {kind}, which cannot be kept",
        hint="turn it into text, a number, a list or a mapping where the input is made",
    )


def _restored(node: Any) -> Any:
    if isinstance(node, list):
        return [_restored(item) for item in node]
    if not isinstance(node, dict):
        return node
    if TAG in node:
        return _untagged(*node[TAG])
    return {key: _restored(item) for key, item in node.items()}


def _untagged(kind: str, content: Any) -> Any:
    if kind == "mapping":
        return {_restored(key): _restored(item) for key, item in content}
    if kind == "image":
        return _image(content)
    for name, _, read in COLLECTIONS:
        if name == kind:
            return read(_restored(content))
    if kind in READERS:
        return READERS[kind](content)
    raise ValueError(f"unknown kind of value {kind!r}")


def _image(content: Sequence[Any]) -> Any:
    # a value of this kind can only have come from it
    image_module = import_module("PIL.Image")

    mode, size, pixels, palette, form, info = content
    image = image_module.frombytes(mode, tuple(size), b64decode(pixels))
    if palette is not None:
        image.putpalette(palette, "RGB")
    image.format = form
    image.info = _restored(info)
    return image
