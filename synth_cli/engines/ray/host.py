"""What an actor of Ray is here: it holds one worker, takes bundles of requests and gives answers as they come.

Answers are fetched many at a time by a call that waits for the first: one call of Ray for each would cost more than
many an answer. What goes wrong is sent as a value; exceptions with arguments of their own do not survive the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from synth_cli.core.ports import Exchange, WorkerLostError
from synth_cli.core.reply import Fault
from synth_cli.core.request import Request, Terms
from synth_cli.engines.crew import Hired, Say
from synth_cli.errors import SynthError

Make: TypeAlias = Callable[[Say], Awaitable[Hired]]
"""Makes the worker, in the actor's own process; must be importable there."""
Bundle: TypeAlias = tuple[int, tuple[Request, ...]]
"""A call's number and its requests."""
Outcome: TypeAlias = tuple[int, tuple[Exchange, ...] | Fault]
"""A call's number and its exchanges, without their replies, which can be read again from the answers; or the fault
with which the worker was lost."""
REMEMBERED = 256
"""Terms that are kept, so that what a worker keeps for them is found again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker could not be made."""

    message: str
    hint: str = ""


class Host:
    """The actor's class. All its methods run on one event loop."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._hired: Hired | None = None
        self._said = ""
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._outcomes: list[Outcome] = []
        self._news = asyncio.Event()
        self._broken: BaseException | None = None
        self._terms: dict[bytes, Terms] = {}

    async def start(self) -> int | Refused | Fault:
        """Makes the worker; the most requests that it takes at once, or why there is none."""
        try:
            self._hired = await self._make(self._say)
        except SynthError as error:
            return Refused(error.message, error.hint)
        except WorkerLostError as lost:
            return lost.fault
        return self._hired.room

    async def said(self) -> str:
        """How far the start is."""
        return self._said

    async def put(self, bundles: Sequence[Bundle]) -> None:
        """Begins to ask."""
        loop = asyncio.get_running_loop()
        for number, requests in bundles:
            known = tuple(self._known(request) for request in requests)
            call = self._calls[number] = loop.create_task(self._call(number, known))
            call.add_done_callback(self._after)

    async def get(self) -> list[Outcome]:
        """What came since the last time; waits until there is something."""
        while not self._outcomes and self._broken is None:
            self._news.clear()
            await self._news.wait()
        if self._broken is not None:
            raise self._broken
        came, self._outcomes = self._outcomes, []
        return came

    async def drop(self, numbers: Sequence[int]) -> None:
        """Nobody waits for these any more."""
        for number in numbers:
            call = self._calls.get(number)
            if call is not None:
                call.cancel()

    async def close(self) -> None:
        if self._hired is not None:
            await self._hired.worker.close()

    async def _call(self, number: int, requests: tuple[Request, ...]) -> None:
        assert self._hired is not None
        outcome: tuple[Exchange, ...] | Fault
        try:
            exchanges = await self._hired.worker.ask(requests)
            outcome = tuple(replace(exchange, reply=None) for exchange in exchanges)
        except WorkerLostError as lost:
            outcome = lost.fault
        finally:
            del self._calls[number]
        self._outcomes.append((number, outcome))
        self._news.set()

    def _after(self, call: asyncio.Task[None]) -> None:
        if not call.cancelled() and call.exception() is not None:
            self._broken = call.exception()
            self._news.set()

    def _known(self, request: Request) -> Request:
        """The request with the terms that came first of all their equals."""
        digest = request.terms.digest
        known = self._terms.get(digest)
        if known is None:
            if len(self._terms) >= REMEMBERED:
                self._terms.clear()
            self._terms[digest] = request.terms
            return request
        return request if known is request.terms else replace(request, terms=known)

    def _say(self, words: str) -> None:
        self._said = words
