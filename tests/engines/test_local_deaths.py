"""Workers that die: what was in flight is asked again, and a row that kills them is found and failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from little_worker import LittleWorker, Office, prompt_of
from local_runs import Facts, run, tasks, until, work_of

from synth_cli.core.ports import WorkerLostError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.engines import crew, stint
from synth_cli.engines.crew import Hired, Say
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import SetupError

LOST = Fault(FaultKind.LOST, "the worker died", retry_after=0.0)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PAUSE", 0.0)
    monkeypatch.setattr(stint, "LOOK", 0.0)


def guilty(found: list[tuple[int, Fault]]) -> list[int]:
    """The requests that were convicted."""
    return [id_ for id_, fault in found if fault.kind is FaultKind.BAD_REQUEST]


def test_what_was_in_flight_is_asked_again() -> None:
    """A death costs what the worker had in flight, recorded as lost, and no attempt of anybody's."""

    class Mortal(LittleWorker):
        async def _turn(self, requests: Any) -> None:
            if prompt_of(requests[0]) == "row 20":
                self.die()
            await super()._turn(requests)

    class Once(Office):
        async def start(self, say: Say) -> Hired:
            self.workers.append(Mortal() if not self.workers else LittleWorker())
            return Hired(self.workers[-1], 8)

    office = Once()
    work, facts, _ = run(office, tasks(100))
    lost = [id_ for id_, fault in facts.faults]
    assert (facts.answered, len(office.workers)) == ([1000 * n for n in range(100)], 2)
    assert (Counter(office.asked) - Counter(f"row {n}" for n in range(100))) == Counter(
        f"row {id_ // 1000}" for id_ in lost
    )
    assert (0 < len(lost) <= 8, {fault for _, fault in facts.faults}, work.tally.failed) == (True, {LOST}, 0)
    assert (work.tally.lost, work.tally.rate_limited) == (len(lost), 0)
    assert office.workers[0].closed


def test_another_worker_goes_on_meanwhile() -> None:
    """Of two, one that dies costs only its own part; the other one and the next in its place do the rest."""
    office = Office(room=4, latency=0.001)

    async def scenario() -> Facts:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        engine = LocalEngine(office.starts(2))
        await engine.open()
        running = asyncio.create_task(engine.advance(work_of(tasks(300), record), record))
        await until(lambda: len(office.asked) > 100)
        office.workers[0].die()
        await running
        await engine.close()
        return facts

    facts = asyncio.run(scenario())
    assert (facts.answered, len(office.workers), len(facts.faults) <= 4) == ([1000 * n for n in range(300)], 3, True)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("place", [0, 1, 37, 99])
def test_a_row_that_kills_is_one_failed_row(place: int, workers: int) -> None:
    """It is found by being asked alone; everybody else is answered."""
    office = Office()
    work, facts, _ = run(office, tasks(100, words={place: "poison"}), workers)
    assert facts.answered == [1000 * n for n in range(100) if n != place]
    assert (guilty(facts.faults), work.tally.failed, work.ending) == ([1000 * place], 1, None)
    words = "the engine died each time this was asked, at last with nothing else beside it: the worker died"
    assert [fault.message for _, fault in facts.faults if fault.kind is FaultKind.BAD_REQUEST] == [words]
    assert office.asked.count("poison") == 3


def test_all_samples_of_a_row_that_kills_share_its_fate() -> None:
    """A worker is not sacrificed for each of them."""
    office = Office()
    work, facts, _ = run(office, tasks(30, samples=4, words={5: "poison"}))
    assert facts.answered == [1000 * n + sample for n in range(30) if n != 5 for sample in range(4)]
    assert sorted(guilty(facts.faults)) == [5000, 5001, 5002, 5003]
    assert (len(office.workers), work.tally.failed) == (4, 4)


def test_several_rows_that_kill_are_all_found() -> None:
    """Also when they stand side by side."""
    office = Office()
    work, facts, _ = run(office, tasks(100, words={0: "poison", 1: "poison too", 50: "poison three"}))
    assert (sorted(guilty(facts.faults)), len(facts.answered)) == ([0, 1000, 50000], 97)
    assert work.ending is None


def test_if_every_row_kills_it_ends_soon() -> None:
    """Neither the rows nor the starts go on for ever; what it died of is in the last words."""
    office = Office()
    work, facts, _ = run(office, tasks(1000, words={n: f"poison {n}" for n in range(1000)}))
    assert (facts.answered, len(office.workers) <= 8) == ([], True)
    assert work.ending is not None
    assert (work.ending.why, work.in_flight) == ("fault", 0)
    words = "the engine died 4 times in a row without an answer between, the last time so: the worker died"
    assert work.ending.message == words


def test_a_worker_that_cannot_be_started_again_ends_the_work() -> None:
    """After a few trials, with the reason; what was answered is on record."""

    class Once(Office):
        async def start(self, say: Say) -> Hired:
            if self.workers:
                raise SetupError("out of memory")
            return await super().start(say)

    work, facts, _ = run(Once(), tasks(100, words={50: "poison"}))
    assert (len(facts.answered) >= 40, work.in_flight) == (True, 0)
    assert work.ending is not None
    assert work.ending.message.endswith("the last time so: out of memory")


def test_while_it_starts_again_it_can_be_stopped() -> None:
    """A start that takes its time does not keep a stopped run alive; the display says what goes on."""

    class Slow(Office):
        async def start(self, say: Say) -> Hired:
            if self.workers:
                say("loading weights")
                await asyncio.sleep(3600)
            return await super().start(say)

    async def scenario() -> tuple[str, int, int]:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        work = work_of(tasks(100, words={50: "poison"}), record)
        engine = LocalEngine(Slow().starts())
        await engine.open()
        running = asyncio.create_task(engine.advance(work, record))
        await until(lambda: engine.note.endswith("weights"))
        note = engine.note
        work.stop()
        await asyncio.wait_for(running, 30)
        await engine.close()
        return note, work.in_flight, record.pending

    assert asyncio.run(scenario()) == ("restarting the engine: loading weights", 0, 0)


def test_the_display_counts_the_restarts() -> None:
    """'restarting the engine (2nd time)'."""
    notes: list[str] = []

    async def scenario() -> None:
        facts = Facts()
        record = GroupRecord(facts)  # type: ignore[arg-type]
        office = Office()

        async def start(say: Say) -> Hired:
            notes.append(engine.note)
            return await office.start(say)

        engine = LocalEngine([start])
        await engine.open()
        await engine.advance(work_of(tasks(20, words={3: "poison"}), record), record)
        await engine.close()

    asyncio.run(scenario())
    assert notes == [
        "starting the engine",
        "restarting the engine",
        "restarting the engine (2nd time)",
        "restarting the engine (3rd time)",
    ]


def test_calls_that_do_not_notice_the_death_are_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that answers one call with its death and leaves the others hanging holds up nobody."""
    monkeypatch.setattr(stint, "GRACE", 0.01)

    class Deaf(LittleWorker):
        async def ask(self, requests: Any) -> Any:
            if prompt_of(requests[0]) == "row 3":
                raise WorkerLostError(Fault(FaultKind.LOST, "the worker died"))
            await asyncio.sleep(3600)

    class Once(Office):
        async def start(self, say: Say) -> Hired:
            self.workers.append(LittleWorker() if self.workers else Deaf())
            return Hired(self.workers[-1], 8)

    work, facts, _ = run(Once(), tasks(20))
    assert (facts.answered, len(facts.faults), work.in_flight) == ([1000 * n for n in range(20)], 8, 0)
