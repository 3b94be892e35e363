"""Every kind of input, from the spec to what is asked."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from command_line import failures, rows, synth, write

THREE = [{"word": "one", "n": 1}, {"word": "two", "n": 2}, {"word": "three", "n": 3}]
AS_TEXT = [{"word": row["word"], "n": str(row["n"])} for row in THREE]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in THREE)


def ran(folder: Path, source: Any, **more: Any) -> list[dict[str, Any]]:
    """The rows that a job over this input gives, without the answers."""
    made = {"model": "simulator", "prompt": "Row {{ index }} {{ row | length }}.", "output": {"path": "out.jsonl"}}
    called = synth("run", write(folder, {**made, "input": source, **more}))
    assert called.code == 0, called.err
    found = rows(folder / "out.jsonl")
    assert all(row.pop("response") for row in found)
    return found


def files(folder: Path) -> None:
    (folder / "a.csv").write_text("word,n\none,1\ntwo,2\nthree,3\n")
    (folder / "a.tsv").write_text("word\tn\none\t1\ntwo\t2\nthree\t3\n")
    (folder / "a.json").write_bytes(orjson.dumps(THREE))
    (folder / "a.jsonl").write_bytes(LINES)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (folder / "a.jsonl.zst").write_bytes(zstandard.compress(LINES))
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", AS_TEXT),
        ("a.csv.gz", AS_TEXT),
        ("a.tsv", AS_TEXT),
        ("a.json", THREE),
        ("a.jsonl", THREE),
        ("a.jsonl.gz", THREE),
        ("a.jsonl.zst", THREE),
    ],
)
def test_tables(tmp_path: Path, name: str, expected: list[dict[str, Any]]) -> None:
    """Each format gives the same rows; cells of CSV are strings."""
    files(tmp_path)
    assert ran(tmp_path, {"path": name}) == expected


def test_parquet(tmp_path: Path) -> None:
    """Parquet keeps types."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(THREE), tmp_path / "a.parquet")
    assert ran(tmp_path, {"path": "a.parquet"}) == THREE


def test_a_glob_reads_its_files_in_order(tmp_path: Path) -> None:
    """A glob's files are read one after the other, sorted by name."""
    (tmp_path / "in").mkdir()
    for name, word in (("b", "two"), ("a", "one"), ("c", "three")):
        (tmp_path / "in" / f"{name}.jsonl").write_bytes(orjson.dumps({"word": word}) + b"\n")
    assert [row["word"] for row in ran(tmp_path, {"path": "in/*.jsonl"})] == ["one", "two", "three"]


def test_other_files_are_a_row_each(tmp_path: Path) -> None:
    """A suffix that is no table's: one row per file with path, name, and text if it is text."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Hello")
    (tmp_path / "docs" / "b.bin").write_bytes(b"\x00\xff\xfe")
    assert ran(tmp_path, {"path": "docs/*"}) == [
        {"path": "docs/a.md", "name": "a.md", "text": "# Hello"},
        {"path": "docs/b.bin", "name": "b.bin"},
    ]


def test_a_url_of_fsspec(tmp_path: Path) -> None:
    """An input may be a URL; here the file system in memory."""
    import fsspec

    with fsspec.open("memory://commands/inputs/a.jsonl", "wb") as file:
        file.write(LINES)
    assert ran(tmp_path, {"path": "memory://commands/inputs/a.jsonl"}) == THREE


def test_a_dataset_on_this_machine(tmp_path: Path) -> None:
    """`dataset` takes what `datasets` can load; here a folder, by name and as a mapping."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(LINES)
    assert ran(tmp_path, {"dataset": "data"}) == THREE
    assert ran(tmp_path, {"dataset": {"name": "data", "split": "train[:2]"}}) == THREE[:2]


