"""One `advance` of a crew of workers: whoever has room is given work, and nothing waits for what it need not wait for.

Each bundle is one call to one worker. Where it ends, the next is handed out at once; the loop in `_tend` does what
nothing is there for: it fills the workers, hands out what became due by time, and commits what was recorded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from synth_cli.core.ports import Done, Exchange, Record, Task, Wait, Work, WorkerLostError
from synth_cli.core.reply import Fault
from synth_cli.core.request import Request
from synth_cli.engines.crew import Crew, Hired, Seat
from synth_cli.engines.joining import Joined
from synth_cli.engines.suspects import Suspects
from synth_cli.errors import alone

TICK: Final = 0.05
"""Seconds at most between an outcome and its commit, and between `Work.stop` and an idle engine's notice of it."""
GROUP: Final = 128
"""Most outcomes that wait for their commit; with less room at the workers, that many."""
HANDFUL: Final = 64
"""Bundles handed out in one go, before anything else has its turn."""
LOOK: Final = 0.5
"""Seconds between looks at the work while no worker can be asked."""
GRACE: Final = 5.0
"""Seconds after which a call to a worker that is gone is broken off, should it not end by itself."""
SOONEST: Final = 0.001
NEVER: Final = float("inf")


@dataclass(slots=True)
class Call:
    """A bundle at a worker; `tasks` are those not settled yet."""

    seat: Seat
    hired: Hired
    tasks: list[Task]
    alone: bool
    size: int
    broken_off: bool = False
    running: asyncio.Task[None] | None = None


