"""Batches in OpenAI's protocol: a file of requests goes up, a batch is made of it, files of results come down.

Source: https://platform.openai.com/docs/guides/batch and the references of the hosts in `variants`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from synth_cli.core.ports import BatchError, BatchLimits, BatchLook, BatchResult, FileTransport
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Request
from synth_cli.errors import UsageError
from synth_cli.providers.batches import lines
from synth_cli.providers.batches.calls import Calls, preparing
from synth_cli.providers.batches.tickets import (
    KEY,
    SLACK,
    Outcome,
    Ticket,
    count,
    filename,
    kept_until,
    labels,
    missing,
    moment,
    text,
    unknown,
)
from synth_cli.providers.batches.variants import GENERIC, VARIANTS, Variant
from synth_cli.providers.clients import headers, secrets
from synth_cli.providers.faults import fault_of
from synth_cli.providers.resolve import Endpoint

ENDED: Mapping[str, Outcome] = {
    "completed": "collected",
    "expired": "expired",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "failed": "failed",
}
"""Every other state, also one never heard of, means that it goes on."""
PAGE, PAGES = 100, 500
READY_TRIES = 30
"""Looks at an uploaded file until it may be used."""


class OpenaiBatches:
    """A `BatchClient`. The transport is closed by whoever made it."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: FileTransport,
        *,
        variant: Variant = GENERIC,
        window: str = "24h",
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint, self._variant, self._window = endpoint, variant, window
        self._clock, self._pause = clock, pause
        self._secrets = secrets(endpoint)
        sent = headers(replace(endpoint, stream=False))
        if variant.model_header:
            sent.setdefault(variant.model_header, endpoint.model)
        self._calls = Calls(transport, sent, self._secrets, min(endpoint.timeout, 120.0), clock)
        # Azure's older addresses name the deployment, which batches name in their lines
        self._base, self._prefix = endpoint.base_url.partition("/deployments/")[0], variant.prefix
        if self._base.endswith("/openai/v1"):
            self._prefix = "/v1"
        self._writer = lines.Writer(endpoint.host, self._between)

    @property
    def limits(self) -> BatchLimits:
        return self._variant.limits

    def line(self, request: Request) -> bytes:
        return self._writer.line(request)

    def _between(self, completion: bool) -> str:
        return f'"method":"POST","url":"{self._path(completion)}",'

    def _path(self, completion: bool) -> str:
        if completion and not self._variant.completions:
            where = f"{self._endpoint.backend} runs no raw completions in batches"
            raise UsageError(where, hint="engine: online, or prompt_format: chat")
        return self._prefix + ("/completions" if completion else "/chat/completions")

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Ticket:
        """Raises BatchError: scope row where the provider refuses the file. Anything without a status may have come
        through all the same: `find` tells."""
        completion = _first_id(file).endswith("-completion")
        fields = dict(self._variant.fields)
        if self._variant.name_field:
            fields[self._variant.name_field] = filename(key)
        with preparing():
            uploaded = await self._calls.upload(self._url(self._variant.upload), fields, file, filename(key))
            file_id = text(uploaded, "id")
            await self._ready(file_id, uploaded)
        body: dict[str, Any] = {"input_file_id": file_id, "endpoint": self._path(completion)}
        if self._variant.window:
            body["completion_window"] = self._window
        if self._variant.metadata:
            body["metadata"] = labels(key, metadata)
        try:
            made = await self._calls.post(self._url("/batches"), body)
        except BatchError as error:
            if error.fault.refused:
                await self._calls.forget(self._file(file_id))
            raise
        return _ticket(_batch(made))

    async def _ready(self, file_id: str, uploaded: Any) -> None:
        """Azure looks at a file before it lets a batch be made of it."""
        for _ in range(READY_TRIES):
            status = str(uploaded.get("status") or "").lower() if isinstance(uploaded, dict) else ""
            if status == "error":
                said = str(uploaded.get("status_details") or "no reason given")
                raise BatchError(Fault(FaultKind.BAD_REQUEST, f"the provider refuses the file: {said}"))
            if status not in ("pending", "running", "notrunning", "uploading"):
                return
            await self._pause(2.0)
            uploaded = await self._calls.get(self._file(file_id))
        raise BatchError(Fault(FaultKind.TIMEOUT, "the provider did not get the uploaded file ready"))

    async def find(self, key: str, since: float) -> Ticket | None:
        """By the batch's metadata; for those that kept none, by the name of the file they were made of."""
        unnamed: dict[str, dict[str, Any]] = {}
        async for page in self._pages("/batches"):
            batches = [_batch(entry) for entry in page]
            for batch in batches:
                if (batch.get("metadata") or {}).get(KEY) == key:
                    return _ticket(batch)
                if not batch.get("metadata"):
                    unnamed[str(batch.get("input_file_id"))] = batch
            ages = [moment(batch.get("created_at")) for batch in batches]
            if all(at is not None and at < since - SLACK for at in ages):
                break
        files = await self._files(key) if unnamed else []
        return next((_ticket(unnamed[name]) for name in files if name in unnamed), None)

    async def look(self, ticket: Ticket) -> BatchLook:
        found = await self._calls.found(self._url(f"/batches/{quote(str(ticket['id']), safe='')}"))
        if found is None:
            return unknown(ticket, self._clock())
        batch = _batch(found)
        state = str(batch.get("status") or "unknown")
        outcome = ENDED.get(state.lower())
        counts = batch.get("request_counts")
        errors = _errors(batch)
        message = errors[0][1] if errors else ""
        look = BatchLook(
            state,
            outcome is not None,
            outcome or "collected",
            count(counts, "completed"),
            count(counts, "failed"),
            count(counts, "total"),
            message,
            {**ticket, **_ticket(batch)},
        )
        if outcome is None:
            return look
        if outcome != "failed":
            return replace(look, fault=missing(outcome))
        return replace(look, fault=self._failure(errors), refused=self._refused(errors))

    def _failure(self, errors: list[tuple[str, str, int | None]]) -> Fault:
        """What a batch that failed as a whole means for each of its requests."""
        if not errors:
            return missing("failed")
        code, message, line = errors[0]
        if "token_limit" in code or "enqueued token" in message.lower():
            return Fault(FaultKind.RATE_LIMITED, f"the batch was not begun: {message}")
        if line is not None:
            return Fault(FaultKind.MISSING, f"the batch was refused for another of its lines: {message}")
        fault = self._meaning(code, message)
        kind = fault.kind if fault.scope == "run" else FaultKind.MISSING
        return Fault(kind, f"the batch failed: {code}: {message}" if code else f"the batch failed: {message}")

    def _refused(self, errors: list[tuple[str, str, int | None]]) -> Mapping[int, Fault]:
        found: dict[int, Fault] = {}
        for code, message, line in errors:
            if line is None:
                continue
            fault = self._meaning(code, message)
            kind = fault.kind if fault.scope != "attempt" else FaultKind.BAD_REQUEST
            found[line] = Fault(kind, f"{code}: {message}" if code else message)
        return found

    def _meaning(self, code: str, message: str) -> Fault:
        body = orjson.dumps({"error": {"code": code, "message": message}})
        return fault_of(400, {}, body, now=self._clock(), secrets=self._secrets)

    def results(self, ticket: Ticket) -> AsyncIterator[BatchResult]:
        files = [str(ticket[name]) for name in ("output_file_id", "error_file_id") if ticket.get(name)]
        urls = [self._url(f"/files/{quote(file_id, safe='')}/content") for file_id in files]
        return self._calls.results(urls, kept_until=kept_until(ticket))

    async def cancel(self, ticket: Ticket) -> None:
        """A batch that has ended meanwhile is no error."""
        try:
            await self._calls.post(self._url(f"/batches/{quote(str(ticket['id']), safe='')}/cancel"))
        except BatchError:
            if not (await self.look(ticket)).ended:
                raise

    async def discard(self, ticket: Ticket) -> None:
        for name in ("input_file_id", "output_file_id", "error_file_id"):
            if ticket.get(name):
                await self._calls.delete(self._file(str(ticket[name])))

    async def sweep(self, key: str) -> None:
        for file_id in await self._files(key):
            await self._calls.delete(self._file(file_id))

    async def close(self) -> None:
        """Nothing of its own is open."""

    async def _files(self, key: str) -> list[str]:
        """The ids of the files that were uploaded under a key."""
        found: list[str] = []
        async for page in self._pages("/files", self._variant.listing):
            found += [str(file.get("id")) for file in page if file.get("filename") == filename(key)]
        return found

    async def _pages(self, path: str, only: str = "") -> AsyncIterator[list[dict[str, Any]]]:
        after = ""
        for _ in range(PAGES):
            query = "&".join(filter(None, (f"limit={PAGE}", only, after and f"after={quote(after, safe='')}")))
            answer = await self._calls.get(self._url(path, query))
            page = answer.get("data") if isinstance(answer, dict) else answer
            page = [entry for entry in page if isinstance(entry, dict)] if isinstance(page, list) else []
            if page:
                yield page
            last = str(_batch(page[-1]).get("id") or "") if page else ""
            if not (isinstance(answer, dict) and answer.get("has_more")) or not last or last == after:
                return
            after = last

    def _file(self, file_id: str) -> str:
        return self._url(f"/files/{quote(file_id, safe='')}")

    def _url(self, path: str, query: str = "") -> str:
        query = "&".join(filter(None, (self._endpoint.query, query)))
        return self._base + path + (f"?{query}" if query else "")


