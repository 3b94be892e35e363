"""When a batch is full, and when none may be opened."""

from __future__ import annotations

from synth_cli.core.packing import Pack, Room, room
from synth_cli.core.ports import BatchLimits

LIMITS = BatchLimits(100, 1000)


def test_the_smaller_bound_on_requests_counts() -> None:
    """The user's batch size is an upper bound, never more than the provider takes."""
    assert [room(LIMITS), room(LIMITS, batch_size=7), room(LIMITS, batch_size=700)] == [
        Room(100, 1000),
        Room(7, 1000),
        Room(100, 1000),
    ]


def test_no_more_batches_than_the_provider_lets_be_open() -> None:
    """One more may be opened as long as there are fewer."""
    limits = BatchLimits(100, 1000, open_batches=2)
    assert [room(limits, open_batches=open) for open in (0, 1, 2, 3)] == [
        Room(100, 1000),
        Room(100, 1000, alone=False),
        None,
        None,
    ]


def test_tokens_that_are_queued_leave_less_room() -> None:
    """What open batches hold is missing to the next; with nothing left it must wait for one of them."""
    limits = BatchLimits(100, 1000, queued_tokens=50)
    assert [room(limits, open_batches=1, queued_tokens=queued) for queued in (0, 30, 50)] == [
        Room(100, 1000, 50, False),
        Room(100, 1000, 20, False),
        None,
    ]


def test_a_batch_is_full_by_requests_or_bytes() -> None:
    """What comes first; a smaller request may still fit where a larger one did not."""
    pack = Pack(Room(3, 100))
    assert [pack.add(60), pack.add(41), pack.left, pack.add(40), pack.requests, pack.bytes] == [
        "in",
        "full",
        2,
        "in",
        2,
        100,
    ]
    assert [pack.add(0), pack.left, pack.add(0)] == ["in", 0, "full"]


def test_a_request_larger_than_any_batch_is_never_in() -> None:
    """It is told apart from one that only has to wait for the next batch."""
    pack = Pack(Room(3, 100))
    assert [pack.add(101), pack.add(100), pack.add(101), pack.requests] == ["never", "in", "never", 1]


def test_tokens_bound_a_batch() -> None:
    """Too many for what is left of the queue wait; where nothing else is queued the first is tried all the same."""
    beside, alone = Pack(Room(3, 100, 10, alone=False)), Pack(Room(3, 100, 10))
    assert [beside.add(1, 11), beside.add(1, 6), beside.add(1, 5), beside.add(1, 4), beside.tokens] == [
        "full",
        "in",
        "full",
        "in",
        10,
    ]
    assert [alone.add(1, 11), alone.add(1, 1), alone.tokens] == ["in", "full", 11]
