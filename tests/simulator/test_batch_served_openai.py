from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from batching import asks, ended, jsonl, read, requests, said, submit, until, with_client, with_http

from synth_cli.simulator import Settings, Simulator


def test_the_official_client_drives_a_batch() -> None:
    """Files and batches come and go in the shapes that OpenAI's own client knows; each answer is the online one."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await submit(client, requests(5), metadata={"key": "mine"})
        assert (batch.status, batch.metadata) == ("validating", {"key": "mine"})
        batch = await ended(client, batch)
        assert (batch.status, batch.error_file_id, batch.model) == ("completed", None, "simulator")
        assert batch.request_counts.model_dump() == {"total": 5, "completed": 5, "failed": 0}
        results = await read(client, batch.output_file_id)
        assert [line["custom_id"] for line in results] == ["r0", "r1", "r2", "r3", "r4"]
        online = await client.chat.completions.create(**asks(3))
        assert results[3]["response"]["body"]["choices"][0]["message"]["content"] == online.choices[0].message.content
        assert batch.usage.output_tokens == sum(
            line["response"]["body"]["usage"]["completion_tokens"] for line in results
        )
        assert (await client.files.retrieve(batch.output_file_id)).purpose == "batch_output"
        assert {one.id async for one in client.files.list()} == {batch.input_file_id, batch.output_file_id}
        assert (await client.files.content(batch.input_file_id)).content == requests(5)
        assert (await client.files.delete(batch.output_file_id)).deleted
        assert [one.id async for one in client.files.list()] == [batch.input_file_id]
        with pytest.raises(openai.NotFoundError):
            await client.files.content(batch.output_file_id)

    with_client(use)


def test_completions_are_batched_too() -> None:
    """Raw prompts in a batch give text completions."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        body = {"model": "simulator", "prompt": "Once"}
        data = jsonl([{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}])
        file = await client.files.create(file=("in.jsonl", data), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        (line,) = await read(client, (await ended(client, batch)).output_file_id)
        online = await client.completions.create(model="simulator", prompt="Once")
        assert line["response"]["body"]["choices"][0]["text"] == online.choices[0].text

    with_client(use)


def test_lists_come_in_pages_newest_first() -> None:
    """The client's own paging walks through all batches."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        made = [(await submit(client, requests(1))).id for _ in range(5)]
        assert [one.id async for one in client.batches.list(limit=2)] == made[::-1]

    with_client(use)


def test_a_batch_goes_through_its_stages_on_the_clock() -> None:
    """Validating, in progress, finalizing, completed; the clock can be moved."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await submit(client, requests(10))
        seen = [(batch.status, batch.request_counts.completed)]
        for hours, status in ((6, "in_progress"), (5.6, "finalizing"), (0.5, "completed")):
            simulator.advance(hours * 3600)
            batch = await until(client, batch, lambda one, status=status: one.status == status)
            seen.append((status, batch.request_counts.completed))
        assert seen[0] == ("validating", 0)
        assert [status for status, _ in seen[1:]] == ["in_progress", "finalizing", "completed"]
        assert [done for _, done in seen[2:]] == [10, 10]
        assert batch.in_progress_at <= batch.finalizing_at < batch.completed_at

    with_client(use, batch_seconds=12 * 3600)


def test_half_way_half_is_done() -> None:
    """Requests are worked off evenly over a batch's time."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await submit(client, requests(10))
        simulator.advance(1800)
        batch = await until(client, batch, lambda one: one.request_counts.completed > 0)
        assert batch.request_counts.completed == 5

    with_client(use, batch_seconds=3600)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{oops\n", "invalid_json_line"),
        (requests(1), "duplicate_custom_id"),
        (requests(1, 7, model="unknown-1"), "model_not_found"),
        (requests(1, 7, model="other"), "mismatched_model"),
        (requests(1, 7).replace(b"/v1/chat", b"/v1/other"), "invalid_url"),
        (requests(1, 7).replace(b'"method"', b'"way"'), "missing_required_parameter"),
    ],
)
def test_a_file_with_a_wrong_line_fails_as_a_whole(line: bytes, code: str) -> None:
    """The batch says which line and why; nothing was paid."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(2) + line))
        assert batch.status == "failed"
        assert [(error.code, error.line) for error in batch.errors.data] == [(code, 3)]
        assert (batch.output_file_id, simulator.counts["paid"]) == (None, {})

    with_client(use)


def test_an_empty_file_fails() -> None:
    """There is nothing to do."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        batch = await ended(client, await submit(client, b""))
        assert [error.code for error in batch.errors.data] == ["empty_file"]

    with_client(use)


def test_what_cannot_be_made_is_refused() -> None:
    """Unknown files, endpoints, windows and settings are errors at once."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        file = await client.files.create(file=("in.jsonl", requests(1)), purpose="batch")
        sound: dict[str, Any] = {
            "input_file_id": file.id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        for wrong, status in (
            ({"input_file_id": "file-x"}, 404),
            ({"endpoint": "/v1/embeddings"}, 400),
            ({"completion_window": "soon"}, 400),
            ({"metadata": {"x-simulator-batch-expire": "much"}}, 400),
        ):
            with pytest.raises(openai.APIStatusError) as caught:
                await client.batches.create(**{**sound, **wrong})
            assert caught.value.status_code == status

    with_client(use)


def test_lines_that_cannot_be_answered_are_in_the_error_file() -> None:
    """A request that the model refuses has its own error; the others are answered."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(2) + requests(1, 2, temperature=9)))
        assert batch.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
        assert [line["custom_id"] for line in await read(client, batch.output_file_id)] == ["r0", "r1"]
        (error,) = await read(client, batch.error_file_id)
        assert (error["custom_id"], error["error"], error["response"]["status_code"]) == ("r2", None, 400)
        assert error["response"]["body"]["error"]["param"] == "temperature"

    with_client(use)


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", "/openai"])
def test_other_hosts_paths_are_served(prefix: str) -> None:
    """Groq's and both of Azure's paths lead to the same batches; Azure's lines leave the version out."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", requests(1).replace(b"/v1/chat", b"/chat"), filename="in.jsonl")
        file = await said(session, "POST", f"{prefix}/files?api-version=2024-10-21", data=form)
        body = {"input_file_id": file["id"], "endpoint": "/chat/completions", "completion_window": "24h"}
        batch = await said(session, "POST", f"{prefix}/batches?api-version=2024-10-21", json=body)
        assert (await said(session, "GET", f"{prefix}/batches/{batch['id']}"))["id"] == batch["id"]
        assert (await said(session, "GET", f"{prefix}/files/{file['id']}"))["bytes"] == file["bytes"]

    with_http(use)


def test_batches_outlive_the_server_when_a_folder_is_given(tmp_path: Path) -> None:
    """Another server on the same folder has the files, the ended batch, and goes on with the open one."""

    async def run() -> None:
        async def started(seconds: float) -> tuple[Simulator, openai.AsyncOpenAI]:
            simulator = Simulator(Settings(folder=str(tmp_path), batch_seconds=seconds))
            await simulator.__aenter__()
            return simulator, openai.AsyncOpenAI(base_url=simulator.url, api_key="k", max_retries=0)

        simulator, client = await started(0)
        done = await ended(client, await submit(client, requests(3)))
        slow = await submit(client, requests(4), metadata={"x-simulator-batch-seconds": "60"})
        await client.close()
        await simulator.__aexit__(None, None, None)
        simulator, client = await started(0)
        assert {one.id async for one in client.batches.list()} == {done.id, slow.id}
        assert await client.batches.retrieve(done.id) == done
        assert len(await read(client, done.output_file_id)) == 3
        simulator.advance(61)
        slow = await ended(client, slow)
        assert (slow.status, len(await read(client, slow.output_file_id))) == ("completed", 4)
        await client.close()
        await simulator.__aexit__(None, None, None)

    asyncio.run(run())


def test_nothing_stays_on_the_disk_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was uploaded is gone with the server."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        await ended(client, await submit(client, requests(1)))
        assert os.listdir(tmp_path)

    with_client(use)
    assert os.listdir(tmp_path) == []


def test_a_schema_holds_in_a_batch() -> None:
    """Structured answers are those that the schema asks for."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
        form = {"type": "json_schema", "json_schema": {"name": "book", "schema": schema}}
        batch = await ended(client, await submit(client, requests(1, response_format=form)))
        (line,) = await read(client, batch.output_file_id)
        assert list(json.loads(line["response"]["body"]["choices"][0]["message"]["content"])) == ["title"]

    with_client(use)
