"""Drawn columns: what they give, that they depend on seed, column and row alone, and what is said of bad ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from uuid import UUID

import orjson
import pytest
from input_reading import reading, values

from synth_cli.errors import UsageError
from synth_cli.steps.samplers import SAMPLERS, problems
from synth_cli.template import Templates

HERE = Path("/")


def drawn(node: Any, count: int = 2000, seed: int = 0, **others: Any) -> list[Any]:
    return [row["x"] for row in values(HERE, count=count, columns={**others, "x": node}, seed=seed)]


def test_a_category_keeps_its_weights() -> None:
    """Equal ones for a list; values keep their type, a weight of 0 never comes."""
    even = Counter(drawn({"category": [1, None]}))
    odd = Counter(drawn({"category": {"calm": 3, "angry": 1, "never": 0}}))
    assert set(even) == {1, None}
    assert set(odd) == {"calm", "angry"}
    assert abs(even[1] - 1000) < 150
    assert abs(odd["calm"] - 1500) < 150


def test_a_gaussian_has_its_mean_and_deviation_within_its_bounds() -> None:
    """Cut off, not heaped up at a bound."""
    free = drawn({"gaussian": {"mean": 40, "stddev": 9}})
    cut = drawn({"gaussian": {"mean": 40, "stddev": 9, "min": 38, "max": 60}})
    whole = drawn({"gaussian": {"mean": 3, "stddev": 1, "min": 1, "max": 5, "integer": True}})
    assert abs(fmean(free) - 40) < 1
    assert abs(stdev(free) - 9) < 1
    assert 38 < min(cut) < 38.5
    assert 55 < max(cut) < 60
    assert set(whole) == {1, 2, 3, 4, 5}
    assert {type(value) for value in whole} == {int}


def test_a_gaussian_far_from_its_bounds_still_lies_within() -> None:
    """Where the distribution has nothing left, the nearest bound is the value."""
    assert set(drawn({"gaussian": {"mean": 0, "stddev": 1, "min": 100}}, 3)) == {100}
    assert set(drawn({"gaussian": {"mean": 0, "stddev": 1, "max": -100}}, 3)) == {-100}
    assert drawn({"gaussian": {"mean": 7, "stddev": 0}}, 2) == [7, 7]


def test_uniform_covers_its_range() -> None:
    """Both ends as integers; as numbers never the upper one."""
    dice = Counter(drawn({"uniform": {"min": 1, "max": 6, "integer": True}}))
    free = drawn({"uniform": {"min": -1, "max": 1}})
    assert sorted(dice) == [1, 2, 3, 4, 5, 6]
    assert min(dice.values()) > 250
    assert -1 <= min(free) < -0.99
    assert 0.99 < max(free) < 1
    assert all(0 <= value < 1 for value in drawn({"uniform": None}, 100))


def test_dates_cover_their_days() -> None:
    """Both ends included; with a time of day where the bounds have one."""
    days = drawn({"date": {"start": "2000-02-28", "end": "2000-03-01"}}, 200)
    times = drawn({"date": {"start": "2000-01-01T00:00:00", "end": "2000-01-01T00:00:01"}}, 50)
    assert set(days) == {"2000-02-28", "2000-02-29", "2000-03-01"}
    assert set(times) == {"2000-01-01T00:00:00", "2000-01-01T00:00:01"}


def test_uuids_are_valid_and_different() -> None:
    """Version 4, as text."""
    ids = drawn({"uuid": {}}, 500)
    assert len(set(ids)) == 500
    assert {UUID(value).version for value in ids} == {4}


def test_a_person_fits_its_locale_and_can_be_written() -> None:
    """Plain JSON; the same again for the same row; ages and sex as asked."""
    british = drawn({"person": {"locale": "en_GB", "sex": "female", "min_age": 30, "max_age": 40}}, 20)
    assert {(who["sex"], who["locale"]) for who in british} == {("female", "en_GB")}
    assert all(30 <= who["age"] <= 40 for who in british)
    assert all(who["name"] == f"{who['first_name']} {who['last_name']}" for who in british)
    assert orjson.loads(orjson.dumps(british)) == british
    assert british == drawn({"person": {"locale": "en_GB", "sex": "female", "min_age": 30, "max_age": 40}}, 20)
    assert {who["locale"] for who in drawn({"person": {"locale": ["ja_JP", "de_DE"]}}, 20)} == {"ja_JP", "de_DE"}
    assert set(drawn({"person": {}}, 1)[0]) >= {"first_name", "last_name", "name", "sex", "age", "email", "city", "job"}


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_more_rows_and_more_columns_change_nothing(name: str) -> None:
    """A draw depends on seed, column and row alone."""
    node = {name: {"category": list(range(1000)), "date": {"start": "1900-01-01", "end": "2000-01-01"}}.get(name)}
    few = drawn(node, 10)
    assert few == drawn(node, 20, before={"uniform": {}})[:10]
    assert few != drawn(node, 10, seed=1)
    assert [row["x"] for row in values(HERE, count=10, columns={"x": node, "y": node})] == few


def test_two_columns_of_one_sampler_are_independent() -> None:
    """The column's name is part of the draw."""
    rows = values(HERE, count=50, columns={"a": {"uniform": {}}, "b": {"uniform": {}}})
    assert all(row["a"] != row["b"] for row in rows)


