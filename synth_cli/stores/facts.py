"""Facts ↔ what the ledger's tables hold. Everything comes back equal to what went in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import orjson

from synth_cli.core.events import (
    Closed,
    Faulted,
    Mark,
    Opened,
    Opening,
    Outcome,
    Published,
    Publishing,
    Replied,
    Reserved,
    RoundClosed,
    RoundOpened,
    RunClosed,
    RunOpened,
)
from synth_cli.core.reply import Answer, Fault, FaultKind, Usage

REPLIED, FAULTED = "replied", "faulted"
KINDS: Mapping[str, type[Mark]] = {
    "round opened": RoundOpened,
    "round closed": RoundClosed,
    "run opened": RunOpened,
    "run closed": RunClosed,
    "reserved": Reserved,
    "publishing": Publishing,
    "published": Published,
    "opening": Opening,
    "opened": Opened,
    "closed": Closed,
}
NAMES: Mapping[type[Mark], str] = {cls: kind for kind, cls in KINDS.items()}
FIELDS: Mapping[type[Mark], tuple[str, ...]] = {
    cls: tuple(field.name for field in fields(cls)) for cls in KINDS.values()
}
FAULT_KINDS: Mapping[str, FaultKind] = {kind.value: kind for kind in FaultKind}
NO_USAGE = (None, None, None, None, None)
Values = tuple[Any, ...]
"""In the order of `schema.OUTCOMES`."""


def outcome_values(fact: Outcome, run: int, round: int) -> Values:
    if type(fact) is Replied:
        usage, sent = fact.usage, fact.messages
        tokens = (
            NO_USAGE
            if usage is None
            else (usage.input, usage.output, usage.cached, usage.cache_written, usage.reasoning)
        )
        return (
            fact.id, fact.step, run, round, fact.attempt, REPLIED, fact.at, fact.latency, fact.model,
            fact.finish_reason, *tokens, fact.cost, fact.spent, fact.spent_tokens, None, None, None,
            fact.answer.protocol, None, None if sent is None else orjson.dumps(sent), fact.answer.body,
        )  # fmt: skip
    assert isinstance(fact, Faulted)
    fault, answer = fact.fault, fact.answer
    protocol, body = (None, None) if answer is None else (answer.protocol, answer.body)
    return (
        fact.id, fact.step, run, round, fact.attempt, FAULTED, fact.at, fact.latency, None, None, *NO_USAGE, None,
        fact.spent, fact.spent_tokens, fault.kind.value, fault.status, fault.retry_after, protocol, fault.message,
        None, body,
    )  # fmt: skip


def outcome(values: Values) -> Outcome:
    (
        id, step, _, _, attempt, kind, at, latency, model, finish_reason, tokens_in, tokens_out, cached, written,
        reasoning, cost, spent, spent_tokens, fault, status, retry_after, protocol, message, messages, body,
    ) = values  # fmt: skip
    if kind == REPLIED:
        usage = None if tokens_in is None else Usage(tokens_in, tokens_out, cached, written, reasoning)
        sent = None if messages is None else tuple(orjson.loads(messages))
        answer = Answer(protocol, body)
        return Replied(
            id, step, attempt, answer, at, latency, model, finish_reason, usage, cost, spent, spent_tokens, sent
        )
    return Faulted(
        id,
        step,
        attempt,
        Fault(FAULT_KINDS[fault], message, status, retry_after),
        at,
        latency,
        None if protocol is None else Answer(protocol, body),
        spent,
        spent_tokens,
    )


def mark_values(mark: Mark) -> tuple[str, bytes]:
    """(kind, JSON). Request ids are written as hex."""
    content: dict[str, Any] = {name: getattr(mark, name) for name in FIELDS[type(mark)]}
    if isinstance(mark, Opening):
        content["ids"] = [id.hex() for id in mark.ids]
    return NAMES[type(mark)], orjson.dumps(content)


def mark(kind: str, body: bytes) -> Mark:
    content = orjson.loads(body)
    if kind == "opening":
        content["ids"] = tuple(bytes.fromhex(id) for id in content["ids"])
    return KINDS[kind](**content)
