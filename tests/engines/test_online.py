from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

import pytest

from synth_cli.core.events import Fact, Faulted, Replied
from synth_cli.core.pacing import PaceSettings
from synth_cli.core.ports import Done, Exchange, RateLimits, Task, Wait
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage
from synth_cli.core.request import Message, Request, Terms
from synth_cli.core.row import Context, Row
from synth_cli.engines.online import OnlineEngine
from synth_cli.engines.recording import GroupRecord

ANSWER = Answer("openai", b"{}")
OK = Exchange(reply=Reply(text="fine", usage=Usage(10, 5)), answer=ANSWER)
TERMS = Terms("openai", "m")


def tasks(n: int, content: str = "hello") -> Iterator[Task]:
    for index in range(n):
        id_ = index.to_bytes(16, "big")
        request = Request(id_, TERMS, ({"role": "user", "content": content},))
        yield Task(request, Context(Row(index, id_, {})))


class Facts:
    """A ledger of lists: one for each transaction."""

    def __init__(self) -> None:
        self.groups: list[list[Fact]] = []

    def append(self, facts: list[Fact]) -> None:
        self.groups.append(list(facts))

    @property
    def all(self) -> list[Fact]:
        return [fact for group in self.groups for fact in group]


@dataclass
class Sheet:
    """A small `Work`: retries what is retryable, `delay(fault)` seconds later, beside first attempts."""

    tasks: Iterator[Task]
    record: GroupRecord
    delay: Callable[[Fault], float] = lambda fault: fault.retry_after or 0.0
    later: list[tuple[float, int, Task]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=count)
    open: int = 0
    most_open: int = 0
    stopped: bool = False
    released: list[Task] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    def take(self, now: float) -> Task | Wait | Done:
        if self.stopped:
            return Done()
        found = heappop(self.later)[2] if self.later and self.later[0][0] <= now else next(self.tasks, None)
        if found is None:
            if self.later:
                return Wait(self.later[0][0])
            return Wait(None) if self.open else Done()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return found

    def settle(self, task: Task, exchange: Exchange, *, now: float, at: float, latency: float) -> None:
        self.open -= 1
        id_ = task.request.id
        if exchange.fault is None:
            assert exchange.answer is not None
            self.record.add(Replied(id_, "main", task.attempt, exchange.answer, at, latency))
            self.answered.append(task.context.row.index)
            return
        self.record.add(Faulted(id_, "main", task.attempt, exchange.fault, at, latency))
        if exchange.fault.retryable:
            again = replace(task, attempt=task.attempt + 1)
            heappush(self.later, (now + self.delay(exchange.fault), next(self.order), again))

    def release(self, task: Task) -> None:
        self.open -= 1
        self.released.append(task)

    def stop(self) -> None:
        self.stopped = True


class Provider:
    """A `Client` that answers after `latency`; `say(request, n)` is what the n-th request gets (from 0)."""

    def __init__(self, say: Callable[[Request, int], Exchange] = lambda request, n: OK, latency: float = 0.0) -> None:
        self._say = say
        self._latency = latency
        self.asked: list[Request] = []
        self.open = 0
        self.most_open = 0
        self.cancelled = 0

    async def ask(self, request: Request) -> Exchange:
        number = len(self.asked)
        self.asked.append(request)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(self._latency)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1
        return self._say(request, number)

    async def close(self) -> None:
        return None


def run(
    provider: Provider, source: Iterator[Task], pace: PaceSettings | None = None
) -> tuple[Sheet, Facts, OnlineEngine]:
    facts = Facts()
    record = GroupRecord(facts)
    sheet = Sheet(source, record)
    engine = OnlineEngine(provider, pace or PaceSettings())
    asyncio.run(engine.advance(sheet, record))
    return sheet, facts, engine


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


def fault(kind: FaultKind, **more: float) -> Exchange:
    return Exchange(fault=Fault(kind, "no", **more))  # type: ignore[arg-type]


def test_asks_everything_once() -> None:
    """Each task is asked once, settled once, and on record when `advance` returns."""
    provider = Provider()
    sheet, facts, _ = run(provider, tasks(1000))
    assert sorted(sheet.answered) == list(range(1000))
    assert (len(provider.asked), len(facts.all), sheet.open) == (1000, 1000, 0)


def test_no_work_is_no_trouble() -> None:
    """An empty input ends at once."""
    _, facts, _ = run(Provider(), tasks(0))
    assert facts.all == []


def test_never_more_than_asked_for_at_once() -> None:
    """`max_concurrent_requests` is kept, and used."""
    provider = Provider(latency=0.001)
    run(provider, tasks(200), PaceSettings(max_concurrent=7))
    assert provider.most_open == 7


def test_in_flight_is_at_most_twice_the_concurrency() -> None:
    """Sent and not yet committed: no transaction waits for more facts than requests may be under way."""
    _, facts, _ = run(Provider(), tasks(300), PaceSettings(max_concurrent=8))
    assert max(len(group) for group in facts.groups) == 8


