"""HTTP/1.1 straight over asyncio, for what a model's endpoint needs: one POST, one whole answer, kept connections.

Source: RFC 9112. Costs about a third of a general client's CPU time for each request, which at a few thousand
requests a second is what the client spends most on. What it does not do (proxies, credentials in a URL) goes through
the general client.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from synth_cli.core.ports import HttpAnswer, HttpCall, TransportError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.connection import BrokenError, Connection
from synth_cli.providers.proxies import proxy_for, tls_context

if TYPE_CHECKING:
    from synth_cli.providers.http import AiohttpTransport

CONNECT_SECONDS = 30.0
"""Most time to reach a server; the rest of a call's timeout is for its answer."""
IDLE_SECONDS = 30.0
"""A connection that was not used for so long is not used again: servers and middle boxes forget them."""
HEADS = 64
"""Prepared heads that are kept: one for each endpoint and its headers."""


@dataclass(slots=True)
class _Origin:
    """One server: its address, and the connections to it that are free."""

    host: str
    port: int
    tls: bool
    proxied: bool
    """Sent through the general client."""
    free: list[Connection] = field(default_factory=list)


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
        self._busy: set[Connection] = set()
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
        except BrokenError as error:
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

    def _free(self, origin: _Origin, now: float) -> Connection | None:
        while origin.free:
            connection = origin.free.pop()
            if connection.reusable:
                if now - connection.idle_since < IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    async def _connect(self, origin: _Origin, timeout: float) -> Connection:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        try:
            if origin.tls and self._tls is None:
                self._tls = tls_context(self._environ)
            async with asyncio.timeout(min(timeout, CONNECT_SECONDS)):
                _, connection = await loop.create_connection(
                    Connection, origin.host, origin.port, ssl=self._tls if origin.tls else None
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
