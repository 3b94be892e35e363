"""Values of databases, Parquet and YAML → what JSON knows. Bytes stay bytes: images and files are made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

SMALLEST, LARGEST = -(2**63), 2**64 - 1
SURROGATES = dict.fromkeys(range(55296, 57344), 65533)


def plain(value: Any) -> Any:
    """The value as JSON has it: dates as ISO text, decimals as numbers, NaN and infinities as null.

    Numbers beyond 64 bits become floats and halves of characters (lone surrogates) U+FFFD, as neither can be written.
    """
    kind = type(value)
    if value is None or kind is bool or kind is bytes:
        return value
    if kind is str:
        return value if value.isascii() else mended(value)
    if kind is int:
        return whole(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key if type(key) is str else _key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _foreign(value)


def whole(value: int) -> int | float | str:
    """An integer that fits into 64 bits as it is, a larger one as the nearest float (or its digits beyond those)."""
    if SMALLEST <= value <= LARGEST:
        return value
    try:
        return float(value)
    except OverflowError:
        return str(value)


def mended(text: str) -> str:
    """The text without lone surrogates, which no file could hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.translate(SURROGATES)
    return text


def _key(key: Any) -> str:
    text = plain(key)
    if text is None or isinstance(text, bool):
        return {None: "null", True: "true", False: "false"}[text]
    return text if isinstance(text, str) else str(text)


def _foreign(value: Any) -> Any:
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return mended(str(value))
    if isinstance(value, int):
        return whole(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if hasattr(value, "tolist"):
        # numpy's arrays and scalars, without importing numpy to know them
        return plain(value.tolist())
    return str(value)


def _decimal(value: Decimal) -> Any:
    if not value.is_finite():
        return None
    return whole(int(value)) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
