"""`type: python`: the user's own function from all rows to rows."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
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

    def rows(self, rows: Iterator[Row], scratch: Path) -> Iterator[Row]:
        """What the function yields, as it yields it.

        A row's `index` is its position, its id a hash of its content and of how many equal ones came before. Raises
        UsageError for whatever the function raises and for what is no row; what the rows before it raise goes through.
        """
        given = _Given(rows)
        with table(scratch, TABLES) as tally:
            for index, made in enumerate(self._yielded(given)):
                values = self._values(made, index)
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
        except Exception as error:
            # the user's function may raise anything
            if given.raised is not None:
                raise given.raised from None
            if isinstance(error, UsageError):
                raise
            hint = "correct the function and run again: answers that are there are not asked for again"
            raise UsageError(f"{self._key}: {self._reference} failed: {told(error)}", hint=hint) from error

    def _values(self, made: Any, index: int) -> dict[str, Any]:
        if not isinstance(made, Mapping):
            raise self._wrong(f"gave {_kind(made)} as row {index}, which is none")
        odd = [name for name in made if not isinstance(name, str)]
        if odd:
            raise self._wrong(f"gave a column named {odd[0]!r}, not a text, in row {index}", "name columns by texts")
        values = plain(made)
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
        self.raised: BaseException | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for row in self._rows:
                yield dict(row.values)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.raised = error
            raise


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
