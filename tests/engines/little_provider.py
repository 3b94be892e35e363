"""A provider of batches in memory, as small as it can be and still go wrong in all the ways that real ones do, and a
job that is driven against it as `synth run` does: a fresh pass over all requests for each advance."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson

from synth_cli.core.budget import Allowance, Worst
from synth_cli.core.cost import Price
from synth_cli.core.ports import BatchError, BatchLimits, BatchLook, BatchResult, Exchange, Ledger, Task
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage
from synth_cli.core.request import Message, Request, Terms
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context, Row
from synth_cli.core.shift import Ending, Shift
from synth_cli.core.state import NOTHING, Answered, Failed, History, Invalid, Unanswered, Valid, Verdict, standing
from synth_cli.core.work import Rules, StepWork
from synth_cli.engines.batch import BatchEngine, BatchSettings
from synth_cli.engines.recording import GroupRecord

TERMS = Terms("little", "m")
USAGE = Usage(10, 5)
PRICE = Price(0.5, 1.0)
PAID = 10.0
"""USD for one answer: 10 tokens in at 0.5, 5 out at 1.0."""
SERVER_ERROR = Fault(FaultKind.SERVER_ERROR, "oops", 500)
BAD_REQUEST = Fault(FaultKind.BAD_REQUEST, "not this one", 400)
BROKEN_OFF = Fault(FaultKind.CONNECTION, "connection reset")
BUSY = Fault(FaultKind.RATE_LIMITED, "slow down", 429)

EXPIRED = Fault(FaultKind.MISSING, "the batch expired before this request ran; it was not charged")
"""Said of a row that is not run: its batch expires."""

Said = str | Fault | None
"""What the provider makes of a row: a text, a fault, or nothing at all."""


def request(number: int) -> Request:
    said = ({"role": "user", "content": f"row {number}"},)
    return Request(blake2b(b"%d" % number, digest_size=16).digest(), TERMS, said)


def task(number: int) -> Task:
    own = request(number)
    return Task(own, Context(Row(number, own.id, {})))


def read(answer: Answer) -> Reply:
    return Reply(text=answer.body.decode(), finish_reason="stop", model="m", usage=USAGE)


def judge(context: Context, reply: Reply) -> Verdict:
    return Invalid("schema", "no title") if reply.text == "invalid" else Valid(reply.text)


@dataclass
class Remote:
    """A batch at the provider. `left`: looks until it ends."""

    name: str
    key: str
    lines: list[dict[str, Any]]
    at: float
    left: int
    state: str = "in_progress"
    results: list[BatchResult] = field(default_factory=list)
    look: BatchLook | None = None


def answers(row: int, turn: int) -> Said:
    """What a provider says that nothing is wrong with."""
    return f"answer {row}"


@dataclass
class Provider:
    """What outlives our process. `says` gives what it makes of a row the n-th time that it runs it."""

    says: Callable[[int, int], Said] = answers
    looks: int = 1
    """How often a batch is looked at before it has ended."""
    limits: BatchLimits = field(default_factory=lambda: BatchLimits(1000, 1_000_000))
    lag: float = 0.0
    """Seconds until a batch is listed."""
    ends: Callable[[Remote], BatchLook | None] = lambda remote: None
    """How a batch ends, where it does not simply complete."""
    extra: Sequence[BatchResult] = ()
    """Results that come in every file besides."""
    trouble: list[tuple[str, Fault, bool]] = field(default_factory=list)
    """(call, fault, whether it is done all the same): each strikes once, in this order for each call."""
    now: float = 1_000.0
    batches: list[Remote] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    """Keys of uploaded files that are still there."""
    turns: Counter[int] = field(default_factory=Counter)
    ran: Counter[int] = field(default_factory=Counter)
    """How often each row was run, and paid."""
    calls: list[str] = field(default_factory=list)
    uploads: list[tuple[int, int]] = field(default_factory=list)
    """(requests, bytes) of each batch."""

    def strike(self, call: str) -> tuple[Fault | None, bool]:
        self.calls.append(call)
        for at, (name, fault, done) in enumerate(self.trouble):
            if name == call:
                del self.trouble[at]
                return fault, done
        return None, True

    def take(self, key: str, file: Path, requests: int) -> Remote:
        body = file.read_bytes()
        lines = [orjson.loads(line) for line in body.splitlines()]
        assert len(lines) == requests
        self.uploads.append((requests, len(body)))
        remote = Remote(f"batch-{len(self.batches)}", key, lines, self.now, self.looks)
        self.batches.append(remote)
        return remote

    def run(self, remote: Remote) -> None:
        """The batch comes to its end."""
        rows = [row_of(line) for line in remote.lines]
        expires = any(self.says(row, self.turns[row] + 1) is EXPIRED for row in rows)
        ending = expired() if expires else self.ends(remote) or BatchLook("completed", True)
        for line in remote.lines:
            row = row_of(line)
            half = ending.outcome == "cancelled" and len(remote.results) * 2 >= len(remote.lines)
            if ending.outcome == "failed" or half:
                break
            self.turns[row] += 1
            said = self.says(row, self.turns[row])
            if said is EXPIRED:
                continue
            self.ran[row] += 1
            if said is None:
                continue
            if isinstance(said, Fault):
                exchange = Exchange(fault=said)
            else:
                answer = Answer("little", said.encode())
                exchange = Exchange(read(answer), answer)
            remote.results.append(BatchResult(line["custom_id"], exchange))
        # in any order
        remote.results = [*self.extra, *reversed(remote.results)]
        remote.state, remote.look = ending.state, replace(ending, ticket={"batch": remote.name, "output": "file"})


@dataclass
class Client:
    """A `BatchClient` for it. `before` and `after` are told of each call: there a process may die."""

    provider: Provider
    before: Callable[[str], None] = lambda call: None
    after: Callable[[str], None] = lambda call: None

    @property
    def limits(self) -> BatchLimits:
        return self.provider.limits

    def line(self, request: Request) -> bytes:
        return orjson.dumps({"custom_id": request.id.hex(), "messages": request.messages}) + b"\n"

    def _call(self, name: str) -> bool:
        """Whether it is done; raises when it was struck before."""
        self.before(name)
        fault, done = self.provider.strike(name)
        if fault is not None and not done:
            raise BatchError(fault)
        return fault is None

    def _end(self, name: str, told: bool, fault: Fault = BROKEN_OFF) -> None:
        self.after(name)
        if not told:
            raise BatchError(fault)

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Mapping[str, Any]:
        provider = self.provider
        self.before("upload")
        provider.files.add(key)
        self.after("upload")
        told = self._call("submit")
        remote = provider.take(key, file, requests)
        self._end("submit", told)
        return {"batch": remote.name}

    async def find(self, key: str, since: float) -> Mapping[str, Any] | None:
        told = self._call("find")
        listed = [b for b in self.provider.batches if b.key == key and b.at + self.provider.lag <= self.provider.now]
        self._end("find", told)
        return {"batch": listed[0].name} if listed else None

    def _remote(self, ticket: Mapping[str, Any]) -> Remote:
        return next(remote for remote in self.provider.batches if remote.name == ticket["batch"])

    async def look(self, ticket: Mapping[str, Any]) -> BatchLook:
        told = self._call("look")
        remote = self._remote(ticket)
        if remote.left == 0 and remote.look is None:
            self.provider.run(remote)
        remote.left = max(0, remote.left - 1)
        self._end("look", told)
        return remote.look or BatchLook(remote.state, False, done=0, failed=0, ticket=ticket)

    async def results(self, ticket: Mapping[str, Any]) -> AsyncIterator[BatchResult]:
        assert ticket["output"]
        self._call("results")
        remote = self._remote(ticket)
        assert remote.key in self.provider.files
        for result in remote.results:
            self.before("result")
            fault, _ = self.provider.strike("result")
            if fault is not None:
                raise BatchError(fault)
            yield result
            await asyncio.sleep(0)
        self.after("results")

    async def cancel(self, ticket: Mapping[str, Any]) -> None:
        told = self._call("cancel")
        remote = self._remote(ticket)
        if remote.look is None:
            self.provider.ends = lambda ending: cancelled(ending) if ending is remote else None
            remote.left = 0
        self._end("cancel", told)

    async def discard(self, ticket: Mapping[str, Any]) -> None:
        told = self._call("discard")
        self.provider.files.discard(self._remote(ticket).key)
        self._end("discard", told)

    async def sweep(self, key: str) -> None:
        told = self._call("sweep")
        if all(remote.key != key for remote in self.provider.batches):
            self.provider.files.discard(key)
        self._end("sweep", told)

    async def close(self) -> None:
        """Nothing is open."""


def expired() -> BatchLook:
    return BatchLook("expired", True, "expired", fault=EXPIRED)


def row_of(line: Mapping[str, Any]) -> int:
    return int(line["messages"][0]["content"].split()[1])


def cancelled(remote: Remote) -> BatchLook:
    return BatchLook("cancelled", True, "cancelled", fault=replace(EXPIRED, message="the batch was cancelled"))


@dataclass
class Job:
    """Rows 0 to `rows` - 1, asked as `synth run` asks them."""

    provider: Provider
    ledger: Ledger
    folder: Path
    rows: int = 10
    retries: int = 2
    settings: BatchSettings = field(default_factory=lambda: BatchSettings("main", "job", price=PRICE))
    client: Client | None = None
    worst: Worst | None = None
    budget: float | None = None
    feedback: bool = False
    group: int = 3
    """Facts that may be lost with a process."""
    log: list[str] = field(default_factory=list)
    work: StepWork | None = None

    def __post_init__(self) -> None:
        client = self.client or Client(self.provider)
        self.engine = BatchEngine(
            client,
            self.ledger,
            self.settings,
            folder=self.folder,
            clock=lambda: self.provider.now,
            time_of_day=lambda: self.provider.now,
            log=self.log.append,
        )

    def tasks(self) -> Iterator[Task]:
        rows = iter(range(self.rows))
        while chunk := list(islice(rows, self.group + 1)):
            ids = [request(row).id for row in chunk]
            pending, histories = self.ledger.pending(ids), self.ledger.histories(ids)
            for row, id in zip(chunk, ids, strict=True):
                stands = self.standing(row, histories.get(id, NOTHING))
                if id not in pending and isinstance(stands, Unanswered):
                    history = stands.history
                    yield replace(
                        task(row),
                        attempt=history.tries + 1,
                        counted=history.attempts,
                        messages=self.messages(row, stands),
                    )

    def messages(self, row: int, stands: Unanswered) -> tuple[Message, ...] | None:
        if not self.feedback or stands.invalid is None:
            return None
        return (*request(row).messages, {"role": "user", "content": stands.invalid.reason})

    def standing(self, row: int, history: History) -> Answered | Unanswered | Failed:
        context = task(row).context
        return standing(history, lambda reply: judge(context, reply), read, max_retries=self.retries)

    def tick(self, seconds: float = 60.0, *, stop: bool = False) -> bool:
        """One advance; whether the job is finished."""
        record = GroupRecord(self.ledger, self.group)
        allowance = None
        if self.budget is not None:
            spent, tokens = self.ledger.spent(1)  # type: ignore[attr-defined]
            allowance = Allowance(
                1,
                max_cost=self.budget,
                max_tokens=None,
                spent_cost=spent,
                spent_tokens=tokens,
                announce=lambda reserved: None,
            )
        rules = Rules("main", RetryPolicy(self.retries), judge, price=PRICE, worst=self.worst)
        self.work = StepWork(
            self.tasks(),
            rules,
            record,
            chance=lambda: 0.5,
            shift=Shift(allowance=allowance),
            outstanding=self.engine.outstanding,
        )
        if stop:
            self.work.stop()
        asyncio.run(self.engine.advance(self.work, record))
        self.provider.now += seconds
        return self.engine.finished

    def run(self, most: int = 60) -> None:
        """Advances until it is finished."""
        for _ in range(most):
            if self.tick():
                return
        raise AssertionError(f"not finished: {self.engine.batches}")

    @property
    def ending(self) -> Ending | None:
        return None if self.work is None else self.work.ending

    def said(self) -> dict[int, str]:
        """Row → its answer, or why there is none."""
        said: dict[int, str] = {}
        ids = [request(row).id for row in range(self.rows)]
        histories = self.ledger.histories(ids)
        for row, id in enumerate(ids):
            stands = self.standing(row, histories.get(id, NOTHING))
            match stands:
                case Answered():
                    said[row] = stands.value
                case Failed(Fault() as fault):
                    said[row] = f"{fault.kind}: {fault.message}"
                case Failed(Invalid() as invalid):
                    said[row] = f"{invalid.kind}: {invalid.reason}"
                case _:
                    said[row] = "unanswered"
        return said


def scripted(script: Mapping[int, Sequence[Said | Literal["ok"]]]) -> Callable[[int, int], Said]:
    """What some rows get the first times that they are run; all else is answered."""

    def says(row: int, turn: int) -> Said:
        given = script.get(row, ())
        said = given[turn - 1] if turn <= len(given) else "ok"
        return f"answer {row}" if said == "ok" else said

    return says


def answered(rows: int) -> dict[int, str]:
    return {row: f"answer {row}" for row in range(rows)}
