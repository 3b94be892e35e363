"""Where a step that needs all rows keeps them: SQLite without any care for crashes, gone when the pass ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth_cli.core.identity import Contents
from synth_cli.core.plain import plain
from synth_cli.errors import SetupError, UsageError
from synth_cli.spec.formats import METADATA

CACHE_KIB = 8192


@contextmanager
def table(folder: Path, tables: str) -> Iterator[sqlite3.Connection]:
    """A database with these tables, whose memory is bounded. What SQLite says of the disk ends the run: SetupError."""
    path = folder / "rows.sqlite"
    # a pass may be advanced by one thread after another, never by two at once
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; "
            f"PRAGMA cache_size = -{CACHE_KIB}; {tables}"
        )
        connection.execute("BEGIN")
        yield connection
    except sqlite3.Error as error:
        hint = "check the disk's free space and the folder's permissions, then run again"
        raise SetupError(f"{path}: {error}", hint=hint) from error
    finally:
        if connection is not None:
            connection.close()
        path.unlink(missing_ok=True)


def content_of(values: Mapping[str, Any]) -> bytes:
    """16 bytes, equal exactly for values that are equal as JSON."""
    try:
        return Contents().of(values)
    except TypeError:
        # what only Python knows is compared as it will be written
        return Contents().of(plain(values))


class By:
    """The columns that tell rows apart, or all. A row that lacks one of them has null there."""

    def __init__(self, step: str, by: str | Sequence[str] | None) -> None:
        self._step = step
        self.names = None if by is None else (by,) if isinstance(by, str) else tuple(by)
        self._unseen = set(self.names or ())
        self._seen: dict[str, None] = {}

    def of(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values that count, in the order of `by`."""
        if self.names is None:
            # each answer's own story is not what a row is about
            return values if METADATA not in values else {key: values[key] for key in values if key != METADATA}
        if self._unseen:
            self._unseen.difference_update(values)
            self._seen.update(dict.fromkeys(values))
        return {name: values.get(name) for name in self.names}

    def complete(self) -> None:
        """Once all rows went by: raises UsageError for a column that none of them has, as that is a slip."""
        if self._unseen and self._seen:
            missing = " and ".join(f"'{name}'" for name in sorted(self._unseen))
            hint = f"there are: {', '.join(sorted(self._seen))}"
            raise UsageError(f"steps.{self._step}.by: no row has the column {missing}", hint=hint)
