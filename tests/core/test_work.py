"""What is handed out, and when it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from synth_cli.core.budget import Allowance
from synth_cli.core.cost import Price
from synth_cli.core.events import Fact, Faulted, Replied
from synth_cli.core.ports import Done, Exchange, Task, Wait
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage
from synth_cli.core.request import STRIDE, Request, Terms
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context, Row
from synth_cli.core.shift import Ending, Shift
from synth_cli.core.state import Invalid, Valid, Verdict
from synth_cli.core.work import Rules, StepWork

TERMS = Terms("openai", "m")


class Kept:
    """A record in memory."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)

    def flush(self) -> None:
        """Nothing is held back."""


def task(number: int) -> Task:
    request = Request(bytes([number]), TERMS, ({"role": "user", "content": str(number)},))
    return Task(request, Context(Row(number, bytes([number]), {})))


def judge(context: Context, reply: Reply) -> Verdict:
    return Valid(reply.text) if reply.text == "good" else Invalid("schema", "no title")


def good(usage: Usage | None = None) -> Exchange:
    return Exchange(Reply(text="good", usage=usage), Answer("p", b"good"))


BAD = Exchange(Reply(text="bad"), Answer("p", b"bad"))


def broken(kind: FaultKind, **more: Any) -> Exchange:
    return Exchange(fault=Fault(kind, "words", **more))


def work(tasks: Iterator[Task] | Sequence[Task], record: Kept | None = None, **more: Any) -> StepWork:
    rules = {"step": "main", "retry": RetryPolicy(1), "judge": judge}
    shift = Shift(**{key: more.pop(key) for key in ("allowance", "deadline") if key in more})
    own = {key: more.pop(key) for key in ("outstanding",) if key in more}
    return StepWork(iter(tasks), Rules(**{**rules, **more}), record or Kept(), chance=lambda: 0.0, shift=shift, **own)


def taken(own: StepWork, now: float = 0.0) -> Task:
    found = own.take(now)
    assert isinstance(found, Task), found
    return found


def settle(own: StepWork, given: Task, exchange: Exchange, now: float = 0.0) -> None:
    own.settle(given, exchange, now=now, at=100.0 + now, latency=0.5)


def test_every_task_is_handed_out_once_and_then_it_is_done() -> None:
    """While something is in flight there is nothing to do but wait; after that nothing is left."""
    own = work([task(1)])
    first = taken(own)
    waiting = own.take(0.0)
    settle(own, first, good())
    assert (waiting, own.take(0.0), own.ending) == (Wait(None), Done(), None)


def test_a_retry_comes_when_it_is_due_and_before_what_is_new() -> None:
    """The server asked for 5 seconds; other tasks go on meanwhile."""
    own = work([task(1), task(2), task(3)])
    first = taken(own)
    settle(own, first, broken(FaultKind.RATE_LIMITED, retry_after=5.0))
    second = taken(own, 1.0)
    third = taken(own, 5.0)
    assert (second.request.id, third.request.id, third.attempt, third.counted) == (b"\2", b"\1", 2, 0)


def test_an_invalid_answer_is_kept_and_asked_again_at_once() -> None:
    """The answer was paid for; with feedback the second attempt has its own messages."""
    record = Kept()
    said = ({"role": "user", "content": "mend it"},)
    own = work([task(1)], record, reask=lambda *_: said)
    first = taken(own)
    settle(own, first, BAD)
    second = taken(own)
    settle(own, second, BAD)
    assert [(fact.attempt, fact.messages) for fact in record.facts if isinstance(fact, Replied)] == [
        (1, None),
        (2, said),
    ]
    assert (own.tally.failed, own.tally.retries, own.take(0.0)) == (1, 1, Done())


def test_an_invalid_answer_is_not_asked_for_with_its_own_seed() -> None:
    """A model that keeps to its seed would say it again; after a fault nothing has been said, and the seed stays."""
    one = task(1)
    own = work([replace(one, request=replace(one.request, seed=7))], retry=RetryPolicy(5))
    seeds = []
    for exchange in (BAD, broken(FaultKind.OVERLOADED), broken(FaultKind.LOST), BAD, good()):
        given = taken(own, 100.0)
        seeds.append(given.request.seed)
        settle(own, given, exchange)
    assert seeds == [7, *[7 + STRIDE] * 3, 7 + 2 * STRIDE]


def test_a_fault_that_ends_the_run_hands_out_nothing_more() -> None:
    """The provider's words are kept for the message."""
    own = work([task(1), task(2)])
    settle(own, taken(own), broken(FaultKind.CREDENTIALS))
    assert (own.take(0.0), own.ending) == (Done(), Ending("fault", "words", Fault(FaultKind.CREDENTIALS, "words")))


def test_without_one_success_it_ends_early_and_says_why() -> None:
    """64 attempts are enough; 100,000 rows are not burnt."""
    own = work((task(number % 250) for number in range(100_000)), retry=RetryPolicy(0))
    for _ in range(64):
        settle(own, taken(own), broken(FaultKind.SERVER_ERROR))
    assert own.ending == Ending("hopeless", "none of the first 64 attempts succeeded; 64 times: server error: words")


