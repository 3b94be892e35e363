"""From source to rows: identity, order, conditions."""

from __future__ import annotations

import subprocess
import sys
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from input_reading import Seen, reading, values

from synth_cli.compile.inputs import count_rows, known_columns, read, row_id, volatile
from synth_cli.compile.inputs.order import shuffled
from synth_cli.core.row import Row
from synth_cli.errors import UsageError
from synth_cli.spec.model import Dataset, Input, Sql
from synth_cli.template import Templates

HERE = Path("/")


def test_no_input_is_one_empty_row() -> None:
    """The same with an input that has no source."""
    templates = Templates(vars={}, seed=0)
    (none,) = read(None, folder=HERE, seed=0, templates=templates, tally=Seen())
    (bare,) = reading(HERE)
    assert (none.index, none.values) == (0, {})
    assert none == bare


def test_count_gives_rows_that_have_only_index() -> None:
    """And none for 0."""
    assert values(HERE, count=3) == [{"index": 0}, {"index": 1}, {"index": 2}]
    assert values(HERE, count=0) == []


def test_matrix_is_the_product_of_its_lists_the_last_fastest() -> None:
    """An empty list makes an empty product."""
    assert values(HERE, matrix={"a": [1, 2], "b": ["x", None]}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
        {"a": 2, "b": None},
    ]
    assert values(HERE, matrix={"a": [1], "b": []}) == []


def test_rows_of_the_spec_are_data() -> None:
    """Never rendered as templates; what JSON cannot hold becomes what it can."""
    rows = [{"a": "{{ x }}", "b": {1: float("nan")}}, {}]
    assert values(HERE, rows=rows) == [{"a": "{{ x }}", "b": {"1": None}}, {}]


def test_two_sources_are_an_error() -> None:
    """Exactly one, or none."""
    with pytest.raises(UsageError, match="more than one source: rows, count"):
        reading(HERE, rows=[], count=1)


def test_equal_rows_have_different_ids_that_stay() -> None:
    """The nth of equal rows is the same one whatever else is in the input, and however many follow."""
    few = reading(HERE, rows=[{"a": 1}, {"a": 1}])
    many = reading(HERE, rows=[{"b": 0}, {"a": 1}, {"c": 0}, {"a": 1}, {"a": 1}])
    assert len({row.id for row in many}) == 5
    assert [row.id for row in few] == [many[1].id, many[3].id]
    assert {len(row.id) for row in many} == {16}


