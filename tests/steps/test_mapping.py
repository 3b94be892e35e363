"""`type: map`."""

from __future__ import annotations

from typing import Any

import pytest
from through_steps import finished

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.row import Finished


@pytest.mark.parametrize(
    ("keys", "values", "rows"),
    [
        ({}, {"a": 1}, [{"a": 1}]),
        ({"columns": {"b": "{{ a + 1 }}", "c": "{{ b }}/{{ index }}"}}, {"a": 1}, [{"a": 1, "b": 2, "c": "2/5"}]),
        ({"columns": {"a": "{{ a * 2 }}"}, "carry": False}, {"a": 1, "b": 0}, [{"a": 2}]),
        ({"columns": {"c": [1, "{{ b }}"]}, "carry": ["b", "z"]}, {"a": 1, "b": 0}, [{"b": 0, "z": None, "c": [1, 0]}]),
        ({"each": "a"}, {"a": [1, None]}, [{"a": [1, None], "item": 1}, {"a": [1, None], "item": None}]),
        ({"each": "a", "carry": False}, {"a": [{"x": 1}, {"y": 2}]}, [{"x": 1}, {"y": 2}]),
        (
            {"each": "a", "carry": False, "columns": {"n": "{{ item.x }}"}},
            {"a": [{"x": 1}, {"x": 2}]},
            [{"n": 1}, {"n": 2}],
        ),
        ({"each": "a"}, {"a": []}, []),
        ({"columns": {"r": "{{ response }}"}, "carry": False}, {"response": "kept"}, [{"r": "kept"}]),
        # sampling parameters of a row go as far as the model that they are for
        ({}, {"generation_params": {"top_p": 1}}, [{"generation_params": {"top_p": 1}}]),
    ],
)
def test_rows(keys: dict[str, Any], values: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """`each`, `columns` and `carry` mean what they mean in a step with a model; `response` is a column like others."""
    assert finished({"type": "map", **keys}, **values) == Finished(tuple(rows))


def test_keep_if_leaves_rows_out() -> None:
    """What it leaves out is counted as filtered; it sees the finished row and the input's columns."""
    keys = {"type": "map", "each": "a", "carry": False, "columns": {"n": "{{ item }}"}, "keep_if": "n < vars.limit + b"}
    assert finished(keys, a=[1, 2, 3, 4], b=1) == Finished(({"n": 1}, {"n": 2}), 2)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": {"x": "{{ a.b }}"}}, "columns.x: no key 'b' (there are: c)"),
        ({"each": "a"}, "each: a list is wanted, not dict"),
        ({"each": "[a]"}, "the field 'c' of an item would overwrite the carried column; use columns or carry"),
        ({"keep_if": "z"}, "keep_if: no column 'z'; the row has: a, c"),
    ],
)
def test_a_failed_row_is_a_value(keys: dict[str, Any], message: str) -> None:
    """An error in an expression fails the row; where failed rows are kept, its columns are null."""
    failures = ((0, Fault(FaultKind.TEMPLATE, message)),)
    values: dict[str, Any] = {"a": {"c": 1}, "c": 2}
    assert finished({"type": "map", **keys}, **values) == Finished(failures=failures)
    nulls = dict.fromkeys(keys.get("columns", {}))
    kept = Finished(({**values, **nulls},), failures=failures)
    assert finished({"type": "map", **keys, "on_failure": "keep"}, **values) == kept
