"""Files as sources: every format, every packing, and what is said of a file that is not right."""

from __future__ import annotations

import gzip
import math
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from input_reading import reading, values

from synth_cli.compile.inputs.files import find
from synth_cli.errors import MissingExtra, SetupError, SynthError, UsageError

ROWS = [{"a": "1", "b": "ü"}, {"a": "2", "b": "x,y"}]
CSV = 'a,b\n1,ü\n2,"x,y"\n'
JSONL = "".join(orjson.dumps(row).decode() + "\n" for row in ROWS)


def refused(folder: Path, path: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        values(folder, path=path)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", CSV.encode()),
        ("t.CSV", CSV.encode()),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("t.csv.zst", zstandard.compress(CSV.encode())),
        ("t.tsv", b"a\tb\n1\t\xc3\xbc\n2\tx,y\n"),
        ("t.jsonl", JSONL.encode()),
        ("t.ndjson", JSONL.encode()),
        ("t.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0)),
        ("t.jsonl.zst", zstandard.compress(JSONL[:9].encode()) + zstandard.compress(JSONL[9:].encode())),
        ("t.json", orjson.dumps(ROWS)),
        ("t.json.gz", gzip.compress(orjson.dumps(ROWS, option=orjson.OPT_INDENT_2), mtime=0)),
        ("t.json", JSONL.encode()),
    ],
)
def test_the_same_rows_come_from_every_text_format(tmp_path: Path, name: str, content: bytes) -> None:
    """The suffix decides how a file is read, packed or not."""
    (tmp_path / name).write_bytes(content)
    assert values(tmp_path, path=name) == ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("wide.csv", CSV.encode("utf-16")),
        ("crlf.csv", CSV.replace("\n", "\r\n").encode()),
        ("blank.csv", ("\n" + CSV + "\n\n").encode()),
        ("bom.jsonl", b"\xef\xbb\xbf" + JSONL.encode()),
        ("blank.jsonl", ("\n" + JSONL + "  \n\r\n").encode()),
        ("open.jsonl", JSONL.rstrip().encode()),
        ("bom.json", b"\xef\xbb\xbf" + orjson.dumps(ROWS)),
        ("wide.json", orjson.dumps(ROWS).decode().encode("utf-16")),
    ],
)
def test_marks_line_ends_and_blank_lines_do_not_matter(tmp_path: Path, name: str, content: bytes) -> None:
    """What spreadsheets and editors add around the data is no data."""
    (tmp_path / name).write_bytes(content)
    assert values(tmp_path, path=name) == ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [("e.csv", b""), ("h.csv", b"a,b\n"), ("e.jsonl", b""), ("e.json", b""), ("l.json", b"[ ]"), ("n.jsonl", b"\n\n")],
)
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str, content: bytes) -> None:
    """Nothing, a header alone or blank lines: no row and no error."""
    (tmp_path / name).write_bytes(content)
    assert values(tmp_path, path=name) == []


def test_an_empty_packed_file_has_no_rows(tmp_path: Path) -> None:
    """An empty frame is a file without rows."""
    (tmp_path / "e.jsonl.zst").write_bytes(zstandard.compress(b""))
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b""))
    assert values(tmp_path, path="e.*") == []


def test_cells_are_texts_as_they_stand(tmp_path: Path) -> None:
    """Numbers, empty cells and line breaks in a CSV stay what was written; names lose the space around them."""
    (tmp_path / "t.csv").write_text('id, name\n007,"two\nlines"\n,NA\n')
    assert values(tmp_path, path="t.csv") == [{"id": "007", "name": "two\nlines"}, {"id": "", "name": "NA"}]


def test_a_ragged_row_is_named_by_its_line(tmp_path: Path) -> None:
    """The line is where the row begins, after cells of several lines too."""
    (tmp_path / "short.csv").write_text('a,b,c\n1,"x\ny",3\n4,5\n')
    (tmp_path / "long.csv").write_text("a,b\n1,2\n3,4,5\n")
    (tmp_path / "open.csv").write_text('a,b\n1,"2\n3,4\n')
    assert refused(tmp_path, "short.csv") == ("short.csv:4: 2 cells, but the header has 3 columns", "no value for c")
    assert refused(tmp_path, "long.csv") == (
        "long.csv:3: 3 cells, but the header has 2 columns",
        "put a cell that contains a comma in double quotes",
    )
    assert refused(tmp_path, "open.csv")[0] == "open.csv:3: not valid CSV: unexpected end of data"


