"""What the simulator did, for tests and the curious: by endpoint and outcome, and what it answered more than once.

A request is paid when the model worked for it, online or in a batch, whether or not its answer was sound and arrived.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

PAID = 1
TRIES = 9
MOST_PAID = 255
EXAMPLES = 10


class Counts:
    """`answered` are whole, sound answers; those to a content that was answered before are `repeated`.

    At least the last `remember` contents are told apart, and at most twice as many.
    """

    __slots__ = (
        "_old",
        "_young",
        "again",
        "answered",
        "distinct",
        "in_flight",
        "outcomes",
        "paid",
        "peak",
        "remember",
        "tokens",
    )

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
        self.paid: Counter[int] = Counter()
        self.again: list[str] = []
        # content → its tries, how often it was paid (8 bits), and 1 once it was answered: a third of the memory of
        # keeping them apart
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
        return self.known(content) >> TRIES

    def turn(self, content: int) -> None:
        """Counts a try of this content."""
        self.keep(content, self.known(content) + (1 << TRIES))

    def pay(self, content: int, name: str = "") -> None:
        """Counts that the model worked for this content; `name` is how a person knows it."""
        known = self.known(content)
        times = known >> PAID & MOST_PAID
        if times:
            self.paid[times] -= 1
            if len(self.again) < EXAMPLES:
                self.again.append(name or f"{content:016x}")
        if times < MOST_PAID:
            times += 1
            self.keep(content, known + (1 << PAID))
        self.paid[times] += 1

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
        """`{endpoints: {chat: {answered: 3, "500": 1}}, requests, answered, distinct, repeated, paid: {"1": 3}, …}`.

        `paid` says how many contents were paid how often; `paid_again` names a few of those paid more than once.
        """
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
            "paid": {str(times): count for times, count in sorted(self.paid.items()) if count},
            "paid_again": list(self.again),
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak,
        }
