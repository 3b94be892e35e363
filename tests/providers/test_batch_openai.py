from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_office import Office, Said, answer, fault, gathered, open_office, request, transport, written

from synth_cli.core.ports import BatchLook
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Terms
from synth_cli.errors import UsageError
from synth_cli.providers.batches import PROTOCOLS, batch_client, unsupported
from synth_cli.providers.batches.openai import OpenaiBatches
from synth_cli.providers.batches.tickets import KEPT
from synth_cli.providers.resolve import resolve

NOW = 1_800_000_000.0
BATCH: dict[str, Any] = {
    "id": "batch_abc123",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": "file-abc123",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-cvaTdG",
    "error_file_id": "file-HOWS94",
    "created_at": 1711471533,
    "in_progress_at": 1711471538,
    "expires_at": 1711557933,
    "finalizing_at": 1711493133,
    "completed_at": 1711493163,
    "failed_at": None,
    "expired_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 100, "completed": 95, "failed": 5},
    "metadata": {"customer_id": "user_123456789", "synth_key": "synth-job-aa11"},
}
"""As the API reference shows it, with our key."""
FILE = {"id": "file-abc123", "object": "file", "bytes": 120000, "created_at": 1677610602, "purpose": "batch"}
TICKET = {"id": "batch_abc123", "input_file_id": "file-abc123", "created_at": 1711471533.0}
ENDED = {**TICKET, "output_file_id": "file-cvaTdG", "error_file_id": "file-HOWS94", "ended_at": 1711493163.0}
Do = Callable[[OpenaiBatches, Office], Awaitable[Any]]


def _with(says: dict[str, Any], do: Do, model: str = "openai/gpt-5-mini", **given: Any) -> tuple[Any, Office]:
    """What `do` gives, done by a client whose provider says this."""

    async def run() -> tuple[Any, Office]:
        async with open_office(says) as office, transport() as http:
            base = given.pop("base_url", "{url}/v1").replace("{url}", office.url)
            endpoint = resolve(model, base_url=base, api_key="sk-secret", environ={}, **given)
            client = batch_client(endpoint, http)
            assert isinstance(client, OpenaiBatches)
            client._clock = lambda: NOW
            client._pause = _at_once
            return await do(client, office), office

    return asyncio.run(run())


async def _at_once(seconds: float) -> None:
    assert seconds > 0


def _submit(folder: Path, metadata: dict[str, str] | None = None) -> Do:
    async def do(client: OpenaiBatches, office: Office) -> Any:
        return await client.submit(
            "synth-job-aa11", written(client, folder, request("a"), request("b")), 2, metadata or {}
        )

    return do


def test_a_submit_uploads_the_file_and_makes_a_batch_of_it(tmp_path: Path) -> None:
    """Under a file name and metadata that hold the key; the file is the form's, byte for byte."""
    says = {"POST /v1/files": FILE, "POST /v1/batches": {**BATCH, "status": "validating", "output_file_id": None}}
    ticket, office = _with(says, _submit(tmp_path, {"team": "x", "long": "y" * 600}))
    upload, create = office.asked
    assert ticket == {k: v for k, v in ENDED.items() if k != "output_file_id"}
    assert b'filename="synth-job-aa11.jsonl"' in upload.body
    assert b'name="purpose"\r\n\r\nbatch\r\n' in upload.body
    assert (tmp_path / "batch.jsonl").read_bytes() in upload.body
    assert upload.headers["authorization"] == "Bearer sk-secret"
    assert create.json == {
        "input_file_id": "file-abc123",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"team": "x", "long": "y" * 512, "synth_key": "synth-job-aa11"},
    }


def test_raw_completions_have_an_endpoint_of_their_own(tmp_path: Path) -> None:
    """Told by the file itself, so that a process that only submits it knows."""

    async def do(client: OpenaiBatches, office: Office) -> Any:
        terms = Terms("openai", "gpt-3.5-turbo-instruct", completion=True)
        file = written(client, tmp_path, request(terms=terms))
        await client.submit("k", file, 1, {})
        return orjson.loads(file.read_bytes())["url"]

    url, office = _with({"POST /v1/files": FILE, "POST /v1/batches": BATCH}, do)
    assert (url, office.asked[1].json["endpoint"]) == ("/v1/completions", "/v1/completions")


