"""What a row is: a hash of its key or its content, and how many equal ones came before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

ID_BYTES = 16
SORTED = orjson.OPT_SORT_KEYS
LOOSE = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


class Contents:
    """Hashes rows. `weight` adds up the bytes hashed, so that a caller can bound what it holds at once."""

    __slots__ = ("_key", "weight")

    def __init__(self, key: Sequence[str] | None = None) -> None:
        self._key = None if key is None else tuple(key)
        self.weight = 0

    def of(self, values: Mapping[str, Any]) -> bytes:
        """16 bytes, equal exactly for rows of equal key columns (or equal content, in any column order).

        Raises KeyError for a key column that the row does not have.
        """
        key = self._key
        hashed: Any = values if key is None else [values[name] for name in key]
        try:
            data = orjson.dumps(hashed, default=self._bytes, option=SORTED)
        except TypeError:
            data = orjson.dumps(hashed, default=self._bytes, option=LOOSE)
        self.weight += len(data)
        return blake2b(data, digest_size=ID_BYTES).digest()

    def _bytes(self, value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            self.weight += len(value)
            return {"": blake2b(value, digest_size=ID_BYTES).hexdigest()}
        raise TypeError(f"a value of type {type(value).__name__} cannot be part of a row")


def row_id(content: bytes, occurrence: int = 0) -> bytes:
    """16 bytes: the content's own hash for its first occurrence, another for each later one."""
    if occurrence == 0:
        return content
    return blake2b(content + occurrence.to_bytes(8, "big"), digest_size=ID_BYTES).digest()
