from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_office import Office, Said, answer, fault, gathered, open_office, request, transport, written

from synth_cli.core.reply import FaultKind
from synth_cli.core.request import Constraint, Terms
from synth_cli.errors import UsageError
from synth_cli.providers.batches import batch_client
from synth_cli.providers.batches.mistral import MistralBatches, hours
from synth_cli.providers.resolve import resolve

JOB: dict[str, Any] = {
    "id": "b-1",
    "object": "batch",
    "input_files": ["f-in"],
    "metadata": {"job_type": "testing", "synth_key": "synth-job-aa11"},
    "endpoint": "/v1/chat/completions",
    "model": "mistral-small-latest",
    "agent_id": None,
    "output_file": "f-out",
    "error_file": "f-err",
    "errors": [],
    "status": "SUCCESS",
    "created_at": 1711471533,
    "total_requests": 100,
    "completed_requests": 98,
    "succeeded_requests": 95,
    "failed_requests": 3,
    "started_at": 1711471540,
    "completed_at": 1711475000,
}
TICKET = {"id": "b-1", "input_file": "f-in", "created_at": 1711471533.0}
ENDED = {**TICKET, "output_file": "f-out", "error_file": "f-err", "ended_at": 1711475000.0}
Do = Callable[[MistralBatches], Awaitable[Any]]


def _with(says: dict[str, Any], do: Do, window: str = "24h") -> tuple[Any, Office]:
    async def run() -> tuple[Any, Office]:
        async with open_office(says) as office, transport() as http:
            url = f"{office.url}/v1"
            endpoint = resolve("mistral/mistral-small-latest", base_url=url, api_key="secret-key", environ={})
            client = batch_client(endpoint, http, window=window)
            assert isinstance(client, MistralBatches)
            return await do(client), office

    return asyncio.run(run())


def test_a_job_is_made_of_a_file_for_one_model(tmp_path: Path) -> None:
    """With our key in its metadata, and hours for its window."""
    terms = Terms("mistral", "mistral-small-latest", params={"seed": 3}, constraint=Constraint("choice", ["a", "b"]))

    async def do(client: MistralBatches) -> Any:
        file = written(client, tmp_path, request(terms=terms, seed=3))
        return await client.submit("synth-job-aa11", file, 1, {"team": "x"}), orjson.loads(file.read_bytes())

    says = {"POST /v1/files": {"id": "f-in"}, "POST /v1/batch/jobs": {**JOB, "status": "QUEUED", "completed_at": None}}
    (ticket, line), office = _with(says, do, window="7d")
    assert ticket == {k: v for k, v in ENDED.items() if k != "ended_at"}
    assert office.asked[1].json == {
        "input_files": ["f-in"],
        "model": "mistral-small-latest",
        "endpoint": "/v1/chat/completions",
        "metadata": {"team": "x", "synth_key": "synth-job-aa11"},
        "timeout_hours": 168,
    }
    assert (line["custom_id"].partition("-")[2], set(line)) == ("choice", {"custom_id", "body"})
    assert b'filename="synth-job-aa11.jsonl"' in office.asked[0].body


def test_a_refused_job_leaves_no_file(tmp_path: Path) -> None:
    """Its reason is told."""
    says = {
        "POST /v1/files": {"id": "f-in"},
        "POST /v1/batch/jobs": Said({"message": "invalid file"}, 422),
        "DELETE /v1/files/f-in": {},
    }
    found, office = _with(says, lambda client: fault(client.submit("k", written(client, tmp_path), 1, {})))
    assert (found.kind, office.lines[-1]) == (FaultKind.BAD_REQUEST, "DELETE /v1/files/f-in")


@pytest.mark.parametrize(
    ("state", "ended", "outcome"),
    [
        ("QUEUED", False, "collected"),
        ("RUNNING", False, "collected"),
        ("CANCELLATION_REQUESTED", False, "collected"),
        ("SUCCESS", True, "collected"),
        ("FAILED", True, "failed"),
        ("TIMEOUT_EXCEEDED", True, "expired"),
        ("CANCELLED", True, "cancelled"),
        ("PONDERING", False, "collected"),
    ],
)
def test_every_state_goes_on_or_has_ended(state: str, ended: bool, outcome: str) -> None:
    """Counts and files come along."""
    job = {**JOB, "status": state, "errors": [{"message": "no such model", "count": 3}]}
    look, _ = _with({"GET /v1/batch/jobs/b-1": job}, lambda client: client.look(TICKET))
    assert (look.state, look.ended, look.outcome, look.message) == (state, ended, outcome, "no such model")
    assert (look.done, look.failed, look.total, look.ticket) == (95, 3, 100, ENDED)
    assert (look.fault is not None and "no such model" in look.fault.message) == ended


def test_a_job_is_found_by_its_metadata_page_by_page() -> None:
    """Pages are numbered."""
    others = [{**JOB, "id": f"b{n}", "metadata": None} for n in range(100)]
    says = {
        "GET /v1/batch/jobs?page=0&page_size=100": {"data": others, "total": 101},
        "GET /v1/batch/jobs?page=1&page_size=100": {"data": [JOB], "total": 101},
    }

    async def do(client: MistralBatches) -> Any:
        return await client.find("synth-job-aa11", 0.0), await client.find("other", 0.0), await client.find("o", 2e9)

    found, office = _with(says, do)
    assert (found, len(office.asked)) == ((ENDED, None, None), 5)


def test_results_and_errors_are_read() -> None:
    """In OpenAI's envelope."""
    good = {"id": "1", "custom_id": "a", "response": {"status_code": 200, "body": answer("to a")}, "error": None}
    bad = {"id": "2", "custom_id": "b", "response": {"status_code": 422, "body": {"message": "bad"}}, "error": None}
    says = {
        "GET /v1/files/f-out/content": Said(orjson.dumps(good)),
        "GET /v1/files/f-err/content": Said(orjson.dumps(bad)),
    }
    found, _ = _with(says, lambda client: gathered(client.results(ENDED)))
    assert (found["a"], found["b"][0].kind) == (["to a"], FaultKind.BAD_REQUEST)


def test_cancel_discard_and_sweep() -> None:
    """What has ended, or is gone, is no error."""
    files = [{"id": "f-in", "filename": "synth-job-aa11.jsonl"}, {"id": "x", "filename": "x"}]
    says = {
        "POST /v1/batch/jobs/b-1/cancel": Said({"message": "ended"}, 400),
        "GET /v1/batch/jobs/b-1": JOB,
        "GET /v1/files": {"data": files, "total": 2},
        "DELETE /v1/files/f-in": {},
    }

    async def do(client: MistralBatches) -> None:
        await client.cancel(TICKET)
        await client.discard(ENDED)
        await client.sweep("synth-job-aa11")

    _, office = _with(says, do)
    deleted = [line.rpartition("/")[2] for line in office.lines if line.startswith("DELETE")]
    assert deleted == ["f-in", "f-out", "f-err", "f-in"]


def test_windows_are_hours() -> None:
    """At most a week; anything else is a mistake in the spec."""
    assert [hours("24h"), hours("7d"), hours("30d"), hours(" 1h ")] == [24, 168, 168, 1]
    for wrong in ("", "24", "0h", "1w", "h"):
        with pytest.raises(UsageError, match="completion_window"):
            hours(wrong)


def test_raw_completions_are_refused() -> None:
    """Mistral has no endpoint for them."""

    async def do(client: MistralBatches) -> None:
        client.line(request(terms=Terms("mistral", "m", completion=True)))

    with pytest.raises(UsageError, match="raw completions"):
        _with({}, do)
