"""HTTP/1.1 straight over asyncio, for what a model's endpoint needs: one POST, one whole answer, kept connections.

Source: RFC 9112. Costs about a third of a general client's CPU time for each request, which at a few thousand
requests a second is what the client spends most on. What it does not do (proxies, credentials in a URL) goes through
the general client.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from multidict import CIMultiDict

from synth_cli.core.ports import HttpAnswer, HttpCall, TransportError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.proxies import proxy_for, tls_context

if TYPE_CHECKING:
    from synth_cli.providers.http import AiohttpTransport

CONNECT_SECONDS = 30.0
"""Most time to reach a server; the rest of a call's timeout is for its answer."""
IDLE_SECONDS = 30.0
"""A connection that was not used for so long is not used again: servers and middle boxes forget them."""
HEAD_BYTES = 256 * 1024
BODY_BYTES = 1 << 30
HEADS = 64
"""Prepared heads that are kept: one for each endpoint and its headers."""


class _BrokenError(Exception):
    """The connection cannot give the answer any more."""


class _Connection(asyncio.Protocol):
    """One connection, one answer at a time. `waiter` gets the answer, or the error that took its place."""

    __slots__ = ("_at", "_buffer", "_chunks", "_head", "_need", "_transport", "idle_since", "reusable", "waiter")

    def __init__(self) -> None:
        self.waiter: asyncio.Future[HttpAnswer] | None = None
        self.reusable = True
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._reset()

    def _reset(self) -> None:
        self._buffer: bytearray | None = None
        self._head: tuple[int, CIMultiDict[str]] | None = None
        self._at = 0
        self._need = 0
        self._chunks: list[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def ask(self, waiter: asyncio.Future[HttpAnswer], data: bytes) -> None:
        assert self._transport is not None
        self.waiter = waiter
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.waiter is None:
            # nothing was asked: whatever this is, the next answer would be read wrongly
            self.close()
            return
        if self._buffer is not None:
            self._buffer += data
        try:
            self._read(data if self._buffer is None else self._buffer)
        except ValueError as error:
            self.fail(f"the server does not speak HTTP/1.1: {error}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        if self.waiter is None:
            return
        if error is None and self._head is not None and self._need < 0 and self._buffer is not None:
            self._finish(bytes(self._buffer[self._at :]))
            return
        self.fail(f"connection lost: {error}" if error else "the server closed the connection before its answer ended")

    def fail(self, message: str) -> None:
        waiter, self.waiter = self.waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(_BrokenError(message))

    def expire(self) -> None:
        waiter, self.waiter = self.waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(TimeoutError())

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            # a connection given up has nothing left to say; close() would wait for its buffer
            self._transport.abort()

    def _read(self, data: bytes | bytearray) -> None:
        """Reads as far as the data goes. Raises ValueError for what is not HTTP."""
        if self._head is None and not self._read_head(data):
            if len(data) > HEAD_BYTES:
                raise ValueError("endless headers")
            if self._buffer is None:
                self._buffer = bytearray(data)
            return
        if self._chunks is not None:
            if self._buffer is None:
                self._buffer = bytearray(data)
            self._read_chunks(self._buffer)
            return
        have = len(data) - self._at
        if 0 <= self._need <= have:
            if have > self._need:
                self.reusable = False
            self._finish(bytes(data[self._at : self._at + self._need]))
            return
        if have > BODY_BYTES:
            raise ValueError("endless body")
        if self._buffer is None:
            self._buffer = bytearray(data)

    def _read_head(self, data: bytes | bytearray) -> bool:
        while True:
            end = data.find(b"\r\n\r\n", self._at)
            if end < 0:
                return False
            lines = data[self._at : end].decode("latin-1").split("\r\n")
            self._at = end + 4
            version, _, rest = lines[0].partition(" ")
            if not version.startswith("HTTP/1."):
                raise ValueError(lines[0][:80])
            status = int(rest[:3])
            if status >= 200:
                break
        headers: CIMultiDict[str] = CIMultiDict()
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(line[:80])
            headers.add(name, value.strip())
        connection = headers.get("connection")
        if version == "HTTP/1.0" or (connection is not None and "close" in connection.lower()):
            self.reusable = False
        length = headers.get("content-length")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunks = []
        elif status in (204, 304):
            self._need = 0
        elif length is None:
            self._need = -1
            self.reusable = False
        elif not length.isascii() or not length.isdigit():
            raise ValueError(f"content-length: {length[:80]}")
        else:
            self._need = int(length)
        self._head = (status, headers)
        return True

    def _read_chunks(self, buffer: bytearray) -> None:
        assert self._chunks is not None
        at = self._at
        while (end := buffer.find(b"\r\n", at)) >= 0:
            size = int(bytes(buffer[at:end]).partition(b";")[0], 16)
            if size < 0 or size > BODY_BYTES:
                raise ValueError("a chunk size out of bounds")
            if size == 0:
                # trailers, then an empty line
                close = buffer.find(b"\r\n\r\n", end)
                if close >= 0:
                    self.reusable = self.reusable and len(buffer) == close + 4
                    self._finish(b"".join(self._chunks))
                    return
                break
            after = end + 2 + size
            if len(buffer) < after + 2:
                break
            if buffer[after : after + 2] != b"\r\n":
                raise ValueError("a chunk without an end")
            self._chunks.append(bytes(buffer[end + 2 : after]))
            at = after + 2
        # what is read is dropped, so that a long stream is neither searched nor held twice
        del buffer[:at]
        self._at = 0
        if end < 0 and len(buffer) > HEAD_BYTES:
            raise ValueError("an endless chunk size")

    def _finish(self, body: bytes) -> None:
        assert self._head is not None
        status, headers = self._head
        waiter, self.waiter = self.waiter, None
        self._reset()
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding.lower() != "identity":
            try:
                body = _decoded(body, encoding.lower())
            except (ValueError, zlib.error) as error:
                self.waiter = waiter
                self.fail(f"the body cannot be decoded: {error}")
                return
        if waiter is not None and not waiter.done():
            waiter.set_result(HttpAnswer(status, headers, body))


def _decoded(body: bytes, encoding: str) -> bytes:
    """A body that a server compressed without being asked to."""
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompress(body, 31)
    if encoding == "deflate":
        return zlib.decompress(body, 15 if body[:1] == b"\x78" else -15)
    raise ValueError(f"content-encoding {encoding}")


@dataclass(slots=True)
class _Origin:
    """One server: its address, and the connections to it that are free."""

    host: str
    port: int
    tls: bool
    proxied: bool
    """Sent through the general client."""
    free: list[_Connection] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Head:
    origin: _Origin
    start: bytes
    """Everything up to the value of content-length."""
    headers: Mapping[str, str]
    """Kept so that their id stays theirs."""


class DirectTransport:
    """Keeps up to `limit` free connections to each server; how many are used at once is the caller's business.

    `environ` holds the usual variables for proxies and certificate authorities; default: this process's.
    """

    def __init__(self, limit: int = 256, *, environ: Mapping[str, str] | None = None) -> None:
        self.limit = limit
        self._environ = os.environ if environ is None else environ
        self._heads: dict[tuple[str, str, int], _Head] = {}
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._busy: set[_Connection] = set()
        self._tls: ssl.SSLContext | None = None
        self._other: AiohttpTransport | None = None

    async def send(self, call: HttpCall) -> HttpAnswer:
        """Raises TransportError: TIMEOUT when `call.timeout` seconds were not enough, CONNECTION for all else."""
        head = self._heads.get((call.method, call.url, id(call.headers))) or self._head(call)
        origin = head.origin
        if origin.proxied:
            return await self._through_other(call)
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = self._free(origin, began) or await self._connect(origin, call.timeout)
        waiter: asyncio.Future[HttpAnswer] = loop.create_future()
        timer = loop.call_at(began + call.timeout, connection.expire)
        self._busy.add(connection)
        try:
            body = call.body or b""
            connection.ask(waiter, b"%b%d\r\n\r\n%b" % (head.start, len(body), body))
            return await waiter
        except _BrokenError as error:
            raise TransportError(Fault(FaultKind.CONNECTION, str(error))) from None
        except TimeoutError:
            raise TransportError(Fault(FaultKind.TIMEOUT, f"no answer within {call.timeout:g} s")) from None
        finally:
            timer.cancel()
            self._busy.discard(connection)
            if connection.waiter is not None:
                # cancelled: the answer would come to the next request
                connection.waiter = None
                connection.close()
            elif connection.reusable and len(origin.free) < self.limit:
                connection.idle_since = loop.time()
                origin.free.append(connection)
            else:
                connection.close()

    def _free(self, origin: _Origin, now: float) -> _Connection | None:
        while origin.free:
            connection = origin.free.pop()
            if connection.reusable:
                if now - connection.idle_since < IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    async def _connect(self, origin: _Origin, timeout: float) -> _Connection:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        try:
            if origin.tls and self._tls is None:
                self._tls = tls_context(self._environ)
            async with asyncio.timeout(min(timeout, CONNECT_SECONDS)):
                _, connection = await loop.create_connection(
                    _Connection, origin.host, origin.port, ssl=self._tls if origin.tls else None
                )
                return connection
        except TimeoutError:
            message = f"no connection to {origin.host}:{origin.port} in time"
            raise TransportError(Fault(FaultKind.TIMEOUT, message)) from None
        except (OSError, ValueError) as error:
            message = f"no connection to {origin.host}:{origin.port}: {error}"
            raise TransportError(Fault(FaultKind.CONNECTION, message)) from error

    async def _through_other(self, call: HttpCall) -> HttpAnswer:
        if self._other is None:
            from synth_cli.providers.http import AiohttpTransport

            self._other = AiohttpTransport(self.limit, environ=self._environ)
        return await self._other.send(call)

    def _head(self, call: HttpCall) -> _Head:
        """Raises TransportError for an address or a header that cannot be sent."""
        try:
            parts = urlsplit(call.url)
            tls = parts.scheme == "https"
            host, port = parts.hostname or "", parts.port or (443 if tls else 80)
            if parts.scheme not in ("http", "https") or not host:
                raise ValueError(f"not an address: {call.url}")
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            netloc = parts.netloc.rpartition("@")[2]
            sent = {"host": netloc, "accept-encoding": "identity"}
            sent |= {name.lower(): value for name, value in call.headers.items()}
            lines = [f"{call.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
            bad = next((line for line in lines if any(sign in line for sign in "\r\n\0")), None)
            if bad is not None:
                raise ValueError(f"a line break in header {bad.partition(':')[0]}")
            start = "\r\n".join(lines).encode() + b"\r\ncontent-length: "
        except ValueError as error:
            raise TransportError(Fault(FaultKind.CONNECTION, str(error))) from error
        place = (parts.scheme, host, port)
        origin = self._origins.get(place)
        if origin is None:
            # credentials, names that need encoding and proxies are left to a general client
            plain = call.url.isascii() and "@" not in parts.netloc
            proxied = not plain or proxy_for(parts.scheme, host, port, self._environ) is not None
            origin = self._origins[place] = _Origin(host, port, tls, proxied)
        if len(self._heads) >= HEADS:
            self._heads.clear()
        head = self._heads[call.method, call.url, id(call.headers)] = _Head(origin, start, call.headers)
        return head

    async def close(self) -> None:
        """Closes every connection; what is still waiting for an answer fails."""
        for origin in self._origins.values():
            for connection in origin.free:
                connection.close()
            origin.free.clear()
        for connection in list(self._busy):
            connection.fail("the transport was closed")
        other, self._other = self._other, None
        if other is not None:
            await other.close()
        # lets the connections' own closing callbacks run
        await asyncio.sleep(0)
