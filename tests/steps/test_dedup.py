"""`type: dedup`, exact."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from through_steps import numbered, row, whole

from synth_cli.core.row import Row
from synth_cli.errors import SetupError, UsageError


def test_the_first_of_equals_stays(tmp_path: Path) -> None:
    """As it came, in its place; those after it are counted as left out. Each pass begins anew."""
    step = whole({"type": "dedup", "by": "q"})
    rows = numbered([{"q": "a", "n": 1}, {"q": "b"}, {"q": "a", "n": 2}, {"q": None}, {}, {"q": "b"}])
    for _ in range(2):
        assert list(step.rows(iter(rows), tmp_path)) == [rows[0], rows[1], rows[3]]
        assert step.left_out == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": b"\xff\x00"}, {"a": b"\xff\x00"}, True),
        ({"a": b"\xff\x00"}, {"a": b"\xff\x01"}, False),
        ({"a": {1, 2}}, {"a": {2, 1}}, True),
        ({"a": date(2026, 1, 1)}, {"a": "2026-01-01"}, True),
    ],
)
def test_without_by_all_columns_count(tmp_path: Path, one: dict[str, Any], other: dict[str, Any], equal: bool) -> None:
    """Rows are equal if their JSON is, whatever the order of keys."""
    rows = numbered([one, other])
    assert list(whole({"type": "dedup"}).rows(iter(rows), tmp_path)) == (rows[:1] if equal else rows)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["x", "y"]))))
def test_by_several_columns(pairs: list[tuple[int, str]]) -> None:
    """Any rows: what stays is what a dictionary would keep."""
    from tempfile import TemporaryDirectory

    rows = numbered({"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs))
    firsts = dict(reversed(list(zip(pairs, rows, strict=True))))
    with TemporaryDirectory() as folder:
        step = whole({"type": "dedup", "by": ["a", "b"]})
        assert list(step.rows(iter(rows), Path(folder))) == sorted(firsts.values(), key=lambda row: row.index)


def test_rows_go_on_as_they_come(tmp_path: Path) -> None:
    """A row is there before the next one is asked for; a pass that is given up leaves nothing behind."""
    taken: list[int] = []

    def coming() -> Iterator[Row]:
        for position in range(5):
            taken.append(position)
            yield row(position, q=position // 2)

    rows = whole({"type": "dedup", "by": "q"}).rows(coming(), tmp_path)
    assert isinstance(rows, Iterator)
    assert [next(rows).index, next(rows).index] == [0, 2]
    assert taken == [0, 1, 2]
    rows.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_no_row_has_is_a_slip(tmp_path: Path) -> None:
    """All rows would be equal, and all but one lost: the run stops and says which columns there are."""
    step = whole({"type": "dedup", "by": ["q", "qestion"]})
    with pytest.raises(UsageError) as raised:
        list(step.rows(iter(numbered([{"q": 1, "question": 2}])), tmp_path))
    assert str(raised.value) == "steps.own.by: no row has the column 'qestion'"
    assert raised.value.hint == "there are: q, question"
    assert list(step.rows(iter(()), tmp_path)) == []


def test_a_disk_that_fails_ends_the_run(tmp_path: Path) -> None:
    """With the place and what to do."""
    with pytest.raises(SetupError, match="unable to open database file") as raised:
        list(whole({"type": "dedup"}).rows(iter(numbered([{"a": 1}])), tmp_path / "gone"))
    assert "run again" in raised.value.hint