def test_equal_headers_are_refused(tmp_path: Path) -> None:
    """One of two columns of a name would be lost."""
    (tmp_path / "t.csv").write_text("a,b,a\n1,2,3\n")
    (tmp_path / "u.csv").write_text("a,,\n1,2,3\n")
    hint = "give every column a name of its own"
    assert refused(tmp_path, "t.csv") == ("t.csv:1: columns 1 and 3 both have the name 'a'", hint)
    assert refused(tmp_path, "u.csv") == ("u.csv:1: columns 2 and 3 both have no name", hint)


def test_a_foreign_encoding_is_named_by_its_line(tmp_path: Path) -> None:
    """The decoder reads ahead; the message still has the line of the bad byte."""
    (tmp_path / "t.csv").write_bytes(b"a\n" + b"x\n" * 50_000 + "grün\n".encode("latin-1") + b"y\n")
    message, hint = refused(tmp_path, "t.csv")
    assert (message, hint) == (
        "t.csv:50002: not UTF-8 text",
        "convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 t.csv",
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            '{"a": 1}\n{"a": }\n',
            "t.jsonl:2:7: not valid JSON: Expecting value",
            'mend or remove the line, which begins {"a": }',
        ),
        ('{"a": 1}\n\n[1]\n', "t.jsonl:3: expected an object, found a list", "a row is an object {column: value}"),
        ("12\n", "t.jsonl:1: expected an object, found a number", "a row is an object {column: value}"),
        (
            '[{"a": 1}]\n',
            "t.jsonl:1: expected an object, found a list",
            "a row is an object {column: value}; a file that is one list of rows is named .json",
        ),
        (
            '{\n "a": 1\n}\n',
            "t.jsonl:1:2: not valid JSON: Expecting property name enclosed in double quotes",
            "every line is one object here; a file that is one JSON value is named .json",
        ),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, message: str, hint: str) -> None:
    """File, line and column, and what to do next."""
    (tmp_path / "t.jsonl").write_text(text)
    assert refused(tmp_path, "t.jsonl") == (message, hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n {"a": }]', "t.json:2: not valid JSON: Expecting value"),
        ('[{"a": 1}\n {"a": 2}]', "t.json:2: not valid JSON: expected a comma between two rows"),
        ('[{"a": 1},\n {"a": 2}', "t.json:2: not valid JSON: the list has no end"),
        ('[{"a": 1},\n {"a": "2', "t.json:2: not valid JSON: Unterminated string starting at"),
        ('[{"a": 1}]\n x', "t.json:2: not valid JSON: something follows the end of the list"),
        ("[1, 2]", "t.json:1: expected an object, found a number"),
        ('"text"', "t.json:1: expected an object, found a text"),
    ],
)
def test_a_malformed_document_is_named(tmp_path: Path, text: str, message: str) -> None:
    """File and line."""
    (tmp_path / "t.json").write_text(text)
    assert refused(tmp_path, "t.json")[0] == message


def test_a_single_object_is_one_row(tmp_path: Path) -> None:
    """A JSON file need not be a list."""
    (tmp_path / "t.json").write_text('{"a": [1, {"b": null}]}')
    assert values(tmp_path, path="t.json") == [{"a": [1, {"b": None}]}]


def test_long_values_pass(tmp_path: Path) -> None:
    """Cells, lines and documents of a megabyte, longer than every block that is read at once."""
    long = "x" * 1_000_000 + "\\"
    (tmp_path / "t.csv").write_text(f"a\n{long}\n")
    (tmp_path / "t.jsonl").write_bytes(orjson.dumps({"a": long}))
    (tmp_path / "t.json").write_bytes(orjson.dumps([{"a": long}, {"a": long}]))
    found = [row["a"] == long for name in ("t.csv", "t.jsonl", "t.json") for row in values(tmp_path, path=name)]
    assert found == [True] * 4


def test_many_small_rows_of_a_document_pass(tmp_path: Path) -> None:
    """Values that are cut by the end of a block are read on, numbers included."""
    rows = [{"n": number, "f": number / 7} for number in range(30_000)]
    (tmp_path / "t.json").write_bytes(orjson.dumps(rows))
    assert values(tmp_path, path="t.json") == rows


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_what_json_cannot_write_becomes_what_it_can(tmp_path: Path, name: str) -> None:
    """NaN and infinities are null, numbers beyond 64 bits floats, half characters replaced."""
    (tmp_path / name).write_text('{"n": NaN, "i": [-Infinity], "b": 1e2, "s": "\\ud83d!", "big": 1' + "0" * 30 + "}")
    (row,) = values(tmp_path, path=name)
    assert row == {"n": None, "i": [None], "b": 100.0, "s": "\ufffd!", "big": 1e30}
    assert orjson.loads(orjson.dumps(row)) == row


