"""The engine over workers of our own: fed without pause, in bundles, bounded, and ended in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from little_worker import LittleWorker, Office, prompt_of
from local_runs import TERMS, Facts, fine, run, tasks, until, work_of

from synth_cli.core.events import Fact
from synth_cli.core.ports import Done, Exchange, Task, Wait
from synth_cli.core.reply import Fault, FaultKind, Reply
from synth_cli.core.request import Request
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context
from synth_cli.core.state import Invalid, Valid, Verdict
from synth_cli.core.work import Ending, Rules, StepWork
from synth_cli.engines.crew import Hired, Say
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import SetupError


def test_asks_everything_once() -> None:
    """Each task is asked once, settled once, and on record when `advance` returns."""
    office = Office()
    work, facts, engine = run(office, tasks(500))
    assert sorted(office.asked) == sorted(f"row {n}" for n in range(500))
    assert facts.answered == [1000 * n for n in range(500)]
    assert (work.in_flight, work.ending, engine.in_flight) == (0, None, 0)


def test_no_work_is_no_trouble() -> None:
    """An empty input ends at once."""
    _, facts, _ = run(Office(), tasks(0))
    assert facts.all == []


def test_never_more_at_a_worker_than_it_takes_and_never_less_while_there_is_work() -> None:
    """The bound is kept, and reached."""
    office = Office(room=7, latency=0.001)
    run(office, tasks(100), workers=3)
    assert [worker.most_open for worker in office.workers] == [7, 7, 7]


def test_a_slow_answer_holds_up_nobody() -> None:
    """All others are asked and answered while one is under way: nothing is done in lock-step."""

    class Slow(LittleWorker):
        async def _turn(self, requests: Any) -> None:
            while prompt_of(requests[0]) == "row 0" and len(self.calls) < 200:  # noqa: ASYNC110
                await asyncio.sleep(0)

    class Slowly(Office):
        async def start(self, say: Say) -> Hired:
            return Hired(Slow(), 4)

    work, facts, _ = run(Slowly(), tasks(200))
    assert (len(facts.answered), work.ending) == (200, None)


def test_whoever_is_free_pulls() -> None:
    """A worker that is twenty times as fast is given most of the work."""

    class Uneven(Office):
        async def start(self, say: Say) -> Hired:
            worker = LittleWorker(0.02 if not self.workers else 0.001)
            self.workers.append(worker)
            return Hired(worker, 2)

    office = Uneven()
    run(office, tasks(200), workers=2)
    slow, fast = (len(worker.calls) for worker in office.workers)
    assert (slow + fast, fast > 3 * slow) == (200, True)


def test_samples_of_a_row_are_one_call() -> None:
    """`samples: 3` is one request for three answers, each settled under its own id."""
    office = Office(room=6)
    _, facts, _ = run(office, tasks(5, samples=3, seed=7))
    calls = office.workers[0].calls
    assert [[prompt_of(request) for request in call] for call in calls] == [[f"row {n}"] * 3 for n in range(5)]
    assert [[request.seed for request in call] for call in calls] == [[7, 8, 9]] * 5
    assert facts.answered == [1000 * n + sample for n in range(5) for sample in range(3)]


def test_more_samples_than_a_worker_takes_are_several_calls() -> None:
    """No call is larger than what may be in the engine at once."""
    office = Office(room=4)
    run(office, tasks(2, samples=6))
    assert [len(call) for call in office.workers[0].calls] == [4, 2, 4, 2]
    assert office.workers[0].most_open == 4


def test_samples_that_differ_in_more_are_asked_apart() -> None:
    """Seeds that do not follow each other, other messages, a sample that is already answered: each its own call."""
    seven, _, nine = tasks(1, samples=3, seed=7)
    row = seven.context.row
    far = Task(Request(b"far", TERMS, seven.request.messages, seed=12), Context(row, 3))
    other = Task(Request(b"other", TERMS, ({"role": "user", "content": "you"},), seed=13), Context(row, 4))
    office = Office()
    run(office, [seven, nine, far, other])
    assert [[request.seed for request in call] for call in office.workers[0].calls] == [[7], [9], [12], [13]]


def test_a_reask_sends_its_own_messages() -> None:
    """A task's messages take the place of the row's."""

    def judge(context: Context, reply: Reply) -> Verdict:
        return Valid(reply.text) if reply.text == "AGAIN" else Invalid("schema", "no title")

    office = Office()
    again = ({"role": "user", "content": "again"},)
    work, facts, _ = run(office, tasks(1), judge=judge, reask=lambda task, reply, invalid: again)
    assert (office.asked, len(facts.all), work.tally.answered) == (["row 0", "again"], 2, 1)


def test_commits_in_groups() -> None:
    """As many outcomes in one transaction as may be in flight, at most 128."""
    _, facts, _ = run(Office(room=8), tasks(160))
    assert max(len(group) for group in facts.groups) == 8
    _, facts, _ = run(Office(room=256), tasks(1280))
    assert max(len(group) for group in facts.groups) == 128


def test_an_outcome_is_committed_before_the_next_one_comes() -> None:
    """What came is durable soon, also when nothing follows for a long time."""

    async def scenario() -> int:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        more = asyncio.Event()

        class Slow(LittleWorker):
            async def _turn(self, requests: Any) -> None:
                if prompt_of(requests[0]) == "row 1":
                    await more.wait()

        async def start(say: Say) -> Hired:
            return Hired(Slow(), 100)

        async def look() -> int:
            await until(lambda: facts.groups)
            more.set()
            return len(facts.all)

        engine = LocalEngine([start])
        await engine.open()
        seen, _ = await asyncio.gather(look(), engine.advance(work_of(tasks(2), record), record))
        return seen

    assert asyncio.run(scenario()) == 1


def test_a_bad_row_is_one_fault() -> None:
    """What a worker says of one request ends that row alone."""
    refused = Fault(FaultKind.CONTEXT_LENGTH, "too long")
    office = Office(refuse=lambda request: refused if prompt_of(request) == "row 3" else None)
    work, facts, _ = run(office, tasks(10))
    assert (facts.faults, len(facts.answered), work.tally.failed) == ([(3000, refused)], 9, 1)


def test_stopped_it_finishes_what_is_in_flight() -> None:
    """After `work.stop` answers under way are kept, nothing more is sent, and what was taken ahead is given back."""
    facts = Facts()
    record = GroupRecord(facts)  # type: ignore[arg-type]
    work = work_of(tasks(1000), record)

    def stop(request: Request) -> None:
        work.stop()

    office = Office(room=10, latency=0.001, refuse=stop)

    async def scenario() -> None:
        engine = LocalEngine(office.starts())
        await engine.open()
        await engine.advance(work, record)

    asyncio.run(scenario())
    assert (len(office.asked), len(facts.all), work.in_flight) == (10, 10, 0)


def test_cancelled_it_gives_back_what_was_in_flight() -> None:
    """The second ^C: calls are broken off, their tasks released, what came is durable, the cancellation goes on."""

    async def scenario() -> None:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        work = work_of(tasks(1000, samples=2), record)
        office = Office(room=10, latency=3600.0)
        engine = LocalEngine(office.starts())
        await engine.open()
        running = asyncio.create_task(engine.advance(work, record))
        await until(lambda: office.workers and office.workers[0].open == 10)
        assert engine.in_flight == 10
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (work.in_flight, engine.in_flight, office.workers[0].open, record.pending) == (0, 0, 0, 0)
        # the worker is as free as it was
        office.workers[0]._latency = 0.0
        await engine.advance(work_of(tasks(30), record), record)
        assert len(facts.answered) == 30
        await engine.close()
        assert office.workers[0].closed

    asyncio.run(scenario())


def test_a_work_that_has_nothing_now_gets_the_word_back() -> None:
    """With nothing in flight `advance` returns, and goes on with the same workers when it is called again."""

    class Slowly(StepWork):
        closed = True

        def take(self, now: float) -> Task | Wait | Done:
            return Wait(None) if self.closed and not self.in_flight else super().take(now)

    async def scenario() -> tuple[int, int, int]:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        rules = Rules(step="main", retry=RetryPolicy(2), judge=fine)
        work = Slowly(tasks(20), rules, record, chance=lambda: 0.0)
        office = Office()
        engine = LocalEngine(office.starts())
        await engine.open()
        await engine.advance(work, record)
        before = len(facts.all)
        work.closed = False
        await engine.advance(work, record)
        return before, len(facts.all), len(office.workers)

    assert asyncio.run(scenario()) == (0, 20, 1)


def test_woken_it_looks_again() -> None:
    """What became ready while others are in flight is handed out at once when somebody says so."""

    class Gated(StepWork):
        ready = 1

        def take(self, now: float) -> Task | Wait | Done:
            if not self.ready:
                # a time far away: only being woken helps
                return Wait(now + 3600.0)
            self.ready -= 1
            return super().take(now)

    async def scenario() -> int:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        work = Gated(tasks(2), Rules(step="main", retry=RetryPolicy(2), judge=fine), record, chance=lambda: 0.0)
        office = Office(latency=3600.0)
        engine = LocalEngine(office.starts())
        await engine.open()
        running = asyncio.create_task(engine.advance(work, record))
        await until(lambda: engine.in_flight == 1)
        work.ready = 1
        engine.wake()
        await until(lambda: engine.in_flight == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return len(office.asked)

    assert asyncio.run(scenario()) == 2


@pytest.mark.parametrize("place", ["ask", "settle", "take"])
def test_a_programming_error_surfaces(place: str) -> None:
    """It is raised as itself, never retried, after what was recorded is durable."""
    facts = Facts()
    record = GroupRecord(facts)  # type: ignore[arg-type]

    class Broken(StepWork):
        def settle(self, task: Task, exchange: Exchange, **more: Any) -> None:
            super().settle(task, exchange, **more)
            if place == "settle" and len(facts.all) + record.pending == 5:
                raise ZeroDivisionError("settle")

        def take(self, now: float) -> Task | Wait | Done:
            if place == "take" and len(facts.all) + record.pending == 5:
                raise ZeroDivisionError("take")
            return super().take(now)

    def refuse(request: Request) -> None:
        if place == "ask" and prompt_of(request) == "row 5":
            raise ZeroDivisionError("ask")

    work = Broken(tasks(100), Rules(step="main", retry=RetryPolicy(2), judge=fine), record, chance=lambda: 0.0)

    async def scenario() -> None:
        engine = LocalEngine(Office(room=1, refuse=refuse).starts())
        await engine.open()
        await engine.advance(work, record)

    with pytest.raises(ZeroDivisionError, match=place):
        asyncio.run(scenario())
    assert (len(facts.all), record.pending, work.in_flight) == (5, 0, 0)


def test_a_ledger_that_fails_ends_the_run() -> None:
    """A full disk is no row's trouble."""

    class Full(Facts):
        def append(self, facts: Iterable[Fact]) -> None:
            raise OSError("disk full")

    record = GroupRecord(Full())  # type: ignore[arg-type]

    async def scenario() -> None:
        engine = LocalEngine(Office().starts())
        await engine.open()
        await engine.advance(work_of(tasks(100), record), record)

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(scenario())


