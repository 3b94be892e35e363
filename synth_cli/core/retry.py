"""Whether and when to ask again."""

from __future__ import annotations

from dataclasses import dataclass

from synth_cli.core.reply import Fault

SHORTEST = 0.1
LONGEST = 5.0
CAP = 60.0
UNKNOWN_PACE = 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries`: attempts after the first, for each request and round."""

    max_retries: int = 3


def backoff(failures: int, pace: float | None, chance: float) -> float:
    """Seconds to wait after so many counted failures, at least one.

    Exponential with jitter. It starts at twice what an answer usually takes (`pace`, seconds; None before the first
    answer), so that a server that answers in 50 ms is not left alone for a second, nor a slow one hurried.
    """
    base = min(LONGEST, max(SHORTEST, 2 * (UNKNOWN_PACE if pace is None else pace)))
    full = min(CAP, base * 2.0 ** min(failures - 1, 16))
    return full * (0.5 + 0.5 * chance)


def after(fault: Fault, counted: int, policy: RetryPolicy, *, pace: float | None, chance: float) -> float | None:
    """Seconds until the next attempt after this fault, or None to give up; `counted` includes this attempt."""
    if not fault.retryable:
        return None
    if fault.counted and counted > policy.max_retries:
        return None
    wait = backoff(max(counted, 1), pace, chance)
    if fault.retry_after is None:
        return wait
    # a little late and never all at once: those who were sent away together must not come back together
    return fault.retry_after + SHORTEST * chance if not fault.counted else max(fault.retry_after, wait)
