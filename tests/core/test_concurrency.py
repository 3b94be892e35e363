from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count

import pytest

from synth_cli.core.concurrency import Concurrency


class Server:
    """A simulated clock and a server: `latency(n)` with n in flight; `fate()` says how a request ends."""

    def __init__(self, latency: Callable[[int], float], fate: Callable[[], str] = lambda: "answered") -> None:
        self.now = 0.0
        self._latency = latency
        self._fate = fate
        self._flying: list[tuple[float, int, float, str]] = []
        self._order = count()

    def drive(self, concurrency: Concurrency, seconds: float) -> Iterator[tuple[float, str, object]]:
        """Keeps the limit in flight; yields each ending with what the concurrency said to it."""
        until = self.now + seconds
        while True:
            while len(self._flying) < concurrency.limit:
                n = len(self._flying) + 1
                heappush(self._flying, (self.now + self._latency(n), next(self._order), self.now, self._fate()))
            concurrency.hit = True
            due, _, sent, fate = self._flying[0]
            if due > until:
                self.now = until
                return
            heappop(self._flying)
            self.now = due
            if fate == "answered":
                said = concurrency.answered(sent, due, due - sent)
            else:
                said = concurrency.refused(sent, due) if fate == "refused" else concurrency.broken(sent, due)
            yield due, fate, said


def run(concurrency: Concurrency, server: Server, seconds: float) -> list[object]:
    """The troubles it told of."""
    return [said for _, _, said in server.drive(concurrency, seconds) if said in ("limited", "outage")]


def every(n: int, fate: str) -> Callable[[], str]:
    numbers = count(1)
    return lambda: fate if next(numbers) % n == 0 else "answered"


def test_reaches_256_within_a_second_at_50_ms() -> None:
    """A server that answers in 50 ms however many ask is asked by 256 at once after a second."""
    concurrency = Concurrency()
    run(concurrency, Server(lambda n: 0.05), 1.0)
    assert concurrency.limit >= 256


def test_stops_rising_where_it_does_not_pay() -> None:
    """A server that works on 100 at a time is not asked by many more: further ones would only queue."""
    concurrency = Concurrency()
    run(concurrency, Server(lambda n: 0.05 * max(1.0, n / 100)), 30.0)
    assert 90 <= concurrency.limit <= 180


def test_never_above_the_ceiling() -> None:
    """The ceiling is what the machine can hold open."""
    concurrency = Concurrency(ceiling=100)
    run(concurrency, Server(lambda n: 0.05), 3.0)
    assert concurrency.limit == 100


def test_a_limit_that_is_not_used_does_not_rise() -> None:
    """Where something else holds requests back, throughput says nothing about concurrency."""
    concurrency = Concurrency()
    for number in range(1000):
        concurrency.answered(number * 0.02, number * 0.02 + 0.05, 0.05)
    assert concurrency.limit == 32


def test_a_fixed_limit_starts_there_and_stays() -> None:
    """`max_concurrent_requests` is start and cap, whatever a server's latency does."""
    concurrency = Concurrency(fixed=256)
    limits = {concurrency.limit for _ in Server(lambda n: 0.05 * n).drive(concurrency, 30.0)}
    assert limits == {256}


def test_a_steady_tenth_of_429_costs_nothing() -> None:
    """One request in ten refused is everyday life: concurrency rises as if there were none."""
    concurrency = Concurrency()
    said = run(concurrency, Server(lambda n: 0.05, every(10, "refused")), 2.0)
    assert said == []
    assert concurrency.limit >= 256


def test_most_refused_means_trouble_and_a_lower_limit() -> None:
    """When half of all are refused the caller hears of it, and fewer are sent at once."""
    concurrency = Concurrency(fixed=256)
    said = run(concurrency, Server(lambda n: 0.05, every(2, "refused")), 0.06)
    assert said == ["limited"]
    assert concurrency.limit == 179


def test_falls_once_per_round_trip() -> None:
    """What was already in flight when the limit fell does not let it fall again."""
    concurrency = Concurrency(fixed=256)
    server = Server(lambda n: 0.05, lambda: "refused")
    falls = 0
    limit = concurrency.limit
    for _ in server.drive(concurrency, 0.51):
        falls += concurrency.limit < limit
        limit = concurrency.limit
    assert 1 <= falls <= 10


def test_recovers_after_trouble() -> None:
    """A bad minute does not leave the rest of the night at a crawl."""
    fate = ["refused"]
    concurrency = Concurrency(fixed=256)
    server = Server(lambda n: 0.05, lambda: fate[0])
    run(concurrency, server, 5.0)
    low = concurrency.limit
    fate[0] = "answered"
    run(concurrency, server, 10.0)
    assert (low, concurrency.limit) == (1, 256)


def test_nothing_gets_through_is_an_outage() -> None:
    """Broken requests alone are an outage, with pauses that double until an answer comes."""
    concurrency = Concurrency(fixed=64)
    said = run(concurrency, Server(lambda n: 0.01, lambda: "broken"), 0.015)
    pauses = [concurrency.outage_pause() for _ in range(8)]
    concurrency.answered(1.0, 1.1, 0.1)
    assert said == ["outage"]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert concurrency.outage_pause() == 0.5


@pytest.mark.parametrize("fixed", [1, 2, 5])
def test_small_limits_live_through_trouble(fixed: int) -> None:
    """The limit is never 0."""
    concurrency = Concurrency(fixed=fixed)
    run(concurrency, Server(lambda n: 0.05, lambda: "refused"), 20.0)
    assert concurrency.limit == 1
