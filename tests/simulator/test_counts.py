from __future__ import annotations

from synth_cli.simulator.counts import Counts


def test_the_latest_contents_are_told_apart() -> None:
    """At least the last `remember` contents keep their tries and answers; older ones are forgotten, not the totals."""
    counts = Counts(remember=10)
    for content in range(100):
        counts.turn(content)
        counts.answer(content, tokens=1)
    assert [counts.turns(content) for content in (99, 90, 1)] == [1, 1, 0]
    counts.answer(95, tokens=1)
    counts.answer(1, tokens=1)
    assert (counts.answered, counts.distinct, counts.tokens) == (102, 101, 102)
    assert counts.snapshot()["repeated"] == 1


def test_a_reset_keeps_what_is_under_way() -> None:
    """Requests that are in flight leave after a reset as before it."""
    counts = Counts(remember=10)
    counts.enter()
    counts.reset()
    counts.leave("chat", "answered")
    assert (counts.in_flight, counts.peak) == (0, 1)