@pytest.mark.parametrize(
    ("said", "kind", "swept"),
    [
        (Said({"error": {"message": "bad file", "code": "invalid_file"}}, 400), FaultKind.BAD_REQUEST, True),
        (Said({"error": {"code": "insufficient_quota"}}, 429), FaultKind.QUOTA, True),
        (Said({"error": {"message": "Too many requests"}}, 429), FaultKind.RATE_LIMITED, True),
        (Said({"error": {"code": "invalid_api_key"}}, 401), FaultKind.CREDENTIALS, True),
        (Said(b"oops", 500), FaultKind.SERVER_ERROR, False),
        (Said(b"<html>", 200), FaultKind.MALFORMED, False),
        (Said({"object": "batch"}, 200), FaultKind.MALFORMED, False),
    ],
)
def test_a_refused_submit_leaves_no_file(tmp_path: Path, said: Said, kind: FaultKind, swept: bool) -> None:
    """One whose outcome is not known leaves it: there may be a batch."""
    says = {"POST /v1/files": FILE, "POST /v1/batches": said, "DELETE /v1/files/file-abc123": {"deleted": True}}

    async def do(client: OpenaiBatches, office: Office) -> Fault:
        return await fault(_submit(tmp_path)(client, office))

    found, office = _with(says, do)
    assert (found.kind, "DELETE /v1/files/file-abc123" in office.lines) == (kind, swept)


def test_a_server_without_batches_says_what_to_do(tmp_path: Path) -> None:
    """It ends the run: the next batch would fare no better."""

    async def do(client: OpenaiBatches, office: Office) -> Fault:
        return await fault(_submit(tmp_path)(client, office))

    found, _ = _with({}, do)
    assert (found.scope, "engine: online" in found.message) == ("run", True)


@pytest.mark.parametrize(
    ("state", "ended", "outcome"),
    [
        ("validating", False, "collected"),
        ("in_progress", False, "collected"),
        ("finalizing", False, "collected"),
        ("cancelling", False, "collected"),
        ("completed", True, "collected"),
        ("expired", True, "expired"),
        ("cancelled", True, "cancelled"),
        ("failed", True, "failed"),
        ("COMPLETED", True, "collected"),
        ("pondering", False, "collected"),
        (None, False, "collected"),
    ],
)
def test_every_state_goes_on_or_has_ended(state: str | None, ended: bool, outcome: str) -> None:
    """One never heard of goes on: its results may yet come."""
    says = {"GET /v1/batches/batch_abc123": {**BATCH, "status": state}}
    look, _ = _with(says, lambda client, office: client.look(TICKET))
    assert (look.state, look.ended, look.outcome) == (state or "unknown", ended, outcome)
    assert (look.done, look.failed, look.total, look.ticket) == (95, 5, 100, ENDED)
    assert (look.fault is not None) == ended


def _errors(*errors: Any) -> dict[str, Any]:
    return {**BATCH, "status": "failed", "errors": {"object": "list", "data": list(errors)}}


