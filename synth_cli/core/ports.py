"""The shapes by which the rooms meet. Anything that fits one can take its place; nothing inherits from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from synth_cli.core.events import Fact
from synth_cli.core.reply import Answer, Fault, Reply
from synth_cli.core.request import Message, Request
from synth_cli.core.row import Context
from synth_cli.core.state import History, Verdict


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a response's headers say. Counts per minute; `reset` in seconds from now; None where not said."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    remaining_requests: float | None = None
    remaining_tokens: float | None = None
    reset_requests: float | None = None
    reset_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request sent and what came of it. `reply` is what `answer` says; exactly one of reply and fault is set."""

    reply: Reply | None = None
    answer: Answer | None = None
    fault: Fault | None = None
    limits: RateLimits | None = None


class Client(Protocol):
    """Asks one provider. Never raises for anything a provider or the network does: that is a `Fault`."""

    async def ask(self, request: Request) -> Exchange: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpCall:
    """`headers` come on top of the transport's own; `timeout` in seconds, for the whole exchange."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Header names are compared without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """One method, so that a faster one can take its place. Raises `TransportError` and nothing else."""

    async def send(self, call: HttpCall) -> HttpAnswer: ...


class TransportError(Exception):
    """The exchange broke off; `fault` says how (timeout or connection)."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Judge(Protocol):
    """Says whether a reply is what the spec asked for. Pure: called again whenever the ledger is read."""

    def __call__(self, context: Context, reply: Reply) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Task:
    """A request to send now. `attempt` counts from 1 within the round."""

    request: Request
    context: Context
    attempt: int = 1
    counted: int = 0
    """Attempts so far that count against `max_retries`."""
    messages: tuple[Message, ...] | None = None
    """What is sent instead of the row's own messages: a re-ask with feedback."""
    worst_cost: float = 0.0
    worst_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be sent before `until` (the clock of `Work.take`); None: not before something in flight settles."""

    until: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left, or the run is stopping: what is in flight may be awaited, nothing more is handed out."""


class Work(Protocol):
    """What is left to do, handed out one by one; decides retries, re-asks and when to stop.

    `take` never blocks. Every task that was taken is settled exactly once, or released when it was never sent.
    """

    def take(self, now: float) -> Task | Wait | Done: ...

    def settle(self, task: Task, exchange: Exchange, *, now: float, at: float, latency: float) -> None:
        """Records the outcome and decides what follows. `now` is the clock of `take`, `at` the time of day."""

    def release(self, task: Task) -> None:
        """The task was not sent (the run is ending): it is as if it had not been taken."""

    def stop(self) -> None:
        """Hand out nothing more."""


class Record(Protocol):
    """Where facts go. `add` may hold a small group back; after `flush` everything added is durable."""

    def add(self, fact: Fact) -> None: ...

    def flush(self) -> None: ...


class Engine(Protocol):
    """Advances the work as far as can be done now, recording each fact durably before the next effect."""

    async def advance(self, work: Work, record: Record) -> None: ...


class Ledger(Protocol):
    """The facts of one job, append-only. Look-ups are in chunks: nothing holds all ids."""

    def append(self, facts: Sequence[Fact]) -> None:
        """One transaction, durable on return."""

    def histories(self, ids: Sequence[bytes]) -> Mapping[bytes, History]:
        """What is known of these requests; those never heard of are missing."""

    def marks(self) -> Iterator[Fact]:
        """Every fact that is not about a single request, oldest first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Figures for the display, as of now. Tokens and cost count this run."""

    total: int | None = None
    answered: int = 0
    failed: int = 0
    reused: int = 0
    in_flight: int = 0
    retries: int = 0
    rate_limited: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    note: str = ""
    """What the run is waiting for, in a few words."""
