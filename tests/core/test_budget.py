"""What may still be spent."""

from __future__ import annotations

from itertools import pairwise

from synth_cli.core.budget import BLOCK, Allowance, perhaps_paid
from synth_cli.core.events import Reserved
from synth_cli.core.reply import Fault, FaultKind


def allowance(said: list[Reserved], **limits: float | None) -> Allowance:
    given = {"max_cost": None, "max_tokens": None, "spent_cost": 0.0, "spent_tokens": 0} | limits
    return Allowance(7, announce=said.append, **given)  # type: ignore[arg-type]


def test_a_request_is_held_at_its_worst_case_until_it_settles() -> None:
    """Three worst cases of $4 do not fit $10; one of them settled at $1 makes room."""
    own = allowance([], max_cost=10.0)
    taken = [own.reserve(4.0, 0) for _ in range(3)]
    own.settle(4.0, 0, 1.0, 0)
    assert (taken, own.reserve(4.0, 0), own.cost) == ([True, True, False], True, 1.0)


def test_tokens_are_limited_too() -> None:
    """Earlier runs of the round count."""
    own = allowance([], max_tokens=100, spent_tokens=60)
    assert [own.reserve(0.0, 30), own.reserve(0.0, 30)] == [True, False]


def test_reservations_are_announced_in_blocks_and_closed() -> None:
    """Each covers as many requests more as are in flight, at most a block; the end takes it back."""
    said: list[Reserved] = []
    own = allowance(said, max_cost=1e9)
    for _ in range(BLOCK + 1):
        own.reserve(1.0, 10)
    for _ in range(BLOCK + 1):
        own.settle(1.0, 10, 0.5, 5)
    own.close()
    covered = [2, 6, 14, 30, 62, 0]
    assert said == [Reserved(7, 1.0 * requests, 10 * requests) for requests in covered]


def test_a_block_is_bounded_and_within_what_is_left() -> None:
    """What a run holds when it dies is close to what it had in flight."""
    said: list[Reserved] = []
    own = allowance(said, max_cost=10.0, max_tokens=4)
    taken = [own.reserve(3.0, 1) for _ in range(4)]
    assert (taken, said) == ([True, True, True, False], [Reserved(7, 6.0, 2), Reserved(7, 10.0, 4)])
    many: list[Reserved] = []
    wide = allowance(many, max_cost=1e9)
    for _ in range(1000):
        wide.reserve(1.0, 0)
    assert max(after.cost - before.cost for before, after in pairwise(many)) == BLOCK + 1


def test_only_what_may_have_been_charged_stays_spent() -> None:
    """A broken connection may have been paid for; one that never was, or a refusal, was not."""
    kinds = (FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.UNREACHABLE, FaultKind.BAD_REQUEST)
    assert [perhaps_paid(Fault(kind, "")) for kind in kinds] == [True, True, False, False]
