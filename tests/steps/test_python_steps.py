"""`type: python`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from through_steps import numbered, row, whole

from synth_cli.core.row import Row
from synth_cli.errors import BudgetReached, UsageError


def through(folder: Path, code: str, rows: Iterator[Row], *, name: str = "own") -> list[Row]:
    """Rows through the function `made` of this code."""
    (folder / "own.py").write_text(code)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    step = whole({"name": name, "type": "python", "function": "own.py:made"}, folder=folder)
    found = list(step.rows(rows, scratch))
    assert step.left_out == 0
    assert list(scratch.iterdir()) == []
    return found


def values(rows: list[Row]) -> list[Any]:
    return [one.values for one in rows]


def test_a_function_from_all_rows_to_rows(tmp_path: Path) -> None:
    """It is given plain mappings, its own to change, and may yield more, fewer and others."""
    code = """
def made(rows):
    total = 0
    for row in rows:
        assert type(row) is dict
        total += row["n"]
        row["n"] *= 10
        if row["n"] != 20:
            yield row
    yield {"total": total}
"""
    rows = numbered([{"n": 1}, {"n": 2}, {"n": 3}])
    found = through(tmp_path, code, iter(rows))
    assert [(one.index, one.values) for one in found] == [(0, {"n": 10}), (2, {"n": 30}), (2, {"total": 6})]
    assert values(rows) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_list_is_as_good_as_yielding(tmp_path: Path) -> None:
    """Whatever can be gone through."""
    code = "def made(rows):\n    return sorted(rows, key=lambda row: -row['n'])\n"
    assert values(through(tmp_path, code, iter(numbered([{"n": 1}, {"n": 2}])))) == [{"n": 2}, {"n": 1}]


def test_rows_go_through_as_they_come(tmp_path: Path) -> None:
    """A function that yields while it reads holds nothing up."""
    (tmp_path / "own.py").write_text("def made(rows):\n    for row in rows:\n        yield row\n")
    taken: list[int] = []

    def coming() -> Iterator[Row]:
        for position in range(3):
            taken.append(position)
            yield row(position)

    step = whole({"type": "python", "function": "own.py:made"}, folder=tmp_path)
    rows = step.rows(coming(), tmp_path)
    next(rows)
    assert taken == [0]


@pytest.mark.parametrize(
    ("code", "indexes"),
    [
        ("for row in rows:\n        if row['n'] > 1: yield row", [8, 9]),
        ("for row in rows:\n        yield {**row, 'more': 1}", [5, 8, 9]),
        ("for row in rows:\n        yield from (row, row)", [5, 5, 8, 8, 9, 9]),
        ("yield from reversed(list(rows))", [9, 8, 9]),
        ("for row in list(rows): yield from ({'a': 1}, {'a': 2})", [5, 8, 9, 9, 9, 9]),
        ("for n in range(5): yield {'n': n}", [5] * 5),
        ("yield {'n': 0}\n    yield from rows", [5, 5, 8, 9]),
    ],
    ids=["filter", "copies", "several", "order", "more", "from nothing", "before it takes"],
)
def test_an_index_is_always_a_given_rows(tmp_path: Path, code: str, indexes: list[int]) -> None:
    """The own one where the mapping is the one given last; otherwise by place, so that many rows are not one."""
    given = [Row(index, bytes(16), {"n": n}) for n, index in enumerate((5, 8, 9), 1)]
    found = through(tmp_path, f"def made(rows):\n    {code}\n", iter(given))
    assert [one.index for one in found] == indexes


def test_ids_are_of_content_and_step(tmp_path: Path) -> None:
    """Equal in every run whatever comes before; equal rows are told apart, and are not those of another step."""
    code = "def made(rows):\n    yield from ({'a': 1}, {'b': 1}, {'a': 1})\n"
    first, again = (through(tmp_path, code, iter(())) for _ in range(2))
    other = through(tmp_path, code, iter(()), name="other")
    fewer = through(tmp_path, code.replace("{'b': 1}, ", ""), iter(()))
    assert first == again
    assert [one.id for one in fewer] == [first[0].id, first[2].id]
    assert len({one.id for one in (*first, *other)}) == 6


def test_values_are_as_they_will_be_written(tmp_path: Path) -> None:
    """Dates, decimals, sets and NaN become what JSON knows."""
    code = """