def _first_id(file: Path) -> str:
    with file.open("rb") as opened:
        start = opened.read(200)
    return start.partition(b'"custom_id":"')[2].partition(b'"')[0].decode("ascii", "replace")


def _batch(entry: Any) -> dict[str, Any]:
    """Together wraps the batch that it made."""
    if not isinstance(entry, dict):
        raise BatchError(Fault(FaultKind.MALFORMED, "the provider's answer is not a batch"))
    job = entry.get("job")
    return job if isinstance(job, dict) else entry


def _ticket(batch: Mapping[str, Any]) -> dict[str, Any]:
    ticket: dict[str, Any] = {"id": text(batch, "id")}
    for name in ("input_file_id", "output_file_id", "error_file_id"):
        if batch.get(name):
            ticket[name] = str(batch[name])
    ends = (moment(batch.get(f"{state}_at")) for state in ("completed", "failed", "expired", "cancelled"))
    times = {"created_at": moment(batch.get("created_at")), "ended_at": next(filter(None, ends), None)}
    return ticket | {name: at for name, at in times.items() if at is not None}


def _errors(batch: Mapping[str, Any]) -> list[tuple[str, str, int | None]]:
    """(code, message, line) of each error of the batch as a whole."""
    found: list[tuple[str, str, int | None]] = []
    said = batch.get("errors") or batch.get("error")
    data = said.get("data", [said]) if isinstance(said, dict) else said if isinstance(said, list) else [said]
    for error in data if isinstance(data, list) else []:
        if isinstance(error, dict):
            line = error.get("line")
            message = str(error.get("message") or error.get("code") or "no reason given")
            found.append((str(error.get("code") or ""), message, line if isinstance(line, int) else None))
        elif error:
            found.append(("", str(error), None))
    return found


def client(endpoint: Endpoint, transport: FileTransport, *, window: str = "24h") -> OpenaiBatches:
    """For the endpoint's host, or for any server at an address of the user's."""
    elsewhere = endpoint.host.name == "openai" and not endpoint.base_url.startswith("https://api.openai.com/")
    variant = GENERIC if elsewhere else VARIANTS.get(endpoint.host.name, GENERIC)
    return OpenaiBatches(endpoint, transport, variant=variant, window=window)
