"""Fireworks' batch inference: a dataset of requests, a job that reads it, a dataset of results.

Source: https://docs.fireworks.ai/guides/batch-inference and the API reference beside it (datasets, batchInferenceJobs):
an upload in one request takes 150 MB, a job 24 hours. The names of dataset and job are ours, so that both are found
again without a list, and no second job can be made under the same name.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from synth_cli.core.ports import BatchError, BatchLimits, BatchLook, BatchResult, FileTransport
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Request
from synth_cli.errors import UsageError
from synth_cli.providers.batches import lines
from synth_cli.providers.batches.calls import Calls, preparing
from synth_cli.providers.batches.tickets import (
    Outcome,
    Ticket,
    count,
    filename,
    kept_until,
    missing,
    moment,
    text,
    unknown,
)
from synth_cli.providers.clients import headers, secrets
from synth_cli.providers.resolve import Endpoint

LIMITS = BatchLimits(requests=50_000, bytes=150_000_000)
"""How many requests is not documented."""
ENDED: Mapping[str, Outcome] = {
    "COMPLETED": "collected",
    "EXPIRED": "expired",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
}
READY_TRIES = 60
NAME = 63
"""Characters of a name."""


class FireworksBatches:
    """A `BatchClient`. The transport is closed by whoever made it."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: FileTransport,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model, self._clock, self._pause = endpoint.model, clock, pause
        sent = headers(replace(endpoint, stream=False))
        self._calls = Calls(transport, sent, secrets(endpoint), min(endpoint.timeout, 120.0), clock)
        # the gateway stands beside the inference server
        self._base = endpoint.base_url.replace("/inference/v1", "/v1")
        self._account = self._base if "/accounts/" in self._base else ""
        self._writer = lines.Writer(endpoint.host, _between, model=False)

    @property
    def limits(self) -> BatchLimits:
        return LIMITS

    def line(self, request: Request) -> bytes:
        return self._writer.line(request)

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Ticket:
        """Raises BatchError."""
        with preparing():
            account, name = await self._home(), named(key)
            dataset = {"displayName": key, "userUploaded": {}, "exampleCount": str(requests)}
            await self._calls.post(f"{account}/datasets", {"datasetId": name, "dataset": dataset})
            await self._calls.upload(f"{account}/datasets/{name}:upload", {}, file, filename(key))
            await self._ready(f"{account}/datasets/{name}")
        path = account.partition("/v1/")[2]
        job = {
            "displayName": key,
            "model": self._model,
            "inputDatasetId": f"{path}/datasets/{name}",
            "outputDatasetId": f"{path}/datasets/{output(name)}",
        }
        return _ticket(await self._calls.post(f"{account}/batchInferenceJobs?batchInferenceJobId={name}", job))

    async def _ready(self, url: str) -> None:
        for _ in range(READY_TRIES):
            state = str((await self._calls.get(url)).get("state") or "READY")
            if state.endswith("READY"):
                return
            await self._pause(2.0)
        raise BatchError(Fault(FaultKind.TIMEOUT, "the provider did not get the uploaded dataset ready"))

    async def find(self, key: str, since: float) -> Ticket | None:
        job = await self._calls.found(f"{await self._home()}/batchInferenceJobs/{named(key)}")
        return None if job is None else _ticket(job)

    async def look(self, ticket: Ticket) -> BatchLook:
        job = await self._calls.found(await self._job(ticket))
        if job is None:
            return unknown(ticket, self._clock())
        state = str(job.get("state") or "unknown").removeprefix("JOB_STATE_")
        outcome = ENDED.get(state)
        progress, status = job.get("jobProgress"), job.get("status")
        message = str(status.get("message") or "") if isinstance(status, dict) and outcome == "failed" else ""
        look = BatchLook(
            state,
            outcome is not None,
            outcome or "collected",
            count(progress, "successfullyProcessedRequests"),
            count(progress, "failedRequests"),
            count(progress, "totalInputRequests"),
            message,
            {**ticket, **_ticket(job), "complete": outcome == "collected"},
        )
        return look if outcome is None else replace(look, fault=missing(outcome, message))

    async def results(self, ticket: Ticket) -> AsyncIterator[BatchResult]:
        """A job that ended otherwise than well may have no dataset of results."""
        url = f"{await self._home()}/datasets/{ticket['output']}:getDownloadEndpoint"
        found = await self._calls.found(url)
        if found is None and ticket.get("complete") and self._clock() < kept_until(ticket):
            raise BatchError(Fault(FaultKind.MISSING, "the dataset of results is not there", 404))
        files = found.get("filenameToSignedUrls") if found else None
        urls = [str(url) for _, url in sorted(files.items())] if isinstance(files, dict) else []
        # the addresses carry their own signature: our key is not for them
        async for result in self._calls.results(urls, headers={}, kept_until=kept_until(ticket)):
            yield result

    async def cancel(self, ticket: Ticket) -> None:
        """A job that has ended meanwhile is no error."""
        try:
            await self._calls.post(await self._job(ticket) + ":cancel")
        except BatchError:
            if not (await self.look(ticket)).ended:
                raise

    async def discard(self, ticket: Ticket) -> None:
        for name in ("input", "output"):
            if ticket.get(name):
                await self._calls.delete(f"{await self._home()}/datasets/{ticket[name]}")

    async def sweep(self, key: str) -> None:
        await self._calls.delete(f"{await self._home()}/datasets/{named(key)}")

    async def close(self) -> None:
        """Nothing of its own is open."""

    async def _job(self, ticket: Ticket) -> str:
        return f"{await self._home()}/batchInferenceJobs/{ticket['id']}"

    async def _home(self) -> str:
        """The account's address: the key's only one, or the one that the user named."""
        if not self._account:
            answer = await self._calls.get(f"{self._base}/accounts")
            accounts = answer.get("accounts") if isinstance(answer, dict) else None
            names = [text(account, "name") for account in accounts] if isinstance(accounts, list) else []
            if len(names) != 1:
                shown = ", ".join(names) or "none"
                hint = f"base_url: {self._base}/accounts/NAME"
                raise UsageError(f"which Fireworks account is meant? the key has: {shown}", hint=hint)
            self._account = f"{self._base}/{names[0]}"
        return self._account


def named(key: str) -> str:
    """A key as a name of theirs: small letters, digits, dashes; its end, which tells it from others, is kept."""
    return re.sub(r"[^a-z0-9]+", "-", key.lower())[-(NAME - len(output(""))) :].strip("-")


def output(name: str) -> str:
    return f"{name}-out"


def _between(completion: bool) -> str:
    if completion:
        raise UsageError("fireworks runs no raw completions in batches", hint="engine: online, or prompt_format: chat")
    return ""


def _ticket(job: Any) -> dict[str, Any]:
    name = text(job, "name").rpartition("/")[2]
    ticket: dict[str, Any] = {"id": name, "input": name, "output": output(name)}
    at = moment(job.get("createTime"))
    return ticket if at is None else ticket | {"created_at": at}


def client(endpoint: Endpoint, transport: FileTransport, *, window: str = "24h") -> FireworksBatches:
    """`window` is not theirs to choose: always 24 hours."""
    return FireworksBatches(endpoint, transport)