def test_a_server_that_stays_away_ends_the_run() -> None:
    """Ten minutes after it was last heard of, and not when it comes back before."""
    record = Kept()
    own = work([task(n) for n in range(9)], record, retry=RetryPolicy(0))
    heard = {0: good(), 300: broken(FaultKind.UNREACHABLE), 899: broken(FaultKind.SERVER_ERROR)}
    for now in (0, 300, 899, 900, 1400, 1499, 1500):
        settle(own, taken(own, now), heard.get(now, broken(FaultKind.UNREACHABLE)), now)
        ended = own.ending
        assert (ended is None) is (now < 1500)
    assert own.ending == Ending("hopeless", "the server was not reached for 10 minutes: words")


def test_being_rate_limited_is_no_reason_to_give_up() -> None:
    """A key shared with another job gets many 429s at first."""
    own = work(task(number % 250) for number in range(1000))
    for _ in range(200):
        settle(own, taken(own), broken(FaultKind.RATE_LIMITED, retry_after=1e6))
    assert own.ending is None


def test_the_budget_waits_for_what_is_in_flight_before_it_ends_the_run() -> None:
    """A worst case of $6 does not fit beside another one in $10, but fits once that cost only $1."""
    allowance = Allowance(1, max_cost=10.0, max_tokens=None, spent_cost=0.0, spent_tokens=0, announce=lambda _: None)
    price = Price(1.0, 1.0)
    own = work([task(1), task(2), task(3)], allowance=allowance, price=price, worst=lambda _: (6.0, 6))
    first = taken(own)
    waiting = own.take(0.0)
    settle(own, first, good(Usage(0, 1)))
    second = taken(own)
    settle(own, second, good(Usage(0, 5)))
    assert (waiting, own.take(0.0), allowance.cost) == (Wait(None), Done(), 6.0)
    assert own.ending is not None
    assert own.ending.why == "budget"


def test_an_attempt_without_usage_stays_spent_at_its_worst_case() -> None:
    """Nobody knows whether a timeout was charged."""
    record = Kept()
    allowance = Allowance(1, max_cost=10.0, max_tokens=None, spent_cost=0.0, spent_tokens=0, announce=lambda _: None)
    own = work([task(1)], record, allowance=allowance, worst=lambda _: (6.0, 6))
    settle(own, taken(own), broken(FaultKind.TIMEOUT))
    assert [fact.spent for fact in record.facts if isinstance(fact, Faulted)] == [6.0]
    assert allowance.cost == 6.0


def test_the_deadline_stops_taking() -> None:
    """What is in flight may still settle."""
    own = work([task(1), task(2)], deadline=10.0)
    first = taken(own, 9.9)
    over = own.take(10.0)
    settle(own, first, good(), 11.0)
    assert (over, own.tally.answered, own.ending and own.ending.why) == (Done(), 1, "deadline")


def test_on_failure_stop_ends_with_the_first_failed_row() -> None:
    """And names it."""
    own = work([task(7), task(8)], stop_on_failure=True)
    settle(own, taken(own), broken(FaultKind.BAD_REQUEST))
    assert own.ending == Ending("on_failure", "row 7 failed, and on_failure is stop: bad request: words")


def test_a_released_task_gives_its_reservation_back() -> None:
    """It was never sent."""
    allowance = Allowance(1, max_cost=10.0, max_tokens=None, spent_cost=0.0, spent_tokens=0, announce=lambda _: None)
    own = work([task(1)], allowance=allowance, worst=lambda _: (6.0, 6))
    own.release(taken(own))
    assert (allowance.cost, allowance.reserve(10.0, 0), own.in_flight) == (0.0, True, 0)


def test_open_batches_are_waited_for() -> None:
    """While requests are in batches that were open before, the work is not done, nor its budget at an end."""
    allowance = Allowance(1, max_cost=10.0, max_tokens=None, spent_cost=9.0, spent_tokens=90, announce=lambda _: None)
    own = work([task(1)], worst=lambda request: (2.0, 20), allowance=allowance, outstanding=3)
    before = own.take(0.0)
    own.returned(3, 9.0, 90, 4.0, 40)
    first = taken(own)
    own.release(first)
    assert (before, own.take(0.0), own.ending, allowance.cost, allowance.tokens) == (Wait(None), Done(), None, 4.0, 40)


def test_it_can_be_told_that_all_would_fail() -> None:
    """A fault that would come again with every request ends it, as one of its own requests' would."""
    fault = Fault(FaultKind.CREDENTIALS, "no such key", 401)
    own = work([task(1)])
    before = own.stopping
    own.fail(fault)
    assert (before, own.stopping, own.take(0.0), own.ending) == (
        False,
        True,
        Done(),
        Ending("fault", "no such key", fault),
    )