def test_an_id_is_of_the_content_not_of_the_order_of_columns() -> None:
    """A column moved in a file changes no row; a value changed does."""
    ids = [reading(HERE, rows=[row])[0].id for row in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": "2"})]
    assert ids[0] == ids[1] != ids[2]


def test_bytes_count_by_what_they_are() -> None:
    """Two images differ by their bytes alone, and a text is never taken for bytes."""
    from synth_cli.compile.inputs import Contents

    contents = Contents()
    assert len({contents.of({"a": value}) for value in (b"x", b"y", "x", {"": "x"})}) == 4
    assert contents.of({"a": b"x"}) == contents.of({"a": bytearray(b"x")})


def test_the_first_of_equal_rows_has_the_contents_own_hash() -> None:
    """And each later one another."""
    content = b"0123456789abcdef"
    assert row_id(content) == row_id(content, 0) == content
    assert len({row_id(content, before) for before in range(100)}) == 100


def test_a_key_identifies_a_row() -> None:
    """Other columns may change without making it another row; equal keys are told apart in order."""
    old = reading(HERE, rows=[{"id": 1, "text": "old"}, {"id": 2, "text": "x"}], key="id")
    new = reading(HERE, rows=[{"id": 2, "text": "y"}, {"id": 1, "text": "new"}, {"id": 1, "text": "z"}], key=["id"])
    assert [row.id for row in old] == [new[1].id, new[0].id]
    assert new[2].id not in {row.id for row in old}


def test_a_row_without_the_key_is_named() -> None:
    """With the columns that it has."""
    with pytest.raises(UsageError) as caught:
        reading(HERE, rows=[{"id": 1}, {"name": "x", "b": 1}], key="id")
    assert (caught.value.message, caught.value.hint) == (
        "input.key: row 1 has no column 'id'",
        "it has: name, b",
    )


def test_a_key_may_be_a_drawn_column() -> None:
    """Draws depend on the source's row, the identity then on the key."""
    columns: dict[str, Any] = {"id": {"uuid": {}}, "n": {"uniform": {}}}
    keyed = reading(HERE, count=3, columns=columns, key="id")
    plain = reading(HERE, count=3, columns=columns)
    assert [row.values for row in keyed] == [row.values for row in plain]
    assert len({row.id for row in keyed} | {row.id for row in plain}) == 6


def test_where_shuffle_skip_take_follow_in_this_order() -> None:
    """Skipping and taking count what the condition left, in the shuffled order; indices are the source's."""
    where = "index % 2 == 0"
    kept = [row.index for row in reading(HERE, count=20, where=where)]
    mixed = [row.index for row in reading(HERE, count=20, where=where, shuffle=True)]
    some = [row.index for row in reading(HERE, count=20, where=where, shuffle=True, skip=2, take=3)]
    assert kept == list(range(0, 20, 2))
    assert sorted(mixed) == kept != mixed
    assert some == mixed[2:5]


def test_skip_and_take_may_reach_beyond_the_end() -> None:
    """They take what there is."""
    assert [row.index for row in reading(HERE, count=3, skip=1, take=9)] == [1, 2]
    assert reading(HERE, count=3, skip=9) == []
    assert reading(HERE, count=3, take=0) == []


def test_where_sees_columns_drawn_before() -> None:
    """`columns` come before `where`."""
    drawn = values(HERE, count=50, columns={"tone": {"category": ["calm", "angry"]}}, where="{{ tone == 'calm' }}")
    assert 0 < len(drawn) < 50
    assert {row["tone"] for row in drawn} == {"calm"}


def test_a_row_that_where_cannot_judge_is_named() -> None:
    """With the way to ask for a column that only some rows have."""
    with pytest.raises(UsageError, match=r"^input\.where: row 1: ") as caught:
        reading(HERE, rows=[{"lang": "en"}, {}], where="lang == 'en'")
    assert "row.get('name')" in caught.value.hint
    assert values(HERE, rows=[{"lang": "en"}, {}], where="row.get('lang') == 'en'") == [{"lang": "en"}]


def test_a_seed_shuffles_its_own_way_and_always_the_same() -> None:
    """Another seed, another order."""
    first = [row.index for row in reading(HERE, count=50, shuffle=True, seed=1)]
    assert first == [row.index for row in reading(HERE, count=50, shuffle=True, seed=1)]
    assert first != [row.index for row in reading(HERE, count=50, shuffle=True, seed=2)]


def test_more_rows_keep_the_order_of_those_that_were_there() -> None:
    """A row's place depends on itself alone."""
    few = [row.index for row in reading(HERE, count=30, shuffle=True)]
    many = [row.index for row in reading(HERE, count=60, shuffle=True) if row.index < 30]
    assert few == many


def test_a_few_rows_of_a_shuffle_are_the_first_of_all() -> None:
    """Whether they are picked on the way or sorted as a whole; bytes and nested values come through."""
    rows = [Row(index, index.to_bytes(16, "big"), {"b": b"\xff", "l": [index]}) for index in range(5000)]
    whole = list(shuffled(iter(rows), 3))
    assert sorted(whole, key=lambda row: row.index) == rows
    assert list(shuffled(iter(rows), 3, 7)) == whole[:7]


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A mistake far down the file is met only when reading gets there, and what is taken bounds what is read."""
    good = "".join(f'{{"n": {number}}}\n' for number in range(2000))
    (tmp_path / "t.jsonl").write_text(good + "oops\n")
    templates = Templates(vars={}, seed=0)
    source = Input(path="t.jsonl")
    rows = read(source, folder=tmp_path, seed=0, templates=templates, tally=Seen())
    assert [row.index for row in islice(rows, 100)] == list(range(100))
    assert len(values(tmp_path, path="t.jsonl", take=2000)) == 2000
    with pytest.raises(UsageError, match=r"t\.jsonl:2001:1: not valid JSON"):
        values(tmp_path, path="t.jsonl")


def test_equals_are_counted_in_chunks() -> None:
    """Small ones first, then 512 rows; rows of megabytes end a chunk early."""
    seen = Seen()
    templates = Templates(vars={}, seed=0)
    source = Input(rows=[{"n": number} for number in range(2000)])
    list(read(source, folder=HERE, seed=0, templates=templates, tally=seen))
    assert seen.calls == [16, 32, 64, 128, 256, 512, 512, 480]
    seen = Seen()
    heavy = Input(rows=[{"n": "x" * (5 << 20)} for _ in range(5)])
    list(read(heavy, folder=HERE, seed=0, templates=templates, tally=seen))
    assert seen.calls == [2, 2, 1]


def test_volatile_sources_are_those_that_may_change_between_readings() -> None:
    """Queries, streams and addresses."""
    assert [
        volatile(None),
        volatile(Input(path="a.csv")),
        volatile(Input(path="s3://bucket/a.csv")),
        volatile(Input(sql=Sql(url="sqlite://", query="SELECT 1"))),
        volatile(Input(dataset="owner/name")),
        volatile(Input(dataset=Dataset.model_validate({"name": "owner/name", "streaming": True}))),
    ] == [False, False, True, True, False, True]


def test_columns_are_known_without_reading_all(tmp_path: Path) -> None:
    """From headers, schemas, first rows and the spec; drawn columns are added."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.csv").write_text("\ufeffa,b\n1\n")
    (tmp_path / "b.jsonl").write_text('{"c": 1}\n{"d": 2}\n')
    (tmp_path / "long.jsonl").write_text('{"c": 1}\n' * 200 + "oops")
    (tmp_path / "mixed.jsonl").write_text('{"c": 1}\n' * 50 + '{"d": 1}\n' * 100)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "d.txt").write_text("x")
    pq.write_table(pa.table({"p": [1]}), tmp_path / "e.parquet")

    def known(**keys: Any) -> frozenset[str] | None:
        return known_columns(Input(**keys), folder=tmp_path)

    assert known_columns(None, folder=tmp_path) == frozenset()
    assert known(path="a.csv", columns={"x": {"uuid": {}}}) == {"a", "b", "x"}
    assert known(path="[ab].*") == {"a", "b", "c", "d"}
    assert known(path="long.jsonl") == {"c"}
    assert known(path="mixed.jsonl") is None
    assert known(path="empty.csv") is None
    assert known(path="d.txt") == {"path", "name", "text"}
    assert known(path="e.parquet") == {"p"}
    assert known(rows=[{"a": 1}, {"b": 2}]) == {"a", "b"}
    assert known(count=2) == {"index"}
    assert known(matrix={"a": [1]}) == {"a"}
    assert known(columns={"x": 1}) == {"x"}
    assert known(path="s3://bucket/a.csv") is None
    assert known(dataset="owner/name") is None
    assert known(sql=Sql(url="sqlite://", query="SELECT 1")) is None
    with pytest.raises(UsageError, match=r"none\.csv does not exist"):
        known(path="none.csv")


