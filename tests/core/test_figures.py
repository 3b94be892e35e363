"""Outcomes as figures."""

from __future__ import annotations

import pytest

from synth_cli.core.events import Faulted, Replied
from synth_cli.core.figures import Latency, Traffic, first_tokens, latency_of, traffic_of
from synth_cli.core.reply import Answer, Fault, FaultKind, Usage


def test_percentiles_are_values_that_occurred() -> None:
    """Percentiles are by nearest rank: always one of the values, the last one for few."""
    assert [latency_of(range(1, count + 1), count) for count in (1, 2, 20, 1000)] == [
        Latency(1, 1, 1),
        Latency(1, 2, 2),
        Latency(10, 19, 20),
        Latency(500, 950, 990),
    ]
    assert latency_of([], 0) is None


def test_nothing_sent_is_all_zero() -> None:
    """Without outcomes the figures are those of an empty run."""
    assert traffic_of([]) == Traffic()


def test_outcomes_are_counted() -> None:
    """Each attempt is a request; replies, faults, tokens and cost are summed apart from what is not known."""
    answer = Answer("openai", b"")
    outcomes = [
        Faulted(b"a", "main", 1, Fault(FaultKind.TIMEOUT, "no answer"), 9.0, 5.0),
        Replied(b"a", "main", 2, answer, 10.0, 1.0, "m", "stop", Usage(10, 2, 1, 0, 1), 0.5),
        Replied(b"b", "main", 1, answer, 12.0, 3.0, "m", None, None, None),
    ]
    traffic = traffic_of(outcomes)
    assert traffic == Traffic(
        replies=2,
        faults={FaultKind.TIMEOUT: 1},
        retries=1,
        usage=Usage(10, 2, 1, 0, 1),
        unmetered=1,
        cost=0.5,
        unpriced=1,
        finish_reasons={"stop": 1, "": 1},
        models={"m": 2},
        latency=Latency(1.0, 3.0, 3.0),
        first=4.0,
        last=12.0,
    )
    assert (traffic.requests, traffic.faulted) == (3, 1)


@pytest.mark.parametrize(
    ("traffic", "known"),
    [
        (Traffic(), 0.0),
        (Traffic(replies=2, unpriced=2), None),
        (Traffic(replies=2, unpriced=1, cost=0.5), 0.5),
        (Traffic(replies=2), 0.0),
    ],
)
def test_an_unknown_cost_is_not_nothing(traffic: Traffic, known: float | None) -> None:
    """The cost is unknown where replies came and none has a price; free is 0."""
    assert traffic.known_cost == known


def test_times_to_the_first_token_are_found_in_bodies() -> None:
    """At a body's end, however the number is written; a text that speaks of it says nothing."""
    bodies = [
        b'{"choices":[],"vllm":{"time_to_first_token":0.5,"time_in_queue":0.1}}',
        b'{"vllm": {"time_to_first_token": 2e-3}}',
        b'{"choices":[{"message":{"content":"\\"time_to_first_token\\":9"}}]}',
        b'{"vllm":{"time_to_first_token":null}}',
        b"{}",
    ]
    assert first_tokens(bodies) == Latency(0.002, 0.5, 0.5)
    assert first_tokens(bodies[2:]) is None


@pytest.mark.parametrize(
    ("traffic", "per_second"),
    [
        (Traffic(replies=2, usage=Usage(10, 300), first=100.0, last=103.0), 100.0),
        (Traffic(replies=2, unmetered=1, usage=Usage(10, 300), first=100.0, last=103.0), 100.0),
        (Traffic(replies=2, unmetered=2, first=100.0, last=103.0), None),
        (Traffic(replies=1, usage=Usage(1, 1), first=100.0, last=100.0), None),
        (Traffic(faults={FaultKind.TIMEOUT: 1}, first=100.0, last=103.0), None),
        (Traffic(), None),
    ],
)
def test_output_tokens_per_second_of_asking(traffic: Traffic, per_second: float | None) -> None:
    """From the first request sent to the last outcome; unknown where no answer's usage is known."""
    assert traffic.output_rate == per_second
