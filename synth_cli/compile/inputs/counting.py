"""What can be said about an input without reading it all, and without the network: its columns and how many rows."""

from __future__ import annotations

from itertools import islice
from math import prod
from pathlib import Path

from synth_cli.compile.inputs import tables
from synth_cli.compile.inputs.files import File, find, opened
from synth_cli.compile.inputs.sources import named, whole_file
from synth_cli.spec.addresses import is_url
from synth_cli.spec.model import Input

LOOKED_AT = 100
"""Rows of a JSON file, and files of a glob, that are looked into for their columns."""
CHEAP = 64 << 20
"""Bytes of text tables that are read through only to count their rows."""


def known_columns(source: Input | None, *, folder: Path) -> frozenset[str] | None:
    """The columns of an input's rows, samplers included; None where only reading it (or a network) can tell.

    Raises UsageError for files that do not exist or begin malformed.
    """
    if source is None:
        return frozenset()
    own = _own_columns(source, folder)
    return None if own is None else own | frozenset(source.columns or ())


def _own_columns(source: Input, folder: Path) -> frozenset[str] | None:
    if source.path is not None:
        return None if is_url(source.path) else _columns_of_files(find(source.path, folder))
    if source.rows is not None:
        return frozenset(str(name) for row in source.rows for name in row) if source.rows else None
    if source.count is not None:
        return frozenset({"index"})
    if source.matrix is not None:
        return frozenset(source.matrix)
    return None if named(source) else frozenset()


def _columns_of_files(files: list[File]) -> frozenset[str] | None:
    names: set[str] = set()
    for file in files[:LOOKED_AT]:
        found = _columns_of_file(file)
        if found is None:
            return None
        names |= found
    return frozenset(names) if names and len(files) <= LOOKED_AT else None


def _columns_of_file(file: File) -> frozenset[str] | None:
    match file.kind:
        case "csv" | "tsv":
            return frozenset(tables.header(file))
        case "parquet":
            from synth_cli.compile.inputs import arrow

            return frozenset(arrow.schema_names(file))
        case "jsonl" | "json":
            rows = tables.lines(file) if file.kind == "jsonl" else tables.document(file)
            return _columns_of_rows([frozenset(row) for row in islice(rows, LOOKED_AT + 1)])
        case _:
            return frozenset(whole_file(file))


def _columns_of_rows(found: list[frozenset[str]]) -> frozenset[str] | None:
    """All names of a file that was read to its end; of a longer one only where its rows are all alike."""
    if len(found) <= LOOKED_AT:
        return frozenset().union(*found)
    return found[0] if len(set(found)) == 1 else None


def count_rows(source: Input | None, *, folder: Path) -> int | None:
    """How many rows `read` will give; None where that cannot be told cheaply."""
    if source is None:
        return 1
    if source.where is not None and source.where is not True:
        return None
    total = _count_source(source, folder)
    if total is None:
        return None
    left = max(0, total - source.skip)
    return left if source.take is None else min(left, source.take)


def _count_source(source: Input, folder: Path) -> int | None:
    if source.path is not None:
        return None if is_url(source.path) else _count_files(find(source.path, folder))
    if source.rows is not None:
        return len(source.rows)
    if source.count is not None:
        return source.count
    if source.matrix is not None:
        return prod(len(values) for values in source.matrix.values())
    return None if named(source) else 1


def _count_files(files: list[File]) -> int | None:
    text = sum(file.size() or 0 for file in files if file.kind in ("csv", "tsv", "jsonl"))
    # what is packed may be ten times as long, and a JSON document has to be parsed
    packed = any(file.packing for file in files)
    if text > CHEAP or packed or any(file.kind == "json" for file in files):
        return None
    return sum(_count_file(file) for file in files)


def _count_file(file: File) -> int:
    match file.kind:
        case "csv" | "tsv":
            return tables.records(file)
        case "parquet":
            from synth_cli.compile.inputs import arrow

            return arrow.parquet_length(file)
        case "jsonl":
            with opened(file) as stream:
                return sum(1 for line in stream if not line.isspace())
        case _:
            return 1