def test_a_start_that_fails_says_why() -> None:
    """The first start's trouble is the run's: nothing is asked, and what else was starting is ended."""

    async def failing(say: Say) -> Hired:
        raise SetupError("no GPU")

    async def waiting(say: Say) -> Hired:
        await asyncio.sleep(3600)
        raise AssertionError

    async def scenario() -> None:
        engine = LocalEngine([waiting, failing])
        try:
            await engine.open()
        finally:
            await engine.close()

    with pytest.raises(SetupError, match="no GPU"):
        asyncio.run(scenario())


def test_what_is_started_later_joins() -> None:
    """The work begins with the first worker; a second one takes its part from when it is there."""

    async def scenario() -> tuple[list[str], list[int]]:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        office, room = Office(latency=0.001), asyncio.Event()

        async def late(say: Say) -> Hired:
            say("waiting for a place")
            await room.wait()
            return await office.start(say)

        engine = LocalEngine([office.start, late])
        await engine.open()
        notes = [engine.note]
        running = asyncio.create_task(engine.advance(work_of(tasks(200), record), record))
        await until(lambda: len(office.asked) >= 50)
        room.set()
        await running
        notes.append(engine.note)
        await engine.close()
        return notes, [int(len(worker.calls) > 20) for worker in office.workers]

    assert asyncio.run(scenario()) == (["1 of 2 workers; waiting for a place", ""], [1, 1])


def test_the_ending_is_the_works_own() -> None:
    """Nothing but faults ends the run as it does with every engine."""
    refused = Fault(FaultKind.BAD_REQUEST, "never")
    work, _, _ = run(Office(refuse=lambda request: refused), tasks(1000), hopeless_after=64)
    assert isinstance(work.ending, Ending)
    assert work.ending.why == "hopeless"
