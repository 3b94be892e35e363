"""What the protocols share: a batch's metadata, its ways to end, and reading what a provider says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from synth_cli.core.ports import BatchError, BatchLook
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.batches import lines

Ticket: TypeAlias = Mapping[str, Any]
Outcome: TypeAlias = Literal["collected", "cancelled", "expired", "failed"]

KEY = "synth_key"
"""The metadata that finds a batch again."""
LABELS, NAME_CHARS, LABEL_CHARS = 16, 64, 512
UNANSWERED: Mapping[Outcome, str] = {
    "collected": "the batch ended without a result for this request",
    "expired": lines.UNANSWERED["batch_expired"],
    "cancelled": lines.UNANSWERED["batch_cancelled"],
    "failed": "the batch failed",
}
SLACK = 3600.0
"""Seconds by which the provider's clock may be behind ours."""
LAG = 86400.0
"""Seconds after a batch's end in which a file of results may not be seen yet."""
KEPT = 30 * 86400.0
"""Seconds after which a batch that nobody knows is really gone, and not somebody else's."""


def labels(key: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a batch: the key and as much of the rest as OpenAI has room for."""
    kept = {name[:NAME_CHARS]: value[:LABEL_CHARS] for name, value in [*metadata.items()][: LABELS - 1]}
    return kept | {KEY: key}


def filename(key: str) -> str:
    return f"{key}.jsonl"


def missing(outcome: Outcome, reason: str = "") -> Fault:
    """What is recorded for a request of an ended batch that has no result."""
    return Fault(FaultKind.MISSING, f"{UNANSWERED[outcome]}: {reason}" if reason else UNANSWERED[outcome])


def kept_until(ticket: Ticket) -> float:
    """Until when the results of an ended batch must be there: a day after its end, as far as that is known."""
    at = ticket.get("ended_at") or ticket.get("created_at")
    return at + LAG if isinstance(at, int | float) else math.inf


def unknown(ticket: Ticket, now: float) -> BatchLook:
    """A batch that the provider does not know. Raises BatchError as long as that may be a mistake of ours."""
    at = ticket.get("created_at")
    if not isinstance(at, int | float) or now - at < KEPT:
        message = f"the provider knows no batch {ticket['id']}: another key or project?"
        raise BatchError(Fault(FaultKind.MISSING, message, 404))
    fault = Fault(FaultKind.MISSING, "the provider has deleted the batch and its results")
    return BatchLook("deleted", True, "failed", message=fault.message, ticket=ticket, fault=fault)


def text(data: Any, name: str) -> str:
    """A field that must be there. Raises BatchError."""
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, str) or not value:
        raise BatchError(Fault(FaultKind.MALFORMED, f"the provider's answer has no {name}"))
    return value


def moment(value: Any) -> float | None:
    """Seconds since the epoch, of seconds, milliseconds or a date."""
    if isinstance(value, int | float):
        return value / 1000 if value > 1e11 else float(value)
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except ValueError:
        return None


def count(counts: Any, name: str) -> int | None:
    """A count of requests, some hosts write it as text."""
    value = counts.get(name) if isinstance(counts, dict) else None
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return value if isinstance(value, int) else None
