from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai

from synth_cli.simulator import Settings, Simulator

Use = Callable[[openai.AsyncOpenAI, Simulator], Awaitable[None]]
STEPS = 400


def with_client(use: Use, **settings: Any) -> None:
    async def run() -> None:
        async with (
            Simulator(Settings(**settings)) as simulator,
            openai.AsyncOpenAI(base_url=simulator.url, api_key="k", max_retries=0, timeout=20) as client,
        ):
            await use(client, simulator)

    asyncio.run(run())


def lines(count: int, **more: Any) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"r{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "simulator", "messages": [{"role": "user", "content": f"Say {number}."}], **more},
            }
        ).encode()
        + b"\n"
        for number in range(count)
    )


async def submit(client: openai.AsyncOpenAI, data: bytes, **more: Any) -> Any:
    file = await client.files.create(file=("in.jsonl", data), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


async def ended(client: openai.AsyncOpenAI, batch: Any) -> Any:
    for _ in range(STEPS):
        batch = await client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        await asyncio.sleep(0.005)
    raise AssertionError(f"still {batch.status}")


async def read(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    content = await client.files.content(file_id)
    return [json.loads(line) for line in content.text.splitlines()]


def test_the_official_client_drives_a_batch() -> None:
    """Files and batches come and go in the shapes that OpenAI's own client knows; each answer is the online one."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await submit(client, lines(5), metadata={"key": "mine"})
        assert (batch.status, batch.metadata) == ("validating", {"key": "mine"})
        batch = await ended(client, batch)
        assert (batch.status, batch.error_file_id, batch.model) == ("completed", None, "simulator")
        assert batch.request_counts.model_dump() == {"total": 5, "completed": 5, "failed": 0}
        results = await read(client, batch.output_file_id)
        assert [line["custom_id"] for line in results] == ["r0", "r1", "r2", "r3", "r4"]
        online = await client.chat.completions.create(
            model="simulator", messages=[{"role": "user", "content": "Say 3."}]
        )
        assert results[3]["response"]["body"]["choices"][0]["message"]["content"] == online.choices[0].message.content
        assert batch.usage.output_tokens == sum(
            line["response"]["body"]["usage"]["completion_tokens"] for line in results
        )
        assert [one.id async for one in client.batches.list()] == [batch.id]
        file = await client.files.retrieve(batch.output_file_id)
        assert file.purpose == "batch_output"
        assert {one.id async for one in client.files.list()} == {batch.input_file_id, batch.output_file_id}
        assert (await client.files.delete(batch.output_file_id)).deleted
        assert [one.id async for one in client.files.list()] == [batch.input_file_id]

    with_client(use)