def test_commits_in_groups_of_128() -> None:
    """With many in flight a commit holds 128 facts: one for each row would cost more than the row."""
    _, facts, _ = run(Provider(), tasks(1280), PaceSettings(max_concurrent=256))
    assert [len(group) for group in facts.groups] == [128] * 10


def test_an_outcome_is_committed_before_the_next_one_comes() -> None:
    """What came is durable soon, also when nothing follows for a long time."""

    async def scenario() -> int:
        facts = Facts()
        record = GroupRecord(facts)
        more, sheet = asyncio.Event(), Sheet(tasks(2), record)

        class Slow(Provider):
            async def ask(self, request: Request) -> Exchange:
                if request.id[-1] == 1:
                    await more.wait()
                return OK

        async def look() -> int:
            await until(lambda: facts.groups)
            more.set()
            return len(facts.all)

        engine = OnlineEngine(Slow(), PaceSettings(max_concurrent=100))
        seen, _ = await asyncio.gather(look(), engine.advance(sheet, record))
        return seen

    assert asyncio.run(scenario()) == 1


def test_retries_run_beside_first_attempts() -> None:
    """A retry goes out when it is due, not after the first pass."""
    provider = Provider(lambda request, n: fault(FaultKind.SERVER_ERROR) if n == 0 else OK)
    sheet, facts, _ = run(provider, tasks(500), PaceSettings(max_concurrent=4))
    attempts = [fact.attempt for fact in facts.all if isinstance(fact, Replied)]
    assert sorted(sheet.answered) == list(range(500))
    assert attempts.index(2) < 20


def test_a_wait_for_a_time_ends_in_time() -> None:
    """With nothing in flight, the engine sleeps until the retry is due and then sends it."""
    provider = Provider(lambda request, n: fault(FaultKind.RATE_LIMITED, retry_after=0.02) if n == 0 else OK)
    sheet, _, engine = run(provider, tasks(1))
    assert (sheet.answered, len(provider.asked), engine.rate_limited) == ([0], 2, 1)


def test_a_429_without_a_time_waits_as_the_settings_say() -> None:
    """`seconds_to_pause_on_rate_limit` stands in for a missing Retry-After, and for that only."""
    said = [fault(FaultKind.RATE_LIMITED), fault(FaultKind.RATE_LIMITED, retry_after=0.0), fault(FaultKind.OVERLOADED)]
    provider = Provider(lambda request, n: said[n] if n < 3 else OK)
    _, facts, _ = run(provider, tasks(1), PaceSettings(seconds_to_pause=0.01))
    waits = [fact.fault.retry_after for fact in facts.all if isinstance(fact, Faulted)]
    assert waits == [0.01, 0.0, None]


def test_a_reask_sends_its_own_messages() -> None:
    """A task's messages take the place of the row's."""
    messages: tuple[Message, ...] = ({"role": "user", "content": "again, please"},)
    provider = Provider()
    run(provider, (replace(task, messages=messages) for task in tasks(1)))
    assert [request.messages for request in provider.asked] == [messages]


def test_a_request_above_the_token_limit_fails_and_the_others_go_on() -> None:
    """What could never be sent is a fault of that row, said at once; nothing hangs."""
    provider = Provider()
    source = iter([*tasks(1, "x" * 4_000_000), *list(tasks(3))[1:]])
    sheet, facts, _ = run(provider, source, PaceSettings(tokens_per_minute=500_000))
    kinds = [fact.fault.kind for fact in facts.all if isinstance(fact, Faulted)]
    assert (kinds, sheet.answered, len(provider.asked)) == ([FaultKind.TOO_LARGE], [1, 2], 2)


def test_pace_is_kept() -> None:
    """With 60 requests a minute a second one does not leave together with the first."""

    async def scenario() -> int:
        facts = Facts()
        record = GroupRecord(facts)
        provider = Provider()
        sheet = Sheet(tasks(100), record)
        engine = OnlineEngine(provider, PaceSettings(requests_per_minute=60))
        running = asyncio.create_task(engine.advance(sheet, record))
        await until(lambda: facts.groups)
        note, asked = engine.note, len(provider.asked)
        sheet.stop()
        await running
        assert note == "paced: 60 requests/min"
        return asked

    assert asyncio.run(scenario()) == 1


def test_limits_in_headers_set_the_pace() -> None:
    """What the first answers say is kept from then on, and the display hears of it."""

    async def scenario() -> tuple[int, str]:
        limited = replace(OK, limits=RateLimits(requests_per_minute=30))
        facts = Facts()
        record = GroupRecord(facts)
        provider = Provider(lambda request, n: limited)
        sheet = Sheet(tasks(100), record)
        engine = OnlineEngine(provider, PaceSettings(max_concurrent=4))
        running = asyncio.create_task(engine.advance(sheet, record))
        await until(lambda: facts.groups)
        asked, note = len(provider.asked), engine.note
        sheet.stop()
        await running
        return asked, note

    assert asyncio.run(scenario()) == (5, "paced by the provider: 30 requests/min")


