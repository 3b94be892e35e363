"""Gemini's batch mode: small batches in the call itself, larger ones as an uploaded file of lines.

Source: https://ai.google.dev/api/batch-api (states, counts, where results are), https://ai.google.dev/gemini-api/docs/
batch-api (20 MB in the call, 2 GB in a file, `key` in lines and `metadata` in calls; a batch expires after 48 hours and
has no results then), https://ai.google.dev/gemini-api/docs/files (the resumable upload; files are deleted after 48
hours; 20 GB for a project) and https://ai.google.dev/gemini-api/docs/rate-limits#batch-api (100 batches at a time; the
tokens in the queue depend on the account and are answered with 429).

`displayName` carries the key, of the batch and of its file: it finds them again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from synth_cli.core.ports import BatchError, BatchLimits, BatchLook, BatchResult, Exchange, FileTransport, HttpCall
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Request, Terms
from synth_cli.providers.batches.calls import UPLOAD_RATE, Calls, preparing
from synth_cli.providers.batches.marks import answered, broken, mark, object_of, parted
from synth_cli.providers.batches.tickets import (
    Outcome,
    Ticket,
    count,
    kept_until,
    missing,
    moment,
    text,
    unknown,
)
from synth_cli.providers.bodies import size
from synth_cli.providers.clients import secrets
from synth_cli.providers.encoders import Encoders
from synth_cli.providers.gemini import GENERATE, Encoder, encoder, status_fault
from synth_cli.providers.resolve import Endpoint

ADDRESS = "https://generativelanguage.googleapis.com"
LIMITS = BatchLimits(requests=200_000, bytes=2_000_000_000, open_batches=100)
"""How many requests a file may hold is not documented: this is Vertex AI's number."""
INLINE = 2_000_000
"""Bytes up to which requests stand in the call. 20 MB may, but their results come back in one piece."""
ENDED: Mapping[str, Outcome] = {
    "SUCCEEDED": "collected",
    "PARTIALLY_SUCCEEDED": "collected",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
"""Behind `BATCH_STATE_` or `JOB_STATE_`. Every other state, also one never heard of, goes on until `done`."""
PAGE, PAGES = 100, 500
_START, _BETWEEN = b'{"key":"', b'","request":'


class GeminiBatches:
    """A `BatchClient`. The transport is closed by whoever made it."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: FileTransport,
        *,
        inline: int = INLINE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inline, self._clock = inline, clock
        self._calls = Calls(transport, headers(endpoint), secrets(endpoint), min(endpoint.timeout, 120.0), clock)
        base = endpoint.base_url.rstrip("/").removesuffix("/openai").removesuffix("/v1beta").removesuffix("/v1")
        self._root = base or ADDRESS
        self._base = self._root + "/v1beta"
        name = endpoint.model if "/" in endpoint.model else f"models/{endpoint.model}"
        self._create = f"{self._base}/{quote(name)}:batchGenerateContent"
        self._encoders = Encoders(_encoder)

    @property
    def limits(self) -> BatchLimits:
        return LIMITS

    def line(self, request: Request) -> bytes:
        encode, head = self._encoders.of(request.terms)
        return b"%b%b%b%b}\n" % (_START, request.id.hex().encode(), head, encode.encode(request))

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Ticket:
        """Raises BatchError. There is no place for metadata."""
        if size((file,)) <= self._inline:
            body = b'{"batch":{"displayName":%b,"inputConfig":{"requests":{"requests":[%b]}}}}'
            return _ticket(await self._made(body % (orjson.dumps(key), b",".join(map(inlined, _lines(file))))))
        with preparing():
            name = await self._upload(key, file)
        try:
            made = await self._made(orjson.dumps({"batch": {"displayName": key, "inputConfig": {"fileName": name}}}))
        except BatchError as error:
            if error.fault.refused:
                await self._calls.forget(f"{self._base}/{quote(name)}")
            raise
        return {**_ticket(made), "input_file": name}

    async def _made(self, body: bytes) -> Any:
        timeout = self._calls.timeout + len(body) / UPLOAD_RATE
        answer = await self._calls.send(HttpCall("POST", self._create, {}, body, timeout))
        return object_of(answer.body)

    async def _upload(self, key: str, file: Path) -> str:
        """The name of the uploaded file. Resumable by its name only: the bytes go in one piece."""
        length = size((file,))
        started = await self._calls.send(
            HttpCall(
                "POST",
                f"{self._root}/upload/v1beta/files",
                {
                    "x-goog-upload-protocol": "resumable",
                    "x-goog-upload-command": "start",
                    "x-goog-upload-header-content-length": str(length),
                    "x-goog-upload-header-content-type": "application/jsonl",
                },
                orjson.dumps({"file": {"displayName": key}}),
                self._calls.timeout,
            )
        )
        url = next((value for name, value in started.headers.items() if name.lower() == "x-goog-upload-url"), "")
        if not url:
            raise BatchError(Fault(FaultKind.MALFORMED, "the provider gave no address to upload to"))
        # the address itself is the permission
        sent = {
            "user-agent": "synth-cli",
            "content-type": "application/jsonl",
            "x-goog-upload-offset": "0",
            "x-goog-upload-command": "upload, finalize",
        }
        timeout = self._calls.timeout + length / UPLOAD_RATE
        done = await self._calls.send(HttpCall("POST", url, sent, (file,), timeout), signed=False)
        return text((object_of(done.body) or {}).get("file"), "name")

    async def find(self, key: str, since: float) -> Ticket | None:
        """By `displayName`. In what order batches are listed is not said, so all are looked at."""
        async for operations in self._pages("batches", "operations"):
            for operation in operations:
                if _of(operation, "metadata").get("displayName") == key:
                    return _ticket(operation)
        return None

    async def look(self, ticket: Ticket) -> BatchLook:
        operation = await self._calls.found(self._url(ticket))
        if not isinstance(operation, dict):
            return unknown(ticket, self._clock())
        said = _of(operation, "metadata")
        state = str(said.get("state") or "unknown")
        outcome = ENDED.get(state.upper().rpartition("STATE_")[2])
        error = _of(operation, "error")
        if outcome is None and operation.get("done") is True:
            outcome = ("cancelled" if error.get("code") == 1 else "failed") if error else "collected"
        now = {**ticket, **_ticket(operation)}
        if outcome == "collected" and not _has_results(operation) and self._clock() < kept_until(now):
            # an answer that is only not there yet must not be asked for again
            outcome = None
        message = str(error.get("message") or "")
        counts = said.get("batchStats")
        return BatchLook(
            state,
            outcome is not None,
            outcome or "collected",
            count(counts, "successfulRequestCount"),
            count(counts, "failedRequestCount"),
            count(counts, "requestCount"),
            message,
            now,
            None if outcome is None else self._failure(outcome, error, message),
        )

    def _failure(self, outcome: Outcome, error: Mapping[str, Any], message: str) -> Fault:
        """What is recorded for each request that has no result."""
        if outcome == "failed" and error:
            fault = status_fault(error, now=self._clock(), secrets=self._calls.secrets)
            if fault.scope == "run" or fault.kind is FaultKind.RATE_LIMITED:
                return fault
        return missing(outcome, message)

    async def results(self, ticket: Ticket) -> AsyncIterator[BatchResult]:
        if ticket.get("output_file"):
            name = quote(str(ticket["output_file"]))
            url = f"{self._root}/download/v1beta/{name}:download?alt=media"
            async for result in self._calls.results([url], kept_until=kept_until(ticket), read=result_of):
                yield result
            return
        operation = await self._calls.found(self._url(ticket))
        now = self._clock()
        for response in _inlined(operation if isinstance(operation, dict) else {}):
            key = _of(response, "metadata").get("key")
            if type(key) is str:
                yield _result(key, response, now=now, secrets=self._calls.secrets)
            else:
                yield broken(orjson.dumps(response), "key")

    async def cancel(self, ticket: Ticket) -> None:
        """A batch that has ended meanwhile is no error."""
        try:
            await self._calls.post(self._url(ticket) + ":cancel")
        except BatchError:
            if not (await self.look(ticket)).ended:
                raise

    async def discard(self, ticket: Ticket) -> None:
        for name in ("input_file", "output_file"):
            if ticket.get(name):
                await self._delete(str(ticket[name]))
        await self._delete(str(ticket["id"]))

    async def _delete(self, name: str) -> None:
        try:
            await self._calls.delete(f"{self._base}/{quote(name)}")
        except BatchError as error:
            # of a file that is gone it says that one may not see it; all files go by themselves after two days
            if error.fault.status not in (400, 403):
                raise

    async def sweep(self, key: str) -> None:
        found: list[str] = []
        async for files in self._pages("files", "files"):
            found += [str(file.get("name")) for file in files if file.get("displayName") == key]
        for name in found:
            await self._delete(name)

    async def close(self) -> None:
        """Nothing of its own is open."""

    async def _pages(self, path: str, name: str) -> AsyncIterator[list[dict[str, Any]]]:
        token = ""
        for _ in range(PAGES):
            query = f"?pageSize={PAGE}" + (f"&pageToken={quote(token, safe='')}" if token else "")
            answer = await self._calls.get(f"{self._base}/{path}{query}")
            page = answer.get(name) if isinstance(answer, dict) else None
            if isinstance(page, list):
                yield [entry for entry in page if isinstance(entry, dict)]
            following = str(answer.get("nextPageToken") or "") if isinstance(answer, dict) else ""
            if not following or following == token:
                return
            token = following

    def _url(self, ticket: Ticket) -> str:
        return f"{self._base}/{quote(str(ticket['id']))}"


def _encoder(terms: Terms) -> tuple[Encoder, bytes]:
    """(encoder, what stands between id and body)."""
    made = encoder(terms)
    return made, mark(made.protocol).encode() + _BETWEEN


def result_of(line: bytes, *, now: float, secrets: tuple[str, ...] = ()) -> BatchResult | None:
    """What a line of results says; None for an empty one."""
    if not line.strip():
        return None
    data = object_of(line)
    if data is None or type(data.get("key")) is not str:
        return broken(line, "key")
    return _result(data["key"], data, now=now, secrets=secrets)


def _result(key: str, data: Mapping[str, Any], *, now: float, secrets: tuple[str, ...]) -> BatchResult:
    _, id, protocol = parted(key, GENERATE)
    response, error = data.get("response"), data.get("error") or data.get("status")
    if isinstance(response, dict):
        return answered(id, protocol, response, now=now, secrets=secrets)
    if isinstance(error, dict):
        if error.get("code") == 1:
            return BatchResult(id, Exchange(fault=missing("cancelled")))
        return BatchResult(id, Exchange(fault=status_fault(error, now=now, secrets=secrets)))
    fault = Fault(FaultKind.MISSING, "the provider's results have neither an answer nor an error for this request")
    return BatchResult(id, Exchange(fault=fault))


def inlined(line: bytes) -> bytes:
    """A line of the file as it stands in the call."""
    key, _, asked = line.rstrip().removeprefix(_START).partition(_BETWEEN)
    return b'{"request":%b,"metadata":{"key":"%b"}}' % (asked[:-1], key)


def _lines(file: Path) -> list[bytes]:
    with file.open("rb") as opened:
        return list(opened)


def headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers of every call, the user's own last."""
    sent = {"content-type": "application/json", "user-agent": "synth-cli"}
    if endpoint.api_key:
        sent["x-goog-api-key"] = endpoint.api_key
    return sent | {name.lower(): value for name, value in endpoint.headers.items()}


def _of(data: Any, name: str) -> Mapping[str, Any]:
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _output(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the results are said to be: in the response, or in what the batch says of itself."""
    return _of(operation, "response") or _of(_of(operation, "metadata"), "output")


def _inlined(operation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = _output(operation).get("inlinedResponses")
    found = found.get("inlinedResponses") if isinstance(found, dict) else found
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _has_results(operation: Mapping[str, Any]) -> bool:
    """Also when there are none: what is empty is left out of an answer that is there."""
    output = _output(operation)
    there = operation.get("done") is True and isinstance(operation.get("response"), dict)
    return there or bool(output.get("responsesFile") or output.get("inlinedResponses"))


def _ticket(operation: Any) -> dict[str, Any]:
    ticket: dict[str, Any] = {"id": text(operation, "name")}
    said = _of(operation, "metadata")
    source = _of(said, "inputConfig").get("fileName")
    results = _output(operation).get("responsesFile")
    times = {"created_at": moment(said.get("createTime")), "ended_at": moment(said.get("endTime"))}
    found = {"input_file": source, "output_file": results, **times}
    return ticket | {name: value for name, value in found.items() if value is not None}


def client(endpoint: Endpoint, transport: FileTransport, *, window: str = "24h") -> GeminiBatches:
    """A batch is given 48 hours, whatever `window` says."""
    return GeminiBatches(endpoint, transport)
