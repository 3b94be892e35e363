"""HTTP calls about batches: JSON in and out, files up and down; whatever fails is a `BatchError`."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urljoin, urlsplit

import orjson

from synth_cli.core.ports import BatchError, BatchResult, FileTransport, HttpAnswer, HttpCall, HttpError, TransportError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.batches import lines
from synth_cli.providers.bodies import multipart, size
from synth_cli.providers.faults import fault_of

UPLOAD_RATE = 50_000
"""Bytes a second that an upload is given time for, at least."""
REDIRECTS = 5
BROKEN = 10_000
"""Broken lines that are held back until all others are read."""
GONE = frozenset({404, 410})
Read: TypeAlias = Callable[..., BatchResult | None]
"""A line, `now` and `secrets` → what the line says."""
OPENAI: Read = lines.result
ABSENT = frozenset({404, 405, 501})


@contextmanager
def preparing() -> Iterator[None]:
    """What goes before the call that makes a batch: where it fails, there is no batch."""
    try:
        yield
    except BatchError as error:
        raise BatchError(error.fault, made=False) from error


@dataclass(frozen=True, slots=True)
class Calls:
    """One provider's address and credentials. `timeout` in seconds for a call without a file, or a silence in one."""

    transport: FileTransport
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout: float = 120.0
    clock: Callable[[], float] = time.time

    async def get(self, url: str) -> Any:
        """JSON. Nothing is spent by asking, so that no refusal ends more than this attempt or the run."""
        try:
            return await self.ask("GET", url)
        except BatchError as error:
            raise BatchError(_patient(error.fault)) from None

    async def found(self, url: str) -> Any | None:
        """JSON, or None where the provider knows no such thing."""
        answer = await self._send(HttpCall("GET", url, self.headers, None, self.timeout))
        if answer.status in GONE:
            return None
        if not 200 <= answer.status < 300:
            raise BatchError(_patient(self.fault(answer)))
        return _json(answer)

    async def post(self, url: str, body: Mapping[str, Any] | None = None) -> Any:
        return await self.ask("POST", url, orjson.dumps(body or {}))

    async def delete(self, url: str) -> None:
        """What is gone already is no error."""
        answer = await self._send(HttpCall("DELETE", url, self.headers, None, self.timeout))
        if not 200 <= answer.status < 300 and answer.status not in GONE:
            raise BatchError(_patient(self.fault(answer)))

    async def ask(self, method: str, url: str, body: bytes | None = None) -> Any:
        answer = await self._send(HttpCall(method, url, self.headers, body, self.timeout))
        return self._read(answer)

    async def send(self, call: HttpCall, *, signed: bool = True) -> HttpAnswer:
        """An answer with its headers; one that is not of success is an error. `signed`: with the credentials."""
        answer = await self._send(replace(call, headers={**self.headers, **call.headers}) if signed else call)
        if not 200 <= answer.status < 300:
            raise BatchError(self._refusal(answer))
        return answer

    async def upload(self, url: str, fields: Mapping[str, str], file: Path, filename: str) -> Any:
        """A form with a file, streamed from the disk."""
        headers, body = multipart(fields, file, filename=filename)
        timeout = self.timeout + size(body) / UPLOAD_RATE
        return self._read(await self._send(HttpCall("POST", url, {**self.headers, **headers}, body, timeout)))

    async def lines(self, url: str, *, headers: Mapping[str, str] | None = None) -> AsyncGenerator[bytes, None]:
        """A file's lines. Redirects are followed; the credentials stay with the address they are for."""
        sent = self.headers if headers is None else headers
        for _ in range(REDIRECTS):
            call = HttpCall("GET", url, sent, None, self.timeout)
            try:
                async with aclosing(self.transport.lines(call)) as found:  # type: ignore[type-var]
                    async for line in found:
                        yield line
                return
            except HttpError as error:
                if error.answer.status in GONE:
                    said = self.fault(error.answer).message
                    fault = Fault(FaultKind.MISSING, f"the results are not there: {said}", error.answer.status)
                    raise BatchError(fault) from None
                location = error.answer.headers.get("location")
                if not 300 <= error.answer.status < 400 or not location:
                    raise BatchError(_patient(self.fault(error.answer))) from None
                there = urljoin(url, location)
                if urlsplit(there)[:2] != urlsplit(url)[:2]:
                    sent = {"user-agent": self.headers.get("user-agent", "")}
                url = there
            except TransportError as error:
                raise BatchError(error.fault) from None
        raise BatchError(Fault(FaultKind.SERVER_ERROR, "redirected too often"))

    async def results(
        self,
        urls: Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        kept_until: float = math.inf,
        read: Read = OPENAI,
    ) -> AsyncIterator[BatchResult]:
        """What the lines of some files say, one file after the other; `read` knows how they are written.

        A file that the provider does not have is an error to try again; from `kept_until` on it is an empty file.
        """
        now = self.clock()
        broken: list[BatchResult] = []
        for url in urls:
            try:
                async with aclosing(self.lines(url, headers=headers)) as found:
                    async for line in found:
                        result = read(line, now=now, secrets=self.secrets)
                        if result is None:
                            continue
                        fault = result.exchange.fault
                        unread = fault is not None and fault.kind is FaultKind.MALFORMED and not result.exchange.answer
                        if unread and len(broken) < BROKEN:
                            # a whole line for the same id may still come, and the first outcome counts
                            broken.append(result)
                            continue
                        yield result
            except BatchError as error:
                if error.fault.status not in GONE or now < kept_until:
                    raise
        for result in broken:
            yield result

    async def forget(self, url: str) -> None:
        """Deletes what a refused batch left, as far as that can be done: what matters is why it was refused."""
        with suppress(BatchError):
            await self.delete(url)

    def fault(self, answer: HttpAnswer) -> Fault:
        return fault_of(answer.status, answer.headers, answer.body, now=self.clock(), secrets=self.secrets)

    async def _send(self, call: HttpCall) -> HttpAnswer:
        try:
            return await self.transport.send(call)
        except TransportError as error:
            raise BatchError(error.fault) from None

    def _read(self, answer: HttpAnswer) -> Any:
        if 200 <= answer.status < 300:
            return _json(answer)
        raise BatchError(self._refusal(answer))

    def _refusal(self, answer: HttpAnswer) -> Fault:
        fault = self.fault(answer)
        if answer.status in ABSENT and "model" not in fault.message.lower():
            message = f"{fault.message}; if this server has no batches: engine: online"
            return replace(fault, kind=FaultKind.UNKNOWN_MODEL, message=message)
        return fault


def _json(answer: HttpAnswer) -> Any:
    try:
        return orjson.loads(answer.body) if answer.body.strip() else {}
    except orjson.JSONDecodeError:
        shown = " ".join(answer.body[:200].decode("utf-8", "replace").split())
        raise BatchError(Fault(FaultKind.MALFORMED, f"not JSON: {shown}", answer.status)) from None


def _patient(fault: Fault) -> Fault:
    """A refusal to a question: what was asked about may have been paid for, so it is asked again."""
    return replace(fault, kind=FaultKind.SERVER_ERROR) if fault.scope == "row" else fault
