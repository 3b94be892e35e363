"""`type: group`: rows with equal keys become one row whose other columns are lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from synth_cli.core.identity import ID_BYTES
from synth_cli.core.row import Row
from synth_cli.core.values import decode, encode
from synth_cli.spec.model import OVERRIDE, Step
from synth_cli.steps.scratch import By, content_of, table

TABLES = """
CREATE TABLE groups (content BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE members (
    number INTEGER, place INTEGER, position INTEGER NOT NULL, id BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (number, place)
) WITHOUT ROWID;
"""
READ = "SELECT number, position, id, data FROM members ORDER BY number, place"


class Group:
    """Groups come in the order of their first rows, members in the order of theirs; only one group is in memory.

    The column `generation_params` is left out, unless the rows are grouped by it.
    """

    left_out = 0

    def __init__(self, step: Step) -> None:
        assert step.by is not None
        self._name, self._by = step.name, step.by

    def rows(self, rows: Iterator[Row], scratch: Path) -> Iterator[Row]:
        """A group's `index` is that of its first row, its id a hash of its members' ids."""
        by = By(self._name, self._by)
        with table(scratch, TABLES) as kept:
            for place, row in enumerate(rows):
                _keep(kept, content_of(by.of(row.values)), place, row)
            by.complete()
            for _, members in groupby(kept.execute(READ), key=itemgetter(0)):
                yield self._joined([Row(index, id, decode(data)) for _, index, id, data in members])

    def _joined(self, members: list[Row]) -> Row:
        digest = blake2b(self._name.encode() + b"\0", digest_size=ID_BYTES)
        for member in members:
            digest.update(member.id)
        first = members[0].values
        keys = (self._by,) if isinstance(self._by, str) else self._by
        values: dict[str, Any] = {name: first.get(name) for name in keys}
        # one row's own sampling parameters are not a group's
        others = dict.fromkeys(
            name for member in members for name in member.values if name not in values and name != OVERRIDE
        )
        values |= {name: [member.values.get(name) for member in members] for name in others}
        return Row(members[0].index, digest.digest(), values)


def _keep(kept: sqlite3.Connection, content: bytes, place: int, row: Row) -> None:
    # a group's number is the place of its first row
    kept.execute("INSERT OR IGNORE INTO groups VALUES (?, ?)", (content, place))
    kept.execute(
        "INSERT INTO members VALUES ((SELECT number FROM groups WHERE content = ?), ?, ?, ?, ?)",
        (content, place, row.index, row.id, encode(row.values)),
    )
