"""The rows of an `input`'s one source, as mappings, before anything is done to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from synth_cli.compile.inputs import tables
from synth_cli.compile.inputs.files import File, find, opened
from synth_cli.core.plain import plain
from synth_cli.spec.addresses import is_url
from synth_cli.spec.model import SOURCES, Dataset, Input


def named(source: Input | None) -> tuple[str, ...]:
    """The source keys that an input has; more than one is a mistake, none means one empty row."""
    return () if source is None else tuple(key for key in SOURCES if getattr(source, key) is not None)


def rows_of(source: Input | None, folder: Path) -> Iterator[dict[str, Any]]:
    """The source's rows in its own order; each mapping is the caller's to keep and to change."""
    if source is None or not named(source):
        yield {}
    elif source.path is not None:
        for file in find(source.path, folder):
            yield from _of_file(file)
    elif source.dataset is not None:
        from synth_cli.compile.inputs import dataset

        yield from dataset.records(dataset.of(source.dataset), folder)
    elif source.rows is not None:
        for row in source.rows:
            yield plain(row)
    elif source.count is not None:
        for index in range(source.count):
            yield {"index": index}
    elif source.matrix is not None:
        yield from _product(source.matrix)
    elif source.sql is not None:
        from synth_cli.compile.inputs import sql

        yield from sql.query(source.sql, folder)


def volatile(source: Input | None) -> bool:
    """Whether a second reading may give other rows: such a source is copied when a round starts."""
    if source is None:
        return False
    streaming = isinstance(source.dataset, Dataset) and source.dataset.streaming
    return source.sql is not None or streaming or (source.path is not None and is_url(source.path))


def _product(matrix: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    names = list(matrix)
    values = [[plain(value) for value in matrix[name]] for name in names]
    for cells in product(*values):
        yield dict(zip(names, cells, strict=True))


def _of_file(file: File) -> Iterator[dict[str, Any]]:
    match file.kind:
        case "csv" | "tsv":
            yield from tables.delimited(file)
        case "jsonl":
            yield from tables.lines(file)
        case "json":
            yield from tables.document(file)
        case "parquet":
            from synth_cli.compile.inputs import arrow

            yield from arrow.parquet(file)
        case _:
            yield whole_file(file)


def whole_file(file: File) -> dict[str, Any]:
    """A file that is no table: `path`, `name`, and `text` where its bytes are UTF-8 text."""
    row: dict[str, Any] = {"path": file.path, "name": file.name}
    with opened(file) as stream:
        head = stream.read(8192)
        if b"\0" in head:
            return row
        content = head + stream.read()
    try:
        row["text"] = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return row
    return row
