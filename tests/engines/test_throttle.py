from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from synth_cli.core.pacing import NOTHING, PaceSettings
from synth_cli.core.ports import Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.engines.throttle import Throttle

OK = Exchange(reply=Reply(text="fine"), answer=Answer("openai", b"{}"))
ROUND_TRIP = 0.05


def refused(retry_after: float | None) -> Exchange:
    return Exchange(fault=Fault(FaultKind.RATE_LIMITED, "no", 429, retry_after))


def drive(throttle: Throttle, server: Callable[[float], Exchange], seconds: float) -> list[tuple[float, Exchange]]:
    """Sends whenever the throttle allows, on a simulated clock: when each request left and what came of it."""
    now, order = 0.0, count()
    flying: list[tuple[float, int, float, Exchange]] = []
    sent: list[tuple[float, Exchange]] = []
    while now < seconds:
        while len(flying) < throttle.concurrency.limit and throttle.pacer.ready(now) <= now:
            throttle.pacer.leave(NOTHING, now)
            exchange = server(now)
            heappush(flying, (now + ROUND_TRIP, next(order), now, exchange))
            sent.append((now, exchange))
        full = len(flying) >= throttle.concurrency.limit
        throttle.concurrency.hit = throttle.concurrency.hit or full
        ready = float("inf") if full else throttle.pacer.ready(now)
        if flying and flying[0][0] <= ready:
            now, _, left, exchange = heappop(flying)
            throttle.ended(exchange, NOTHING, left, now)
        else:
            now = ready
    return sent


def silent(per_minute: float, burst: float, retry_after: float | None) -> Callable[[float], Exchange]:
    """A server that enforces a limit and says nothing about it."""
    level, at = burst, 0.0

    def ask(now: float) -> Exchange:
        nonlocal level, at
        level, at = min(burst, level + (now - at) * per_minute / 60), now
        if level < 1:
            return refused(retry_after)
        level -= 1
        return OK

    return ask


@pytest.mark.parametrize("burst", [10, 50, 3000])
@pytest.mark.parametrize("retry_after", [None, 0.5])
def test_a_silent_limit_is_found(burst: int, retry_after: float | None) -> None:
    """A server that names no limit is used at the rate it allows, without most requests being refused for ever."""
    sent = drive(Throttle(PaceSettings(), 0.0, lambda: 0.0), silent(3000, burst, retry_after), 180)
    late = [exchange.fault is None for left, exchange in sent if left >= 60]
    assert sum(late) >= 0.9 * 6000
    assert late.count(False) / len(late) < 0.25


def test_a_steady_tenth_of_429_slows_nothing() -> None:
    """Requests refused here and there delay themselves alone: what is sent is what would be sent without them."""
    chance = Random(7)
    faulty, clean = (Throttle(PaceSettings(max_concurrent=64), 0.0, lambda: 0.0) for _ in range(2))
    with_faults = drive(faulty, lambda now: refused(1.0) if chance.random() < 0.1 else OK, 60)
    assert len(with_faults) == len(drive(clean, lambda now: OK, 60))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_a_share_refused_at_any_pace_brings_nothing_to_a_stop(share: float) -> None:
    """Where slowing down does not help, it is not slowed down further and further: a good part of the speed is kept."""
    chance = Random(7)
    throttle = Throttle(PaceSettings(max_concurrent=64), 0.0, lambda: 0.0)
    sent = drive(throttle, lambda now: refused(1.0) if chance.random() < share else OK, 120)
    assert sum(left >= 60 for left, _ in sent) >= 0.2 * 60 * 64 / ROUND_TRIP


def test_where_nothing_gets_through_the_servers_time_is_waited() -> None:
    """All refused: what was in flight comes back, then everything waits as long as the server says."""
    throttle = Throttle(PaceSettings(max_concurrent=32), 0.0, lambda: 0.0)
    sent = drive(throttle, lambda now: refused(30.0), 29)
    assert (len(sent), throttle.pacer.note(ROUND_TRIP)) == (63, "paused for 30 s: the provider allows no more")


def test_an_outage_is_not_stormed() -> None:
    """A server that is away for a minute sees a few hundred requests, not all there are."""
    throttle = Throttle(PaceSettings(max_concurrent=256), 0.0, lambda: 0.0)
    down = Exchange(fault=Fault(FaultKind.CONNECTION, "refused"))
    sent = drive(throttle, lambda now: down, 60)
    assert len(sent) < 1500


def test_a_server_that_is_not_there_is_not_called_a_limit() -> None:
    """The pause says what it is for."""
    throttle = Throttle(PaceSettings(max_concurrent=32), 0.0, lambda: 0.0)
    drive(throttle, lambda now: Exchange(fault=Fault(FaultKind.UNREACHABLE, "words")), 1)
    assert throttle.pacer.note(1.0).endswith(" s: the server does not answer, or only with errors")
