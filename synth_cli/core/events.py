"""The facts that a ledger keeps. Everything else (what is left, attempts, rows, cost, the report) is derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from synth_cli.core.reply import Answer, Fault, Usage
from synth_cli.core.request import Message


@dataclass(frozen=True, slots=True)
class Replied:
    """A body came back for a request; whether it is valid is judged by today's spec, never stored."""

    id: bytes
    step: str
    attempt: int
    """Counts from 1 within the round, over restarts."""
    answer: Answer
    at: float
    """Seconds since the epoch, when the body was complete."""
    latency: float
    """Seconds from sending to the complete body."""
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    """USD at the prices of that moment; None where the price is not known."""
    spent: float | None = None
    """USD to hold against a budget: the cost, or the reserved worst case where no usage came."""
    spent_tokens: int = 0
    messages: tuple[Message, ...] | None = None
    """What was really sent, where it is not what the row itself renders to (a re-ask with feedback)."""
    batch: str | None = None
    """The key of the batch that it came in."""


@dataclass(frozen=True, slots=True)
class Faulted:
    """No usable reply came for a request."""

    id: bytes
    step: str
    attempt: int
    fault: Fault
    at: float
    latency: float = 0.0
    answer: Answer | None = None
    """The body that could not be used, where there was one."""
    spent: float | None = None
    spent_tokens: int = 0
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """From here until `RoundClosed`, over crashes and restarts, attempts and budgets are counted together."""

    round: int
    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class RoundClosed:
    round: int
    at: float


@dataclass(frozen=True, slots=True)
class RunOpened:
    run: int
    round: int
    folder: str
    """The run's folder, relative to the state folder."""
    at: float
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class RunClosed:
    run: int
    exit_code: int
    at: float


@dataclass(frozen=True, slots=True)
class Reserved:
    """The run may have requests in flight worth up to this; 0 once it has settled them all.

    A run that died keeps its last reservation against the round's budget: what it had in flight may have been paid.
    """

    run: int
    cost: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Publishing:
    """The candidates are complete; from here the renames are rolled forward, never back."""

    run: int
    moves: Mapping[str, str]
    """Candidate path → output path."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Rows, whether simulated, the limit: what a later, lesser run must not replace."""


@dataclass(frozen=True, slots=True)
class Published:
    run: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A remote piece of work (a batch) is about to be submitted under `key`, which finds it again."""

    key: str
    step: str
    ids: tuple[bytes, ...]
    """In the order of the batch's file. In a ledger's `marks` these and the messages are left out, there may be
    100,000: `Ledger.ids_in` and `Ledger.messages_in` give them."""
    at: float
    cost: float = 0.0
    """USD that its requests may cost at most: held against the budget until it is closed."""
    tokens: int = 0
    messages: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)
    """Id in hex → what is sent for it, where that is not what its row renders to (a re-ask with feedback)."""
    requests: int = 0
    """How many ids there are."""
    queued: int = 0
    """Input tokens, estimated: held against what the provider lets wait at once."""
    place: str = ""
    """The provider and address that it is sent to: elsewhere nobody knows it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The provider accepted it and named it."""

    key: str
    ticket: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Sought:
    """Whether it was submitted is not known, and the provider did not list it at this time; its list may lag."""

    key: str
    at: float


@dataclass(frozen=True, slots=True)
class Closed:
    """Everything it held is recorded, or it never came to be."""

    key: str
    outcome: Literal["collected", "cancelled", "expired", "failed", "absent"]
    at: float


Outcome: TypeAlias = Replied | Faulted
Mark: TypeAlias = (
    RoundOpened
    | RoundClosed
    | RunOpened
    | RunClosed
    | Reserved
    | Publishing
    | Published
    | Opening
    | Opened
    | Sought
    | Closed
)
Fact: TypeAlias = Outcome | Mark
