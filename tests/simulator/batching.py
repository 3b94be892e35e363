"""What the tests of the simulator's batches share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import openai

from synth_cli.simulator import Settings, Simulator

Use = Callable[[openai.AsyncOpenAI, Simulator], Awaitable[None]]
STEPS = 2000
OVER = ("completed", "failed", "expired", "cancelled")


def with_client(use: Use, **settings: Any) -> None:
    async def run() -> None:
        async with (
            Simulator(Settings(**settings)) as simulator,
            openai.AsyncOpenAI(base_url=simulator.url, api_key="k", max_retries=0, timeout=20) as client,
        ):
            await use(client, simulator)

    asyncio.run(run())


def with_http(use: Callable[[aiohttp.ClientSession, Simulator], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with Simulator(Settings(**settings)) as simulator:
            base = simulator.url.removesuffix("/v1")
            async with aiohttp.ClientSession(base) as session:
                await use(session, simulator)

    asyncio.run(run())


def asks(number: int, **more: Any) -> dict[str, Any]:
    return {"model": "simulator", "messages": [{"role": "user", "content": f"Say {number}."}], **more}


def jsonl(lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def requests(count: int, start: int = 0, **more: Any) -> bytes:
    head = {"method": "POST", "url": "/v1/chat/completions"}
    return jsonl([{"custom_id": f"r{n}", **head, "body": asks(n, **more)} for n in range(start, start + count)])


async def submit(client: openai.AsyncOpenAI, data: bytes, **more: Any) -> Any:
    file = await client.files.create(file=("in.jsonl", data), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


async def until(client: openai.AsyncOpenAI, batch: Any, good: Callable[[Any], bool]) -> Any:
    for _ in range(STEPS):
        batch = await client.batches.retrieve(batch.id)
        if good(batch):
            return batch
        await asyncio.sleep(0.002)
    raise AssertionError(f"still {batch.status}")


async def ended(client: openai.AsyncOpenAI, batch: Any) -> Any:
    return await until(client, batch, lambda one: one.status in OVER)


async def read(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    content = await client.files.content(file_id)
    return [json.loads(line) for line in content.text.splitlines()]


async def said(session: aiohttp.ClientSession, method: str, path: str, status: int = 200, **more: Any) -> Any:
    """The JSON that a call answers."""
    async with session.request(method, path, **more) as response:
        data = await response.read()
        assert response.status == status, data
        return json.loads(data)


async def looked(
    session: aiohttp.ClientSession, path: str, good: Callable[[Any], bool], headers: dict[str, str] | None = None
) -> Any:
    """Asks again until it is as wanted."""
    for _ in range(STEPS):
        found = await said(session, "GET", path, headers=headers)
        if good(found):
            return found
        await asyncio.sleep(0.002)
    raise AssertionError(f"still {found}")
