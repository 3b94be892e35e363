from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_office import Office, Said, fault, gathered, open_office, request, transport, written

from synth_cli.core.ports import BatchLook
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Constraint, Terms
from synth_cli.providers.batches import batch_client
from synth_cli.providers.batches.gemini import GeminiBatches, result_of
from synth_cli.providers.resolve import Endpoint, resolve

KEY = "synth-recipes-0123456789ab"
TERMS = Terms("gemini", "gemini-2.5-flash", params={"max_tokens": 9})
ID = "0123456789abcdef0123456789abcdef"
CREATE = "POST /v1beta/models/gemini-2.5-flash:batchGenerateContent"
START, LIST, FILES = "POST /upload/v1beta/files", "GET /v1beta/batches", "GET /v1beta/files"
CREATED, ENDED_AT = 1759417200.0, 1759420800.0
TICKET = {"id": "batches/123456", "created_at": CREATED}
NEVER = "the batch ended without a result for this request"


def _batch(state: str = "BATCH_STATE_PENDING", **fields: Any) -> dict[str, Any]:
    """An Operation, as the reference shows it; `metadata` in the fields goes into its own."""
    metadata = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": "models/gemini-2.5-flash",
        "displayName": KEY,
        "createTime": "2025-10-02T15:00:00.000000001Z",
        "batchStats": {"requestCount": "2", "pendingRequestCount": "2"},
        "state": state,
        "name": "batches/123456",
        **fields.pop("metadata", {}),
    }
    return {"name": "batches/123456", "metadata": metadata, **fields}


def _ended(state: str = "BATCH_STATE_SUCCEEDED", **fields: Any) -> dict[str, Any]:
    stats = {"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"}
    return _batch(state, metadata={"endTime": "2025-10-02T16:00:00Z", "batchStats": stats}, done=True, **fields)


def _answer(text: str) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 6, "candidatesTokenCount": 4, "totalTokenCount": 10},
        "modelVersion": "gemini-2.5-flash",
    }


def _endpoint(url: str, **given: Any) -> Endpoint:
    return resolve("gemini/gemini-2.5-flash", base_url=url, api_key="AIza-secret", environ={}, **given)


def _with(says: Mapping[str, Any], do: Any, *, inline: int = 10_000, now: float = ENDED_AT + 60) -> tuple[Any, Office]:
    async def run() -> tuple[Any, Office]:
        async with open_office(says) as office, transport() as wire:
            client = GeminiBatches(_endpoint(office.url), wire, inline=inline, clock=lambda: now)
            return await do(client), office

    return asyncio.run(run())


def test_the_table_has_it() -> None:
    """`backend: gemini` is served by these calls."""

    async def run() -> None:
        async with transport() as wire:
            assert isinstance(batch_client(_endpoint("https://x/v1beta"), wire), GeminiBatches)

    asyncio.run(run())


def test_a_small_batch_stands_in_the_call(tmp_path: Path) -> None:
    """Each request with its id beside it; the key is the batch's display name."""
    first, second = (
        request("a", TERMS),
        request("b", Terms(TERMS.backend, TERMS.model, constraint=Constraint("choice", ["x"]))),
    )

    async def do(client: GeminiBatches) -> Any:
        return await client.submit(KEY, written(client, tmp_path, first, second), 2, {"team": "x"})

    ticket, office = _with({CREATE: _batch()}, do)
    assert ticket == TICKET
    assert office.lines == [CREATE]
    batch = office.asked[0].json["batch"]
    requests = batch["inputConfig"]["requests"]["requests"]
    assert batch["displayName"] == KEY
    assert requests[0] == {
        "request": {
            "generationConfig": {"maxOutputTokens": 9},
            "contents": [{"role": "user", "parts": [{"text": "a"}]}],
        },
        "metadata": {"key": first.id.hex()},
    }
    assert requests[1]["metadata"] == {"key": f"{second.id.hex()}-choice"}
    assert office.asked[0].headers["x-goog-api-key"] == "AIza-secret"


UPLOAD = {
    START: Said({}, headers={"X-Goog-Upload-URL": "{url}/upload/here?upload_id=1"}),
    "POST /upload/here?upload_id=1": {"file": {"name": "files/abc-123", "displayName": KEY, "state": "ACTIVE"}},
}


