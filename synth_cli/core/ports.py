"""The shapes by which the rooms meet. Anything that fits one can take its place; nothing inherits from them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from synth_cli.core.events import Fact, Replied
from synth_cli.core.reply import Answer, Fault, Reply
from synth_cli.core.request import Message, Request
from synth_cli.core.row import Context
from synth_cli.core.state import History, Invalid, Verdict

if TYPE_CHECKING:
    from synth_cli.core.work import Rules


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


class Worker(Protocol):
    """A copy of a model that answers on machines of ours, in this process or elsewhere.

    Never raises for a bad request: that is a `Fault` in its exchange. Raises `WorkerLostError` when the worker itself
    is gone, and with it whatever it had in flight.
    """

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        """One exchange for each request, in their order. Several requests differ in their sample and seed alone, and
        are one call to the model."""

    async def close(self) -> None: ...


class WorkerLostError(Exception):
    """A worker ended; `fault` says how."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class HttpCall:
    """`headers` come on top of the transport's own; `timeout` in seconds, for the whole exchange.

    A body of several parts is sent one behind the other, files from the disk in pieces: it never is in memory whole.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | tuple[bytes | Path, ...] | None = None
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


class FileTransport(Transport, Protocol):
    """A transport that can also read an answer too large for memory."""

    def lines(self, call: HttpCall) -> AsyncIterator[bytes]:
        """The lines of a body, without their ends, as they come. Raises `TransportError`, and `HttpError` for a
        status that is not 200."""


class HttpError(Exception):
    """A call that was to give lines was answered otherwise."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


class TransportError(Exception):
    """The exchange broke off; `fault` says how (timeout or connection)."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Judge(Protocol):
    """Says whether a reply is what the spec asked for. Pure: called again whenever the ledger is read."""

    def __call__(self, context: Context, reply: Reply) -> Verdict: ...


class Settling(Protocol):
    """What goes on when a request has come to its end for this round."""

    def answered(self, replied: Replied, reply: Reply, value: Any) -> None: ...

    def failed(self, cause: Fault | Invalid) -> bool:
        """Whether the row's sample has failed with it: another model may be asked in its place."""


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
    rules: Rules | None = None
    """How it is treated, where that is not as its work treats all."""
    settling: Settling | None = None


class Tasks(Protocol):
    """Where tasks come from when they come by and by."""

    def next(self) -> Task | None:
        """None: nothing is ready now."""

    @property
    def over(self) -> bool:
        """Whether nothing will ever come again."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be sent before `until` (the clock of `Work.take`). None: not before something in flight settles, or,
    with nothing in flight, before other engines have got further: then `advance` returns."""

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

    @property
    def stopping(self) -> bool:
        """Whether something ended the work before it was done."""

    def fail(self, fault: Fault) -> None:
        """What would come again with every request: hand out nothing more."""

    def returned(self, requests: int, held_cost: float, held_tokens: int, cost: float, tokens: int) -> None:
        """A batch of so many requests that was open when the work began has ended: what it was held at, and what it
        used by now."""


class Record(Protocol):
    """Where facts go. `add` may hold a small group back; after `flush` everything added is durable."""

    def add(self, fact: Fact) -> None: ...

    def flush(self) -> None: ...


class Engine(Protocol):
    """Advances the work as far as can be done now, recording each fact durably before the next effect."""

    async def advance(self, work: Work, record: Record) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch, and all open ones together, may hold. None: no limit is known."""

    requests: int
    bytes: int
    open_batches: int | None = None
    queued_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class BatchLook:
    """How a batch stands. `ended`: nothing more will come of it, and its results can be read.

    `state` is the provider's own word, `outcome` what `Closed` will say once it has ended. `done` and `failed` count
    requests, as far as the provider says. `ticket` is what `results` needs, with what this look has learnt.
    """

    state: str
    ended: bool
    outcome: Literal["collected", "cancelled", "expired", "failed"] = "collected"
    done: int | None = None
    failed: int | None = None
    total: int | None = None
    message: str = ""
    """Why it failed, in the provider's words."""
    ticket: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    """Once it has ended: what to record for its requests that have no result."""
    refused: Mapping[int, Fault] = field(default_factory=dict)
    """Where a file was refused for some of its lines: line, counted from 1, → what is wrong with it."""


