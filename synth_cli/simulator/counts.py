"""What the simulator did, for tests and the curious: by endpoint and outcome, and what it answered more than once."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Counts:
    """`answered` are whole, sound answers; those to a content that was answered before are `repeated`.

    At least the last `remember` contents are told apart, and at most twice as many.
    """

    __slots__ = ("_old", "_young", "answered", "distinct", "in_flight", "outcomes", "peak", "remember", "tokens")

    def __init__(self, remember: int) -> None:
        self.remember = max(1, remember)
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.answered = 0
        self.distinct = 0
        self.peak = self.in_flight
        self.tokens = 0
        # content → twice its tries, plus 1 once it was answered: half the memory of keeping the two apart
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def known(self, content: int) -> int:
        return self._young.get(content) or self._old.get(content, 0)

    def keep(self, content: int, known: int) -> None:
        if len(self._young) >= self.remember and content not in self._young:
            self._old, self._young = self._young, {}
        self._young[content] = known

    def turns(self, content: int) -> int:
        """How often this content was tried."""
        return self.known(content) >> 1

    def turn(self, content: int) -> None:
        """Counts a try of this content."""
        self.keep(content, self.known(content) + 2)

    def enter(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def leave(self, endpoint: str, outcome: str) -> None:
        self.in_flight -= 1
        self.outcomes[endpoint, outcome] += 1

    def answer(self, content: int, tokens: int) -> None:
        self.answered += 1
        self.tokens += tokens
        known = self.known(content)
        if not known & 1:
            self.distinct += 1
            self.keep(content, known | 1)

    def snapshot(self) -> dict[str, Any]:
        """`{endpoints: {chat: {answered: 3, "500": 1}}, requests, answered, distinct, repeated, …}`."""
        endpoints: dict[str, dict[str, int]] = {}
        for (endpoint, outcome), count in sorted(self.outcomes.items()):
            endpoints.setdefault(endpoint, {})[outcome] = count
        return {
            "endpoints": endpoints,
            "requests": sum(self.outcomes.values()),
            "answered": self.answered,
            "distinct": self.distinct,
            "repeated": self.answered - self.distinct,
            "tokens": self.tokens,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak,
        }