def test_a_large_batch_is_uploaded(tmp_path: Path) -> None:
    """In the two steps of the resumable protocol; the key does not go where the provider sends us."""
    one = request("a", TERMS)

    async def do(client: GeminiBatches) -> Any:
        return await client.submit(KEY, written(client, tmp_path, one), 1, {})

    ticket, office = _with({**UPLOAD, CREATE: _batch()}, do, inline=0)
    assert ticket == {**TICKET, "input_file": "files/abc-123"}
    start, upload, create = office.asked
    size = len((tmp_path / "batch.jsonl").read_bytes())
    assert {
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": str(size),
        "x-goog-upload-header-content-type": "application/jsonl",
        "x-goog-api-key": "AIza-secret",
    }.items() <= {name.lower(): value for name, value in start.headers.items()}.items()
    assert start.json == {"file": {"displayName": KEY}}
    assert (upload.headers["x-goog-upload-command"], upload.headers["x-goog-upload-offset"]) == (
        "upload, finalize",
        "0",
    )
    assert "x-goog-api-key" not in upload.headers
    assert upload.json == {
        "key": one.id.hex(),
        "request": {
            "generationConfig": {"maxOutputTokens": 9},
            "contents": [{"role": "user", "parts": [{"text": "a"}]}],
        },
    }
    assert create.json == {"batch": {"displayName": KEY, "inputConfig": {"fileName": "files/abc-123"}}}


def _error(code: int, message: str, status: str) -> Said:
    return Said({"error": {"code": code, "message": message, "status": status}}, code)


FULL = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)


@pytest.mark.parametrize(
    ("said", "kind", "kept"),
    [
        (_error(429, FULL, "RESOURCE_EXHAUSTED"), FaultKind.RATE_LIMITED, False),
        (_error(400, "Invalid JSON payload received.", "INVALID_ARGUMENT"), FaultKind.BAD_REQUEST, False),
        (
            _error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
            FaultKind.CREDENTIALS,
            False,
        ),
        (_error(404, "models/x is not found for API version v1beta", "NOT_FOUND"), FaultKind.UNKNOWN_MODEL, False),
        (_error(503, "The service is currently unavailable.", "UNAVAILABLE"), FaultKind.SERVER_ERROR, True),
    ],
)
def test_a_submit_that_is_refused(said: Said, kind: FaultKind, kept: bool, tmp_path: Path) -> None:
    """Its file is deleted, unless a batch may have come of it all the same. A full queue is no empty account."""

    async def do(client: GeminiBatches) -> Fault:
        return await fault(client.submit(KEY, written(client, tmp_path, request("a", TERMS)), 1, {}))

    found, office = _with({**UPLOAD, CREATE: said, "DELETE /v1beta/files/abc-123": {}}, do, inline=0)
    assert found.kind is kind
    assert ("DELETE /v1beta/files/abc-123" in office.lines) == (not kept)


def test_an_upload_without_an_address(tmp_path: Path) -> None:
    """It is tried again, not taken for done."""

    async def do(client: GeminiBatches) -> Fault:
        return await fault(client.submit(KEY, written(client, tmp_path, request("a", TERMS)), 1, {}))

    assert _with({START: {}}, do, inline=0)[0].kind is FaultKind.MALFORMED


OUTPUT = {"response": {"@type": "x", "responsesFile": "files/batch-123456"}}
MISSING: Any = FaultKind.MISSING


