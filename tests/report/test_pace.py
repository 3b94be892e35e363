from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_cli.report.pace import Pace, observe


def after(*looks: tuple[float, int]) -> Pace:
    """The pace after looks at (time, done)."""
    pace: Pace | None = None
    for now, done in looks:
        pace = observe(pace, done, now)
    assert pace is not None
    return pace


def test_nothing_is_told_too_early() -> None:
    """There is no rate before a second has been seen, nor when nothing was done."""
    assert [after((5.0, 100)).rate, after((5.0, 0), (5.5, 50)).rate, after((5.0, 7), (9.0, 7)).rate] == [None] * 3
    assert after((5.0, 0)).seconds_for(10) is None


@given(st.floats(0.1, 1000), st.lists(st.floats(0.2, 20), min_size=6, max_size=40))
def test_steady_pace(per_second: float, gaps: list[float]) -> None:
    """A steady pace is told exactly from the first moment, however unevenly one looks."""
    times = reduce(lambda sofar, gap: [*sofar, sofar[-1] + gap], gaps, [0.0])
    pace: Pace | None = None
    for now in times:
        pace = observe(pace, per_second * now, now)  # type: ignore[arg-type]
    assert pace is not None
    assert pace.rate == pytest.approx(per_second)
    assert pace.seconds_for(1000) == pytest.approx(1000 / per_second)


def test_a_change_shows_smoothly() -> None:
    """After a change of speed the rate moves towards the new one, past a third after 15 seconds, and never beyond."""
    pace = after(*((float(second), 10 * second) for second in range(61)))
    rates = []
    for second in range(1, 61):
        pace = observe(pace, 600 + 100 * second, 60.0 + second)
        rates.append(pace.rate or 0.0)
    assert rates == sorted(rates)
    assert 60 < rates[14] < 75
    assert 95 < rates[59] <= 100


def test_a_clock_that_stands() -> None:
    """Two looks at the same moment are one."""
    assert after((0.0, 0), (2.0, 20), (2.0, 30)) == after((0.0, 0), (2.0, 20))


def test_what_was_there_before_does_not_count() -> None:
    """Rows that were done at the first look make no speed."""
    assert after((0.0, 900), (2.0, 910)).rate == pytest.approx(5)