from datetime import date
from decimal import Decimal
def made(rows):
    yield {"d": date(2026, 1, 2), "n": Decimal("1.5"), "s": {2, 1}, "x": float("nan"), "t": (1,)}
"""
    assert values(through(tmp_path, code, iter(()))) == [
        {"d": "2026-01-02", "n": 1.5, "s": [1, 2], "x": None, "t": [1]}
    ]


@pytest.mark.parametrize(
    ("body", "said", "hint"),
    [
        ("    yield {'a': 1}\n    yield 1 / 0", "failed: ZeroDivisionError: division by zero ({own}:3)", "correct"),
        ("    return {}['k']", "failed: KeyError: 'k' ({own}:2)", "correct the function and run again"),
        ("    return helper()\ndef helper():\n    raise RuntimeError", "failed: RuntimeError ({own}:4)", "correct"),
        ("    yield {'a': 1}\n    exit(0)", "failed: SystemExit: 0 ({own}:3)", "correct"),
        ("    pass", "gave nothing, not rows", "yield a dict for each row, or return a list of dicts"),
        ("    return {'a': 1}", "gave a value of type dict, not rows", "yield a dict for each row"),
        ("    return 'abc'", "gave a value of type str, not rows", "yield a dict for each row"),
        ("    yield {'a': 1}\n    yield [1]", "gave a value of type list as row 1, which is none", "yield a dict"),
        ("    yield None", "gave nothing as row 0, which is none", "yield a dict"),
        ("    yield {1: 2}", "gave a column named 1, not a text, in row 0", "name columns by texts"),
    ],
)
def test_what_the_function_does_wrong(tmp_path: Path, body: str, said: str, hint: str) -> None:
    """Exit 2, with the file, the line and what to do."""
    with pytest.raises(UsageError) as raised:
        through(tmp_path, f"def made(rows):\n{body}\n", iter(numbered([{"n": 1}])))
    words = said.format(own=tmp_path / "own.py")
    assert str(raised.value) == f"steps.own.function: own.py:made {words}"
    assert raised.value.hint.startswith(hint)


@pytest.mark.parametrize("keyword", ["return", "yield"])
def test_an_async_function_is_told(tmp_path: Path, keyword: str) -> None:
    """Rows are gone through as they are, nobody awaits them."""
    with pytest.raises(UsageError, match=r"own\.py:made is async"):
        through(tmp_path, f"async def made(rows):\n    {keyword} []\n", iter(()))


def test_trouble_of_the_rows_before_is_not_the_functions(tmp_path: Path) -> None:
    """What ends the run elsewhere goes through, even where the function would swallow or rename it."""
    code = """
def made(rows):
    try:
        yield from rows
    except Exception as error:
        raise ValueError("mine") from error
"""

    def coming() -> Iterator[Row]:
        yield row(0)
        raise BudgetReached("used up")

    with pytest.raises(BudgetReached, match="used up"):
        through(tmp_path, code, coming())


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("gone.py:made", "steps.own.function: there is no file {folder}/gone.py"),
        ("own.py:other", "steps.own.function: there is no function 'other' in own.py"),
        ("bad.py:made", "steps.own.function: {folder}/bad.py cannot be imported: NameError: name 'x' is not defined"),
    ],
)
def test_a_function_that_cannot_be_had(tmp_path: Path, reference: str, said: str) -> None:
    """It is told when the step is made, before any row."""
    (tmp_path / "own.py").write_text("def made(rows):\n    yield from rows\n")
    (tmp_path / "bad.py").write_text("x\n")
    with pytest.raises(UsageError) as raised:
        whole({"type": "python", "function": reference}, folder=tmp_path)
    assert str(raised.value).startswith(said.format(folder=tmp_path))


def test_modules_beside_the_file_can_be_imported(tmp_path: Path) -> None:
    """As in a script that lies there."""
    (tmp_path / "beside_the_step.py").write_text("N = 3\n")
    code = "def made(rows):\n    import beside_the_step\n    yield {'n': beside_the_step.N}\n"
    assert values(through(tmp_path, code, iter(()))) == [{"n": 3}]


def test_a_number_of_more_digits_than_python_writes_is_said(tmp_path: Path) -> None:
    """Nothing could keep such a row."""
    with pytest.raises(UsageError, match=r"gave row 0, which cannot be kept: .*4300 digits"):
        through(tmp_path, "def made(rows):\n    yield {'n': 2**20000}\n", iter(()))
