"""What may still be spent in this round: reserved before sending at the worst case, settled at what it was."""

from __future__ import annotations

from collections.abc import Callable

from synth_cli.core.events import Reserved
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Request

PERHAPS_PAID = frozenset({FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.MALFORMED, FaultKind.MISSING})
"""Faults after which nobody knows whether the provider charged: they stay spent at the worst case."""
BLOCK = 32
"""Most requests that a reservation runs ahead of those in flight."""


class Allowance:
    """Counts over the round: `spent` is what earlier runs used, and what the dead among them may have used.

    The ledger hears of reservations in blocks: before the first request of a block is sent, `Reserved` says how
    much may be in flight, so that a run that dies leaves no more unaccounted for than that. A block is as
    large as what is in flight, and within what is left: one death must not use up a budget that hardly anything was
    spent of.
    """

    def __init__(
        self,
        run: int,
        *,
        max_cost: float | None,
        max_tokens: int | None,
        spent_cost: float,
        spent_tokens: int,
        announce: Callable[[Reserved], None],
    ) -> None:
        self._run = run
        self._max_cost = float("inf") if max_cost is None else max_cost
        self._max_tokens = float("inf") if max_tokens is None else max_tokens
        self.cost = spent_cost
        self.tokens = spent_tokens
        self._held_cost = 0.0
        self._held_tokens = 0
        self._in_flight = 0
        self._announced = Reserved(run, 0.0, 0)
        self._announce = announce

    @property
    def held(self) -> bool:
        """Whether something in flight may yet give back what it does not use."""
        return self._in_flight > 0

    def reserve(self, cost: float, tokens: int) -> bool:
        """Whether a request with this worst case may be sent; if so it is held until settled."""
        held_cost = self._held_cost + cost
        held_tokens = self._held_tokens + tokens
        if self.cost + held_cost > self._max_cost or self.tokens + held_tokens > self._max_tokens:
            return False
        self._held_cost, self._held_tokens = held_cost, held_tokens
        self._in_flight += 1
        if held_cost > self._announced.cost or held_tokens > self._announced.tokens:
            ahead = min(self._in_flight, BLOCK)
            self._announced = Reserved(
                self._run,
                max(held_cost, min(held_cost + ahead * cost, self._max_cost - self.cost)),
                max(held_tokens, int(min(held_tokens + ahead * tokens, self._max_tokens - self.tokens))),
            )
            self._announce(self._announced)
        return True

    def settle(self, worst_cost: float, worst_tokens: int, cost: float, tokens: int) -> None:
        """A request that was held has come to an end, having used so much."""
        self._held_cost -= worst_cost
        self._held_tokens -= worst_tokens
        self._in_flight -= 1
        self.cost += cost
        self.tokens += tokens

    def correct(self, held_cost: float, held_tokens: int, cost: float, tokens: int) -> None:
        """What was taken as spent from the beginning, because open work held it, has turned out to be so much."""
        self.cost += cost - held_cost
        self.tokens += tokens - held_tokens

    def close(self) -> None:
        """Nothing is in flight any more."""
        if self._announced != Reserved(self._run, 0.0, 0):
            self._announced = Reserved(self._run, 0.0, 0)
            self._announce(self._announced)


Worst = Callable[[Request], tuple[float, int]]
"""The most that a request can use: (USD, tokens)."""


def perhaps_paid(fault: Fault) -> bool:
    """Whether the provider may have charged for an attempt that ended so."""
    return fault.kind in PERHAPS_PAID and (fault.status is None or fault.status < 400)
