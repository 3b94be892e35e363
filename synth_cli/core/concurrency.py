"""How many requests are under way at once: up while it pays, down when the server is in trouble.

Throughput is limit / mean latency (Little's law), from requests that were sent under the present limit only, so that
a step up is judged one round trip after it was made. Times are seconds of one monotonic clock, handed in.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

START: Final = 32
PAYS: Final = 0.4
"""A step up is kept if it brings at least this share of what it would bring to a server without limits."""
STEP: Final = 1 / 8
"""Share added at once after the first, doubling phase."""
CUT: Final = 0.7
TROUBLED: Final = 0.4
"""Share of refused or broken requests above which the server is in trouble; a steady tenth is everyday life."""
CALM: Final = 0.1
"""Share of refused requests below which the server might take more."""
BUSY: Final = 0.2
"""Share above which it takes less than it is sent, without being in trouble."""
OUT: Final = 0.8
"""Share of broken requests above which nothing gets through."""
SAMPLE: Final = 32
"""Fewest outcomes that say something about a share."""
LONGEST_HOLD: Final = 32
FIRST_PAUSE: Final = 0.5
LONGEST_OUTAGE_PAUSE: Final = 30.0

Sign: TypeAlias = Literal["calm", "busy", "limited", "outage"]
"""Hardly any request is refused; some are; a large part is; nothing gets through at all."""


class Concurrency:
    """`limit` is the number to keep under way; tell it how each request ended, and `hit` when the limit held one back.

    It falls at most once per round trip: only requests sent after the last fall count towards the next.
    """

    __slots__ = (
        "_adapt",
        "_bad_since",
        "_broken",
        "_cap",
        "_clean",
        "_count",
        "_enough",
        "_goal",
        "_hold",
        "_latency",
        "_outages",
        "_patience",
        "_probing",
        "_reference",
        "_refused",
        "_since",
        "_slow_start",
        "_total",
        "_window",
        "before",
        "hit",
        "limit",
    )

    def __init__(self, *, fixed: int | None = None, ceiling: int = 1024, start: int = START) -> None:
        self._adapt = fixed is None
        self._cap = max(1, ceiling if fixed is None else fixed)
        self.limit = min(start, self._cap) if fixed is None else self._cap
        self.hit = False
        self._slow_start = self._adapt
        self._goal = 0
        self.before = self.limit
        """The limit before its latest fall."""
        self._clean = True
        self._reference: tuple[int, float] | None = None
        self._probing = False
        self._hold = self._patience = 1
        self._outages = 0
        self._bad_since = self._since = float("-inf")
        self._refused = self._broken = self._total = self._count = 0
        self._latency = 0.0
        self._move(self.limit, self._since)

    def answered(self, sent: float, now: float, latency: float) -> Sign | None:
        """A request came back with whatever the server has to say about it."""
        self._outages = 0
        if sent >= self._since:
            self._count += 1
            self._latency += latency
            if self._count >= self._enough:
                self._weigh(now)
        return self._tally(sent, now)

    def refused(self, sent: float, now: float) -> Sign | None:
        """It was answered 429 or 'overloaded'."""
        if sent >= self._bad_since:
            self._refused += 1
        return self._tally(sent, now)

    def broken(self, sent: float, now: float) -> Sign | None:
        """It timed out, the connection failed, or the server did."""
        if sent >= self._bad_since:
            self._broken += 1
        return self._tally(sent, now)

    def outage_pause(self) -> float:
        """Seconds to leave a server alone that answers nothing; twice as long each time until an answer comes."""
        pause = min(FIRST_PAUSE * 2.0 ** min(self._outages, 10), LONGEST_OUTAGE_PAUSE)
        self._outages += 1
        return pause

    def regain(self, limit: int, now: float) -> None:
        """Falling was of no use: back to where it was."""
        self._move(max(self.limit, min(limit, self._cap)), now)

    def _tally(self, sent: float, now: float) -> Sign | None:
        if sent < self._bad_since:
            return None
        self._total += 1
        if self._total < self._window:
            return None
        refused, broken = self._refused / self._total, self._broken / self._total
        self._refused = self._broken = self._total = 0
        if refused + broken < TROUBLED:
            return "calm" if refused < CALM else "busy" if refused >= BUSY else None
        self.before = self.limit
        lower = max(1, int(self.limit * CUT))
        if self._clean:
            # the first fall of a row of them says how far up it may go again quickly
            self._goal = lower
        self._clean = self._slow_start = self._probing = False
        self._reference = None
        self._bad_since = now
        self._move(lower, now)
        if broken >= OUT:
            return "outage"
        return "limited" if refused >= TROUBLED else None

    def _weigh(self, now: float) -> None:
        """Enough requests of the present limit came back: what do they say about it?"""
        throughput = self.limit * self._count / self._latency if self._latency > 0 else float("inf")
        hit, self.hit = self.hit, False
        self._clean = True
        self._count, self._latency = 0, 0.0
        if not hit:
            return
        if self.limit < self._goal:
            self._move(min(self._goal, 2 * self.limit), now)
        elif self.limit < self._cap or self._probing:
            if self._adapt:
                self._climb(throughput, now)
            else:
                self._move(min(self._cap, self.limit + max(1, int(self.limit * STEP))), now)

    def _climb(self, throughput: float, now: float) -> None:
        reference = self._reference
        if not self._probing or reference is None:
            self._reference = (self.limit, throughput)
            self._hold -= 1
            if self._slow_start or self._hold <= 0:
                self._step_up(now)
            return
        limit, before = reference
        asked, gained = self.limit / limit, throughput / before
        if gained >= 1 + PAYS * (asked - 1):
            self._reference = (self.limit, throughput)
            self._patience = 1
            self._step_up(now)
            return
        self._slow_start = self._probing = False
        self._hold, self._patience = self._patience, min(2 * self._patience, LONGEST_HOLD)
        self._move(max(limit, int(limit * min(gained, asked))), now)

    def _step_up(self, now: float) -> None:
        more = self.limit if self._slow_start else max(2, int(self.limit * STEP))
        higher = min(self._cap, self.limit + more)
        self._probing = higher > self.limit
        self._move(higher, now)

    def _move(self, limit: int, now: float) -> None:
        self.limit = limit
        self._since = now
        self._count, self._latency = 0, 0.0
        self._window = max(SAMPLE, limit // 2)
        self._enough = max(16, limit // 2) if self._slow_start else max(32, 2 * limit)
