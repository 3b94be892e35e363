"""One HTTP/1.1 connection from the client's side: bytes in, answers out. Source: RFC 9112."""

from __future__ import annotations

import asyncio
import zlib

from multidict import CIMultiDict

from synth_cli.core.ports import HttpAnswer

HEAD_BYTES = 256 * 1024
"""Most bytes of headers, or of one chunk's size."""
BODY_BYTES = 1 << 30


class BrokenError(Exception):
    """The connection cannot give the answer any more."""


class Connection(asyncio.Protocol):
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
            waiter.set_exception(BrokenError(message))

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
