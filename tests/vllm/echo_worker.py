"""A worker for actors of Ray: answers each request with its prompt in capitals, and knows where it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import orjson

from synth_cli.core.ports import Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind
from synth_cli.core.request import Request
from synth_cli.engines.crew import Hired, Say
from synth_cli.errors import SetupError


class EchoWorker:
    """Its answers' model is the process that gave them. The prompt 'die' ends that process."""

    def __init__(self, latency: float) -> None:
        self._latency = latency

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        await asyncio.sleep(self._latency)
        return [self._exchange(request) for request in requests]

    def _exchange(self, request: Request) -> Exchange:
        text = request.messages[-1]["content"]
        if text == "die":
            os._exit(1)
        if text == "refuse":
            return Exchange(fault=Fault(FaultKind.CONTEXT_LENGTH, "too long"))
        body = {
            "model": str(os.getpid()),
            "choices": [{"message": {"role": "assistant", "content": text.upper()}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
        return Exchange(answer=Answer("openai", orjson.dumps(body)))

    async def close(self) -> None:
        """Nothing to end."""


async def echo(latency: float, room: int, say: Say) -> Hired:
    say("warming up")
    return Hired(EchoWorker(latency), room)


async def refused(say: Say) -> Hired:
    raise SetupError("no such model", hint="give another")