@pytest.mark.parametrize(
    ("batch", "look"),
    [
        (_batch(), BatchLook("BATCH_STATE_PENDING", False, total=2, ticket=TICKET)),
        (_batch("JOB_STATE_RUNNING"), BatchLook("JOB_STATE_RUNNING", False, total=2, ticket=TICKET)),
        (_batch("BATCH_STATE_OF_TOMORROW"), BatchLook("BATCH_STATE_OF_TOMORROW", False, total=2, ticket=TICKET)),
        (
            _ended(**OUTPUT),
            BatchLook(
                "BATCH_STATE_SUCCEEDED", True, "collected", 1, 1, 2,
                ticket={**TICKET, "ended_at": ENDED_AT, "output_file": "files/batch-123456"},
                fault=Fault(MISSING, NEVER),
            ),
        ),
        (
            _ended("JOB_STATE_OF_TOMORROW", **OUTPUT),
            BatchLook(
                "JOB_STATE_OF_TOMORROW", True, "collected", 1, 1, 2,
                ticket={**TICKET, "ended_at": ENDED_AT, "output_file": "files/batch-123456"},
                fault=Fault(MISSING, NEVER),
            ),
        ),
        (
            _ended("BATCH_STATE_CANCELLED", error={"code": 1, "message": "Cancelled."}),
            BatchLook(
                "BATCH_STATE_CANCELLED", True, "cancelled", 1, 1, 2, "Cancelled.",
                {**TICKET, "ended_at": ENDED_AT},
                Fault(MISSING, "the batch was cancelled before this request ran; it was not charged: Cancelled."),
            ),
        ),
        (
            _ended("BATCH_STATE_EXPIRED"),
            BatchLook(
                "BATCH_STATE_EXPIRED", True, "expired", 1, 1, 2,
                ticket={**TICKET, "ended_at": ENDED_AT},
                fault=Fault(MISSING, "the batch expired before this request ran; it was not charged"),
            ),
        ),
        (
            _ended("BATCH_STATE_FAILED", error={"code": 3, "message": "Bad file."}),
            BatchLook(
                "BATCH_STATE_FAILED", True, "failed", 1, 1, 2, "Bad file.",
                {**TICKET, "ended_at": ENDED_AT},
                Fault(MISSING, "the batch failed: Bad file."),
            ),
        ),
        (
            _ended("BATCH_STATE_FAILED", error={"code": 8, "message": "Too much."}),
            BatchLook(
                "BATCH_STATE_FAILED", True, "failed", 1, 1, 2, "Too much.",
                {**TICKET, "ended_at": ENDED_AT},
                Fault(FaultKind.RATE_LIMITED, "HTTP 429: Too much.", 429),
            ),
        ),
        (
            _ended("?", error={"code": 13, "message": "Internal."}),
            BatchLook(
                "?", True, "failed", 1, 1, 2, "Internal.",
                {**TICKET, "ended_at": ENDED_AT},
                Fault(MISSING, "the batch failed: Internal."),
            ),
        ),
    ],
)  # fmt: skip
def test_how_a_batch_stands(batch: dict[str, Any], look: BatchLook) -> None:
    """In both families of states; one never heard of goes on until the operation is done."""
    found, _ = _with({"GET /v1beta/batches/123456": batch}, lambda client: client.look(TICKET))
    assert found == look


def test_a_batch_has_not_ended_before_its_results_are_there() -> None:
    """Its requests would be asked again otherwise; a day later they are."""
    says = {"GET /v1beta/batches/123456": _ended()}
    assert _with(says, lambda client: client.look(TICKET))[0].ended is False
    assert _with(says, lambda client: client.look(TICKET), now=ENDED_AT + 90_000)[0].ended is True


def test_a_batch_may_have_ended_without_any_result() -> None:
    """Its response is there and says nothing."""
    says = {"GET /v1beta/batches/123456": _ended(response={"@type": "x"})}

    async def do(client: GeminiBatches) -> Any:
        look = await client.look(TICKET)
        return look.ended, look.outcome, await gathered(client.results(look.ticket))

    assert _with(says, do)[0] == (True, "collected", {})


def test_a_batch_that_nobody_knows_is_asked_for_again() -> None:
    """It may be another project's key: what was paid for is not given up."""

    async def do(client: GeminiBatches) -> Fault:
        return await fault(client.look(TICKET))

    found, _ = _with({}, do)
    assert (found.kind, found.scope) == (FaultKind.MISSING, "attempt")


def test_results_in_a_file() -> None:
    """Answers, statuses by their canonical codes, blocked prompts, and broken lines last."""
    ids = [f"{number:032x}" for number in range(6)]
    lines = [
        b'{"key":"%b","respon' % ids[5].encode(),
        orjson.dumps({"key": ids[1], "response": _answer("Blue.")}),
        orjson.dumps({"key": f"{ids[0]}-choice", "response": _answer('{"answer":"x"}')}),
        orjson.dumps({"key": ids[2], "error": {"code": 3, "message": "Bad."}}),
        orjson.dumps({"key": ids[3], "response": {"promptFeedback": {"blockReason": "SAFETY"}}}),
        orjson.dumps({"key": ids[4]}),
        b"",
        orjson.dumps({"response": _answer("whose?")}),
    ]
    says = {"GET /download/v1beta/files/batch-123456:download?alt=media": b"\n".join(lines)}
    ticket = {**TICKET, "output_file": "files/batch-123456"}
    found, _ = _with(says, lambda client: gathered(client.results(ticket)))
    assert found == {
        ids[1]: ["Blue."],
        ids[0]: ["x"],
        ids[2]: [Fault(FaultKind.BAD_REQUEST, "HTTP 400: Bad.", 400)],
        ids[3]: [Fault(FaultKind.CONTENT_FILTER, "the prompt was blocked: SAFETY")],
        ids[4]: [Fault(MISSING, "the provider's results have neither an answer nor an error for this request")],
        ids[5]: [Fault(FaultKind.MALFORMED, f"a broken line in the batch's results: {lines[0].decode()}")],
        "": [Fault(FaultKind.MALFORMED, "a broken line in the batch's results: " + lines[7].decode()[:80])],
    }


