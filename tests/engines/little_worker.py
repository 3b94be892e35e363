"""A worker in this process that answers with OpenAI's bodies and can be told to die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import orjson

from synth_cli.core.ports import Exchange, WorkerLostError
from synth_cli.core.reply import Answer, Fault, FaultKind
from synth_cli.core.request import Request
from synth_cli.engines.crew import Hired, Say, Start
from synth_cli.providers.openai import read_chat

Refuse = Callable[[Request], Fault | None]


def prompt_of(request: Request) -> str:
    text: str = request.messages[-1]["content"]
    return text


def answer(request: Request, text: str) -> Exchange:
    body = orjson.dumps(
        {
            "model": request.terms.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
    )
    return Exchange(read_chat(body), Answer("openai", body))


class LittleWorker:
    """Answers each request with its prompt in capitals. A prompt with the word `poison` ends it, as `die` does."""

    def __init__(self, latency: float = 0.0, refuse: Refuse = lambda request: None) -> None:
        self._latency = latency
        self._refuse = refuse
        self._death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls: list[list[Request]] = []
        self.open = 0
        self.most_open = 0
        self.closed = False

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        self.calls.append(list(requests))
        self.open += len(requests)
        self.most_open = max(self.most_open, self.open)
        try:
            await self._turn(requests)
        finally:
            self.open -= len(requests)
        return [self._exchange(request) for request in requests]

    async def _turn(self, requests: Sequence[Request]) -> None:
        # the model is not done with one before it began with those that came together with it
        await asyncio.sleep(0)
        if any("poison" in prompt_of(request) for request in requests):
            self.die()
        await asyncio.wait([self._death], timeout=self._latency)
        if self._death.done():
            raise WorkerLostError(Fault(FaultKind.LOST, "the worker died"))

    def _exchange(self, request: Request) -> Exchange:
        fault = self._refuse(request)
        return answer(request, prompt_of(request).upper()) if fault is None else Exchange(fault=fault)

    def die(self) -> None:
        if not self._death.done():
            self._death.set_result(None)

    async def close(self) -> None:
        self.closed = True


class Office:
    """Starts little workers and remembers them."""

    def __init__(self, room: int = 8, latency: float = 0.0, refuse: Refuse = lambda request: None) -> None:
        self._room = room
        self._latency = latency
        self._refuse = refuse
        self.workers: list[LittleWorker] = []

    async def start(self, say: Say) -> Hired:
        say("loading")
        worker = LittleWorker(self._latency, self._refuse)
        self.workers.append(worker)
        return Hired(worker, self._room)

    def starts(self, number: int = 1) -> list[Start]:
        return [self.start] * number

    @property
    def asked(self) -> list[str]:
        """The prompts asked so far, one for each request."""
        return [prompt_of(request) for worker in self.workers for call in worker.calls for request in call]
