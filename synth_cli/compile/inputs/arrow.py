"""Arrow tables → rows: Parquet files, and what the `datasets` library hands out. The only import of pyarrow here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synth_cli.compile.inputs.files import File, unpacked
from synth_cli.core.plain import plain
from synth_cli.errors import SetupError, UsageError

BATCH = 256
HEAVY_BATCH = 32
"""Rows at once of a table with binary columns: images and files, which may weigh megabytes each."""


def parquet(file: File) -> Iterator[dict[str, Any]]:
    """A Parquet file's rows; bytes stay bytes, all else becomes what JSON knows."""
    with _parquet_file(file) as source:
        schema = source.schema_arrow
        size = HEAVY_BATCH if any(_holds_bytes(field.type) for field in schema) else BATCH
        try:
            yield from rows(source.iter_batches(batch_size=size, use_threads=False), file.path)
        except pa.ArrowException as error:
            raise UsageError(f"{file.path}: cannot be read: {error}", hint="write the file again") from None


def schema_names(file: File) -> tuple[str, ...]:
    with _parquet_file(file) as source:
        return tuple(source.schema_arrow.names)


def parquet_length(file: File) -> int:
    with _parquet_file(file) as source:
        return int(source.metadata.num_rows)


@contextmanager
def _parquet_file(file: File) -> Iterator[Any]:
    with unpacked(file) as stream:
        try:
            # without pre_buffer a column is read page by page: memory does not hold a whole row group
            source = pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
        except pa.ArrowException as error:
            hint = "was it written or copied completely?"
            raise UsageError(f"{file.path}: not a Parquet file: {error}", hint=hint) from None
        except ValueError as error:
            # a web server that cannot send parts of a file
            raise SetupError(f"{file.path}: cannot be read in place: {error}", hint="download it first") from None
        yield source


def rows(batches: Iterable[Any], path: str) -> Iterator[dict[str, Any]]:
    """The rows of record batches or tables that share a schema."""
    names: list[str] = []
    cleaners: list[Callable[[Any], Any] | None] = []
    schema: Any = None
    for batch in batches:
        if schema is None or batch.schema != schema:
            schema = batch.schema
            names = list(schema.names)
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise UsageError(f"{path}: more than one column is called {twice[0]!r}", hint="rename one of them")
            cleaners = [None if _is_plain(field.type) else plain for field in schema]
        columns = [column.to_pylist() for column in batch.columns]
        for position, cleaner in enumerate(cleaners):
            if cleaner is not None:
                columns[position] = [cleaner(value) for value in columns[position]]
        for cells in zip(*columns, strict=True):
            yield dict(zip(names, cells, strict=True))


def _is_plain(kind: Any) -> bool:
    """Whether every value of the type is already what JSON knows, or bytes."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        # the numbers of an embedding are too many to look at each of them
        return types.is_floating(kind.value_type) or _is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(kind.field(position).type) for position in range(kind.num_fields))
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
        or _is_binary(kind)
    )


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _holds_bytes(kind: Any) -> bool:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds_bytes(kind.value_type)
    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(position).type) for position in range(kind.num_fields))
    return _is_binary(kind)