def test_equal_source_rows_draw_their_own() -> None:
    """Each has an identity of its own; where a row stands does not matter."""
    columns: dict[str, Any] = {"x": {"uuid": {}}}
    here = values(HERE, rows=[{"a": 1}, {"a": 1}], columns=columns)
    there = values(HERE, rows=[{"b": 1}, {"a": 1}, {"a": 1}], columns=columns)
    assert here == there[1:]
    assert here[0] != here[1]


def test_arguments_may_be_templates_over_earlier_columns() -> None:
    """Of the source, of columns drawn before, and of `vars`; a template may give all of the arguments."""
    rows = reading(
        HERE,
        rows=[{"low": "5", "choices": ["x"]}, {"low": "7", "choices": ["y"]}],
        columns={
            "n": {"uniform": {"min": "{{ low }}", "max": "{{ low }}", "integer": True}},
            "m": {"gaussian": {"mean": "{{ n * vars.factor }}", "stddev": 0}},
            "pick": {"category": "{{ choices }}"},
            "tag": {"category": ["{{ pick }}{{ index }}"]},
        },
        vars={"factor": 2},
    )
    assert [dict(row.values) for row in rows] == [
        {"low": "5", "choices": ["x"], "n": 5, "m": 10, "pick": "x", "tag": "x0"},
        {"low": "7", "choices": ["y"], "n": 7, "m": 14, "pick": "y", "tag": "y1"},
    ]


def test_other_columns_are_templates_or_values() -> None:
    """A mapping that asks for no sampler is a value; a later column may replace one of the source."""
    columns = {
        "hello": "Hi {{ name }}",
        "fixed": {"a": 1, "b": [None]},
        "one": {"k": "{{ name }}"},
        "name": "{{ name|upper }}",
    }
    assert values(HERE, rows=[{"name": "bo"}], columns=columns) == [
        {"name": "BO", "hello": "Hi bo", "fixed": {"a": 1, "b": [None]}, "one": {"k": "bo"}}
    ]


def test_all_bad_columns_are_named_at_once() -> None:
    """Before any row is drawn, with the nearest right word."""
    columns = {
        "a": {"gausian": {}},
        "b": {"gaussian": {"std": 1}},
        "c": {"uniform": {"min": 2, "max": 1}},
        "d": {"category": []},
        "e": {"category": {"x": "often"}},
        "f": {"date": {"start": "soon"}},
        "g": {"person": {"locale": "xx_XX"}},
        "h": {"uniform": {"min": 0.2, "max": 0.8, "integer": True}},
        "i": "{{ oops",
        "j": {"normal": {}},
        "k": {"uuid": {"version": 1}},
        "l": {"category": {"x": -1}},
        "m": {"date": {"start": "2000-01-02", "end": "2000-01-01"}},
    }
    found = dict(problems(columns, Templates(vars={}, seed=0)))
    assert found.pop(("columns", "i"))
    assert found == {
        ("columns", "a"): "there is no sampler 'gausian'; did you mean 'gaussian'?",
        ("columns", "b"): "unknown argument 'std'; did you mean 'stddev'?",
        ("columns", "c"): "min (2) is greater than max (1)",
        ("columns", "d"): "has no values to choose from",
        ("columns", "e"): "the weight of 'x' must be a number, not 'often'",
        ("columns", "f"): "start must be a date like 1990-12-31, not 'soon'",
        ("columns", "g"): "Faker has no locale 'xx_XX'; write it like en_US, de_DE or ja_JP",
        ("columns", "h"): "there is no integer from 0.2 to 0.8",
        ("columns", "j"): "there is no sampler 'normal'; did you mean 'gaussian'?",
        ("columns", "k"): "unknown argument 'version'; known: none",
        ("columns", "l"): "weights must not be negative, and not all 0",
        ("columns", "m"): "end (2000-01-01) lies before start (2000-01-02)",
    }
    with pytest.raises(UsageError) as caught:
        values(HERE, count=1, columns=columns)
    assert len(caught.value.message.splitlines()) == len(columns)


def test_a_row_that_cannot_be_drawn_is_named() -> None:
    """The column, the row and the cause."""
    with pytest.raises(UsageError, match=r"^input\.columns\.x: row 1 cannot be drawn: mean must be a number, not 'b'$"):
        values(HERE, rows=[{"m": 1}, {"m": "b"}], columns={"x": {"gaussian": {"mean": "{{ m }}"}}})
    with pytest.raises(UsageError, match=r"^input\.columns\.x: row 0 cannot be drawn: .*nosuch"):
        values(HERE, rows=[{"m": 1}], columns={"x": "{{ nosuch }}"})


def test_integers_beyond_64_bits_are_floats() -> None:
    """As those of files are: a row of the input is always JSON."""
    for node in ({"uniform": {"min": 1e30, "max": 1e31}}, {"gaussian": {"mean": 1e30, "stddev": 0}}):
        (sampler, arguments), *_ = node.items()
        assert all(isinstance(value, float) for value in drawn({sampler: {**arguments, "integer": True}}, count=9))
