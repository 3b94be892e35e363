from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from batching import asks, jsonl, looked, said, with_http

from synth_cli.simulator import Simulator

LINES = [{"custom_id": f"r{number}", "body": asks(number)} for number in range(4)]
JOBS = "/v1/batch/jobs"


async def uploaded(session: aiohttp.ClientSession, path: str, data: bytes, **fields: str) -> Any:
    form = aiohttp.FormData({"purpose": "batch", **fields})
    form.add_field("file", data, filename="in.jsonl")
    return await said(session, "POST", path, data=form)


async def content(session: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    async with session.get(path) as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.text()).splitlines()]


def finished(job: dict[str, Any]) -> bool:
    return job["status"] in ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED", "COMPLETED", "EXPIRED")


def test_a_mistral_job_has_one_model_for_all() -> None:
    """Queued, then success; lines say no model; results as OpenAI writes them."""

    async def use(session: aiohttp.ClientSession, simulator: Simulator) -> None:
        lines = [{"custom_id": line["custom_id"], "body": {"messages": line["body"]["messages"]}} for line in LINES]
        file = await uploaded(session, "/v1/files", jsonl(lines))
        body = {
            "input_files": [file["id"]],
            "model": "mistral-small-latest",
            "endpoint": "/v1/chat/completions",
            "metadata": {"key": "mine"},
        }
        job = await said(session, "POST", JOBS, json=body)
        assert (job["status"], job["object"], job["input_files"]) == ("QUEUED", "batch", [file["id"]])
        job = await looked(session, f"{JOBS}/{job['id']}", finished)
        assert (job["status"], job["total_requests"], job["succeeded_requests"]) == ("SUCCESS", 4, 4)
        results = await content(session, f"/v1/files/{job['output_file']}/content")
        assert [line["custom_id"] for line in results] == ["r0", "r1", "r2", "r3"]
        assert {line["response"]["body"]["model"] for line in results} == {"mistral-small-latest"}
        found = await said(session, "GET", f"{JOBS}?status=SUCCESS&page=0&page_size=1")
        assert (found["total"], found["data"][0]["metadata"]) == (1, {"key": "mine"})
        assert (await said(session, "GET", f"{JOBS}?status=RUNNING"))["data"] == []
        assert (await said(session, "GET", "/v1/files?page=0&page_size=1"))["total"] == 2
        assert simulator.counts["paid"] == {"1": 4}

    with_http(use)


def test_a_mistral_job_ends_in_time_or_is_cancelled() -> None:
    """What timed out or was cancelled keeps what was done; the rest is simply missing."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        body = {"requests": LINES, "model": "mistral-small", "endpoint": "/v1/chat/completions"}
        job = await said(session, "POST", JOBS, json={**body, "metadata": {"x-simulator-batch-expire": "0.5"}})
        job = await looked(session, f"{JOBS}/{job['id']}", finished)
        assert (job["status"], job["error_file"], job["completed_requests"]) == ("TIMEOUT_EXCEEDED", None, 2)
        assert len(await content(session, f"/v1/files/{job['output_file']}/content")) == 2
        job = await said(session, "POST", JOBS, json={**body, "metadata": {"x-simulator-batch-halt": "0"}})
        job = await said(session, "POST", f"{JOBS}/{job['id']}/cancel")
        assert job["status"] == "CANCELLATION_REQUESTED"
        assert (await looked(session, f"{JOBS}/{job['id']}", finished))["status"] == "CANCELLED"
        await said(session, "POST", JOBS, 400, json={**body, "model": None})
        await said(session, "POST", JOBS, 400, json={**body, "timeout_hours": 1000})
        await said(session, "POST", JOBS, 404, json={**body, "model": "unknown"})

    with_http(use)


@pytest.mark.parametrize("prefix", ["/together/v1", "/v1"])
def test_together_answers_with_a_job(prefix: str) -> None:
    """Created with 201 in `job`, states in capitals, lists without a wrapping; lines have only an id and a body."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        fields = {"purpose": "batch-api", "file_name": "mine.jsonl", "file_type": "jsonl"}
        file = await uploaded(session, f"{prefix}/files/upload", jsonl(LINES), **fields)
        assert (file["filename"], file["Processed"], file["FileType"]) == ("mine.jsonl", True, "jsonl")
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions"}
        made = await said(session, "POST", f"{prefix}/batches", 201, json=body)
        assert (made["job"]["status"], made["job"]["file_size_bytes"]) == ("VALIDATING", len(jsonl(LINES)))
        job = await looked(session, f"{prefix}/batches/{made['job']['id']}", finished)
        assert (job["status"], job["progress"], job["model_id"]) == ("COMPLETED", 100.0, "simulator")
        assert [one["id"] for one in await said(session, "GET", f"{prefix}/batches")] == [job["id"]]
        results = await content(session, f"{prefix}/files/{job['output_file_id']}/content")
        assert [line["custom_id"] for line in results] == ["r0", "r1", "r2", "r3"]
        again = await said(session, "POST", f"{prefix}/batches/{job['id']}/cancel")
        assert again["status"] == "COMPLETED"

    with_http(use)