@pytest.mark.parametrize("nested", [True, False])
def test_results_that_stand_in_the_answer(nested: bool) -> None:
    """As the client of Google reads them, and as the guide shows them."""
    other = "f" * 32
    entries: Any = [
        {"metadata": {"key": ID}, "response": _answer("Blue.")},
        {"metadata": {"key": other}, "error": {"code": 14, "message": "Overloaded."}},
    ]
    response = {"inlinedResponses": {"inlinedResponses": entries} if nested else entries}
    found, _ = _with(
        {"GET /v1beta/batches/123456": _ended(response=response)}, lambda client: gathered(client.results(TICKET))
    )
    assert found == {ID: ["Blue."], other: [Fault(FaultKind.OVERLOADED, "HTTP 503: Overloaded.", 503)]}


def test_an_answer_that_cannot_be_written_again_is_malformed() -> None:
    """Its row goes on, and so do all others."""
    deep = b'{"x":' * 300 + b"1" + b"}" * 300
    found = result_of(b'{"key":"%b","response":%b}' % (ID.encode(), deep), now=0.0)
    assert found is not None
    assert found.custom_id == ID
    assert found.exchange.fault is not None
    assert found.exchange.fault.kind is FaultKind.MALFORMED


def test_a_lost_batch_is_found_by_its_name() -> None:
    """On whatever page it is: the order of the list is not documented."""
    other = _batch(metadata={"displayName": "another"})
    source = {"inputConfig": {"fileName": "files/abc-123"}}
    says = {LIST: [{"operations": [other], "nextPageToken": "t 1"}, {"operations": [_batch(metadata=source)]}, {}]}

    async def do(client: GeminiBatches) -> Any:
        return await client.find(KEY, CREATED), await client.find(KEY, CREATED)

    found, office = _with(says, do)
    assert found == ({**TICKET, "input_file": "files/abc-123"}, None)
    assert office.lines == [
        "GET /v1beta/batches?pageSize=100",
        "GET /v1beta/batches?pageSize=100&pageToken=t%201",
        "GET /v1beta/batches?pageSize=100",
    ]


def test_files_that_never_became_a_batch_are_swept() -> None:
    """Those that were uploaded under the key, and no others."""
    files = [{"name": "files/a", "displayName": KEY}, {"name": "files/b", "displayName": "another"}]
    says = {FILES: {"files": files}, "DELETE /v1beta/files/a": {}}
    _, office = _with(says, lambda client: client.sweep(KEY))
    assert office.lines[1:] == ["DELETE /v1beta/files/a"]


def test_cancelling_and_discarding() -> None:
    """A batch that has ended meanwhile is no error, nor is a file that may not be seen any more."""
    says = {
        "POST /v1beta/batches/123456:cancel": [{}, _error(400, "Ended.", "FAILED_PRECONDITION")],
        "GET /v1beta/batches/123456": [_ended(**OUTPUT), _batch()],
        "DELETE /v1beta/files/in": _error(403, "You may not see it, or it does not exist.", "PERMISSION_DENIED"),
        "DELETE /v1beta/files/out": {},
        "DELETE /v1beta/batches/123456": {},
    }

    async def do(client: GeminiBatches) -> Fault:
        await client.cancel(TICKET)
        await client.cancel(TICKET)
        await client.discard({**TICKET, "input_file": "files/in", "output_file": "files/out"})
        return await fault(client.cancel(TICKET))

    found, office = _with(says, do)
    assert found.kind is FaultKind.BAD_REQUEST
    assert office.lines[3:6] == [
        "DELETE /v1beta/files/in",
        "DELETE /v1beta/files/out",
        "DELETE /v1beta/batches/123456",
    ]
