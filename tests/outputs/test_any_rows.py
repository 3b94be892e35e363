from __future__ import annotations

import csv
import datetime
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cli.outputs.sinks import sink

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
NATIVE = st.one_of(SCALARS, st.binary(max_size=4), st.dates(), st.datetimes(timezones=st.sampled_from([datetime.UTC])))
NAMES = st.text(max_size=3)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
    )


def rows(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.dictionaries(NAMES, nested(leaves), min_size=1, max_size=3), max_size=5)


def made(name: str, data: list[dict[str, Any]], folder: str) -> Path:
    one = sink(name, Path(folder))
    one.write(data)
    return one.close().path


@settings(max_examples=60, deadline=None)
@given(rows(SCALARS))
def test_jsonl_keeps_everything(data: list[dict[str, Any]]) -> None:
    """What JSON can say is read back as it was."""
    with tempfile.TemporaryDirectory() as folder:
        assert [orjson.loads(line) for line in made("a.jsonl", data, folder).read_bytes().splitlines()] == data


@settings(max_examples=60, deadline=None)
@given(rows(NATIVE))
def test_parquet_takes_everything(data: list[dict[str, Any]]) -> None:
    """Whatever the rows hold, Parquet has all of them and all columns, with null where a row has none."""
    with tempfile.TemporaryDirectory() as folder:
        read = pq.read_table(made("a.parquet", data, folder))
    names = list(dict.fromkeys(name for row in data for name in row))
    assert (read.num_rows, read.column_names) == (len(data), names)
    for name in names:
        assert [cell is None for cell in read.column(name).to_pylist()] == [row.get(name) is None for row in data]


@settings(max_examples=60, deadline=None)
@given(rows(NATIVE))
def test_csv_takes_everything(data: list[dict[str, Any]]) -> None:
    """Whatever the rows hold, each is one CSV record with a cell for every column."""
    with tempfile.TemporaryDirectory() as folder, made("a.csv", data, folder).open(newline="") as file:
        records = list(csv.reader(file))
    names = list(dict.fromkeys(name for row in data for name in row))
    assert records[:1] == ([names] if names else [])
    assert [len(record) for record in records[1:]] == [len(names)] * len(data)