def test_rows_count_and_matrix(tmp_path: Path) -> None:
    """Rows written in the spec, n rows that have only `index`, and the product of lists."""
    assert ran(tmp_path, {"rows": THREE}) == THREE
    assert ran(tmp_path, {"count": 3}) == [{"index": 0}, {"index": 1}, {"index": 2}]
    assert ran(tmp_path, {"matrix": {"a": ["x", "y"], "b": [1, 2]}}) == [
        {"a": "x", "b": 1},
        {"a": "x", "b": 2},
        {"a": "y", "b": 1},
        {"a": "y", "b": 2},
    ]


def test_a_query(tmp_path: Path) -> None:
    """`sql` gives a query's result; a path in the URL is relative to the spec."""
    connection = sqlite3.connect(tmp_path / "a.db")
    with connection:
        connection.execute("CREATE TABLE t (word TEXT, n INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(row["word"], row["n"]) for row in THREE])
    connection.close()
    assert ran(tmp_path, {"sql": {"url": "sqlite:///a.db", "query": "SELECT * FROM t ORDER BY n"}}) == THREE


def test_without_an_input_there_is_one_empty_row(tmp_path: Path) -> None:
    """No `input` at all: one request."""
    path = write(tmp_path, {"model": "simulator", "prompt": "Hi."})
    called = synth("run", path, "--json")
    assert (called.code, called.json["rows"]["in"]) == (0, 1)
    assert set(rows(tmp_path / "job.jsonl")[0]) == {"response"}


def test_where_shuffle_skip_and_take_in_this_order(tmp_path: Path) -> None:
    """Filtered first, then shuffled by the seed, then skipped, then taken; `index` is the place in the input."""
    numbers = {"count": 40, "where": "index % 2 == 0"}
    evens = [row["index"] for row in ran(tmp_path, numbers)]
    shuffled = [row["index"] for row in ran(tmp_path, {**numbers, "shuffle": True})]
    part = [row["index"] for row in ran(tmp_path, {**numbers, "shuffle": True, "skip": 3, "take": 5})]
    other = [row["index"] for row in ran(tmp_path, {**numbers, "shuffle": True}, seed=1)]
    assert evens == list(range(0, 40, 2))
    assert shuffled != evens
    assert sorted(shuffled) == evens
    assert part == shuffled[3:8]
    assert other != shuffled


def test_samplers_are_drawn_from_seed_and_row(tmp_path: Path) -> None:
    """More rows change no others, and neither does another column; another seed draws anew."""
    columns = {
        "tone": {"category": {"calm": 3, "angry": 1}},
        "age": {"gaussian": {"mean": 40, "stddev": 9, "min": 18}},
        "id": {"uuid": {}},
        "born": {"date": {"start": "1950-01-01", "end": "2005-12-31"}},
        "n": {"uniform": {"min": 1, "max": 6, "integer": True}},
        "who": {"person": {"locale": "en_GB"}},
    }
    few = ran(tmp_path, {"count": 3, "columns": columns})
    many = ran(tmp_path, {"count": 6, "columns": {"more": {"uuid": {}}, **columns}})
    other = ran(tmp_path, {"count": 3, "columns": columns}, seed=1)
    assert [{key: row[key] for key in few[0]} for row in many[:3]] == few
    assert [row["id"] for row in other] != [row["id"] for row in few]
    first = few[0]
    assert first["tone"] in ("calm", "angry")
    assert first["age"] >= 18
    assert 1 <= first["n"] <= 6
    assert isinstance(first["n"], int)
    assert "1950-01-01" <= first["born"] <= "2005-12-31"


def test_arguments_of_samplers_are_templates_over_earlier_columns(tmp_path: Path) -> None:
    """A column may depend on those before it."""
    columns = {
        "low": {"uniform": {"min": 5, "max": 9, "integer": True}},
        "high": {"uniform": {"min": "{{ low }}", "max": 10}},
    }
    assert all(row["low"] <= row["high"] <= 10 for row in ran(tmp_path, {"count": 20, "columns": columns}))


def test_where_sees_drawn_columns(tmp_path: Path) -> None:
    """`columns` come before `where`."""
    found = ran(tmp_path, {"count": 40, "columns": {"k": {"category": ["a", "b"]}}, "where": "k == 'a'"})
    assert 5 < len(found) < 35
    assert {row["k"] for row in found} == {"a"}


def test_a_key_identifies_a_row(tmp_path: Path) -> None:
    """With `key` the drawn values belong to the key, whatever else the row has."""
    columns = {"draw": {"uuid": {}}}
    one = ran(tmp_path, {"rows": [{"id": 1, "x": "a"}, {"id": 2, "x": "b"}], "key": "id", "columns": columns})
    two = ran(tmp_path, {"rows": [{"id": 2, "x": "c"}, {"id": 1, "x": "d"}], "key": "id", "columns": columns})
    assert [row["draw"] for row in two] == [row["draw"] for row in reversed(one)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"path": "none.csv"}, "none.csv"),
        ({"path": "a.csv", "rows": []}, "'path' and 'rows' exclude each other"),
        ({"path": "data"}, "folder"),
        ({"count": -1}, "count"),
        ({"dataset": "no/such/folder/here"}, "no/such/folder/here"),
        ({"sql": {"url": "sqlite:///none.db", "query": "SELECT 1"}}, "none.db"),
        ({"rows": [{"a": 1}], "key": "b"}, "nothing provides 'b'"),
        ({"count": 1, "columns": {"x": {"gausian": {}}}}, "gaussian"),
    ],
    ids=str,
)
def test_inputs_that_cannot_be_read_are_errors_that_name_them(
    tmp_path: Path, source: dict[str, Any], said: str
) -> None:
    """Exit 2 (or 3 where the machine or network is at fault) with what and where, nothing published."""
    (tmp_path / "data").mkdir()
    (tmp_path / "a.csv").write_text("a\n1\n")
    called = synth("run", write(tmp_path, {"model": "simulator", "prompt": "Hi.", "input": source}))
    assert called.code in (2, 3)
    assert said in called.err
    assert not (tmp_path / "job.jsonl").exists()