def test_stopped_it_finishes_what_is_in_flight() -> None:
    """After `work.stop` answers under way are kept, and nothing more is sent."""
    facts = Facts()
    record = GroupRecord(facts)
    sheet = Sheet(tasks(1000), record)

    def say(request: Request, n: int) -> Exchange:
        sheet.stop()
        return OK

    provider = Provider(say, latency=0.001)
    asyncio.run(OnlineEngine(provider, PaceSettings(max_concurrent=10)).advance(sheet, record))
    assert (len(provider.asked), len(facts.all), sheet.released) == (10, 10, [])


@pytest.mark.parametrize("pace", [PaceSettings(), PaceSettings(requests_per_minute=0.5)])
def test_stopped_while_it_waits_it_ends(pace: PaceSettings) -> None:
    """A long wait, for a retry or for the pace, does not keep a stopped run alive."""

    async def scenario() -> int:
        facts = Facts()
        record = GroupRecord(facts)
        sheet = Sheet(tasks(100), record, delay=lambda fault: 3600.0)
        provider = Provider(lambda request, n: fault(FaultKind.OVERLOADED))
        running = asyncio.create_task(OnlineEngine(provider, pace).advance(sheet, record))
        await until(lambda: facts.groups)
        sheet.stop()
        await asyncio.wait_for(running, 30)
        return sheet.open

    assert asyncio.run(scenario()) == 0


def test_cancelled_it_gives_back_what_was_in_flight() -> None:
    """The second ^C: requests are broken off, their tasks released, what came is durable, the cancellation goes on."""

    async def scenario() -> None:
        facts = Facts()
        record = GroupRecord(facts)
        sheet = Sheet(tasks(1000), record)

        class Half(Provider):
            async def ask(self, request: Request) -> Exchange:
                if request.id[-1] >= 3:
                    await super().ask(request)
                return OK

        provider = Half(latency=3600.0)
        running = asyncio.create_task(OnlineEngine(provider, PaceSettings(max_concurrent=10)).advance(sheet, record))
        await until(lambda: provider.open == 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (provider.cancelled, provider.open, len(sheet.released), sheet.open) == (10, 0, 10, 0)
        assert (len(facts.all), record.pending) == (3, 0)

    asyncio.run(scenario())


def test_cancelled_before_the_workers_began_it_gives_everything_back() -> None:
    """Tasks handed to workers that never came to run are released too."""

    async def scenario() -> tuple[int, int]:
        facts = Facts()
        record = GroupRecord(facts)
        sheet = Sheet(tasks(1000), record)
        provider = Provider()
        engine = OnlineEngine(provider, PaceSettings(max_concurrent=10))
        running = asyncio.create_task(engine.advance(sheet, record))
        sheet_take = sheet.take

        def take(now: float) -> Task | Wait | Done:
            running.cancel()
            return sheet_take(now)

        sheet.take = take  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await running
        return sheet.open, len(sheet.released)

    assert asyncio.run(scenario()) == (0, 10)


@pytest.mark.parametrize("place", ["ask", "settle", "take"])
def test_a_programming_error_surfaces(place: str) -> None:
    """It is raised as itself, never retried, after what was recorded is durable."""
    facts = Facts()
    record = GroupRecord(facts)

    class Broken(Sheet):
        def settle(self, task: Task, exchange: Exchange, *, now: float, at: float, latency: float) -> None:
            super().settle(task, exchange, now=now, at=at, latency=latency)
            if place == "settle" and len(self.answered) == 5:
                raise ZeroDivisionError("settle")

        def take(self, now: float) -> Task | Wait | Done:
            if place == "take" and len(self.answered) == 5:
                raise ZeroDivisionError("take")
            return super().take(now)

    def say(request: Request, n: int) -> Exchange:
        if place == "ask" and n == 5:
            raise ZeroDivisionError("ask")
        return OK

    sheet = Broken(tasks(100), record)
    with pytest.raises(ZeroDivisionError, match=place):
        asyncio.run(OnlineEngine(Provider(say), PaceSettings(max_concurrent=1)).advance(sheet, record))
    assert (len(facts.all), record.pending, sheet.open) == (5, 0, 0)


def test_a_work_that_has_nothing_ready_ends_the_advance() -> None:
    """Waiting for something in flight when nothing is would be for ever: what comes later is for another advance."""

    class Stuck(Sheet):
        def take(self, now: float) -> Task | Wait | Done:
            return Wait(None)

    record = GroupRecord(Facts())
    asyncio.run(OnlineEngine(Provider(), PaceSettings()).advance(Stuck(tasks(0), record), record))


def test_a_ledger_that_fails_ends_the_run() -> None:
    """A full disk is no row's trouble."""

    class Full(Facts):
        def append(self, facts: list[Fact]) -> None:
            raise OSError("disk full")

    record = GroupRecord(Full())
    with pytest.raises(OSError, match="disk full"):
        asyncio.run(OnlineEngine(Provider(), PaceSettings()).advance(Sheet(tasks(100), record), record))


def test_advances_again() -> None:
    """One engine serves several works, one after the other, also in event loops of their own."""
    engine = OnlineEngine(Provider(), PaceSettings())
    for _ in range(2):
        facts = Facts()
        record = GroupRecord(facts)
        asyncio.run(engine.advance(Sheet(tasks(50), record), record))
        assert (len(facts.all), engine.in_flight) == (50, 0)
