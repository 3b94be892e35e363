"""A client whose requests go out from several machines: its workers only ask, the pace is kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from synth_cli.core.ports import Client, Exchange, WorkerLostError
from synth_cli.core.request import Request
from synth_cli.engines.crew import Crew, Say, Seat, Start
from synth_cli.errors import SetupError


class SpreadClient:
    """Satisfies `core.ports.Client` over a crew of workers; whoever has the least under way asks."""

    def __init__(self, starts: Sequence[Start], *, log: Say) -> None:
        self._news = asyncio.Event()
        self._crew = Crew(starts, changed=self._news.set, log=log)

    async def open(self) -> None:
        """Until the first worker can ask. Raises SynthError."""
        await self._crew.open()

    @property
    def at_work(self) -> int:
        """Workers that can ask now."""
        return self._crew.at_work

    async def ask(self, request: Request) -> Exchange:
        """What a worker took with it is a fault of that attempt. Raises SetupError when no worker is left."""
        seat = await self._seat()
        hired = seat.hired
        assert hired is not None
        seat.load += 1
        try:
            (exchange,) = await hired.worker.ask([request])
        except WorkerLostError as lost:
            if seat.hired is hired:
                self._crew.lost(seat, lost.fault)
            return Exchange(fault=replace(lost.fault, retry_after=0.0))
        finally:
            seat.load -= 1
        if exchange.reply is not None:
            self._crew.answered(seat)
        return exchange

    async def close(self) -> None:
        await self._crew.close()

    async def _seat(self) -> Seat:
        while True:
            self._crew.check()
            seat = self._crew.freest()
            if seat is not None:
                return seat
            fault = self._crew.given_up
            if fault is not None:
                raise SetupError(fault.message, hint="what is answered stays answered; run again to go on")
            self._news.clear()
            await self._news.wait()


class Asking:
    """Satisfies `core.ports.Worker` with a client: what an actor holds that asks for others."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        return [await self._client.ask(request) for request in requests]

    async def close(self) -> None:
        await self._client.close()
