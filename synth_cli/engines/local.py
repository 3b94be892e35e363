"""Asks workers that run the model themselves: here, or wherever their start puts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from synth_cli.core.ports import RateLimits, Record, Work
from synth_cli.engines.crew import Crew, Say, Start
from synth_cli.engines.stint import Stint
from synth_cli.engines.suspects import Suspects


class LocalEngine:
    """Satisfies `Engine`. Its workers stay from one `advance` to the next, until `close`.

    There is one worker for each of `starts`. `clock` is the one that the work's waits are on (monotonic seconds),
    `time_of_day` dates the facts, `log` takes a line for each worker that is lost. All of it on one event loop.
    """

    def __init__(
        self,
        starts: Sequence[Start],
        *,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
        log: Say = lambda words: None,
    ) -> None:
        self._crew = Crew(starts, changed=self.wake, log=log)
        self._suspects = Suspects()
        self._clock = clock
        self._time_of_day = time_of_day
        self._stint: Stint | None = None

    async def open(self) -> None:
        """Until the first worker can be asked; the others join when they can. Raises SynthError."""
        await self._crew.open()

    async def close(self) -> None:
        """Ends the workers."""
        await self._crew.close()

    @property
    def in_flight(self) -> int:
        """Requests that are with a worker."""
        return 0 if self._stint is None else self._stint.in_flight

    @property
    def concurrency(self) -> int:
        """The most that may be in flight now."""
        return sum(seat.hired.room for seat in self._crew.seats if seat.hired is not None)

    @property
    def rate_limited(self) -> int:
        """Nobody limits what one asks oneself."""
        return 0

    @property
    def limits(self) -> RateLimits | None:
        return None

    @property
    def note(self) -> str:
        """What is going on besides asking, such as 'restarting the engine (2nd time)'."""
        return self._crew.note

    def wake(self) -> None:
        """Tells an `advance` that is waiting that the work may have something now."""
        if self._stint is not None:
            self._stint.wake()

    async def advance(self, work: Work, record: Record) -> None:
        """Until `work` is done or stopped, or has nothing to ask now while nothing is in flight.

        Everything recorded is durable on return, also after an error. Cancelled, it breaks off what is in flight,
        gives those tasks back and raises `CancelledError`. What goes wrong in the work, the record or a worker's
        code is raised as it is. When the workers died too often, the work is failed.
        """
        self._stint = Stint(self._crew, self._suspects, work, record, clock=self._clock, time_of_day=self._time_of_day)
        try:
            await self._stint.run()
        finally:
            self._stint = None
