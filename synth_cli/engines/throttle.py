"""Pace and concurrency of one endpoint together: what each ended exchange means for the engine as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, assert_never

from synth_cli.core.concurrency import Concurrency, Sign
from synth_cli.core.pacing import NO_MORE, Estimate, Pacer, PaceSettings
from synth_cli.core.ports import Exchange, RateLimits
from synth_cli.core.reply import FaultKind

REFUSED: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.OVERLOADED})
JITTER: Final = 0.1
"""Share that chance adds to a pause: runs that share a key must not come back together."""
SHORTEST: Final = 0.05
"""Seconds over which a rate is measured at least."""
COSTS: Final = 0.75
"""Share of the answers a minute below which a slower pace does harm: as many are refused, and fewer answered."""
PATIENCE: Final = 4
LONGEST_PATIENCE: Final = 64
BROKEN: Final = frozenset({FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.UNREACHABLE, FaultKind.SERVER_ERROR})


class Throttle:
    """A single refused request delays itself alone; only when most are refused does everything pause."""

    __slots__ = (
        "_answers",
        "_asked",
        "_chance",
        "_full",
        "_patience",
        "_pause",
        "_since",
        "_spared",
        "concurrency",
        "limits",
        "pacer",
        "rate_limited",
    )

    def __init__(self, settings: PaceSettings, now: float, chance: Callable[[], float]) -> None:
        self.pacer: Final = Pacer(settings, now)
        self.concurrency: Final = Concurrency(fixed=settings.max_concurrent, ceiling=settings.ceiling)
        self.rate_limited = 0
        """Answers 429 so far."""
        self.limits: RateLimits | None = None
        self._pause = settings.seconds_to_pause
        self._asked = settings.seconds_to_pause
        self._chance = chance
        self._answers = 0
        self._since = now
        self._full = self.concurrency.limit
        """The limit of concurrency before a pace was found."""
        self._patience = PATIENCE
        self._spared = 0
        """So many signs of being limited are passed over: slowing down was of no use."""

    def completed(self, exchange: Exchange) -> Exchange:
        """The same; a 429 that names no time to wait is given the settings' one."""
        fault = exchange.fault
        if fault is None or fault.kind is not FaultKind.RATE_LIMITED or fault.retry_after is not None:
            return exchange
        return replace(exchange, fault=replace(fault, retry_after=self._pause))

    def ended(self, exchange: Exchange, estimate: Estimate, sent: float, now: float) -> None:
        fault, reply = exchange.fault, exchange.reply
        sign: Sign | None
        if fault is not None and fault.kind in REFUSED:
            self.rate_limited += fault.kind is FaultKind.RATE_LIMITED
            self._asked = self._pause if fault.retry_after is None else fault.retry_after
            sign = self.concurrency.refused(sent, now)
        elif fault is not None and fault.kind in BROKEN:
            sign = self.concurrency.broken(sent, now)
        else:
            self._answers += 1
            sign = self.concurrency.answered(sent, now, now - sent)
        if exchange.limits is not None:
            self.limits = exchange.limits
            self.pacer.learn(exchange.limits, sent, now)
        self.pacer.settle(estimate, None if reply is None else reply.usage, now)
        if sign is not None:
            self._heed(sign, now)

    def _heed(self, sign: Sign, now: float) -> None:
        match sign:
            case "calm":
                self.pacer.probe(now)
            case "busy":
                self.pacer.ease(now)
            case "outage":
                self._pause_all(self.concurrency.outage_pause(), now, "the server does not answer, or only with errors")
            case "limited":
                # what got through while the rest was refused is what the server allows
                answers, seconds = self._answers, max(now - self._since, SHORTEST)
                self._answers, self._since = 0, now
                if answers:
                    self._slow_down(60 * answers / seconds, now)
                else:
                    self._pause_all(self._asked, now)
            case _:
                assert_never(sign)

    def _slow_down(self, per_minute: float, now: float) -> None:
        """To what got through; but a server that refuses a share whatever the pace is asked at full speed.

        Each pace found there would be lower than the one before, and soon nothing would move.
        """
        concurrency = self.concurrency
        if self._spared:
            self._spared -= 1
            concurrency.regain(concurrency.before, now)
        elif per_minute < COSTS * self.pacer.found:
            self.pacer.forget()
            concurrency.regain(self._full, now)
            self._spared = self._patience
            self._patience = min(2 * self._patience, LONGEST_PATIENCE)
        else:
            if not self.pacer.found:
                self._full = concurrency.before
            self.pacer.find(per_minute, now)

    def _pause_all(self, seconds: float, now: float, why: str = NO_MORE) -> None:
        self.pacer.pause(seconds * (1 + JITTER * self._chance()), now, why)
