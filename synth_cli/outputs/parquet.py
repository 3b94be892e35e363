"""Parquet, through pyarrow, which is imported only when the file is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, assert_never

from synth_cli.errors import MissingExtra
from synth_cli.outputs.candidate import Candidate, Draft, complaint
from synth_cli.outputs.columns import Columns, Kind, ListOf, Scalar, Struct
from synth_cli.outputs.encode import Tagged, text
from synth_cli.outputs.spool import Spool

GROUP_BYTES = 16 << 20
GROUP_ROWS = 100_000
"""A row group is written when it has reached either."""

Convert: TypeAlias = Callable[[Any], Any]


class Parquet:
    """`tag` is any text that occurs in no row's keys."""

    def __init__(self, target: str, folder: Path, expected: Sequence[str] = (), *, tag: str) -> None:
        self._draft = Draft(target, folder)
        self._spool = Spool(target, self._draft.path.with_name(self._draft.path.name + ".spool"))
        self._expected = expected
        self._tagged = Tagged(tag)
        self._columns = Columns()
        self._rows = 0

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        lines = self._tagged.lines(rows)
        for line in lines:
            # the line is looked at rather than the row: the types are those of what is read back
            self._columns.look(self._tagged.row(line))
        self._spool.add(lines)
        self._rows += len(rows)

    def close(self) -> Candidate:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtra("pyarrow", f"writing {self._draft.target}", "pip install pyarrow") from error
        kinds = self._columns.kinds(self._expected)
        schema = pa.schema([(name, _arrow(kind)) for name, kind in kinds.items()])
        with (
            complaint(self._draft.target),
            pq.ParquetWriter(self._draft.file, schema, compression="zstd") as writer,
        ):
            for group in self._groups(schema, kinds):
                writer.write_table(group, row_group_size=GROUP_ROWS)
        candidate = self._draft.finish(self._rows)
        self._spool.remove()
        return candidate

    def discard(self) -> None:
        self._draft.discard()
        self._spool.remove()

    def _groups(self, schema: Any, kinds: Mapping[str, Kind]) -> Iterator[Any]:
        import pyarrow as pa

        columns = [(name, field.type, _convert(kinds[name])) for name, field in zip(kinds, schema, strict=True)]
        batches: list[Any] = []
        size = rows = 0
        for chunk in self._spool.chunks():
            read = [self._tagged.row(line) for line in chunk]
            batch = pa.record_batch([_array(read, *column) for column in columns], schema=schema)
            batches.append(batch)
            size += batch.nbytes
            rows += len(read)
            if size >= GROUP_BYTES or rows >= GROUP_ROWS:
                yield pa.Table.from_batches(batches, schema)
                batches, size, rows = [], 0, 0
        if batches:
            yield pa.Table.from_batches(batches, schema)


def _array(rows: list[dict[str, Any]], name: str, kind: Any, convert: Convert) -> Any:
    import pyarrow as pa

    cells = [row.get(name) for row in rows]
    return pa.array(cells if convert is _same else [convert(cell) for cell in cells], kind)


def _arrow(kind: Kind) -> Any:
    import pyarrow as pa

    if isinstance(kind, ListOf):
        return pa.list_(_arrow(kind.item))
    if isinstance(kind, Struct):
        return pa.struct([(name, _arrow(field)) for name, field in kind.fields])
    match kind.name:
        case "null" | "text" | "json":
            # a column without a value is text: not every reader knows Parquet's null type
            return pa.string()
        case "bool":
            return pa.bool_()
        case "int":
            return pa.int64()
        case "float":
            return pa.float64()
        case "bytes":
            return pa.binary()
        case "date":
            return pa.date32()
        case "local":
            return pa.timestamp("us")
        case "utc":
            return pa.timestamp("us", "UTC")
    assert_never(kind.name)


def _same(value: Any) -> Any:
    return value


def _convert(kind: Kind) -> Convert:
    """What turns a value into what Arrow takes for its column; `_same` where nothing has to be done."""
    if isinstance(kind, Scalar):
        if kind.name == "json":
            return lambda value: None if value is None else text(value)
        return (lambda value: None if value is None else float(value)) if kind.name == "float" else _same
    if isinstance(kind, ListOf):
        item = _convert(kind.item)
        return _same if item is _same else lambda value: None if value is None else [item(each) for each in value]
    fields = [(name, _convert(field)) for name, field in kind.fields]
    if all(convert is _same for _, convert in fields):
        return _same
    return lambda value: None if value is None else {name: convert(value.get(name)) for name, convert in fields}