def test_a_glob_is_read_in_sorted_order_each_file_by_its_suffix(tmp_path: Path) -> None:
    """Files of different formats and columns follow each other; `**` goes into folders."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.csv").write_text("a\n2\n")
    (tmp_path / "in" / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "in" / "deep" / "c.csv").write_text("other\n3\n")
    rows = reading(tmp_path, path="in/**/*.*")
    assert [(row.index, dict(row.values)) for row in rows] == [(0, {"a": 1}), (1, {"a": "2"}), (2, {"other": "3"})]


def test_a_name_with_wildcard_characters_is_a_name_first(tmp_path: Path) -> None:
    """`data[1].csv` is that file where it exists."""
    (tmp_path / "data[1].csv").write_text("a\n1\n")
    (tmp_path / "data1.csv").write_text("a\n2\n")
    assert values(tmp_path, path="data[1].csv") == [{"a": "1"}]


def test_a_folder_with_wildcard_characters_is_no_pattern(tmp_path: Path) -> None:
    """Only what the user wrote is a glob."""
    folder = tmp_path / "job [1]"
    folder.mkdir()
    (folder / "t.csv").write_text("a\n1\n")
    assert values(folder, path="*.csv") == [{"a": "1"}]


def test_other_files_are_a_row_each(tmp_path: Path) -> None:
    """`path` as the spec would name it, `name`, and `text` where the bytes are text."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_bytes(b"\xef\xbb\xbf# Title\r\n")
    (tmp_path / "docs" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "docs" / "c.txt").write_bytes("grün".encode("latin-1"))
    (tmp_path / "docs" / "d.txt").write_bytes(b"")
    assert values(tmp_path, path="docs/*") == [
        {"path": "docs/a.md", "name": "a.md", "text": "# Title\r\n"},
        {"path": "docs/b.png", "name": "b.png"},
        {"path": "docs/c.txt", "name": "c.txt"},
        {"path": "docs/d.txt", "name": "d.txt", "text": ""},
    ]


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    """Rows name files as the spec names them."""
    (tmp_path / "a.txt").write_text("x")
    expected = [{"path": str(tmp_path / "a.txt"), "name": "a.txt", "text": "x"}]
    assert values(Path("/"), path=str(tmp_path / "a.txt")) == expected
    assert values(Path("/"), path=str(tmp_path / "*.txt")) == expected


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    """The nearest names; without any near, what is there."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cuisines.csv").write_text("a\n")
    assert refused(tmp_path, "data/cuisine.csv") == (
        f"input.path: data/cuisine.csv does not exist (looked for {tmp_path}/data/cuisine.csv)",
        "did you mean cuisines.csv?",
    )
    assert refused(tmp_path, "data/cuisines.jsonl")[1] == "did you mean cuisines.csv?"
    assert refused(tmp_path, "data/xyz.parquet")[1] == f"in {tmp_path}/data there are: cuisines.csv"
    assert refused(tmp_path, "dato/cuisines.csv") == (
        f"input.path: dato/cuisines.csv does not exist: there is no folder {tmp_path}/dato",
        "did you mean data?",
    )
    assert refused(tmp_path, "data/*.jsonl") == (
        f"input.path: no file matches data/*.jsonl in {tmp_path}",
        f"in {tmp_path}/data there are: cuisines.csv",
    )
    assert refused(tmp_path, "data") == ("input.path: data is a folder", "name its files, for example data/*.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0)[:-12]),
        ("t.jsonl.gz", b"no gzip"),
        ("t.csv.zst", zstandard.compress(CSV.encode() * 100)[:-4]),
        ("t.csv.zst", b"no zstandard"),
    ],
)
def test_a_packed_file_that_was_cut_off_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    """A half copied file never passes for a whole one."""
    (tmp_path / name).write_bytes(content)
    message, hint = refused(tmp_path, name)
    assert message.startswith(f"{name}: not a whole .{name[-3:].strip('.')} file")
    assert hint == "fetch or pack it again"


def test_parquet_values_become_what_json_knows(tmp_path: Path) -> None:
    """Dates are ISO texts, decimals numbers, NaN null; bytes are the very same bytes."""
    table = pa.table(
        {
            "text": ["a", None],
            "float": [math.nan, 1.5],
            "day": pa.array([0, 1], pa.date32()),
            "time": pa.array([0, 1_500_000], pa.timestamp("us", tz="UTC")),
            "money": pa.array([None, "1.50"]).cast(pa.decimal128(10, 2)),
            "image": [{"bytes": b"\xff\xd8\x00", "path": "a.jpg"}, None],
            "raw": [b"\x00\xff", b""],
            "nested": [[{"k": [1.0]}], []],
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1)
    assert values(tmp_path, path="t.parquet") == [
        {
            "text": "a",
            "float": None,
            "day": "1970-01-01",
            "time": "1970-01-01T00:00:00+00:00",
            "money": None,
            "image": {"bytes": b"\xff\xd8\x00", "path": "a.jpg"},
            "raw": b"\x00\xff",
            "nested": [{"k": [1.0]}],
            "map": [["k", 1]],
        },
        {
            "text": None,
            "float": 1.5,
            "day": "1970-01-02",
            "time": "1970-01-01T00:00:01.500000+00:00",
            "money": 1.5,
            "image": None,
            "raw": b"",
            "nested": [],
            "map": [],
        },
    ]


def test_a_file_that_is_no_parquet_is_an_error(tmp_path: Path) -> None:
    """In words, not as a traceback."""
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    message, hint = refused(tmp_path, "t.parquet")
    assert message.startswith("t.parquet: not a Parquet file: ")
    assert hint == "was it written or copied completely?"


def test_an_fsspec_url_is_read_like_a_path() -> None:
    """One file, a glob of them, Parquet among them; rows name the URL."""
    import fsspec

    memory = fsspec.filesystem("memory")
    with memory.open("/inputs/a.csv.gz", "wb") as stream:
        stream.write(gzip.compress(CSV.encode()))
    with memory.open("/inputs/b.parquet", "wb") as stream:
        pq.write_table(pa.table({"a": [3]}), stream)
    memory.pipe("/inputs/c.txt", b"hello")
    here = Path("/")
    assert values(here, path="memory://inputs/a.csv.gz") == ROWS
    expected: list[Any] = [*ROWS, {"a": 3}, {"path": "memory:///inputs/c.txt", "name": "c.txt", "text": "hello"}]
    assert values(here, path="memory://inputs/*") == expected


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("memory://inputs/none.csv", UsageError, "nothing is at memory://inputs/none.csv"),
        ("s3://bucket/data.jsonl", MissingExtra, "needs the package 's3fs'"),
        ("nosuch://data.csv", SynthError, "nosuch"),
    ],
)
def test_an_address_that_cannot_be_read_is_named(path: str, error: type[SynthError], words: str) -> None:
    """Nothing there, a package that is missing, a protocol that nobody knows."""
    if error is MissingExtra:
        pytest.importorskip("fsspec")
        try:
            import s3fs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("s3fs is installed")
    with pytest.raises(error, match=words):
        find(path, Path("/"))


def test_a_file_that_may_not_be_read_is_a_setup_error(tmp_path: Path) -> None:
    """A folder that vanished between listing and opening reads the same as any refusal: no traceback."""
    (tmp_path / "t.csv").write_text("a\n")
    (file,) = find("t.csv", tmp_path)
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.csv").mkdir()
    from synth_cli.compile.inputs.tables import header

    with pytest.raises(SetupError, match=r"cannot read t\.csv"):
        header(file)


def test_a_web_server_that_sends_only_whole_files_will_do(tmp_path: Path) -> None:
    """Text is read from begin to end; Parquet, which is not, says so; what is not there is named."""
    (tmp_path / "t.csv").write_text("n\n" + "".join(f"{'x' * 100}{number}\n" for number in range(60_000)))
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(JSONL.encode()))
    pq.write_table(pa.table({"n": ["x" * 100 + str(number) for number in range(60_000)]}), tmp_path / "t.parquet")
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        try:
            assert len(values(tmp_path, path=f"{here}/t.csv")) == 60_000
            assert values(tmp_path, path=f"{here}/t.jsonl.gz") == ROWS
            assert refused(tmp_path, f"{here}/none.csv")[0] == f"input.path: nothing is at {here}/none.csv"
            with pytest.raises(SetupError, match="cannot be read in place"):
                values(tmp_path, path=f"{here}/t.parquet")
        finally:
            server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_a_number_of_more_digits_than_python_reads_is_said(tmp_path: Path, name: str) -> None:
    """With its line, as what it is."""
    (tmp_path / name).write_text('{"n": ' + "9" * 5000 + "}")
    with pytest.raises(UsageError, match=rf"{name}:1: .*4300 digits"):
        values(tmp_path, path=name)
