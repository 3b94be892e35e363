from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_office import Office, Said, answer, fault, gathered, open_office, request, transport, written

from synth_cli.core.reply import FaultKind
from synth_cli.core.request import Terms
from synth_cli.errors import UsageError
from synth_cli.providers.batches import batch_client
from synth_cli.providers.batches.fireworks import FireworksBatches, named
from synth_cli.providers.resolve import resolve

MODEL = "accounts/fireworks/models/llama-v3p1-8b-instruct"
JOB: dict[str, Any] = {
    "name": "accounts/me/batchInferenceJobs/synth-job-aa11",
    "displayName": "synth-job-aa11",
    "createTime": "2023-11-07T05:31:56Z",
    "state": "JOB_STATE_COMPLETED",
    "status": {"code": "OK", "message": ""},
    "model": MODEL,
    "inputDatasetId": "accounts/me/datasets/synth-job-aa11",
    "outputDatasetId": "accounts/me/datasets/synth-job-aa11-out",
    "jobProgress": {
        "percent": 100,
        "totalInputRequests": "10",
        "successfullyProcessedRequests": 9,
        "failedRequests": 1,
    },
}
TICKET = {"id": "synth-job-aa11", "input": "synth-job-aa11", "output": "synth-job-aa11-out", "created_at": 1699335116.0}
HOME = "/v1/accounts/me"
ACCOUNTS = {"GET /v1/accounts": {"accounts": [{"name": "accounts/me"}]}}
Do = Callable[[FireworksBatches], Awaitable[Any]]


def _with(says: dict[str, Any], do: Do, path: str = "/inference/v1") -> tuple[Any, Office]:
    async def run() -> tuple[Any, Office]:
        async with open_office({**ACCOUNTS, **says}) as office, transport() as http:
            endpoint = resolve(f"fireworks_ai/{MODEL}", base_url=office.url + path, api_key="fw-secret", environ={})
            client = batch_client(endpoint, http)
            assert isinstance(client, FireworksBatches)
            client._pause = _at_once
            return await do(client), office

    return asyncio.run(run())


async def _at_once(seconds: float) -> None:
    assert seconds > 0


def test_a_job_reads_a_dataset_under_a_name_of_ours(tmp_path: Path) -> None:
    """Dataset made, filled and ready, then the job; the lines leave the model to it."""
    says = {
        f"POST {HOME}/datasets": {},
        f"POST {HOME}/datasets/synth-job-aa11:upload": {"id": "x"},
        f"GET {HOME}/datasets/synth-job-aa11": [{"state": "UPLOADING"}, {"state": "READY"}],
        f"POST {HOME}/batchInferenceJobs": {**JOB, "state": "JOB_STATE_CREATING"},
    }

    async def do(client: FireworksBatches) -> Any:
        file = written(client, tmp_path, request(terms=Terms("fireworks_ai", MODEL, params={"max_tokens": 5})))
        return await client.submit("synth-job-aa11", file, 1, {}), orjson.loads(file.read_bytes())

    (ticket, line), office = _with(says, do)
    assert ticket == TICKET
    assert set(line["body"]) == {"max_tokens", "messages"}
    assert office.asked[1].json == {
        "datasetId": "synth-job-aa11",
        "dataset": {"displayName": "synth-job-aa11", "userUploaded": {}, "exampleCount": "1"},
    }
    assert office.asked[-1].json == {
        "displayName": "synth-job-aa11",
        "model": MODEL,
        "inputDatasetId": "accounts/me/datasets/synth-job-aa11",
        "outputDatasetId": "accounts/me/datasets/synth-job-aa11-out",
    }
    assert office.lines[-1] == f"POST {HOME}/batchInferenceJobs?batchInferenceJobId=synth-job-aa11"


