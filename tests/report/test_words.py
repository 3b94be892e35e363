from __future__ import annotations

import pytest

from synth_cli.core.figures import Traffic
from synth_cli.report.words import brief_cost, cost, counted, duration, latency, percent, rate, short, usd


def test_durations() -> None:
    """A duration has two units at most, and no unit overflows by rounding."""
    seconds = [0, 0.04, 9.94, 9.96, 59.4, 59.6, 72, 3599.6, 11_100, 86_399.7, 187_200]
    assert [duration(each) for each in seconds] == [
        "0.0s",
        "0.0s",
        "9.9s",
        "10s",
        "59s",
        "1m00s",
        "1m12s",
        "1h00m",
        "3h05m",
        "1d00h",
        "2d04h",
    ]


def test_money() -> None:
    """Money is in cents, and below a cent as precise as it takes; only nothing is $0."""
    values = [0, 1e-9, 0.0000012, 0.00042, 0.0042, 0.00994, 0.00996, 0.42, 12.34, 1234.5]
    assert [usd(value) for value in values] == [
        "$0",
        "<$0.000001",
        "$0.0000012",
        "$0.00042",
        "$0.0042",
        "$0.0099",
        "$0.01",
        "$0.42",
        "$12.34",
        "$1,234.50",
    ]


@pytest.mark.parametrize(
    ("traffic", "words", "brief"),
    [
        (Traffic(replies=2, cost=0.42), "$0.42", "$0.42"),
        (Traffic(replies=2, unpriced=2), "unknown", "cost unknown"),
        (Traffic(replies=2000, cost=0.42, unpriced=1200), "$0.42 + 1,200 answers of unknown price", "$0.42+"),
        (Traffic(replies=2, cost=0.42, unpriced=1), "$0.42 + 1 answer of unknown price", "$0.42+"),
        (Traffic(), "$0", "$0"),
    ],
)
def test_cost(traffic: Traffic, words: str, brief: str) -> None:
    """A price that is not known is never $0, and one that is known in part says so."""
    assert (cost(traffic), brief_cost(traffic)) == (words, brief)


def test_counts() -> None:
    """Large counts are short, others are whole."""
    counts = [0, 9_999, 10_000, 61_249, 99_949, 99_950, 999_400, 999_500, 3_400_000, 2_000_000_000]
    assert [short(count) for count in counts] == [
        "0",
        "9,999",
        "10.0k",
        "61.2k",
        "99.9k",
        "100k",
        "999k",
        "1.0M",
        "3.4M",
        "2.0G",
    ]
    assert [counted(1, "retry", "retries"), counted(1200, "row")] == ["1 retry", "1,200 rows"]


def test_shares() -> None:
    """Only all is 100% and only nothing 0%."""
    shares = [0, 0.0001, 0.01, 0.5, 0.984, 0.995, 0.9999, 1]
    assert [percent(share) for share in shares] == ["0%", "<0.1%", "1.0%", "50%", "98%", "99.5%", ">99.9%", "100%"]


def test_speeds() -> None:
    """Speeds and latencies keep the digits that matter."""
    assert [rate(value) for value in (0.014, 0.25, 13.94, 2_345.6)] == ["0.014", "0.2", "13.9", "2,346"]
    assert [latency(value) for value in (0.0123, 0.9999, 3.24, 123.4)] == ["12 ms", "1.0 s", "3.2 s", "123 s"]
