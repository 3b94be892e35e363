"""The batches of a job: an engine for each model that is asked in batches, looked after until nothing is open."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from synth_cli.compile.plan import Plan, StepPlan, Voice
from synth_cli.core.ports import BatchStanding, Record
from synth_cli.core.shift import Ending, Shift, Tally
from synth_cli.core.work import StepWork
from synth_cli.engines.batch import BatchEngine, BatchSettings
from synth_cli.providers.batches import batch_client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.report.words import counted
from synth_cli.run.desk import Desk, deadline_of, simulator, surroundings
from synth_cli.run.flow import Flow, voices_of
from synth_cli.run.options import RunOptions
from synth_cli.run.running import Running
from synth_cli.run.wire import endpoint, place_of, price_of, simulated
from synth_cli.stores.folder import StateFolder
from synth_cli.stores.ledger import SqliteLedger

Watch: TypeAlias = Callable[[Shift], None]
Going: TypeAlias = Callable[[Shift], Flow]
JITTER = 0.1
"""Share of the interval by which looks are spread, so that many jobs do not ask at the same second."""
SIMULATED_SECONDS = 2.0
"""What a batch takes at the simulated model, which is looked at more often than others."""


@dataclass(frozen=True, slots=True)
class Account:
    """The batches of one step at one provider. `voice` is one of the models that are asked in them."""

    voices: Sequence[tuple[str, int]]
    voice: Voice
    place: str
    adopts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Office:
    """All that looking after a job's batches needs; a run has it, and so have `status` and `cancel`."""

    plan: Plan
    options: RunOptions
    state: StateFolder
    ledger: SqliteLedger
    environ: Mapping[str, str]
    log: Callable[[str], None]

    def accounts(self) -> list[Account]:
        """One for each step and place that is asked in batches: models of a step that differ in what they are asked
        alone have their batches together."""
        found: dict[tuple[str, str], list[tuple[StepPlan, int]]] = {}
        for step in self.plan.steps:
            for number, voice in enumerate(step.voices):
                if voice.engine == "batch":
                    found.setdefault((step.name, place_of(step, voice, self.options)), []).append((step, number))
        left: dict[str, set[str]] = {}
        for pending in self.ledger.standing().pending.values():
            if (pending.opening.step, pending.opening.place) not in found:
                left.setdefault(pending.opening.place, set()).add(pending.opening.step)
        return [
            Account(
                [(step.name, number) for step, number in models],
                models[0][0].voices[models[0][1]],
                place,
                # the first at a place takes what nobody else looks after
                frozenset(left.pop(place, ())),
            )
            for (_, place), models in found.items()
        ]

    async def engines(self, leave: AsyncExitStack) -> list[BatchEngine]:
        """An engine for each of those; what `leave` is given is undone at the end."""
        root = self.state.root
        folder = root / "batches"
        folder.mkdir(parents=True, exist_ok=True)
        accounts = self.accounts()
        url = None
        if any(simulated(account.voice, self.options) for account in accounts):
            url = await simulator(leave, batch_seconds=SIMULATED_SECONDS, folder=str(root / "simulator"))
        return [await self._engine(account, leave, folder, url) for account in accounts]

    async def _engine(self, account: Account, leave: AsyncExitStack, folder: Path, url: str | None) -> BatchEngine:
        voice, settings = account.voice, account.voice.settings
        url = url if simulated(voice, self.options) else None
        transport = AiohttpTransport(environ=surroundings(self.environ, url))
        leave.push_async_callback(transport.close)
        model = batch_client(endpoint(voice, self.environ, url), transport, window=settings.completion_window)
        leave.push_async_callback(model.close)
        own = BatchSettings(
            step=account.voices[0][0],
            job=self.plan.name,
            place=account.place,
            batch_size=settings.batch_size,
            delete_successful=settings.delete_successful_batch_files,
            delete_failed=settings.delete_failed_batch_files,
            price=price_of(voice, self.options),
            adopts=account.adopts,
            metadata=self.plan.loaded.spec.labels,
        )
        return BatchEngine(model, self.ledger, own, folder=folder, log=self.log)


def office_of(running: Running, environ: Mapping[str, str]) -> Office:
    return Office(running.plan, running.options, running.state, running.ledger, environ, running.journal.write)


@dataclass(slots=True)
class _Room:
    """One engine, and whether what is left to ask for it has been gone through since anything changed."""

    account: Account
    engine: BatchEngine
    open: frozenset[str]
    """Its open batches, when it was looked at last."""
    through: bool = False