@pytest.mark.parametrize(
    ("state", "ended", "outcome"),
    [
        ("JOB_STATE_UNSPECIFIED", False, "collected"),
        ("JOB_STATE_VALIDATING", False, "collected"),
        ("JOB_STATE_RUNNING", False, "collected"),
        ("JOB_STATE_COMPLETED", True, "collected"),
        ("JOB_STATE_EXPIRED", True, "expired"),
        ("JOB_STATE_CANCELLED", True, "cancelled"),
        ("JOB_STATE_FAILED", True, "failed"),
        ("JOB_STATE_PONDERING", False, "collected"),
    ],
)
def test_every_state_goes_on_or_has_ended(state: str, ended: bool, outcome: str) -> None:
    """Counts are read also where they are written as text."""
    says = {f"GET {HOME}/batchInferenceJobs/synth-job-aa11": {**JOB, "state": state}}
    look, _ = _with(says, lambda client: client.look(TICKET))
    assert (look.state, look.ended, look.outcome) == (state.removeprefix("JOB_STATE_"), ended, outcome)
    assert (look.done, look.failed, look.total) == (9, 1, 10)


def test_results_come_from_signed_addresses_without_the_key() -> None:
    """Every file of the dataset is read."""
    good = {"custom_id": "a", "response": answer("to a")}
    bad = {"custom_id": "b", "error": {"code": "invalid_request", "message": "bad"}}
    urls = {"error-data": "{url}/signed/2", "BIJOutputSet.jsonl": "{url}/signed/1"}
    says = {
        f"GET {HOME}/datasets/synth-job-aa11-out:getDownloadEndpoint": {"filenameToSignedUrls": urls},
        "GET /signed/1": Said(orjson.dumps(good)),
        "GET /signed/2": Said(orjson.dumps(bad)),
    }
    found, office = _with(says, lambda client: gathered(client.results(TICKET)))
    assert (found["a"], found["b"][0].kind) == (["to a"], FaultKind.BAD_REQUEST)
    assert ["authorization" in asked.headers for asked in office.asked] == [True, True, False, False]


def test_a_job_that_wrote_nothing_has_no_results() -> None:
    """One that ended well has them, sooner or later."""

    async def do(client: FireworksBatches) -> Any:
        now = client._clock()
        return await gathered(client.results(TICKET)), await fault(
            gathered(client.results({**TICKET, "complete": True, "created_at": now}))
        )

    (none, later), _ = _with({}, do)
    assert (none, later.kind, later.retryable) == ({}, FaultKind.MISSING, True)


def test_a_job_is_found_by_its_name() -> None:
    """Without a list."""

    async def do(client: FireworksBatches) -> Any:
        return await client.find("synth-job-aa11", 0.0), await client.find("synth-job-bb22", 0.0)

    found, _ = _with({f"GET {HOME}/batchInferenceJobs/synth-job-aa11": JOB}, do)
    assert found == (TICKET, None)


def test_names_are_theirs_and_end_as_ours_do() -> None:
    """The end is what tells keys apart."""
    assert named("synth-My Job_2-0123456789ab") == "synth-my-job-2-0123456789ab"
    long = named("synth-" + "x" * 80 + "-0123456789ab")
    assert (long.endswith("-0123456789ab"), len(long) + len("-out") <= 63) == (True, True)


def test_cancel_discard_and_sweep() -> None:
    """What is gone is no error."""
    says = {
        f"POST {HOME}/batchInferenceJobs/synth-job-aa11:cancel": {},
        f"DELETE {HOME}/datasets/synth-job-aa11": {},
    }

    async def do(client: FireworksBatches) -> None:
        await client.cancel(TICKET)
        await client.discard(TICKET)
        await client.sweep("synth-job-aa11")

    _, office = _with(says, do)
    assert [line for line in office.lines if line.startswith("DELETE")] == [
        f"DELETE {HOME}/datasets/{name}" for name in ("synth-job-aa11", "synth-job-aa11-out", "synth-job-aa11")
    ]


def test_which_account_is_meant_must_be_clear() -> None:
    """One that the user names is not asked for; several without a choice are a question to the user."""
    says = {
        "GET /v1/accounts": {"accounts": [{"name": "accounts/a"}, {"name": "accounts/b"}]},
        "GET /v1/accounts/b/batchInferenceJobs/k": JOB,
    }
    found, _ = _with(says, lambda client: client.find("k", 0.0), path="/v1/accounts/b")
    assert found == TICKET
    with pytest.raises(UsageError, match="accounts/a, accounts/b"):
        _with(says, lambda client: client.find("k", 0.0))
