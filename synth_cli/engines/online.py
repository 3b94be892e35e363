"""Asks a provider that answers while we wait: paced by its limits, as many at once as it pays."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from synth_cli.core.pacing import PaceSettings
from synth_cli.core.ports import Client, RateLimits, Record, Work
from synth_cli.engines.pool import Pool
from synth_cli.engines.throttle import Throttle


class OnlineEngine:
    """Satisfies `Engine`. What it learnt about the endpoint's limits stays for the next `advance`.

    `clock` is the one that the work's waits are on (monotonic seconds), `time_of_day` dates the facts, and
    `chance` (0 to 1) spreads pauses.
    """

    def __init__(
        self,
        client: Client,
        pace: PaceSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._clock = clock
        self._time_of_day = time_of_day
        self._throttle = Throttle(pace, clock(), chance)
        self._pool: Pool | None = None

    @property
    def in_flight(self) -> int:
        """Requests sent and not yet answered."""
        return 0 if self._pool is None else self._pool.in_flight

    @property
    def concurrency(self) -> int:
        """The most that may be in flight now."""
        return self._throttle.concurrency.limit

    @property
    def rate_limited(self) -> int:
        """Answers 429 so far."""
        return self._throttle.rate_limited

    @property
    def limits(self) -> RateLimits | None:
        """What the latest headers said that spoke of limits."""
        return self._throttle.limits

    @property
    def note(self) -> str:
        """What holds requests back now, such as 'paced by the provider: 3,000 requests/min'; empty if nothing does."""
        return self._throttle.pacer.note(self._clock())

    def wake(self) -> None:
        """Something became ready that was not when the work was asked last."""
        if self._pool is not None:
            self._pool.wake()

    async def advance(self, work: Work, record: Record) -> None:
        """Until `work` is done or stopped. Everything recorded is durable on return, also after an error.

        Cancelled, it breaks off what is in flight, gives those tasks back and raises `CancelledError`. What goes
        wrong in the work, the record or the client's code is raised as it is.
        """
        self._pool = Pool(self._client, self._throttle, work, record, clock=self._clock, time_of_day=self._time_of_day)
        try:
            await self._pool.run()
        finally:
            self._pool = None
