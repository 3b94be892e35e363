"""The workers of one `advance`: no task per row, and nobody waits while something could be sent.

A worker that ended an exchange takes the next task itself. The loop in `_tend` does what no worker is there for: it
opens workers up to the limit of the moment, hands out what became due by time, and commits what was recorded.
Everything that goes wrong in either surfaces through the task group, after what was recorded is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

from synth_cli.core.pacing import Estimate
from synth_cli.core.ports import Client, Done, Exchange, Record, Task, Wait, Work
from synth_cli.core.reply import Fault
from synth_cli.engines.throttle import Throttle
from synth_cli.errors import alone

TICK: Final = 0.05
"""Seconds at most between an outcome and its commit, and between `Work.stop` and an idle worker's notice of it."""
GROUP: Final = 128
"""Most outcomes that wait for their commit; with a lower limit of concurrency, that many."""
HANDFUL: Final = 64
"""Tasks handed out in one go, before the workers have their turn."""
LOOK: Final = 0.5
"""Seconds between looks at the work while the pace allows nothing."""
SOONEST: Final = 0.001
NEVER: Final = float("inf")

Departure: TypeAlias = tuple[Task, Estimate, Fault | None]
"""A task to send with what was charged for it, or why it can never be sent."""


class Pool:
    """One `advance`: made for it, run once."""

    def __init__(
        self,
        client: Client,
        throttle: Throttle,
        work: Work,
        record: Record,
        *,
        clock: Callable[[], float],
        time_of_day: Callable[[], float],
    ) -> None:
        self._client = client
        self._throttle = throttle
        self._work = work
        self._record = record
        self._clock = clock
        self._time_of_day = time_of_day
        self._open: dict[int, Task] = {}
        self._held: list[Task] = []
        self._idle: list[asyncio.Future[Departure | None]] = []
        self._wake = asyncio.Event()
        self._done = False
        self._paced = False
        self._due = NEVER
        self._asleep_until = 0.0
        self._unflushed = 0
        self._look_at = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def wake(self) -> None:
        """Something may have become ready."""
        self._wake.set()

    async def run(self) -> None:
        """Until the work is done. Cancelled, it gives back what was in flight."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._tend(group)
        except BaseExceptionGroup as several:
            error = alone(several)
            raise error from error.__cause__
        finally:
            for task in (*self._open.values(), *self._held):
                self._work.release(task)
            self._open.clear()
            self._record.flush()

    async def _tend(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        flush_at = self._clock() + TICK
        while True:
            handed = self._hand_out(group)
            if self._done and not self._open:
                break
            now = self._clock()
            if now >= flush_at:
                self._flush()
                flush_at = now + TICK
            if handed == HANDFUL:
                await asyncio.sleep(0)
                continue
            self._wake.clear()
            if self._paced and now >= self._look_at and self._due > now + LOOK and len(self._held) < HANDFUL:
                self._look(now)
            self._asleep_until = min(flush_at, self._due)
            timer = loop.call_later(max(self._asleep_until - now, SOONEST), self._wake.set)
            await self._wake.wait()
            timer.cancel()
        for waiter in self._idle:
            waiter.set_result(None)

    def _hand_out(self, group: asyncio.TaskGroup) -> int:
        """Gives idle workers (or new ones) what may be sent now; how many."""
        for handed in range(HANDFUL):
            departure = self._next(self._clock())
            if departure is None:
                return handed
            if self._idle:
                self._idle.pop().set_result(departure)
            else:
                group.create_task(self._worker(departure))
        return HANDFUL

    def _next(self, now: float) -> Departure | None:
        """What may be sent now; None where concurrency, pace or the work itself has nothing."""
        concurrency, pacer = self._throttle.concurrency, self._throttle.pacer
        self._paced = False
        self._due = NEVER
        if self._done or len(self._open) >= concurrency.limit:
            return None
        ready = pacer.ready(now)
        if ready > now:
            self._paced = True
            self._due = ready
            return None
        found = self._held.pop() if self._held else self._work.take(now)
        if isinstance(found, Task):
            self._open[id(found)] = found
            if len(self._open) >= concurrency.limit:
                concurrency.hit = True
            estimate = pacer.estimate(found.request)
            fault = pacer.refusal(estimate)
            if fault is None:
                pacer.leave(estimate, now)
            return found, estimate, fault
        if isinstance(found, Wait):
            if found.until is not None:
                self._due = found.until
            elif not self._open:
                # others must get further first
                self._done = True
            return None
        if isinstance(found, Done):
            self._done = True
            return None
        assert_never(found)

    def _look(self, now: float) -> None:
        """While the pace keeps us from sending: is the run stopping? What is taken by asking is sent later."""
        self._look_at = now + LOOK
        found = self._work.take(now)
        if isinstance(found, Task):
            self._held.append(found)
        elif isinstance(found, Done):
            self._done = True
            self._wake.set()

    async def _worker(self, first: Departure) -> None:
        departure: Departure | None = first
        clock, throttle = self._clock, self._throttle
        while departure is not None:
            task, estimate, fault = departure
            sent = now = clock()
            if fault is None:
                request = task.request if task.messages is None else task.request.asking(task.messages)
                exchange = await self._client.ask(request)
                now = clock()
                throttle.ended(exchange, estimate, sent, now)
                exchange = throttle.completed(exchange)
            else:
                exchange = Exchange(fault=fault)
                await asyncio.sleep(0)
            del self._open[id(task)]
            self._work.settle(task, exchange, now=now, at=self._time_of_day(), latency=now - sent)
            self._unflushed += 1
            limit = throttle.concurrency.limit
            if self._unflushed >= GROUP or self._unflushed >= limit:
                self._flush()
            departure = self._next(now)
            if departure is None:
                departure = await self._rest()
            elif len(self._open) < limit:
                self._wake.set()

    async def _rest(self) -> Departure | None:
        """Until there is something to send again; None when the work is done."""
        if self._due < self._asleep_until or (self._done and not self._open):
            self._wake.set()
        waiter: asyncio.Future[Departure | None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        return await waiter

    def _flush(self) -> None:
        if self._unflushed:
            self._unflushed = 0
            self._record.flush()