class Stint:
    """Made for one `advance`, run once."""

    def __init__(
        self,
        crew: Crew,
        suspects: Suspects,
        work: Work,
        record: Record,
        *,
        clock: Callable[[], float],
        time_of_day: Callable[[], float],
    ) -> None:
        self._crew = crew
        self._suspects = suspects
        self._work = work
        self._record = record
        self._clock = clock
        self._time_of_day = time_of_day
        self._joined = Joined(work)
        self._front: list[Task] = []
        self._apart: deque[Task] = deque()
        self._calls: dict[int, Call] = {}
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._done = False
        self._idle = False
        self._due = NEVER
        self._asleep_until = 0.0
        self._look_at = 0.0
        self._unflushed = 0

    @property
    def in_flight(self) -> int:
        return sum(len(call.tasks) for call in self._calls.values())

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until the work is done, or has nothing now and nothing in flight. Cancelled, it gives back what it holds."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._tend()
        except BaseExceptionGroup as several:
            error = alone(several)
            raise error from error.__cause__
        finally:
            for task in self._back():
                self._work.release(task)
            self._record.flush()

    def _back(self) -> Sequence[Task]:
        """Everything taken and not settled."""
        held = [*self._front, *self._apart, *self._joined.held]
        for call in self._calls.values():
            call.seat.load -= call.size
            held += call.tasks
        self._calls.clear()
        for seat in self._crew.seats:
            seat.alone = False
        return held

    async def _tend(self) -> None:
        loop = asyncio.get_running_loop()
        flush_at = self._clock() + TICK
        while True:
            self._crew.check()
            handed = self._hand_out()
            if not self._calls and (self._done or self._idle):
                break
            now = self._clock()
            if now >= flush_at:
                self._flush()
                flush_at = now + TICK
            if handed == HANDFUL:
                await asyncio.sleep(0)
                continue
            self._wake.clear()
            if not self._crew.at_work and now >= self._look_at:
                self._look(now)
            self._asleep_until = min(flush_at, self._due)
            timer = loop.call_later(max(self._asleep_until - now, SOONEST), self._wake.set)
            await self._wake.wait()
            timer.cancel()

    def _look(self, now: float) -> None:
        """While nobody can be asked: is the run stopping? What is taken by asking is sent later."""
        self._look_at = now + LOOK
        fault = self._crew.given_up
        if fault is not None:
            self._work.fail(fault)
        elif len(self._joined.held) < HANDFUL and not isinstance(self._joined.look(now), Task | Wait):
            self._done = True
        self._done = self._done or self._work.stopping

    def _hand_out(self) -> int:
        """Gives workers what they have room for; how many bundles."""
        self._idle = False
        self._due = NEVER
        for handed in range(HANDFUL):
            if self._done or self._work.stopping:
                self._done = True
                return handed
            call = self._next(self._clock())
            if call is None:
                return handed
            self._send(call)
        return HANDFUL

    def _next(self, now: float) -> Call | None:
        """What may be sent now; None where there is no room, or the work itself has nothing."""
        while self._apart and self._condemned(self._apart[0]):
            self._apart.popleft()
        if self._apart:
            seat = self._kept_apart()
            if seat is not None and seat.hired is not None and not seat.load:
                return Call(seat, seat.hired, [self._apart.popleft()], True, 1)
        seat = self._crew.freest()
        if seat is None or seat.hired is None:
            return None
        bundle = self._bundle(now, seat.hired.room)
        if bundle is None:
            return None
        if len(bundle) > seat.room and seat.load:
            self._front = bundle
            return None
        return Call(seat, seat.hired, bundle, False, len(bundle))

    def _bundle(self, now: float, most: int) -> list[Task] | None:
        """What may be asked together with others; suspects are put apart."""
        if self._front:
            front, self._front = self._front, []
            return front
        while True:
            found = self._joined.take(now, most)
            if isinstance(found, list):
                clear = [task for task in found if not self._put_apart(task)]
                if clear:
                    return clear
                continue
            if isinstance(found, Wait):
                if found.until is not None:
                    self._due = found.until
                else:
                    self._idle = not self._apart
                return None
            if isinstance(found, Done):
                self._done = not self._apart
                return None
            assert_never(found)

    def _put_apart(self, task: Task) -> bool:
        """Whether it is not for now: a suspect waits to be asked alone, another sample of a convict shares its fate."""
        if self._condemned(task):
            return True
        if self._suspects.suspected(task):
            self._apart.append(task)
            return True
        return False

    def _condemned(self, task: Task) -> bool:
        """Whether it is settled without being asked."""
        fault = self._suspects.condemned(task)
        if fault is None:
            return False
        self._settle(task, Exchange(fault=fault), self._clock(), 0.0)
        return True

    def _kept_apart(self) -> Seat | None:
        """The seat whose worker is left to empty itself, so that suspects can be asked alone there."""
        for seat in self._crew.seats:
            if seat.alone and seat.hired is not None:
                return seat
        present = [seat for seat in self._crew.seats if seat.hired is not None]
        if not present:
            return None
        chosen = min(present, key=lambda seat: seat.load)
        chosen.alone = True
        return chosen

    def _send(self, call: Call) -> None:
        assert self._group is not None
        self._calls[id(call)] = call
        call.seat.load += call.size
        call.running = self._group.create_task(self._call(call))

    async def _call(self, call: Call) -> None:
        sent = self._clock()
        exchanges: Sequence[Exchange]
        try:
            exchanges = await call.hired.worker.ask([_request(task) for task in call.tasks])
        except WorkerLostError as lost:
            exchanges = self._lost(call, lost.fault)
        except asyncio.CancelledError:
            if not call.broken_off:
                raise
            assert call.seat.trouble is not None
            exchanges = self._lost(call, call.seat.trouble)
        else:
            if any(exchange.reply is not None for exchange in exchanges):
                self._crew.answered(call.seat)
            for task in call.tasks:
                self._suspects.ended(task)
        del self._calls[id(call)]
        call.seat.load -= call.size
        if call.alone and not self._apart:
            call.seat.alone = False
        now = self._clock()
        for task, exchange in zip(call.tasks, exchanges, strict=True):
            self._settle(task, exchange, now, now - sent)
        room = sum(seat.hired.room for seat in self._crew.seats if seat.hired is not None)
        if self._unflushed >= min(GROUP, room):
            self._flush()
        if self._hand_out() == HANDFUL or not self._calls or self._due < self._asleep_until:
            self._wake.set()

    def _lost(self, call: Call, fault: Fault) -> Sequence[Exchange]:
        """What becomes of a call whose worker is gone. The first to know tells the crew."""
        seat = call.seat
        if seat.hired is call.hired:
            together = [other for other in self._calls.values() if other.hired is call.hired]
            self._crew.lost(seat, fault, convicted=call.alone)
            if call.alone:
                guilt = self._suspects.convict(call.tasks[0], fault)
                return [Exchange(fault=guilt)]
            self._suspects.died(task for other in together for task in other.tasks)
            asyncio.get_running_loop().call_later(GRACE, self._break_off, call.hired)
        # asked again as soon as there is somebody to ask
        return [Exchange(fault=replace(fault, retry_after=0.0))] * len(call.tasks)

    def _break_off(self, hired: Hired) -> None:
        for call in self._calls.values():
            if call.hired is hired and call.running is not None:
                call.broken_off = True
                call.running.cancel()

    def _settle(self, task: Task, exchange: Exchange, now: float, latency: float) -> None:
        self._work.settle(task, exchange, now=now, at=self._time_of_day(), latency=latency)
        self._unflushed += 1

    def _flush(self) -> None:
        if self._unflushed:
            self._unflushed = 0
            self._record.flush()


def _request(task: Task) -> Request:
    return task.request if task.messages is None else task.request.asking(task.messages)
