"""One run's scratch: its rows and the requests they became, in input order, on disk so that memory stays flat.

Everything in it can be made again from the spec and the input, so nothing is synced and the file goes with the run.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from synth_cli.core.reply import Fault
from synth_cli.core.request import ID_BYTES
from synth_cli.core.row import Row
from synth_cli.core.values import decode, encode
from synth_cli.stores.facts import FAULT_KINDS
from synth_cli.stores.schema import explained

STEP_BITS = 40
"""A row's key is its step's number and its position within the step: one B-tree in input order, filled at its end."""
CHUNK = 500
CACHE_KIB = 4096
TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE rows (key INTEGER PRIMARY KEY, place INTEGER NOT NULL, id BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE bound (key INTEGER PRIMARY KEY, ids BLOB NOT NULL);
CREATE TABLE failed (key INTEGER PRIMARY KEY, fault BLOB NOT NULL);
CREATE TABLE known (key BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tally (content INTEGER PRIMARY KEY, times INTEGER NOT NULL, chunk INTEGER NOT NULL);
"""
READ = (
    "SELECT rows.key, place, rows.id, data, ids, fault FROM rows LEFT JOIN bound USING (key) LEFT JOIN failed USING "
    "(key) WHERE rows.key >= ? AND rows.key < ? ORDER BY rows.key LIMIT ?"
)


class Worksheet:
    """Positions count a step's rows from 0 in the order they were added: unlike a row's `index` they are unique."""

    def __init__(self, path: Path) -> None:
        """Makes the file anew. Raises SetupError where that cannot be done."""
        self.path = path
        path.unlink(missing_ok=True)
        with explained(path):
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._connection.executescript(TABLES)
        self._steps: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._chunks = 0

    def tally(self, contents: Sequence[bytes], space: str = "input") -> list[int]:
        """How many equal contents of this space came before each of these, in this call or earlier ones.

        Contents are hashes of at least 8 bytes, of which 8 are kept: should two of a million share them (odds of one
        in 10^7), the second one is only numbered as if it had an equal, and is no less unique for that.
        """
        salt = int.from_bytes(blake2b(space.encode(), digest_size=8).digest(), "big", signed=True)
        found = array("q", b"".join([content[:8] for content in contents]))
        keys = array("q", [key ^ salt for key in found])
        ordinals: list[int] = []
        times: dict[int, int] = {}
        for key in keys:
            seen = times.get(key, 0)
            ordinals.append(seen)
            times[key] = seen + 1
        self._chunks += 1
        with explained(self.path):
            self._connection.execute("BEGIN")
            added = self._connection.executemany(
                f"INSERT OR IGNORE INTO tally VALUES (?, ?, {self._chunks})", times.items()
            ).rowcount
            # the usual case, nothing seen before, needs no look-up
            earlier = self._earlier(times) if added < len(times) else {}
            self._connection.execute("COMMIT")
        if earlier:
            return [seen + earlier.get(key, 0) for seen, key in zip(ordinals, keys, strict=True)]
        return ordinals

    def _earlier(self, times: Mapping[int, int]) -> dict[int, int]:
        """How often each of these came in earlier chunks; adds what came in this one."""
        earlier: dict[int, int] = {}
        keys = list(times)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            marks = ", ".join("?" * len(chunk))
            query = f"SELECT content, times FROM tally WHERE content IN ({marks}) AND chunk < {self._chunks}"
            earlier.update(self._connection.execute(query, chunk))
        self._connection.executemany(
            "UPDATE tally SET times = times + ? WHERE content = ?", [(times[key], key) for key in earlier]
        )
        return earlier

    def add(self, rows: Sequence[Row], step: str = "main") -> range:
        """Keeps rows and returns their positions."""
        first = self._counts[step]
        self._counts[step] += len(rows)
        base = self._base(step) + first
        self._insert(
            "INSERT INTO rows VALUES (?, ?, ?, ?)",
            [(base + offset, row.index, row.id, encode(row.values)) for offset, row in enumerate(rows)],
        )
        return range(first, first + len(rows))

    def bind(self, requests: Sequence[tuple[int, Sequence[bytes]]], step: str = "main") -> None:
        """(position, the ids of its requests by sample): once for a row."""
        base = self._base(step)
        self._insert("INSERT INTO bound VALUES (?, ?)", [(base + at, b"".join(ids)) for at, ids in requests])

    def fail(self, faults: Sequence[tuple[int, Fault]], step: str = "main") -> None:
        """(position, why the row became no request)."""
        base = self._base(step)
        self._insert(
            "INSERT OR REPLACE INTO failed VALUES (?, ?)",
            [
                (base + at, orjson.dumps((fault.kind, fault.message, fault.status, fault.retry_after)))
                for at, fault in faults
            ],
        )

    def count(self, step: str = "main") -> int:
        """How many rows a step has."""
        return self._counts[step]

    def rows(
        self, step: str = "main", *, start: int = 0, chunk: int = CHUNK
    ) -> Iterator[tuple[Row, list[bytes], Fault | None]]:
        """Rows in the order they were added, from a position on, with their request ids by sample and their fault.

        Rows may be added and bound meanwhile: they are seen when they are reached.
        """
        base = self._base(step)
        key, end = base + start, base + (1 << STEP_BITS)
        while True:
            with explained(self.path):
                found = self._connection.execute(READ, (key, end, chunk)).fetchall()
            for _, place, id, data, ids, fault in found:
                yield Row(place, id, decode(data)), _split(ids), None if fault is None else _fault(fault)
            if len(found) < chunk:
                return
            key = found[-1][0] + 1

    def remember(self, key: bytes, data: bytes) -> None:
        """Keeps something made, for whoever would make it again in this run."""
        self._insert("INSERT OR REPLACE INTO known VALUES (?, ?)", [(key, data)])

    def recalled(self, key: bytes) -> bytes | None:
        """What was kept under a key, if anything was."""
        with explained(self.path):
            found = self._connection.execute("SELECT data FROM known WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def clear(self) -> None:
        """Empties it, for another pass over the input. What is remembered stays."""
        with explained(self.path):
            for table in ("rows", "bound", "failed", "tally"):
                self._connection.execute(f"DELETE FROM {table}")
        self._steps.clear()
        self._counts.clear()
        self._chunks = 0

    def close(self) -> None:
        """Deletes the file."""
        self._connection.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _base(self, step: str) -> int:
        return self._steps.setdefault(step, len(self._steps)) << STEP_BITS

    def _insert(self, statement: str, values: Sequence[tuple[object, ...]]) -> None:
        with explained(self.path):
            self._connection.execute("BEGIN")
            self._connection.executemany(statement, values)
            self._connection.execute("COMMIT")


def _split(ids: bytes | None) -> list[bytes]:
    if ids is None:
        return []
    if len(ids) == ID_BYTES:
        return [ids]
    return [ids[start : start + ID_BYTES] for start in range(0, len(ids), ID_BYTES)]


def _fault(data: bytes) -> Fault:
    kind, message, status, retry_after = orjson.loads(data)
    return Fault(FAULT_KINDS[kind], message, status, retry_after)