def test_a_broken_line_is_named_with_its_number(tmp_path: Path) -> None:
    """JSON Lines with a broken line: exit 2, file and line."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n')
    called = synth("run", write(tmp_path, {"model": "simulator", "prompt": "Hi.", "input": {"path": "a.jsonl"}}))
    assert called.code == 2
    assert "a.jsonl:2" in called.err


def test_generation_params_of_a_row(tmp_path: Path) -> None:
    """An input column of that name overrides the parameters of its row and is not carried; nonsense fails the row."""
    source = {"rows": [{"generation_params": {"temperature": 0.1}}, {"generation_params": "not json"}]}
    made = {"model": "simulator", "prompt": "Hi.", "input": source, "generation_params": {"temperature": 0.9}}
    path = write(tmp_path, made)
    shown = synth("preview", path, "--json")
    assert shown.code == 1
    assert shown.json[0]["body"]["temperature"] == 0.1
    assert synth("run", path).code == 1
    assert [set(row) for row in rows(tmp_path / "job.jsonl")] == [{"response"}]
    assert failures(tmp_path)[0]["index"] == 1


def test_a_query_is_read_once_a_round(tmp_path: Path) -> None:
    """Rows of a table that changes are those that the round began with, until the job is finished."""
    connection = sqlite3.connect(tmp_path / "a.db")
    with connection:
        connection.execute("CREATE TABLE t (n INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(4)])
    source = {"sql": {"url": "sqlite:///a.db", "query": "SELECT n FROM t ORDER BY n"}}
    made = {"model": "simulator", "prompt": "Hi {{ n }}.", "input": source, "generation_params": {"max_tokens": 400}}
    path = write(tmp_path, made)
    assert (
        synth("run", path, "--set", "budget.max_tokens=420", "--set", "backend_params.max_concurrent_requests=1").code
        == 4
    )
    with connection:
        connection.execute("INSERT INTO t VALUES (100)")
    connection.close()
    assert synth("run", path).code == 0
    assert [row["n"] for row in rows(tmp_path / "job.jsonl")] == [0, 1, 2, 3]
    assert synth("run", path).code == 0
    assert [row["n"] for row in rows(tmp_path / "job.jsonl")] == [0, 1, 2, 3, 100]
