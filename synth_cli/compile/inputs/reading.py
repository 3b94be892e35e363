"""An `input` → its rows: the source, then drawn columns, then where, shuffle, skip and take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from synth_cli.compile.inputs.order import shuffled
from synth_cli.compile.inputs.sources import named, rows_of
from synth_cli.core.identity import Contents, row_id
from synth_cli.core.row import Row
from synth_cli.errors import UsageError
from synth_cli.spec.model import Input
from synth_cli.steps.samplers import Columns
from synth_cli.template import Template, TemplateError, Templates, scope

FIRST_CHUNK, CHUNK = 16, 512
WEIGHT = 8 << 20
"""Bytes of rows held at once, images included; a chunk ends there however few rows it has."""

Tally = Callable[[Sequence[bytes]], Sequence[int]]
"""Hashes → how many equal ones came before each; called in input order, chunk by chunk."""


def read(source: Input | None, *, folder: Path, seed: int, templates: Templates, tally: Tally) -> Iterator[Row]:
    """The rows of an input, lazily.

    A row's `index` is its position in the source: `where`, `shuffle`, `skip` and `take` leave it as it is.
    Raises UsageError (or SetupError) that names the file and line, or the row, that cannot be read.
    """
    if source is None:
        return iter((Row(0, Contents().of({}), {}),))
    first = named(source)
    if len(first) > 1:
        raise UsageError(f"input has more than one source: {', '.join(first)}", hint="keep one of them")
    rows = rows_of(source, folder)
    if not source.shuffle and source.where is None and source.take is not None:
        rows = islice(rows, source.skip + source.take)
    found = _keyed(rows, source, Columns(source.columns or {}, templates, seed), tally)
    if source.where is not None:
        found = _where(found, templates.expression(source.where))
    stop = None if source.take is None else source.skip + source.take
    if source.shuffle:
        found = shuffled(found, seed, stop)
    return islice(found, source.skip, stop) if source.skip or stop is not None else found


def key_of(source: Input) -> tuple[str, ...] | None:
    """The columns that identify a row; None for its content."""
    key = source.key
    return (key,) if isinstance(key, str) else tuple(key) if key else None


def _keyed(rows: Iterator[dict[str, Any]], source: Input, columns: Columns, tally: Tally) -> Iterator[Row]:
    """Rows with their identity and drawn columns.

    Draws depend on the identity, so a key that names a drawn column takes over only after it was drawn.
    """
    key, drawn = key_of(source), source.columns or {}
    late = key is not None and any(name in drawn for name in key)
    counted = source.count is not None and key is None
    found = _identified(rows, None if late else key, None if counted else tally)
    if drawn:
        found = _drawn(found, columns)
    return _rekeyed(found, key, tally) if late and key is not None else found


def _identified(rows: Iterator[dict[str, Any]], key: tuple[str, ...] | None, tally: Tally | None) -> Iterator[Row]:
    contents = Contents(key)
    index, limit = 0, FIRST_CHUNK
    held: list[dict[str, Any]] = []
    hashes: list[bytes] = []
    for values in rows:
        try:
            hashes.append(contents.of(values))
        except KeyError as error:
            raise _no_key(error, index + len(held), values) from None
        held.append(values)
        if len(held) >= limit or contents.weight > WEIGHT:
            yield from _numbered(held, hashes, index, tally)
            index += len(held)
            held, hashes, contents.weight = [], [], 0
            # small at first, so that the first rows are there before many have been read
            limit = min(CHUNK, limit * 2)
    if held:
        yield from _numbered(held, hashes, index, tally)


def _numbered(held: list[dict[str, Any]], hashes: list[bytes], index: int, tally: Tally | None) -> Iterator[Row]:
    if tally is None:
        for offset, (values, content) in enumerate(zip(held, hashes, strict=True), index):
            yield Row(offset, content, values)
        return
    for offset, (values, content, before) in enumerate(zip(held, hashes, tally(hashes), strict=True), index):
        yield Row(offset, row_id(content, before) if before else content, values)


def _rekeyed(rows: Iterator[Row], key: tuple[str, ...], tally: Tally) -> Iterator[Row]:
    contents = Contents(key)
    while chunk := list(islice(rows, CHUNK)):
        hashes = []
        for row in chunk:
            try:
                hashes.append(contents.of(row.values))
            except KeyError as error:
                raise _no_key(error, row.index, row.values) from None
        for row, content, before in zip(chunk, hashes, tally(hashes), strict=True):
            yield Row(row.index, row_id(content, before), row.values)


def _no_key(error: KeyError, index: int, values: Any) -> UsageError:
    hint = f"it has: {', '.join(map(str, values)) or 'no columns'}"
    return UsageError(f"input.key: row {index} has no column {error.args[0]!r}", hint=hint)


def _drawn(rows: Iterator[Row], columns: Columns) -> Iterator[Row]:
    for row in rows:
        # the mapping is this reading's own, nobody has seen it yet
        columns.draw(row, row.values)  # type: ignore[arg-type]
        yield row


def _where(rows: Iterator[Row], condition: Template) -> Iterator[Row]:
    for row in rows:
        try:
            keep = condition.render(scope(row))
        except TemplateError as error:
            hint = "a column that only some rows have: row.get('name'), or: name is defined and …"
            raise UsageError(f"input.where: row {row.index}: {error}", hint=hint) from None
        if keep:
            yield row
