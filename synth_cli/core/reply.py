"""What comes back: a provider's bytes (`Answer`), what they say (`Reply`), or why there is none (`Fault`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
"""A JSON value as orjson reads it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as charged. `input` includes `cached`, `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    """Input tokens read from the provider's cache."""
    cache_written: int = 0
    """Input tokens written to the provider's cache, where that has a price of its own."""
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cache_written + other.cache_written,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The fact that is kept: a response body, and the protocol whose codec can read it (`providers.read`)."""

    protocol: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer says, the same for all providers. `finish_reason` is in OpenAI's words."""

    text: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """OpenAI's shape, `function.arguments` parsed (text where it is not JSON)."""
    logprobs: Json = None
    cost: float | None = None
    """USD, only where the provider itself states it."""
    raw: Mapping[str, Any] = field(default_factory=dict)


class FaultKind(StrEnum):
    """Why no usable reply came. The comment column is `SCOPE`: what it means for the row and the run."""

    RATE_LIMITED = "rate limited"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    UNREACHABLE = "unreachable"
    SERVER_ERROR = "server error"
    MALFORMED = "malformed body"
    MISSING = "no result"
    CANCELLED = "cancelled"
    LOST = "worker lost"
    BAD_REQUEST = "bad request"
    CONTEXT_LENGTH = "context length"
    TOO_LARGE = "too large"
    CONTENT_FILTER = "content filter"
    TEMPLATE = "template"
    CREDENTIALS = "credentials"
    QUOTA = "quota"
    UNKNOWN_MODEL = "unknown model"


Scope: TypeAlias = Literal["attempt", "row", "run"]
"""What a fault ends: this attempt (ask again), the row for good, or the whole run."""

SCOPE: Mapping[FaultKind, Scope] = {
    FaultKind.RATE_LIMITED: "attempt",
    FaultKind.OVERLOADED: "attempt",
    FaultKind.TIMEOUT: "attempt",
    FaultKind.CONNECTION: "attempt",
    FaultKind.UNREACHABLE: "attempt",
    FaultKind.SERVER_ERROR: "attempt",
    FaultKind.MALFORMED: "attempt",
    FaultKind.MISSING: "attempt",
    FaultKind.CANCELLED: "attempt",
    FaultKind.LOST: "attempt",
    FaultKind.BAD_REQUEST: "row",
    FaultKind.CONTEXT_LENGTH: "row",
    FaultKind.TOO_LARGE: "row",
    FaultKind.CONTENT_FILTER: "row",
    FaultKind.TEMPLATE: "row",
    FaultKind.CREDENTIALS: "run",
    FaultKind.QUOTA: "run",
    FaultKind.UNKNOWN_MODEL: "run",
}
UNCOUNTED = frozenset({FaultKind.RATE_LIMITED, FaultKind.OVERLOADED, FaultKind.CANCELLED, FaultKind.LOST})
"""Faults that do not use up `max_retries`: the server asked for patience, somebody ended the batch, or the worker died
with all that it had in flight; the request was never really tried."""


@dataclass(frozen=True, slots=True)
class Fault:
    """No usable reply: what happened, in the provider's words where it said any."""

    kind: FaultKind
    message: str
    status: int | None = None
    retry_after: float | None = None
    """Seconds the server asked to wait before this request is sent again."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"

    @property
    def scope(self) -> Scope:
        return SCOPE[self.kind]

    @property
    def retryable(self) -> bool:
        return self.scope == "attempt"

    @property
    def counted(self) -> bool:
        """Whether it uses up one of `max_retries`. What stops the run is not the row's fault."""
        return self.scope != "run" and self.kind not in UNCOUNTED

    @property
    def refused(self) -> bool:
        """Whether the provider read what was sent and said no: then nothing can have come of it."""
        return self.status is not None and (self.scope != "attempt" or self.status == 429)
