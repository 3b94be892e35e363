"""What the facts about a request come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synth_cli.core.events import Faulted, Replied
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.core.state import Answered, Failed, History, Invalid, Unanswered, Valid, Verdict, fold, standing

GOOD, BAD, FILTERED = Answer("p", b"good"), Answer("p", b"bad"), Answer("p", b"filtered")
WRONG = Invalid("schema", "no title")
WITHHELD = Invalid("finish reason", "content_filter", retry=False)


def replied(answer: Answer, attempt: int = 1, at: float = 1.0) -> Replied:
    return Replied(b"id", "main", attempt, answer, at, 0.1)


def faulted(kind: FaultKind, attempt: int = 1, at: float = 1.0) -> Faulted:
    return Faulted(b"id", "main", attempt, Fault(kind, "words"), at)


def judge(reply: Reply) -> Verdict:
    return {"good": Valid("v"), "bad": WRONG, "filtered": WITHHELD}[reply.text or ""]


def read(answer: Answer) -> Reply:
    return Reply(text=answer.body.decode())


def stand(history: History, *, max_retries: int = 1, retry_failed: bool = False) -> object:
    return standing(history, judge, read, max_retries=max_retries, retry_failed=retry_failed)


def test_fold_counts_attempts_of_this_round_only() -> None:
    """A 429 is a try but no attempt; an earlier round's faults are neither."""
    limited, broken = faulted(FaultKind.RATE_LIMITED, 1), faulted(FaultKind.TIMEOUT, 2)
    assert fold([(faulted(FaultKind.TIMEOUT), False), (limited, True), (broken, True)]) == History(
        faults=(limited, broken), attempts=1, tries=2
    )


def test_the_first_valid_reply_wins() -> None:
    """Also when an invalid one came before and a fault after it."""
    good = replied(GOOD, 2)
    history = fold([(replied(BAD), True), (good, True), (faulted(FaultKind.TIMEOUT, 3), True)])
    assert stand(history) == Answered(good, Reply(text="good"), "v")


def test_validity_is_todays() -> None:
    """A reply of an earlier round that is valid now is used."""
    good = replied(GOOD)
    assert stand(fold([(good, False)])) == Answered(good, Reply(text="good"), "v")


def test_an_invalid_answer_is_asked_again_with_what_was_wrong() -> None:
    """While retries are left."""
    history = fold([(replied(BAD), True)])
    assert stand(history) == Unanswered(history, WRONG, replied(BAD))


def test_retries_used_up_fail_the_request_with_the_latest_cause() -> None:
    """Not with an older one."""
    history = fold([(faulted(FaultKind.TIMEOUT, 1, 1.0), True), (replied(BAD, 2, 2.0), True)])
    other = fold([(replied(BAD, 1, 1.0), True), (faulted(FaultKind.TIMEOUT, 2, 2.0), True)])
    assert (stand(history), stand(other)) == (
        Failed(WRONG, history),
        Failed(Fault(FaultKind.TIMEOUT, "words"), other),
    )


def test_a_new_round_gives_new_attempts() -> None:
    """What failed by timeouts or invalid answers is asked again."""
    history = fold([(replied(BAD), False), (faulted(FaultKind.TIMEOUT, 2), False)])
    assert stand(history) == Unanswered(history, WRONG, replied(BAD))


@pytest.mark.parametrize("present", [True, False])
def test_what_would_come_again_stays_failed(present: bool) -> None:
    """A 400 is not asked again, in this round or the next."""
    fault = faulted(FaultKind.BAD_REQUEST)
    history = fold([(fault, present)])
    assert stand(history) == Failed(fault.fault, history)


def test_retry_failed_asks_again_what_failed_for_good_in_an_earlier_round() -> None:
    """And only then: a 400 of this round has had its chance."""
    earlier, present = (fold([(faulted(FaultKind.BAD_REQUEST), earlier)]) for earlier in (False, True))
    assert (stand(earlier, retry_failed=True), type(stand(present, retry_failed=True))) == (
        Unanswered(earlier, None, None),
        Failed,
    )


def test_a_withheld_answer_is_not_asked_again() -> None:
    """A content filter's finish reason is permanent; --retry-failed asks again in a later round."""
    history, later = fold([(replied(FILTERED), True)]), fold([(replied(FILTERED), False)])
    assert stand(history) == Failed(WITHHELD, history)
    assert stand(later) == Failed(WITHHELD, later)
    assert stand(later, retry_failed=True) == Unanswered(later, WITHHELD, replied(FILTERED))


def test_what_stops_the_run_uses_up_nothing() -> None:
    """A refused key is not the row's fault: it is asked again by the next run."""
    history = fold([(faulted(FaultKind.CREDENTIALS), True)])
    assert stand(history, max_retries=0) == Unanswered(history, None, None)
    assert replace(history, faults=()) == History(tries=1)