def test_a_file_refused_for_some_lines_says_which() -> None:
    """Those lines are at fault, all others may be asked again."""
    bad = {"code": "invalid_json_line", "message": "This line is not parseable.", "param": None, "line": 2}
    dear = {"code": "context_length_exceeded", "message": "Too long.", "param": "body", "line": 5}
    look, _ = _with({"GET /v1/batches/batch_abc123": _errors(bad, dear)}, lambda client, _: client.look(TICKET))
    assert {line: (found.kind, found.scope) for line, found in look.refused.items()} == {
        2: (FaultKind.BAD_REQUEST, "row"),
        5: (FaultKind.CONTEXT_LENGTH, "row"),
    }
    assert (look.fault.kind, look.message) == (FaultKind.MISSING, "This line is not parseable.")


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        (_errors({"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}), FaultKind.RATE_LIMITED),
        (_errors({"code": "model_not_found", "message": "The model does not exist"}), FaultKind.UNKNOWN_MODEL),
        (_errors({"code": "billing_hard_limit_reached", "message": "Billing hard limit"}), FaultKind.QUOTA),
        (_errors({"code": "mismatched_model", "message": "one model only"}), FaultKind.MISSING),
        (_errors("odd"), FaultKind.MISSING),
        ({**BATCH, "status": "failed", "errors": None, "error": "it broke"}, FaultKind.MISSING),
        ({**BATCH, "status": "failed", "errors": ["odd", None, 3]}, FaultKind.MISSING),
        ({**BATCH, "status": "failed"}, FaultKind.MISSING),
    ],
)
def test_a_batch_that_failed_whole_says_why(errors: Any, kind: FaultKind) -> None:
    """A full queue waits, what concerns the account ends the run, all else is tried again."""
    look, _ = _with({"GET /v1/batches/batch_abc123": errors}, lambda client, _: client.look(TICKET))
    assert (look.ended, look.outcome, look.fault.kind, look.refused) == (True, "failed", kind, {})


def test_a_batch_that_nobody_knows_is_not_given_up_at_once() -> None:
    """It may have been paid for under another key; after a month it is gone for certain."""

    async def do(client: OpenaiBatches, office: Office) -> tuple[Fault, BatchLook]:
        recent = {**TICKET, "created_at": NOW - 86400}
        return await fault(client.look(recent)), await client.look({**TICKET, "created_at": NOW - KEPT - 1})

    (early, late), _ = _with({}, do)
    assert (early.retryable, "another key" in early.message) == (True, True)
    assert (late.ended, late.outcome, late.fault.retryable) == (True, "failed", True)


@pytest.mark.parametrize(("status", "kind"), [(429, "rate limited"), (500, "server error"), (400, "server error")])
def test_a_question_that_fails_is_asked_again(status: int, kind: str) -> None:
    """Also one that is refused: what it is about may have been paid for."""
    says = {"GET /v1/batches/batch_abc123": Said({"error": {"message": "no"}}, status)}
    found, _ = _with(says, lambda client, _: fault(client.look(TICKET)))
    assert (found.kind.value, found.retryable) == (kind, True)


def _line(id: str, **said: Any) -> bytes:
    response = {"status_code": 200, "request_id": "r", "body": answer(f"to {id}")}
    return orjson.dumps({"id": "b", "custom_id": id, "response": response, "error": None, **said}) + b"\n"


def test_results_and_errors_come_from_both_files() -> None:
    """A broken line comes last: a whole one for the same id may stand behind it."""
    error = {"code": "batch_expired", "message": "too late"}
    output = _line("a") + b'{"custom_id": "b", "respon\n\n' + _line("c") + _line("b") + b"noise"
    says = {
        "GET /v1/files/file-cvaTdG/content": Said(output),
        "GET /v1/files/file-HOWS94/content": Said(_line("d", response=None, error=error)),
    }
    found, _ = _with(says, lambda client, _: gathered(client.results(ENDED)))
    assert [*found] == ["a", "c", "b", "d", ""]
    assert (found["a"], found["c"], found["b"][0]) == (["to a"], ["to c"], "to b")
    assert [each[-1].kind.value for each in (found["b"], found["d"], found[""])] == [
        "malformed body", "no result", "malformed body",
    ]  # fmt: skip


def test_a_batch_without_files_has_no_results() -> None:
    """Failed ones never got so far."""
    assert _with({}, lambda client, _: gathered(client.results(TICKET)))[0] == {}


def test_results_are_followed_to_another_host_without_the_key() -> None:
    """Stored files are often handed out by a signed address elsewhere."""
    says = {
        "GET /v1/files/file-cvaTdG/content": Said(b"", 302, {"location": "{url}/signed?x=1"}),
        "GET /v1/files/file-HOWS94/content": Said(b"", 307, {"location": "http://localhost:{port}/far"}),
        "GET /signed": Said(_line("a")),
        "GET /far": Said(_line("b")),
    }

    found, office = _with(says, lambda client, _: gathered(client.results(ENDED)))
    assert found == {"a": ["to a"], "b": ["to b"]}
    keys = [(asked.line.partition("?")[0], "authorization" in asked.headers) for asked in office.asked]
    assert keys[1::2] == [("GET /signed", True), ("GET /far", False)]


def test_results_that_are_not_there_are_waited_for_a_day() -> None:
    """Then they are gone, and their requests without a result."""

    async def do(client: OpenaiBatches, office: Office) -> Any:
        client._calls = type(client._calls)(client._calls.transport, {}, clock=lambda: NOW)
        early = await fault(gathered(client.results({**ENDED, "ended_at": NOW - 3600})))
        return early, await gathered(client.results({**ENDED, "ended_at": NOW - 90000}))

    (early, late), _ = _with({}, do)
    assert (early.kind, early.retryable, late) == (FaultKind.MISSING, True, {})


def _listed(*batches: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": list(batches), "has_more": more}


def test_a_batch_is_found_by_its_metadata_on_any_page() -> None:
    """The list is read page by page."""
    other = {**BATCH, "id": "batch_other", "metadata": {"synth_key": "synth-job-zz"}}
    says = {
        "GET /v1/batches?limit=100": _listed(other, more=True),
        "GET /v1/batches?limit=100&after=batch_other": _listed(BATCH),
    }
    found, office = _with(says, lambda client, _: client.find("synth-job-aa11", 1711471000.0))
    assert (found, len(office.asked)) == (ENDED, 2)


def test_older_pages_are_not_read() -> None:
    """A batch is not older than its submit, but for clocks that differ."""
    other = {**BATCH, "id": "batch_other", "metadata": {"synth_key": "synth-job-zz"}}
    says = {"GET /v1/batches": _listed(other, more=True)}
    found, office = _with(says, lambda client, _: client.find("synth-job-aa11", 1711471533.0 + 7200))
    assert (found, office.lines) == (None, ["GET /v1/batches?limit=100"])


def test_a_batch_without_metadata_is_found_by_its_file() -> None:
    """Some hosts keep none, or leave it out of lists; a list without pages is one page."""
    files = [{"id": "file-1", "filename": "other.jsonl"}, {"id": "file-2", "filename": "synth-job-aa11.jsonl"}]
    bare = {"id": "b2", "input_file_id": "file-2", "status": "IN_PROGRESS", "created_at": "2027-01-15T08:00:00Z"}
    says = {"GET /v1/batches": [[{"odd": 1}, bare]], "GET /v1/files": {"data": files}}
    found, _ = _with(says, lambda client, _: client.find("synth-job-aa11", NOW))
    assert found == {"id": "b2", "input_file_id": "file-2", "created_at": NOW}


@pytest.mark.parametrize("said", [_listed(), [], {"data": None}, {}])
def test_what_is_not_listed_is_not_found(said: Any) -> None:
    """Also in a list that is none."""
    found, _ = _with({"GET /v1/batches": [said], "GET /v1/files": [said]}, lambda client, _: client.find("k", NOW))
    assert found is None


def test_a_sweep_deletes_the_files_of_its_key_only() -> None:
    """On every page."""
    mine = {"id": "file-1", "filename": "synth-job-aa11.jsonl"}
    says = {
        "GET /v1/files?limit=100": _listed({"id": "file-0", "filename": "x.jsonl"}, mine, more=True),
        "GET /v1/files?limit=100&after=file-1": _listed({**mine, "id": "file-2"}),
        "DELETE /v1/files/file-1": {},
    }
    _, office = _with(says, lambda client, _: client.sweep("synth-job-aa11"))
    assert office.lines[2:] == ["DELETE /v1/files/file-1", "DELETE /v1/files/file-2"]


def test_discarding_deletes_every_file_and_minds_none_that_is_gone() -> None:
    """Input, results, errors."""
    says = {"DELETE /v1/files/file-abc123": {}, "DELETE /v1/files/file-HOWS94": Said(b"", 404)}
    _, office = _with(says, lambda client, _: client.discard(ENDED))
    assert office.lines == [f"DELETE /v1/files/{name}" for name in ("file-abc123", "file-cvaTdG", "file-HOWS94")]


def test_cancelling_what_has_ended_is_no_error() -> None:
    """Any other refusal is."""
    says = {
        "POST /v1/batches/batch_abc123/cancel": [{**BATCH, "status": "cancelling"}, Said({"error": {}}, 409)],
        "GET /v1/batches/batch_abc123": [BATCH, {**BATCH, "status": "in_progress"}],
    }

    async def do(client: OpenaiBatches, office: Office) -> Fault:
        await client.cancel(TICKET)
        await client.cancel(TICKET)
        return await fault(client.cancel(TICKET))

    found, _ = _with(says, do)
    assert found.retryable


AZURE = "/openai/files?api-version=2025-02-01-preview"


def test_azure_waits_for_its_file_and_names_no_deployment(tmp_path: Path) -> None:
    """Files and batches stand beside the deployments, which the lines name."""
    says = {
        f"POST {AZURE}": {**FILE, "status": "pending"},
        "GET /openai/files/file-abc123?api-version=2025-02-01-preview": [
            {**FILE, "status": "running"}, {**FILE, "status": "processed"},
        ],
        "POST /openai/batches?api-version=2025-02-01-preview": BATCH,
    }  # fmt: skip

    async def do(client: OpenaiBatches, office: Office) -> Any:
        terms = Terms("azure", "my-deployment")
        file = written(client, tmp_path, request(terms=terms))
        await client.submit("k", file, 1, {})
        return orjson.loads(file.read_bytes())

    line, office = _with(says, do, model="azure/my-deployment", base_url="{url}")
    assert (line["url"], line["body"]["model"]) == ("/chat/completions", "my-deployment")
    assert (office.asked[-1].json["endpoint"], office.asked[0].headers["api-key"]) == ("/chat/completions", "sk-secret")
    assert len(office.asked) == 4


def test_a_file_that_azure_refuses_is_a_refused_batch(tmp_path: Path) -> None:
    """With its reason."""
    says = {f"POST {AZURE}": {**FILE, "status": "error", "status_details": "not JSONL"}}

    async def do(client: OpenaiBatches, office: Office) -> Fault:
        return await fault(_submit(tmp_path)(client, office))

    found, _ = _with(says, do, model="azure/my-deployment", base_url="{url}")
    assert (found.kind, "not JSONL" in found.message) == (FaultKind.BAD_REQUEST, True)


def test_azure_s_newer_addresses_are_openai_s() -> None:
    """No version, the path with /v1."""
    says = {"GET /openai/v1/batches/batch_abc123": BATCH}
    look, _ = _with(says, lambda client, _: client.look(TICKET), model="azure/d", base_url="{url}/openai/v1")
    assert look.ended


JOB = {
    "id": "0123-45",
    "user_id": "user_789xyz012",
    "input_file_id": "file-in",
    "file_size_bytes": 1048576,
    "status": "IN_PROGRESS",
    "job_deadline": "2024-01-15T15:30:00Z",
    "created_at": "2024-01-15T14:30:00Z",
    "endpoint": "/v1/chat/completions",
    "progress": 75,
    "model_id": "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
}


def test_together_s_words_are_read(tmp_path: Path) -> None:
    """A job in an envelope, states in capitals, an upload of its own; no metadata, which it would not keep."""
    says = {
        "POST /v1/files/upload": {"id": "file-in", "object": "file"},
        "POST /v1/batches": Said({"job": JOB, "warning": ""}, 201),
        "GET /v1/batches/0123-45": {**JOB, "status": "COMPLETED", "output_file_id": "o", "error_file_id": "e"},
    }

    async def do(client: OpenaiBatches, office: Office) -> Any:
        ticket = await _submit(tmp_path)(client, office)
        return ticket, await client.look(ticket), client.limits.bytes

    (ticket, look, most), office = _with(says, do, model="together_ai/m")
    assert ticket == {"id": "0123-45", "input_file_id": "file-in", "created_at": 1705329000.0}
    assert (look.ended, look.outcome, look.done, most) == (True, "collected", None, 100_000_000)
    assert look.ticket == {**ticket, "output_file_id": "o", "error_file_id": "e"}
    assert b'name="purpose"\r\n\r\nbatch-api\r\n' in office.asked[0].body
    assert b'name="file_name"\r\n\r\nsynth-job-aa11.jsonl\r\n' in office.asked[0].body
    assert "metadata" not in office.asked[1].json


def test_a_litellm_proxy_is_told_the_model() -> None:
    """It chooses by it whose batches are meant; a header of the user's wins."""
    says = {"GET /v1/batches/batch_abc123": BATCH}
    _, one = _with(says, lambda client, _: client.look(TICKET), model="litellm_proxy/my-model")
    given = {"X-LiteLLM-Model": "other", "custom-llm-provider": "azure"}
    _, two = _with(says, lambda client, _: client.look(TICKET), model="litellm_proxy/my-model", headers=given)
    assert [one.asked[0].headers["x-litellm-model"], two.asked[0].headers["x-litellm-model"]] == ["my-model", "other"]
    assert two.asked[0].headers["custom-llm-provider"] == "azure"


def test_hosts_without_raw_completions_in_batches_say_so() -> None:
    """Before anything is written."""

    async def do(client: OpenaiBatches, office: Office) -> None:
        client.line(request(terms=Terms("groq", "m", completion=True)))

    with pytest.raises(UsageError, match="groq runs no raw completions in batches"):
        _with({}, do, model="groq/m")


@pytest.mark.parametrize(
    ("model", "requests", "size"),
    [
        ("azure/d", 100_000, 200_000_000),
        ("groq/m", 50_000, 100_000_000),
        ("together_ai/m", 50_000, 100_000_000),
        ("openai/m", 50_000, 100_000_000),
    ],
)
def test_each_host_has_its_limits(model: str, requests: int, size: int) -> None:
    """An address of the user's is held to the least of them."""

    async def do(client: OpenaiBatches, office: Office) -> Any:
        return client.limits

    limits, _ = _with({}, do, model=model, base_url="{url}")
    assert (limits.requests, limits.bytes) == (requests, size)


def test_openai_s_own_limits() -> None:
    """From its reference."""

    async def limits() -> Any:
        async with transport() as http:
            return batch_client(resolve("openai/gpt-5-mini", api_key="sk-x", environ={}), http).limits

    found = asyncio.run(limits())
    assert (found.requests, found.bytes, found.open_batches) == (50_000, 200_000_000, None)


@pytest.mark.parametrize("backend", ["bedrock", "vertex_ai", "cohere", "perplexity", "deepseek", "xai", "ollama"])
def test_a_backend_without_batches_says_what_to_do(backend: str) -> None:
    """The way out is in the hint."""

    async def make() -> None:
        async with transport() as http:
            batch_client(resolve(f"{backend}/m", api_key="k", environ={}), http)

    with pytest.raises(UsageError, match=f"no batches with backend {backend}") as caught:
        asyncio.run(make())
    assert "engine: online" in caught.value.hint
    assert unsupported(backend)


def test_every_protocol_of_the_table_is_known() -> None:
    """Each backend of it has batches, and says nothing else."""
    assert {unsupported(backend) for backend in PROTOCOLS} == {""}


def test_a_key_is_never_told() -> None:
    """Whatever a server repeats."""
    says = {"GET /v1/batches/batch_abc123": Said({"error": {"message": "bad key sk-secret"}}, 401)}
    found, _ = _with(says, lambda client, _: fault(client.look(TICKET)))
    assert (found.scope, "sk-secret" in found.message) == ("run", False)
