from __future__ import annotations

import csv
import datetime
import gzip
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from synth_cli.errors import SetupError, UsageError
from synth_cli.outputs.candidate import Candidate
from synth_cli.outputs.sinks import sink, suffix_of

UTC_NOON = datetime.datetime(2026, 11, 5, 12, 0, tzinfo=datetime.UTC)
NOON = UTC_NOON.replace(tzinfo=None)


def written(folder: Path, name: str, *chunks: Sequence[Mapping[str, Any]], expected: Sequence[str] = ()) -> Path:
    """The finished file; nothing else may lie beside it."""
    made = sink(f"out/{name}", folder, expected=expected)
    for chunk in chunks:
        made.write(chunk)
    candidate = made.close()
    assert candidate == Candidate(folder / name, f"out/{name}", sum(map(len, chunks)))
    assert [path.name for path in folder.iterdir()] == [name]
    return candidate.path


def table(path: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    read = pq.read_table(path)
    return {field.name: str(field.type) for field in read.schema}, read.to_pylist()


ROWS = [{"id": 1, "text": 'süß\n,"q"'}, {"id": 2, "text": None, "tags": ["a", {"b": True}]}, {"text": "c"}]


def test_jsonl(tmp_path: Path) -> None:
    """Each row is a line with its own columns, in the order they came."""
    path = written(tmp_path, "a.jsonl", ROWS[:1], ROWS[1:])
    assert path.read_text() == (
        '{"id":1,"text":"süß\\n,\\"q\\""}\n{"id":2,"text":null,"tags":["a",{"b":true}]}\n{"text":"c"}\n'
    )


def test_compressed(tmp_path: Path) -> None:
    """Compressed lines are the same lines, and equal rows give equal bytes."""
    plain = written(tmp_path / "plain", "a.jsonl", ROWS).read_bytes()
    packed = written(tmp_path / "gz", "a.jsonl.gz", ROWS).read_bytes()
    assert gzip.decompress(packed) == plain
    assert written(tmp_path / "again", "a.jsonl.gz", ROWS).read_bytes() == packed
    zst = written(tmp_path / "zst", "a.jsonl.zst", ROWS[:1], ROWS[1:]).read_bytes()
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(zst)).read() == plain


def test_no_rows(tmp_path: Path) -> None:
    """A dataset without rows is a valid file that still has the columns that are known."""
    assert written(tmp_path / "a", "a.jsonl").read_bytes() == b""
    assert gzip.decompress(written(tmp_path / "b", "a.jsonl.gz").read_bytes()) == b""
    packed = written(tmp_path / "z", "a.jsonl.zst").read_bytes()
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read() == b""
    assert written(tmp_path / "c", "a.csv", expected=("x", "y")).read_text() == "x,y\n"
    assert written(tmp_path / "d", "a.csv").read_text() == ""
    assert table(written(tmp_path / "e", "a.parquet", expected=("x", "y"))) == ({"x": "string", "y": "string"}, [])
    assert table(written(tmp_path / "f", "a.parquet")) == ({}, [])


def test_csv(tmp_path: Path) -> None:
    """CSV has the columns of all rows; what is no text is JSON, null is empty, quotes and line ends survive."""
    rows = [*ROWS, {"id": 1.5, "text": b"\x00\xff", "ok": False}, {"at": NOON}]
    path = written(tmp_path, "a.csv", rows)
    assert path.read_text() == (
        "id,text,tags,ok,at\n"
        '1,"süß\n,""q""",,,\n'
        '2,,"[""a"",{""b"":true}]",,\n'
        ",c,,,\n"
        "1.5,AP8=,,false,\n"
        ",,,,2026-11-05T12:00:00\n"
    )
    with path.open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ['süß\n,"q"', "", "c", "AP8=", ""]


