"""`type: group`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from through_steps import numbered, row, whole

from synth_cli.errors import UsageError


def test_rows_with_equal_keys_become_one(tmp_path: Path) -> None:
    """Keys stay, other columns are lists in the order of the rows, null where a row had none."""
    rows = numbered(
        [
            {"q": "a", "answer": "1", "score": 5},
            {"q": "b", "answer": "2"},
            {"q": "a", "answer": "3"},
            {"q": "a", "answer": None, "note": [1]},
        ]
    )
    step = whole({"type": "group", "by": "q"})
    made = list(step.rows(iter(rows), tmp_path))
    assert [(one.index, one.values) for one in made] == [
        (0, {"q": "a", "answer": ["1", "3", None], "score": [5, None, None], "note": [None, None, [1]]}),
        (1, {"q": "b", "answer": ["2"]}),
    ]
    assert [list(one.values) for one in made] == [["q", "answer", "score", "note"], ["q", "answer"]]
    assert step.left_out == 0
    assert list(tmp_path.iterdir()) == []


def test_a_groups_id_is_of_its_members(tmp_path: Path) -> None:
    """It depends on who they are and in which order, and is none of theirs; other groups do not matter."""
    step = whole({"type": "group", "by": ["q"]})

    def ids(*positions: int) -> list[bytes]:
        return [one.id for one in step.rows(iter([row(at, q=at % 2) for at in positions]), tmp_path)]

    assert ids(0, 1, 2) == [*ids(0, 2), *ids(1)]
    assert len({*ids(0, 2), *ids(2, 0), *ids(0), row(0).id}) == 4
    assert [len(id) for id in ids(0)] == [16]


@pytest.mark.parametrize(("by", "kept"), [("q", []), (["q", "generation_params"], ["generation_params"])], ids=str)
def test_sampling_parameters_of_a_row_are_not_the_groups(tmp_path: Path, by: str | list[str], kept: list[str]) -> None:
    """A list of them could be sent to nobody; where rows are grouped by them they are each group's own."""
    rows = [row(at, q="a", generation_params={"top_p": 0.5}, n=at) for at in range(2)]
    made = list(whole({"type": "group", "by": by}).rows(iter(rows), tmp_path))
    assert [list(one.values) for one in made] == [["q", *kept, "n"]]


def test_the_index_is_the_first_members(tmp_path: Path) -> None:
    """Groups come in the order of their first rows, whatever the rows' indexes."""
    step = whole({"type": "group", "by": "q"})
    made = list(step.rows(iter([row(7, q="x"), row(3, q="y"), row(1, q="x")]), tmp_path))
    assert [(one.index, one.values) for one in made] == [(7, {"q": "x"}), (3, {"q": "y"})]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans() | st.none()), max_size=40))
def test_nothing_is_lost(pairs: list[tuple[int, bool | None]]) -> None:
    """Every row's values are in its group, in order, also where groups are interleaved."""
    from tempfile import TemporaryDirectory

    rows = numbered({"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs))
    groups: dict[tuple[int, bool | None], list[int]] = {}
    for n, pair in enumerate(pairs):
        groups.setdefault(pair, []).append(n)
    with TemporaryDirectory() as folder:
        made = list(whole({"type": "group", "by": ["a", "b"]}).rows(iter(rows), Path(folder)))
    assert [one.values for one in made] == [{"a": a, "b": b, "n": members} for (a, b), members in groups.items()]


def test_what_only_python_knows_comes_back(tmp_path: Path) -> None:
    """Bytes of a file or an image go through the disk as they are."""
    rows = numbered([{"q": b"\x00", "file": b"\xff"}, {"q": b"\x00", "file": b"\xfe"}])
    (made,) = whole({"type": "group", "by": "q"}).rows(iter(rows), tmp_path)
    assert made.values == {"q": b"\x00", "file": [b"\xff", b"\xfe"]}


def test_a_column_that_no_row_has_is_a_slip(tmp_path: Path) -> None:
    """Before any group goes on."""
    with pytest.raises(UsageError, match=r"steps\.own\.by: no row has the column 'p'"):
        next(whole({"type": "group", "by": "p"}).rows(iter(numbered([{"q": 1}])), tmp_path))


def test_memory_stays_flat(tmp_path: Path) -> None:
    """6,000 rows of 2 kB in 1,000 groups that are all open at once take less than 2 MiB beyond the page cache."""
    import tracemalloc

    order = [at % 1000 for at in range(6000)]
    random.Random(0).shuffle(order)
    rows = (row(at, q=q, text=f"{at:09d}" + "x" * 2000) for at, q in enumerate(order))
    step = whole({"type": "group", "by": "q"})
    tracemalloc.start()
    try:
        count = sum(1 for _ in step.rows(rows, tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 1000
    assert peak < 2 << 20
