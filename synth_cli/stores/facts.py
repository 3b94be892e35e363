"""Facts ↔ what the ledger's tables hold. Everything comes back equal to what went in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias

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
    Sought,
)
from synth_cli.core.reply import Answer, Fault, FaultKind, Usage

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
    "sought": Sought,
    "closed": Closed,
}
APART = frozenset({"ids", "messages"})
"""What is kept of an opening in tables of its own."""
NAMES: Mapping[type[Mark], str] = {cls: kind for kind, cls in KINDS.items()}
FIELDS: Mapping[type[Mark], tuple[str, ...]] = {
    cls: tuple(field.name for field in fields(cls) if cls is not Opening or field.name not in APART)
    for cls in KINDS.values()
}
FAULT_KINDS: Mapping[str, FaultKind] = {kind.value: kind for kind in FaultKind}
NO_USAGE = (None, None, None, None, None)
REPLIED = (
    "id, step, attempt, at, latency, model, finish_reason, input_tokens, output_tokens, cached_tokens, "
    "cache_written_tokens, reasoning_tokens, cost, spent, spent_tokens, batch, protocol, messages, body"
)
FAULTED = (
    "id, step, attempt, at, latency, fault, status, retry_after, message, spent, spent_tokens, batch, protocol, body"
)
"""The columns that a reply fills and those that a fault does: leaving the others out is cheaper than writing nulls."""
Values: TypeAlias = tuple[Any, ...]


def replied_values(fact: Replied) -> Values:
    """In the order of `REPLIED`."""
    usage, sent = fact.usage, fact.messages
    tokens = (
        NO_USAGE if usage is None else (usage.input, usage.output, usage.cached, usage.cache_written, usage.reasoning)
    )
    return (
        fact.id, fact.step, fact.attempt, fact.at, fact.latency, fact.model, fact.finish_reason, *tokens, fact.cost,
        fact.spent, fact.spent_tokens, fact.batch, fact.answer.protocol, None if sent is None else orjson.dumps(sent),
        fact.answer.body,
    )  # fmt: skip


def faulted_values(fact: Faulted) -> Values:
    """In the order of `FAULTED`."""
    fault, answer = fact.fault, fact.answer
    protocol, body = (None, None) if answer is None else (answer.protocol, answer.body)
    return (
        fact.id, fact.step, fact.attempt, fact.at, fact.latency, fault.kind.value, fault.status, fault.retry_after,
        fault.message, fact.spent, fact.spent_tokens, fact.batch, protocol, body,
    )  # fmt: skip


def outcome(values: Values) -> Outcome:
    """From the columns of `schema.OUTCOMES`."""
    (
        id, step, _, attempt, fault, at, latency, model, finish_reason, tokens_in, tokens_out, cached, written,
        reasoning, cost, spent, spent_tokens, batch, status, retry_after, protocol, message, messages, body,
    ) = values  # fmt: skip
    if fault is None:
        usage = None if tokens_in is None else Usage(tokens_in, tokens_out, cached, written, reasoning)
        sent = None if messages is None else tuple(orjson.loads(messages))
        answer = Answer(protocol, body)
        return Replied(
            id, step, attempt, answer, at, latency, model, finish_reason, usage, cost, spent, spent_tokens, sent, batch
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
        batch,
    )


def mark_values(mark: Mark) -> tuple[str, bytes]:
    """(kind, JSON)."""
    content: dict[str, Any] = {name: getattr(mark, name) for name in FIELDS[type(mark)]}
    return NAMES[type(mark)], orjson.dumps(content)


def mark(kind: str, body: bytes) -> Mark:
    """An opening comes without ids and messages."""
    content = orjson.loads(body)
    if kind == "opening":
        content["ids"] = ()
    return KINDS[kind](**content)
