"""Rate limits as a continuous token bucket, in the form of OpenAI's headers.

A bucket refills at limit/60 a second and holds at most `burst` (what `burst_seconds` refill, at least 1). A request is
let in when the bucket holds its cost, or is full; a cost above the burst then leaves a debt, so that the rate over a
longer time is exact. Tokens are charged as the answer really uses them, so an estimate of `max_tokens` costs nothing.
Headers: https://platform.openai.com/docs/guides/rate-limits (limit per minute, what is left, time until full).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from synth_cli.simulator.settings import Settings


class Bucket:
    """`now` is any clock in seconds that only goes forward."""

    __slots__ = ("at", "burst", "level", "limit", "rate")

    def __init__(self, limit: float, burst_seconds: float, now: float) -> None:
        self.limit = limit
        self.rate = limit / 60
        self.burst = max(1.0, self.rate * burst_seconds)
        self.level = self.burst
        self.at = now

    def refill(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.burst, self.level + (now - self.at) * self.rate)
            self.at = now

    def wait(self, cost: float) -> float:
        """Seconds until this cost is let in; 0: now."""
        return max(0.0, (min(cost, self.burst) - self.level) / self.rate)

    @property
    def reset(self) -> float:
        """Seconds until the bucket is full."""
        return (self.burst - self.level) / self.rate


@dataclass(frozen=True, slots=True)
class Refusal:
    """`wait` in seconds; None: none is said, or the request is larger than a whole minute's limit (`requested`)."""

    of: Literal["requests", "tokens"]
    limit: float
    wait: float | None
    requested: int = 0


class Limits:
    """The buckets that the settings ask for."""

    __slots__ = ("buckets", "requests", "tokens")

    def __init__(self, settings: Settings, now: float) -> None:
        rpm, tpm = settings.requests_per_minute, settings.tokens_per_minute
        self.requests = None if rpm is None else Bucket(rpm, settings.burst_seconds, now)
        self.tokens = None if tpm is None else Bucket(tpm, settings.burst_seconds, now)
        self.buckets = [
            (name, bucket) for name, bucket in (("requests", self.requests), ("tokens", self.tokens)) if bucket
        ]

    def take(self, tokens: int, now: float) -> Refusal | None:
        """Lets a request in that uses so many tokens, or says why not; one refused costs nothing."""
        refusal: Refusal | None = None
        costs: tuple[tuple[Literal["requests", "tokens"], Bucket | None, int], ...] = (
            ("requests", self.requests, 1),
            ("tokens", self.tokens, tokens),
        )
        for name, bucket, cost in costs:
            if bucket is None:
                continue
            if cost > bucket.limit:
                return Refusal(name, bucket.limit, None, cost)
            bucket.refill(now)
            wait = bucket.wait(cost)
            if wait > 0 and (refusal is None or refusal.wait is None or wait > refusal.wait):
                refusal = Refusal(name, bucket.limit, wait)
        if refusal is None:
            for _, bucket, cost in costs:
                if bucket is not None:
                    bucket.level -= cost
        return refusal

    def headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, bucket in self.buckets:
            found[f"x-ratelimit-limit-{name}"] = str(int(bucket.limit))
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level)))
            found[f"x-ratelimit-reset-{name}"] = spoken(bucket.reset)
        return found


def spoken(seconds: float) -> str:
    """A time as OpenAI writes it: `12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s"
