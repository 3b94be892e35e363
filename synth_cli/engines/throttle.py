"""Pace and concurrency of one endpoint together: what each ended exchange means for the engine as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from synth_cli.core.concurrency import Concurrency, Trouble
from synth_cli.core.pacing import Estimate, Pacer, PaceSettings
from synth_cli.core.ports import Exchange
from synth_cli.core.reply import FaultKind

REFUSED: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.OVERLOADED})
JITTER: Final = 0.1
"""Share that chance adds to a pause: runs that share a key must not come back together."""
BROKEN: Final = frozenset({FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.SERVER_ERROR})


class Throttle:
    """A single refused request delays itself alone; only when most are refused does everything pause."""

    __slots__ = ("_chance", "_pause", "concurrency", "pacer", "rate_limited")

    def __init__(self, settings: PaceSettings, now: float, chance: Callable[[], float]) -> None:
        self.pacer: Final = Pacer(settings, now)
        self.concurrency: Final = Concurrency(fixed=settings.max_concurrent, ceiling=settings.ceiling)
        self.rate_limited = 0
        """Answers 429 so far."""
        self._pause = settings.seconds_to_pause
        self._chance = chance

    def completed(self, exchange: Exchange) -> Exchange:
        """The same; a 429 that names no time to wait is given the settings' one."""
        fault = exchange.fault
        if fault is None or fault.kind is not FaultKind.RATE_LIMITED or fault.retry_after is not None:
            return exchange
        return replace(exchange, fault=replace(fault, retry_after=self._pause))

    def ended(self, exchange: Exchange, estimate: Estimate, sent: float, now: float) -> None:
        fault, reply = exchange.fault, exchange.reply
        trouble: Trouble | None
        if fault is None:
            trouble = self.concurrency.answered(sent, now, now - sent)
        elif fault.kind in REFUSED:
            self.rate_limited += fault.kind is FaultKind.RATE_LIMITED
            trouble = self.concurrency.refused(sent, now)
        elif fault.kind in BROKEN:
            trouble = self.concurrency.broken(sent, now)
        else:
            trouble = self.concurrency.answered(sent, now, now - sent)
        if exchange.limits is not None:
            self.pacer.learn(exchange.limits, sent, now)
        self.pacer.settle(estimate, None if reply is None else reply.usage, now)
        if trouble is not None:
            if trouble == "outage":
                seconds = self.concurrency.outage_pause()
            else:
                seconds = self._pause if fault is None or fault.retry_after is None else fault.retry_after
            self.pacer.pause(seconds * (1 + JITTER * self._chance()), now)
