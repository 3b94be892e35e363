from __future__ import annotations

import asyncio
import json

import aiohttp
import openai
import pytest
from batching import asks, ended, read, requests, said, submit, until, with_client, with_http

from synth_cli.simulator import Settings, Simulator
from synth_cli.simulator.settings import BATCH_SHARES

MANY = 400


def test_what_was_done_before_it_expired_is_there() -> None:
    """The rest is in the error file and was not paid; asked again, nothing is paid twice."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(10)))
        assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 6, 0)
        done, left = await read(client, batch.output_file_id), await read(client, batch.error_file_id)
        assert [line["custom_id"] for line in done + left] == [f"r{number}" for number in range(10)]
        assert {(line["response"], line["error"]["code"]) for line in left} == {(None, "batch_expired")}
        assert simulator.counts["paid"] == {"1": 6}
        again = await ended(client, await submit(client, requests(4, 6)))
        assert (again.status, simulator.counts["paid"]) == ("completed", {"1": 10})

    with_client(use, batch_expire=0.6, batch_first=1)


def test_what_was_done_before_it_was_cancelled_is_there() -> None:
    """A batch that stands still keeps what it has when it is cancelled."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await submit(client, requests(10))
        batch = await until(client, batch, lambda one: one.request_counts.completed == 3)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        batch = await ended(client, batch)
        assert batch.status == "cancelled"
        assert [line["custom_id"] for line in await read(client, batch.output_file_id)] == ["r0", "r1", "r2"]
        assert {line["error"]["code"] for line in await read(client, batch.error_file_id)} == {"batch_cancelled"}
        assert simulator.counts["paid"] == {"1": 3}
        assert (await client.batches.cancel(batch.id)).status == "cancelled"

    with_client(use, batch_halt=0.3)


def test_a_batch_that_never_moves_expires_at_last() -> None:
    """Nothing is done until the completion window ends."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await submit(client, requests(3))
        batch = await until(client, batch, lambda one: one.status == "in_progress")
        simulator.advance(23 * 3600)
        assert (await client.batches.retrieve(batch.id)).status == "in_progress"
        simulator.advance(2 * 3600)
        batch = await ended(client, batch)
        assert (batch.status, batch.output_file_id, simulator.counts["paid"]) == ("expired", None, {})

    with_client(use, batch_halt=0)


def test_a_batch_that_completed_cannot_be_cancelled() -> None:
    """It is said, and nothing changes."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(1)))
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(batch.id)

    with_client(use)


def test_shares_of_requests_go_wrong_and_go_well_later() -> None:
    """Errors and missing ids are not paid; another batch of them has other luck; each is paid once in the end."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        left = {f"r{number}" for number in range(MANY)}
        parts = dict(zip(sorted(left, key=lambda key: int(key[1:])), requests(MANY).splitlines(True), strict=True))
        first = None
        for _ in range(20):
            if not left:
                break
            data = b"".join(parts[key] for key in parts if key in left)
            batch = await ended(client, await submit(client, data))
            answered = {line["custom_id"] for line in await read(client, batch.output_file_id)}
            failed = {line["custom_id"] for line in await read(client, batch.error_file_id)}
            first = first or (len(failed), MANY - len(answered) - len(failed))
            left -= answered
        assert not left
        assert first is not None
        assert 20 < first[0] < 60
        assert 20 < first[1] < 60
        assert simulator.counts["paid"] == {"1": MANY}

    with_client(use, batch_share_error=0.1, batch_share_missing=0.1)


def test_results_come_twice_and_with_ids_never_asked_for() -> None:
    """Equal lines twice, lines of unknown ids, in another order; every request is answered and paid once."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(MANY)))
        keys = [line["custom_id"] for line in await read(client, batch.output_file_id)]
        asked = [f"r{number}" for number in range(MANY)]
        unknown = [key for key in keys if key not in set(asked)]
        assert set(keys) - set(unknown) == set(asked)
        assert 20 < len(unknown) < 60
        assert 20 < len(keys) - len(unknown) - MANY < 60
        assert [key for key in dict.fromkeys(keys) if key in set(asked)] != asked
        assert simulator.counts["paid"] == {"1": MANY}

    with_client(use, batch_share_duplicate=0.1, batch_share_unknown=0.1, batch_shuffle=True)