class Offices:
    """The batches of a run. False where no model is asked in batches."""

    def __init__(self, desk: Desk, record: Record, leave: AsyncExitStack) -> None:
        self._desk = desk
        self._record = record
        self._leave = leave
        self._office = office_of(desk.running, desk.environ)
        self._accounts = self._office.accounts()
        self._rooms: list[_Room] = []
        self.collected = False
        """Whether a batch ended in the latest advance."""

    def __bool__(self) -> bool:
        return bool(self._accounts)

    @property
    def engines(self) -> list[BatchEngine]:
        return [room.engine for room in self._rooms]

    @property
    def batches(self) -> tuple[BatchStanding, ...]:
        return tuple(standing for engine in self.engines for standing in engine.batches)

    @property
    def note(self) -> str:
        return "; ".join(dict.fromkeys(engine.note for engine in self.engines if engine.note))

    @property
    def in_flight(self) -> int:
        """Requests in open batches, as they were last seen."""
        return sum(one.total for one in self.batches if one.outcome is None)

    @property
    def finished(self) -> bool:
        """Whether no batch is open, and none was left to be made when everything was gone through."""
        return all(room.engine.finished and not room.open for room in self._rooms)

    @property
    def time_of_day(self) -> float:
        return time.time() if self else 0.0

    def tallies(self) -> list[Tally]:
        """What each engine collected."""
        return [tally_of(room.engine, room.account.voices[0][0]) for room in self._rooms]

    async def collect(self, watch: Watch) -> Ending | None:
        """Opens the engines, and collects what has ended. `watch` is told what a signal is to end."""
        if self._accounts and not self._rooms:
            engines = await self._office.engines(self._leave)
            self._rooms = [
                _Room(account, engine, engine.open_keys)
                for account, engine in zip(self._accounts, engines, strict=True)
            ]
        for room in self._rooms:
            if room.open:
                ending = await self._once(room, watch, None)
                room.open = room.engine.open_keys
                if ending is not None:
                    return ending
        return None

    async def advance(self, watch: Watch, going: Going, *, fresh: bool) -> Ending | None:
        """Once for each engine: collects, and submits what is left. `fresh`: answers came since, so that more may be.

        `going` makes a pass over the job. Returns what ends the run.
        """
        self.collected = False
        for room in self._rooms:
            room.through = room.through and not fresh
            ending = await self._advance(room, watch, going)
            if ending is not None:
                return ending
        return None

    async def _advance(self, room: _Room, watch: Watch, going: Going) -> Ending | None:
        while True:
            # what is left to ask changes only when a batch has ended: else the input need not be read again
            again = not room.through
            ending = await self._once(room, watch, going if again else None)
            before, room.open = room.open, room.engine.open_keys
            ended = bool(before - room.open)
            self.collected |= ended
            if ending is not None or (room.engine.finished and again):
                room.through = ending is None
                return ending
            if again or not ended:
                room.through = bool(room.open)
                return None
            room.through = False

    async def _once(self, room: _Room, watch: Watch, going: Going | None) -> Ending | None:
        desk, engine = self._desk, room.engine
        # what is announced of a batch is itself what holds its worst case
        shift = desk.shift(lambda reserved: None)
        watch(shift)
        flow = None if going is None else going(shift)
        step, number = room.account.voices[0]
        rules = voices_of(desk.wired.chain)[step, number].rules[number]
        tasks = iter(()) if flow is None else flow.queue(room.account.voices)
        work = StepWork(tasks, rules, self._record, chance=desk.chance, shift=shift, outstanding=engine.outstanding)
        trouble = engine.note
        await engine.advance(work, self._record)
        if shift.ending is not None and shift.ending.why == "deadline":
            return late(engine.note or trouble)
        if shift.ending is not None and shift.ending.why == "budget" and any(one.outstanding for one in self.engines):
            # what the open batches do not use of what is held for them can still be spent
            return None
        return shift.ending or (None if flow is None else flow.stopped)

    async def wait(self, stopped: asyncio.Event) -> Ending | None:
        """Until the next look is due, somebody stops the run, or its time is over; at once where nobody waits."""
        desk = self._desk
        if desk.running.options.no_wait:
            return Ending("pending", self._waiting())
        intervals = [
            min(voice.settings.batch_check_interval, SIMULATED_SECONDS / 2)
            if simulated(voice, desk.running.options)
            else voice.settings.batch_check_interval
            for voice in (account.voice for account in self._accounts)
        ]
        wait = min(intervals) * (1 + JITTER * (2 * desk.chance() - 1))
        now = time.monotonic()
        deadline = deadline_of(desk.running, now)
        over = deadline is not None and now + wait >= deadline
        if over and deadline is not None:
            wait = max(0.0, deadline - now)
        try:
            await asyncio.wait_for(stopped.wait(), wait)
        except TimeoutError:
            return late(self.note) if over else None
        return Ending("stopped")

    def _waiting(self) -> str:
        """What a run that does not wait leaves open."""
        number = sum(standing.outcome is None for standing in self.batches)
        if not number:
            return self.note or "nothing could be submitted yet"
        outstanding = sum(engine.outstanding for engine in self.engines)
        said = f"{counted(number, 'batch', 'batches')} with {counted(outstanding, 'request')} open at the provider"
        return f"{said}; {self.note}" if self.note else said


def late(note: str) -> Ending:
    """The end of a run whose time is over; `note` is the latest trouble, which may be why it took so long."""
    said = "the time allowed for a run is over"
    return Ending("deadline", f"{said}; {note}" if note else said)


def tally_of(engine: BatchEngine, step: str = "") -> Tally:
    found = engine.collected
    return Tally(
        answered=found.replies,
        steps=Counter({step: found.replies} if step else {}),
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cost=found.cost,
        unpriced=found.unpriced,
    )
