"""What the facts about one request amount to, and what is left to do for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from synth_cli.core.events import Faulted, Outcome, Replied
from synth_cli.core.reply import Answer, Fault, Reply


@dataclass(frozen=True, slots=True)
class Valid:
    """The answer is what the spec asked for; `value` is what templates see as `response`."""

    value: Any


@dataclass(frozen=True, slots=True)
class Invalid:
    """It is not. `reason` is for people and, with `feedback`, for the model."""

    kind: Literal["finish reason", "refusal", "schema", "choice", "regex", "grammar", "check", "empty"]
    reason: str
    retry: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


Verdict: TypeAlias = Valid | Invalid


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of one request, oldest first. Replies of every round count, faults only of this one."""

    replies: tuple[Replied, ...] = ()
    faults: tuple[Faulted, ...] = ()
    permanent: Faulted | None = None
    """The last fault of an earlier round that would come again: asked again only with `--retry-failed`."""
    attempts: int = 0
    """Attempts in this round that count against `max_retries`."""
    tries: int = 0
    """Attempts in this round, counted or not: the next one's number is this + 1."""
    fresh: int = 0
    """How many of the replies came in this round."""


NOTHING = History()


def fold(outcomes: Iterable[tuple[Outcome, bool]]) -> History:
    """Facts about one request, oldest first, each with whether it belongs to the present round."""
    replies: list[Replied] = []
    faults: list[Faulted] = []
    permanent: Faulted | None = None
    attempts = tries = fresh = 0
    for outcome, present in outcomes:
        if isinstance(outcome, Replied):
            replies.append(outcome)
            permanent = None
            fresh += present
        elif present:
            faults.append(outcome)
        else:
            permanent = outcome if outcome.fault.scope == "row" else None
        if present:
            tries += 1
            attempts += isinstance(outcome, Replied) or outcome.fault.counted
    return History(tuple(replies), tuple(faults), permanent, attempts, tries, fresh)


@dataclass(frozen=True, slots=True)
class Answered:
    """The first valid reply, and what it says."""

    replied: Replied
    reply: Reply
    value: Any


@dataclass(frozen=True, slots=True)
class Unanswered:
    """To be asked; `invalid` is the verdict on the latest answer, for a re-ask with feedback."""

    history: History = NOTHING
    invalid: Invalid | None = None
    latest: Replied | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Given up in this round."""

    cause: Fault | Invalid
    history: History = NOTHING


Standing: TypeAlias = Answered | Unanswered | Failed


def standing(
    history: History,
    judge: Callable[[Reply], Verdict],
    read: Callable[[Answer], Reply],
    *,
    max_retries: int,
    retry_failed: bool = False,
) -> Standing:
    """What the facts about a request come to under today's spec: the first valid reply wins."""
    verdict: Verdict | None = None
    for replied in history.replies:
        reply = read(replied.answer)
        verdict = judge(reply)
        if isinstance(verdict, Valid):
            return Answered(replied, reply, verdict.value)
    latest = history.replies[-1] if history.replies else None
    invalid = verdict if isinstance(verdict, Invalid) else None
    last_fault = history.faults[-1] if history.faults else None
    if invalid is not None and not invalid.retry and (history.fresh or not retry_failed):
        return Failed(invalid, history)
    if history.permanent is not None and not history.tries and not retry_failed:
        return Failed(history.permanent.fault, history)
    if last_fault is not None and last_fault.fault.scope == "row":
        return Failed(last_fault.fault, history)
    if history.attempts > max_retries:
        newer = last_fault is not None and (latest is None or not history.fresh or latest.at <= last_fault.at)
        cause = last_fault.fault if newer and last_fault is not None else invalid
        if cause is not None:
            return Failed(cause, history)
    return Unanswered(history, invalid, latest)
