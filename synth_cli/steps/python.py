"""`type: python`: the user's own function from all rows to rows."""

from __future__ import annotations

import inspect
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from synth_cli.core.identity import ID_BYTES, row_id
from synth_cli.core.plain import plain
from synth_cli.core.row import Row
from synth_cli.errors import UsageError
from synth_cli.spec.functions import load_function, told
from synth_cli.spec.model import Step
from synth_cli.steps.scratch import content_of, table

Function: TypeAlias = Callable[[Iterator[dict[str, Any]]], Any]
TABLES = "CREATE TABLE tally (content BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;"
COUNT = "INSERT INTO tally VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times - 1"
HINT = "yield a dict for each row, or return a list of dicts"


class Python:
    """Loads the function at once; raises UsageError."""

    left_out = 0

    def __init__(self, step: Step, folder: Path) -> None:
        assert step.function is not None
        self._key = f"steps.{step.name}.function"
        self._name, self._reference = step.name, step.function
        self._function: Function = load_function(step.function, folder, self._key)
        self.digest = blake2b(step.function.encode() + b"\0" + _source(self._function), digest_size=16).digest()
        """Another one for another function, or for another text of its file."""

    def rows(self, rows: Iterator[Row], scratch: Path) -> Iterator[Row]:
        """What the function yields, as it yields it.

        A row's id is a hash of its content and of how many equal ones came before. Its `index` is always one of the
        given rows': the row's own, where the function yields the mapping that it was given last; otherwise that of the
        row at the same place, or of the last one where there are not so many. So no more rows fail than there are.

        Raises UsageError for whatever the function raises and for what is no row; what the rows before it raise goes
        through.
        """
        given = _Given(rows)
        with table(scratch, TABLES) as tally:
            for place, made in enumerate(self._yielded(given)):
                index = given.index(place, made)
                values = self._values(made, place)
                yield Row(index, self._id(tally, values), values)

    def _yielded(self, given: _Given) -> Iterator[Any]:
        try:
            made = self._function(iter(given))
            if not isinstance(made, Iterable) or isinstance(made, Mapping | str | bytes):
                if inspect.iscoroutine(made):
                    made.close()
                waits = inspect.iscoroutine(made) or hasattr(made, "__anext__")
                raise self._wrong("is async" if waits else f"gave {_kind(made)}, not rows")
            yield from made
        except (Exception, SystemExit) as error:
            # the user's function may raise anything
            if given.raised is not None:
                raise given.raised from None
            if isinstance(error, UsageError):
                raise
            hint = "correct the function and run again: answers that are there are not asked for again"
            raise UsageError(f"{self._key}: {self._reference} failed: {told(error)}", hint=hint) from error

    def _values(self, made: Any, place: int) -> dict[str, Any]:
        if not isinstance(made, Mapping):
            raise self._wrong(f"gave {_kind(made)} as row {place}, which is none")
        odd = [name for name in made if not isinstance(name, str)]
        if odd:
            raise self._wrong(f"gave a column named {odd[0]!r}, not a text, in row {place}", "name columns by texts")
        try:
            values = plain(made)
        except ValueError as error:
            # an integer of more digits than Python writes
            raise self._wrong(f"gave row {place}, which cannot be kept: {error}", "make it a text") from error
        assert isinstance(values, dict)
        return values

    def _wrong(self, what: str, hint: str = HINT) -> UsageError:
        return UsageError(f"{self._key}: {self._reference} {what}", hint=hint)

    def _id(self, tally: sqlite3.Connection, values: Mapping[str, Any]) -> bytes:
        # rows of other steps may have the same content
        content = blake2b(self._name.encode() + b"\0" + content_of(values), digest_size=ID_BYTES).digest()
        ((before,),) = tally.execute(COUNT, (content,)).fetchall()
        return row_id(content, before)


class _Given:
    """The rows as plain mappings that are the function's own, and what was raised while they were made."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._indexes = array("q")
        self._latest: dict[str, Any] | None = None
        self.raised: BaseException | None = None

    def index(self, place: int, made: Any) -> int:
        """The index of what the function made as its row of this place."""
        if not self._indexes:
            # it yields before it takes: everything is made of the first row, if of any
            first = next(self._rows, None)
            if first is None:
                return 0
            self._rows = chain((first,), self._rows)
            return first.index
        return self._indexes[-1 if made is self._latest else min(place, len(self._indexes) - 1)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for row in self._rows:
                self._indexes.append(row.index)
                self._latest = dict(row.values)
                yield self._latest
        except GeneratorExit:
            raise
        except BaseException as error:
            self.raised = error
            raise


def _source(function: Function) -> bytes:
    """The file that a function is in, as far as there is one."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        return b"" if file is None else Path(file).read_bytes()
    except (TypeError, OSError):
        # an object that is called, or something built in
        return b""


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