def test_parquet_types(tmp_path: Path) -> None:
    """Integers widen to floats, disagreement becomes JSON text, bytes and times stay what they are."""
    rows: list[Mapping[str, Any]] = [
        {"n": 1, "wide": 1, "mixed": 1, "raw": b"\x00\xff", "none": None, "local": NOON, "utc": UTC_NOON},
        {"n": 2, "wide": 1.5, "mixed": "a", "raw": None, "day": NOON.date(), "big": 2**63, "clock": NOON.time()},
        {"n": None, "mixed": [b"\xff"], "ok": True, "times": NOON, "sum": Decimal("1.50")},
        MappingProxyType({"times": UTC_NOON, "sum": 1}),
    ]
    kinds, read = table(written(tmp_path, "a.parquet", rows))
    assert kinds == {
        "n": "int64",
        "wide": "double",
        "mixed": "string",
        "raw": "binary",
        "none": "string",
        "local": "timestamp[us]",
        "utc": "timestamp[us, tz=UTC]",
        "day": "date32[day]",
        "big": "string",
        "clock": "string",
        "ok": "bool",
        "times": "string",
        "sum": "double",
    }
    empty = dict.fromkeys(kinds)
    assert read == [
        {**empty, "n": 1, "wide": 1.0, "mixed": "1", "raw": b"\x00\xff", "local": NOON, "utc": UTC_NOON},
        {**empty, "n": 2, "wide": 1.5, "mixed": '"a"', "day": NOON.date(), "big": str(2**63), "clock": "12:00:00"},
        {**empty, "mixed": '["/w=="]', "ok": True, "times": '"2026-11-05T12:00:00"', "sum": 1.5},
        {**empty, "times": '"2026-11-05T12:00:00+00:00"', "sum": 1.0},
    ]


def test_parquet_nested(tmp_path: Path) -> None:
    """Lists and mappings keep their structure down to the place where rows disagree."""
    rows = [
        {"steps": [{"text": "mix", "minutes": 5}, {"text": "bake", "minutes": 0.5, "tools": []}], "meta": {}},
        {"steps": [], "deep": {"a": {"b": [1, None]}, "c": [1]}, "meta": {}},
        {"steps": None, "deep": {"a": {"b": [2.5]}, "c": {"d": 1}}, "either": [1]},
        {"either": {"x": 1}},
    ]
    kinds, read = table(written(tmp_path, "a.parquet", rows))
    assert kinds == {
        "steps": "list<element: struct<text: string, minutes: double, tools: list<element: string>>>",
        "meta": "string",
        "deep": "struct<a: struct<b: list<element: double>>, c: string>",
        "either": "string",
    }
    assert read == [
        {
            "steps": [
                {"text": "mix", "minutes": 5.0, "tools": None},
                {"text": "bake", "minutes": 0.5, "tools": []},
            ],
            "meta": "{}",
            "deep": None,
            "either": None,
        },
        {"steps": [], "meta": "{}", "deep": {"a": {"b": [1.0, None]}, "c": "[1]"}, "either": None},
        {"steps": None, "meta": None, "deep": {"a": {"b": [2.5]}, "c": '{"d":1}'}, "either": "[1]"},
        {"steps": None, "meta": None, "deep": None, "either": '{"x":1}'},
    ]


def test_parquet_of_many_keys(tmp_path: Path) -> None:
    """Mappings whose keys are data become JSON text, not thousands of columns."""
    rows = [{"counts": {f"word {n}": n}} for n in range(1000)]
    kinds, read = table(written(tmp_path, "a.parquet", rows))
    assert kinds == {"counts": "string"}
    assert [orjson.loads(row["counts"]) for row in read] == [row["counts"] for row in rows]


def test_parquet_in_chunks(tmp_path: Path) -> None:
    """A file larger than a chunk is whole and in order, and its types are those of all rows."""
    rows = [{"n": n, "text": "x" * 2000, "late": None if n < 1900 else n} for n in range(2000)]
    path = written(tmp_path, "a.parquet", *([row] for row in rows))
    kinds, read = table(path)
    assert kinds == {"n": "int64", "text": "string", "late": "int64"}
    assert read == rows


def test_every_column_type_joins(tmp_path: Path) -> None:
    """A column that is integer in early chunks and float later is float in every row group."""
    rows = [{"n": n, "text": "x" * 3000} for n in range(1000)] + [{"n": 0.5, "text": "y"}]
    read = pq.read_table(written(tmp_path, "a.parquet", rows))
    assert read.schema.field("n").type == pa.float64()
    assert read.column("n").to_pylist() == [*map(float, range(1000)), 0.5]