@dataclass(frozen=True, slots=True)
class BatchStanding:
    """A batch for the display. `state` in the provider's words, `at` and `opened_at` seconds since the epoch."""

    key: str
    state: str
    done: int | None = None
    failed: int | None = None
    total: int = 0
    opened_at: float | None = None
    """When it was submitted; None while nobody knows whether it was."""
    at: float = 0.0
    """When it was announced."""
    collected: int = 0
    """Requests whose outcomes are in the ledger."""
    cost: float = 0.0
    """USD that those used, as far as is known."""
    outcome: str | None = None
    """How it was closed; None while it is open."""
    trouble: str = ""
    """What went wrong last."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One line of a batch's results: exactly one of `exchange.reply` and `exchange.fault`. Ids may be wrong."""

    custom_id: str
    exchange: Exchange


class BatchError(Exception):
    """A batch call did not succeed; `fault` says why, and its scope what it ends (attempt: try at the next look).

    `made` is False where a submit came to its end before the call that makes the batch: there certainly is none.
    """

    def __init__(self, fault: Fault, *, made: bool = True) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.made = made


class BatchClient(Protocol):
    """One provider's batch calls. `key` is ours and finds a batch again; a ticket is the provider's, plain JSON.

    `submit` is the only call that spends. Whether one whose answer was lost came through is asked with `find`.
    """

    @property
    def limits(self) -> BatchLimits: ...

    def line(self, request: Request) -> bytes:
        """The request as it stands in the batch's file, ending in a newline; its custom id is the id in hex."""

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Mapping[str, Any]: ...

    async def find(self, key: str, since: float) -> Mapping[str, Any] | None:
        """The ticket of the batch that was submitted under `key` at `since` or later, if there is one."""

    async def look(self, ticket: Mapping[str, Any]) -> BatchLook: ...

    def results(self, ticket: Mapping[str, Any]) -> AsyncIterator[BatchResult]:
        """Results and errors as they stand in the provider's files, in any order."""

    async def cancel(self, ticket: Mapping[str, Any]) -> None: ...

    async def discard(self, ticket: Mapping[str, Any]) -> None:
        """Deletes the batch's files at the provider. Files that are gone are no error."""

    async def sweep(self, key: str) -> None:
        """Deletes what a submit under `key` uploaded that never became a batch."""

    async def close(self) -> None: ...


class Ledger(Protocol):
    """The facts of one job, append-only. Look-ups are in chunks: nothing holds all ids."""

    def append(self, facts: Sequence[Fact]) -> None:
        """One transaction, durable on return."""

    def histories(self, ids: Sequence[bytes]) -> Mapping[bytes, History]:
        """What is known of these requests; those never heard of are missing."""

    def marks(self) -> Iterator[Fact]:
        """Every fact that is not about a single request, oldest first; openings without their ids and messages."""

    def ids_in(self, key: str) -> Iterator[bytes]:
        """The ids of the opening `key`, in its order."""

    def messages_in(self, key: str, ids: Sequence[bytes]) -> Mapping[bytes, tuple[Message, ...]]:
        """What the opening `key` sends for those of these requests for which it is not what their rows render to."""

    def pending(self, ids: Sequence[bytes]) -> set[bytes]:
        """Those of these requests that are in an opening that is not closed."""

    def outcomes_in(self, key: str, ids: Sequence[bytes]) -> set[bytes]:
        """Those of these requests of which an outcome says that it came in the batch `key`."""


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far one step of several has come: requests that are answered, of those known so far."""

    name: str
    answered: int
    known: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Figures for the display, as of now. Tokens and cost count this run."""

    total: int | None = None
    answered: int = 0
    failed: int = 0
    unsent: int = 0
    """Failed too, and not asked by this run: failed before it, or rows whose request could not be made."""
    reused: int = 0
    in_flight: int = 0
    retries: int = 0
    rate_limited: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    note: str = ""
    """What the run is waiting for, in a few words."""
    batches: tuple[BatchStanding, ...] = ()
    """Those that are open, and those that ended in this run."""
    time_of_day: float = 0.0
    """Seconds since the epoch, where `batches` are: their age is told from it."""
    steps: tuple[StepProgress, ...] = ()
    """Those that ask models, where there are several."""
