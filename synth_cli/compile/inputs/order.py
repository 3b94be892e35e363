"""Rows in an order drawn from the seed. Each row's place depends on itself alone, and memory stays flat."""

from __future__ import annotations

import heapq
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import blake2b
from itertools import islice

from synth_cli.core.row import Row

CHUNK = 256
HEAP = 1000
"""So many rows are held at once where only the first few of the new order are wanted."""


def placing(seed: int) -> Callable[[Row], bytes]:
    """Where a row of the input stands in the new order: hash(seed, 'shuffle', row id)."""
    base = blake2b(f"{seed}\0shuffle\0".encode(), digest_size=16)

    def place(row: Row) -> bytes:
        digest = base.copy()
        digest.update(row.id)
        return digest.digest()

    return place


def shuffled(rows: Iterator[Row], seed: int, wanted: int | None = None) -> Iterator[Row]:
    """All rows (or the first `wanted`) by their places. The first one comes once all were read."""
    place = placing(seed)
    if wanted is not None and wanted <= HEAP:
        return iter(heapq.nsmallest(wanted, rows, key=place))
    return _spooled((place(row), row) for row in rows)


def _spooled(placed: Iterator[tuple[bytes, Row]]) -> Iterator[Row]:
    """Sorted by SQLite in a temporary file of its own, which is gone with the connection."""
    with closing(sqlite3.connect("", isolation_level=None)) as spool:
        spool.execute("PRAGMA journal_mode = OFF")
        spool.execute("PRAGMA synchronous = OFF")
        spool.execute("PRAGMA cache_size = -4096")
        spool.execute("CREATE TABLE spool (place BLOB, number INTEGER, id BLOB, data BLOB)")
        spool.execute("BEGIN")
        while chunk := list(islice(placed, CHUNK)):
            spool.executemany(
                "INSERT INTO spool VALUES (?, ?, ?, ?)",
                [(place, row.index, row.id, pickle.dumps(row.values, protocol=5)) for place, row in chunk],
            )
        spool.execute("COMMIT")
        for number, identity, data in spool.execute("SELECT number, id, data FROM spool ORDER BY place"):
            # our own file, written a moment ago and never named: nobody else can have put anything there
            yield Row(number, identity, pickle.loads(data))