def test_any_python_value(tmp_path: Path) -> None:
    """What templates and parse functions make is written as the JSON it means, whatever a model's answer held."""
    rows: list[dict[Any, Any]] = [
        {
            "a": 2**70,
            "b": Decimal("0.10000000000000000001"),
            "c": {3, 1},
            "d": Path("x/y"),
            7: {None: 1, True: 2},
        },
        {"a": "half \ud83d", "b": "\ud83d\ude00", "c": np.int64(3), "d": np.array([1.5, 2.5]), "nan": float("nan")},
        {"a": (1, b"\xff"), "b": datetime.timedelta(minutes=1), "k\ud83d": [2**64, NOON], "d": Decimal("NaN")},
    ]
    assert written(tmp_path, "a.jsonl", rows).read_text() == (
        '{"a":1180591620717411303424,"b":0.10000000000000000001,"c":[1,3],"d":"x/y","7":{"null":1,"true":2}}\n'
        '{"a":"half �","b":"😀","c":3,"d":[1.5,2.5],"nan":null}\n'
        '{"a":[1,"/w=="],"b":60.0,"k�":[18446744073709551616,"2026-11-05T12:00:00"],"d":null}\n'
    )


def test_csv_line_ends(tmp_path: Path) -> None:
    """Line ends of every kind stay inside their cell."""
    path = written(tmp_path, "a.csv", [{"a": "x\r\ny", "b\r": "\r"}])
    assert path.read_bytes() == b'a,"b\r"\n"x\r\ny","\r"\n'


def test_csv_of_odd_names(tmp_path: Path) -> None:
    """Column names that are no text are the same in the header and in the lines."""
    assert written(tmp_path, "a.csv", [{7: 1, None: "x"}]).read_text() == "7,null\n1,x\n"


def test_tags_are_not_data(tmp_path: Path) -> None:
    """Bytes keep their value in Parquet beside values that no JSON writer takes."""
    kinds, read = table(
        written(tmp_path, "a.parquet", [{"b": b"\xff", "t": "\ud83d", "l": [NOON, None], 1: {"x": b""}}])
    )
    assert kinds == {
        "b": "binary",
        "t": "string",
        "l": "list<element: timestamp[us]>",
        "1": "struct<x: binary>",
    }
    assert read == [{"b": b"\xff", "t": "�", "l": [NOON, None], "1": {"x": b""}}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
def test_unwritable_value(tmp_path: Path, name: str) -> None:
    """A value without meaning in JSON is an error that names the column, and a discarded file leaves nothing."""
    made = sink(name, tmp_path)
    made.write([{"fine": 1}])
    with pytest.raises(UsageError) as caught:
        made.write([{"fine": 1, "odd": [object()]}])
    assert str(caught.value) == "column 'odd': a value of type builtins.object cannot be written"
    made.discard()
    made.discard()
    assert list(tmp_path.iterdir()) == []


def test_same_name_twice(tmp_path: Path) -> None:
    """Two outputs of one file name in different folders do not meet in the run's folder."""
    first, second = sink("a/x.jsonl", tmp_path), sink("b/x.jsonl", tmp_path)
    first.write([{"n": 1}])
    assert [first.close(), second.close()] == [
        Candidate(tmp_path / "x.jsonl", "a/x.jsonl", 1),
        Candidate(tmp_path / "x-2.jsonl", "b/x.jsonl", 0),
    ]


def test_unknown_suffix(tmp_path: Path) -> None:
    """A suffix that we do not write is an error that lists those we do."""
    with pytest.raises(UsageError) as caught:
        sink("out/x.json", tmp_path)
    assert (caught.value.message, caught.value.hint) == (
        "output 'out/x.json': cannot tell the format",
        "end its name in .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .csv",
    )
    assert [suffix_of(name) for name in ("s3://b/X.JSONL.GZ", "a.csv", "jsonl", "a.gz")] == [
        ".jsonl.gz",
        ".csv",
        None,
        None,
    ]


def test_full_disk(tmp_path: Path) -> None:
    """What the disk refuses is an error that names the output."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError) as caught:
        sink("out/x.jsonl", tmp_path / "file" / "run")
    assert str(caught.value) == "cannot write x.jsonl: Not a directory"


def test_integers_beyond_64_bits_keep_their_digits(tmp_path: Path) -> None:
    """In Parquet as text, as no type of its holds them."""
    rows: list[dict[str, Any]] = [{"n": 1, "all": [2**70]}, {"n": 10**30 + 1, "all": [-(2**70)]}]
    page = written(tmp_path, "a.csv", rows)
    assert page.read_text() == (
        "n,all\n1,[1180591620717411303424]\n1000000000000000000000000000001,[-1180591620717411303424]\n"
    )
    page.unlink()
    assert table(written(tmp_path, "a.parquet", rows))[1] == [
        {"n": "1", "all": [str(2**70)]},
        {"n": str(10**30 + 1), "all": [str(-(2**70))]},
    ]
