"""When to ask again."""

from __future__ import annotations

import pytest

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.retry import RetryPolicy, after, backoff

POLICY = RetryPolicy(max_retries=3)


def _after(kind: FaultKind, counted: int, retry_after: float | None = None, chance: float = 0.0) -> float | None:
    fault = Fault(kind, "words", retry_after=retry_after)
    return after(fault, counted, POLICY, pace=0.05, chance=chance)


def test_backoff_doubles_from_twice_the_usual_pace() -> None:
    """The waits of a server that answers in 400 ms, without jitter."""
    assert [backoff(failures, 0.4, 1.0) for failures in (1, 2, 3, 4)] == [0.8, 1.6, 3.2, 6.4]


def test_backoff_is_bounded_and_jittered() -> None:
    """Never above a minute, never below half of what is due."""
    assert (backoff(50, 10.0, 1.0), backoff(1, 0.4, 0.0)) == (60.0, 0.4)


def test_a_server_error_is_asked_again_until_the_retries_are_used_up() -> None:
    """Three retries are three more attempts; the fourth failure is the last."""
    assert [_after(FaultKind.SERVER_ERROR, counted) is None for counted in (1, 2, 3, 4)] == [False, False, False, True]


@pytest.mark.parametrize("kind", [FaultKind.RATE_LIMITED, FaultKind.OVERLOADED])
def test_being_asked_for_patience_uses_up_no_retry(kind: FaultKind) -> None:
    """A row that has no retries left is still asked again after a 429."""
    assert _after(kind, counted=3) is not None


def test_the_servers_own_time_wins() -> None:
    """Retry-After is waited for, with a little spread behind it."""
    assert [_after(FaultKind.RATE_LIMITED, 0, 7.0, chance) for chance in (0.0, 1.0)] == [7.0, 7.1]


@pytest.mark.parametrize("kind", [FaultKind.BAD_REQUEST, FaultKind.CONTENT_FILTER, FaultKind.CREDENTIALS])
def test_what_would_come_again_is_not_asked_again(kind: FaultKind) -> None:
    """Faults of the row or of the run have no next attempt."""
    assert _after(kind, counted=1) is None