def test_a_line_that_breaks_off_is_sound_the_next_time() -> None:
    """So many lines are not JSON; they were paid, and are paid again when they are asked again."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(3)))
        lines = (await client.files.content(batch.output_file_id)).text.splitlines()
        with pytest.raises(json.JSONDecodeError):
            json.loads(lines[0])
        assert [json.loads(line)["custom_id"] for line in lines[1:]] == ["r1", "r2"]
        batch = await ended(client, await submit(client, requests(1)))
        assert len(await read(client, batch.output_file_id)) == 1
        counts = simulator.counts
        assert (counts["paid"], counts["paid_again"], counts["repeated"]) == ({"1": 2, "2": 1}, ["r0"], 0)

    with_client(use, batch_malformed=1)


def test_a_lost_submit_is_found_in_the_list_after_a_while() -> None:
    """The connection is reset though the batch was made; lists show it only later, its own address at once."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        with pytest.raises(openai.APIConnectionError):
            await submit(client, requests(2), metadata={"key": "mine"})
        assert [one async for one in client.batches.list()] == []
        simulator.advance(31)
        (batch,) = [one async for one in client.batches.list()]
        assert batch.metadata == {"key": "mine"}
        await ended(client, batch)

    with_client(use, batch_share_lost=1, batch_list_lag=30)


def test_any_call_may_fail_and_the_next_may_not() -> None:
    """A client that tries again gets through, though each call fails at times; nothing is made twice by 429 and 500."""

    async def run() -> None:
        settings = Settings(share_429=0.25, share_500=0.25, retry_after=None)
        async with (
            Simulator(settings) as simulator,
            openai.AsyncOpenAI(base_url=simulator.url, api_key="k", max_retries=12, timeout=20) as client,
        ):
            client._calculate_retry_timeout = lambda *_: 0.0  # type: ignore[method-assign]
            batch = await ended(client, await submit(client, requests(20)))
            assert len(await read(client, batch.output_file_id)) == 20
            endpoints = simulator.counts["endpoints"]
            assert endpoints["batches.create"]["answered"] == 1
            failures = sum(sum(calls.values()) - calls.get("answered", 0) for calls in endpoints.values())
            assert failures > 0

    asyncio.run(run())


def test_the_whole_file_is_refused() -> None:
    """A batch fails at validation though its file is sound."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        batch = await ended(client, await submit(client, requests(2), metadata={"x-simulator-batch-refuse": "true"}))
        assert (batch.status, [error.code for error in batch.errors.data]) == ("failed", ["invalid_json_line"])
        assert simulator.counts["paid"] == {}

    with_client(use)


def test_too_many_tokens_in_the_queue_fail_a_batch() -> None:
    """Those of batches under way count, those of ended ones do not."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        first = await submit(client, requests(10), metadata={"x-simulator-batch-halt": "0"})
        await until(client, first, lambda one: one.status == "in_progress")
        second = await ended(client, await submit(client, requests(10, 10)))
        assert [error.code for error in second.errors.data] == ["token_limit_exceeded"]
        await client.batches.cancel(first.id)
        await ended(client, first)
        third = await ended(client, await submit(client, requests(10, 10)))
        assert third.status == "completed"

    with_client(use, batch_queued_tokens=600)


def test_a_batch_carries_its_own_faults() -> None:
    """In its metadata, or in the headers of the call that makes it."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        by_metadata = await submit(client, requests(4), metadata={"x-simulator-batch-expire": "0.5"})
        by_headers = await submit(client, requests(4), extra_headers={"x-simulator-batch-share-error": "1"})
        assert (await ended(client, by_metadata)).request_counts.completed == 2
        assert (await ended(client, by_headers)).request_counts.failed == 4

    with_client(use)


def test_online_and_batch_are_counted_together() -> None:
    """The same content asked both ways is paid twice, and named."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        await said(session, "POST", "/v1/chat/completions", data=json.dumps(asks(0), separators=(",", ":")))
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", requests(2), filename="in.jsonl")
        file = await said(session, "POST", "/v1/files", data=form)
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = await said(session, "POST", "/v1/batches", json=body)
        for _ in range(200):
            if (await said(session, "GET", f"/v1/batches/{batch['id']}"))["status"] == "completed":
                break
            await asyncio.sleep(0.005)
        counts = await said(session, "GET", "/simulator/counts")
        assert (counts["paid"], counts["paid_again"]) == ({"1": 1, "2": 1}, ["r0"])

    with_http(use)


def test_settings_that_cannot_be_are_refused() -> None:
    """Shares are shares, and what goes wrong in a batch is at most everything."""
    for wrong in (
        {"batch_expire": 2},
        {"batch_share_lost": -1},
        {"batch_seconds": -1},
        dict.fromkeys(BATCH_SHARES, 0.5),
    ):
        with pytest.raises(ValueError, match=r"batch"):
            Settings(**wrong)  # type: ignore[arg-type]