def test_rows_are_counted_where_that_is_cheap(tmp_path: Path) -> None:
    """What is counted is what `read` gives."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.csv").write_text('a\n"x\ny"\n\n2\n3')
    (tmp_path / "b.jsonl").write_text('{"c": 1}\n\n{"d": 2}')
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "d.txt").write_text("x")
    pq.write_table(pa.table({"p": [1, 2]}), tmp_path / "e.parquet")
    sources = [
        Input(path="a.csv"),
        Input(path="[abde].*"),
        Input(path="b.jsonl", take=1),
        Input(rows=[{}, {}], skip=1),
        Input(count=10, skip=3, take=4, shuffle=True),
        Input(matrix={"a": [1, 2], "b": [1, 2, 3]}),
        Input(),
    ]
    counts = [count_rows(source, folder=tmp_path) for source in sources]
    assert counts == [3, 8, 1, 1, 4, 6, 1]
    templates = Templates(vars={}, seed=0)
    assert counts == [
        len(list(read(source, folder=tmp_path, seed=0, templates=templates, tally=Seen()))) for source in sources
    ]
    unknown = [Input(path="c.json"), Input(count=5, where="index > 2"), Input(dataset="owner/name")]
    assert [count_rows(source, folder=tmp_path) for source in unknown] == [None, None, None]
    assert count_rows(None, folder=tmp_path) == 1


def test_a_plain_source_imports_nothing_heavy(tmp_path: Path) -> None:
    """Parquet, datasets, databases and Faker are loaded by those specs that use them."""
    (tmp_path / "t.csv").write_text("a\n1\n")
    program = f"""
import sys
from pathlib import Path
from synth_cli.compile.inputs import read
from synth_cli.spec.model import Input
from synth_cli.template import Templates
source = Input(path="t.csv", columns={{"n": {{"uniform": {{}}}}}}, shuffle=True)
folder, templates = Path({str(tmp_path)!r}), Templates(vars={{}}, seed=0)
assert len(list(read(source, folder=folder, seed=0, templates=templates, tally=lambda hashes: [0] * len(hashes)))) == 1
heavy = {{"pyarrow", "datasets", "sqlalchemy", "faker", "fsspec", "zstandard", "pandas", "numpy"}}
print(sorted(heavy & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_memory_stays_flat() -> None:
    """Rows are not kept: an endless source can be begun."""
    from synth_cli.compile.inputs.reading import _identified

    endless = ({"n": number} for number in count())
    assert [row.index for row in islice(_identified(endless, None, Seen()), 3)] == [0, 1, 2]
