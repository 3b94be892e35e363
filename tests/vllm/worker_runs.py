"""A worker over a tiny model, asked from tests that are not coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth_cli.core.ports import Exchange
from synth_cli.core.reply import Fault, Reply
from synth_cli.core.request import Message, Request, Terms
from synth_cli.engines.vllm.settings import ModelSettings, settings_of
from synth_cli.engines.vllm.worker import VllmWorker
from synth_cli.spec.backend import BackendParams

USER: Message = {"role": "user", "content": "Say something about the weather."}


def settings(model: Path, *, engine_args: Mapping[str, Any] | None = None, **params: Any) -> ModelSettings:
    """Of a model that takes little of a CPU."""
    told = {"kv_cache_memory_bytes": 64 << 20, **(engine_args or {})}
    return settings_of(
        str(model),
        BackendParams(
            **{"enforce_eager": True, "dtype": "float32", "max_model_length": 1024, "batch_size": 64, **params},
            engine_args=told,
        ),
    )


class Asking:
    """A worker and the loop that it lives on."""

    def __init__(self, runner: asyncio.Runner, worker: VllmWorker) -> None:
        self.runner = runner
        self.worker = worker

    async def busy(self, samples: int) -> None:
        """Until the engine has so many in hand."""
        async with asyncio.timeout(60):
            while self.worker.unfinished < samples:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0.01)

    def exchanges(self, *requests: Request) -> tuple[Exchange, ...]:
        return tuple(self.runner.run(self.worker.ask(requests)))

    def reply(self, params: Mapping[str, Any] | None = None, *messages: Message, **terms: Any) -> Reply:
        (exchange,) = self.exchanges(request(params, *messages, **terms))
        assert exchange.reply is not None, exchange.fault
        return exchange.reply

    def fault(self, params: Mapping[str, Any] | None = None, *messages: Message, **terms: Any) -> Fault:
        (exchange,) = self.exchanges(request(params, *messages, **terms))
        assert exchange.fault is not None, exchange.reply
        return exchange.fault


@contextmanager
def asking(told: ModelSettings) -> Iterator[Asking]:
    with asyncio.Runner() as runner:
        worker = runner.run(VllmWorker.start(told))
        try:
            yield Asking(runner, worker)
        finally:
            runner.run(worker.close())


def request(params: Mapping[str, Any] | None = None, *messages: Message, **terms: Any) -> Request:
    """One for the user's turn, or these messages, or a raw `prompt`; short unless `params` say otherwise."""
    prompt = terms.pop("prompt", None)
    said = {"max_tokens": 8, **(params or {})}
    own = Terms("vllm", "tiny", params=said, completion=prompt is not None, **terms)
    shown = () if prompt is not None else messages or (USER,)
    return Request(bytes(16), own, shown, prompt, said.get("seed"))


def samples(n: int, params: Mapping[str, Any], *messages: Message) -> list[Request]:
    """Of one row, with seeds that count on where `params` have one."""
    first = request(params, *messages)
    seeds = [None if first.seed is None else first.seed + i for i in range(n)]
    return [Request(i.to_bytes(16, "big"), first.terms, first.messages, seed=seed) for i, seed in enumerate(seeds)]
