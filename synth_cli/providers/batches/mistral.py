"""Mistral's batch jobs: a file of requests for one model, a job that reads it, files of results.

Source: https://docs.mistral.ai/capabilities/batch and https://docs.mistral.ai/api/endpoint/batch (up to a million
requests pending in a workspace; `timeout_hours` up to 7 days).
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from synth_cli.core.ports import BatchError, BatchLimits, BatchLook, BatchResult, FileTransport
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
from synth_cli.providers.clients import headers, secrets
from synth_cli.providers.resolve import Endpoint

LIMITS = BatchLimits(requests=100_000, bytes=200_000_000)
"""The documentation allows a million requests; smaller batches end sooner and lose less when they fail."""
ENDED: Mapping[str, Outcome] = {
    "SUCCESS": "collected",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}
HOURS = 168
PAGE, PAGES = 100, 500


class MistralBatches:
    """A `BatchClient`. The transport is closed by whoever made it."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: FileTransport,
        *,
        window: str = "24h",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model, self._hours, self._clock = endpoint.model, hours(window), clock
        sent = headers(replace(endpoint, stream=False))
        self._calls = Calls(transport, sent, secrets(endpoint), min(endpoint.timeout, 120.0), clock)
        self._base = endpoint.base_url
        self._writer = lines.Writer(endpoint.host, _between)

    @property
    def limits(self) -> BatchLimits:
        return LIMITS

    def line(self, request: Request) -> bytes:
        return self._writer.line(request)

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Ticket:
        """Raises BatchError."""
        with preparing():
            uploaded = await self._calls.upload(f"{self._base}/files", {"purpose": "batch"}, file, filename(key))
            file_id = text(uploaded, "id")
        body = {
            "input_files": [file_id],
            "model": self._model,
            "endpoint": "/v1/chat/completions",
            "metadata": labels(key, metadata),
            "timeout_hours": self._hours,
        }
        try:
            return _ticket(await self._calls.post(f"{self._base}/batch/jobs", body))
        except BatchError as error:
            if error.fault.refused:
                await self._calls.forget(self._file(file_id))
            raise

    async def find(self, key: str, since: float) -> Ticket | None:
        async for page in self._pages("/batch/jobs"):
            for job in page:
                if (job.get("metadata") or {}).get(KEY) == key:
                    return _ticket(job)
            ages = [moment(job.get("created_at")) for job in page]
            if all(at is not None and at < since - SLACK for at in ages):
                break
        return None

    async def look(self, ticket: Ticket) -> BatchLook:
        job = await self._calls.found(self._job(ticket))
        if job is None:
            return unknown(ticket, self._clock())
        state = str(job.get("status") or "unknown")
        outcome = ENDED.get(state.upper())
        message = _errors(job)
        look = BatchLook(
            state,
            outcome is not None,
            outcome or "collected",
            count(job, "succeeded_requests"),
            count(job, "failed_requests"),
            count(job, "total_requests"),
            message,
            {**ticket, **_ticket(job)},
        )
        return look if outcome is None else replace(look, fault=missing(outcome, message))

    def results(self, ticket: Ticket) -> AsyncIterator[BatchResult]:
        files = [str(ticket[name]) for name in ("output_file", "error_file") if ticket.get(name)]
        return self._calls.results(
            [self._file(file_id) + "/content" for file_id in files], kept_until=kept_until(ticket)
        )

    async def cancel(self, ticket: Ticket) -> None:
        """A job that has ended meanwhile is no error."""
        try:
            await self._calls.post(self._job(ticket) + "/cancel")
        except BatchError:
            if not (await self.look(ticket)).ended:
                raise

    async def discard(self, ticket: Ticket) -> None:
        for name in ("input_file", "output_file", "error_file"):
            if ticket.get(name):
                await self._calls.delete(self._file(str(ticket[name])))

    async def sweep(self, key: str) -> None:
        found: list[str] = []
        async for page in self._pages("/files"):
            found += [str(file.get("id")) for file in page if file.get("filename") == filename(key)]
        for file_id in found:
            await self._calls.delete(self._file(file_id))

    async def close(self) -> None:
        """Nothing of its own is open."""

    async def _pages(self, path: str) -> AsyncIterator[list[dict[str, Any]]]:
        seen = 0
        for number in range(PAGES):
            answer = await self._calls.get(f"{self._base}{path}?page={number}&page_size={PAGE}")
            page = answer.get("data") if isinstance(answer, dict) else None
            page = [entry for entry in page if isinstance(entry, dict)] if isinstance(page, list) else []
            if not page:
                return
            yield page
            seen += len(page)
            total = answer.get("total")
            if len(page) < PAGE or (isinstance(total, int) and seen >= total):
                return

    def _file(self, file_id: str) -> str:
        return f"{self._base}/files/{quote(file_id, safe='')}"

    def _job(self, ticket: Ticket) -> str:
        return f"{self._base}/batch/jobs/{quote(str(ticket['id']), safe='')}"


def hours(window: str) -> int:
    """Hours of '24h' or '7d', at most a week. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,4})([hd])", window.strip())
    if match is None or int(match[1]) == 0:
        raise UsageError(f"completion_window {window!r} is no time", hint="write it as 24h or 7d")
    return min(int(match[1]) * (24 if match[2] == "d" else 1), HOURS)


def _between(completion: bool) -> str:
    if completion:
        raise UsageError("mistral runs no raw completions in batches", hint="engine: online, or prompt_format: chat")
    return ""


def _ticket(job: Any) -> dict[str, Any]:
    ticket: dict[str, Any] = {"id": text(job, "id")}
    inputs = job.get("input_files")
    if isinstance(inputs, list) and inputs:
        ticket["input_file"] = str(inputs[0])
    for name in ("output_file", "error_file"):
        if job.get(name):
            ticket[name] = str(job[name])
    times = {"created_at": moment(job.get("created_at")), "ended_at": moment(job.get("completed_at"))}
    return ticket | {name: at for name, at in times.items() if at is not None}


def _errors(job: Mapping[str, Any]) -> str:
    said = job.get("errors")
    messages = (
        [str(error.get("message")) for error in said if isinstance(error, dict)] if isinstance(said, list) else []
    )
    return "; ".join(messages[:3])


def client(endpoint: Endpoint, transport: FileTransport, *, window: str = "24h") -> MistralBatches:
    return MistralBatches(endpoint, transport, window=window)
