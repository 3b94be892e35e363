"""How fast it goes and how long it will take, smoothed. Pure: the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

MEMORY = 15.0
"""Seconds after which what was seen counts for about a third."""
SETTLE = 1.0
"""Seconds before the first rate is told."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`weight` grows to 1 as time passes, so that the first seconds are not held for slow ones."""

    began: float
    at: float
    done: int = 0
    smoothed: float = 0.0
    weight: float = 0.0

    @property
    def rate(self) -> float | None:
        """Done per second; None as long as too little has been seen."""
        if self.at - self.began < SETTLE or not self.smoothed:
            return None
        return self.smoothed / self.weight

    def seconds_for(self, remaining: int) -> float | None:
        rate = self.rate
        return None if rate is None else remaining / rate


def observe(pace: Pace | None, done: int, now: float) -> Pace:
    """The pace after another look. What was done at the first look is not counted."""
    if pace is None:
        return Pace(now, now, done)
    passed = now - pace.at
    if passed <= 0:
        return pace
    kept = exp(-passed / MEMORY)
    smoothed = pace.smoothed * kept + (done - pace.done) / passed * (1 - kept)
    return Pace(pace.began, now, done, smoothed, pace.weight * kept + 1 - kept)
