"""HTTP over aiohttp: the only client import of it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from synth_cli.core.ports import HttpAnswer, HttpCall, HttpError, TransportError
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers import bodies
from synth_cli.providers.proxies import proxy_for, tls_context

CONNECT_SECONDS = 30.0
"""Most time to reach a server; the rest of a call's timeout is for its answer."""


@lru_cache(256)
def _url(text: str) -> URL:
    return URL(text)


class AiohttpTransport:
    """Keeps connections alive; how many are used at once is the caller's business.

    `environ` holds the usual variables for proxies and certificate authorities; default: this process's.
    """

    def __init__(self, *, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | bool = True
        self._proxies: dict[str, str | None] = {}

    async def send(self, call: HttpCall) -> HttpAnswer:
        """Raises TransportError: TIMEOUT when `call.timeout` seconds were not enough, CONNECTION for all else."""
        body: bytes | AsyncIterator[bytes] | None
        try:
            if type(call.body) is tuple:
                headers = {**call.headers, "content-length": str(bodies.size(call.body))}
                body = bodies.pieces(call.body)
            else:
                headers, body = call.headers, call.body  # type: ignore[assignment]
            session = self._session or self._open()
            url = _url(call.url)
            # aiohttp's own `trust_env` looks through the environment for every request: 0.3 ms
            proxy = self._proxies[call.url] if call.url in self._proxies else self._proxy(call.url, url)
            if self._tls is True and url.scheme == "https":
                self._tls = tls_context(self._environ)
            async with (
                asyncio.timeout(call.timeout),
                session.request(
                    call.method,
                    url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    proxy=proxy,
                    ssl=self._tls,
                ) as response,
            ):
                return HttpAnswer(response.status, response.headers, await response.read())
        except TimeoutError:
            raise TransportError(Fault(FaultKind.TIMEOUT, f"no answer within {call.timeout:g} s")) from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise TransportError(Fault(FaultKind.CONNECTION, str(error) or type(error).__name__)) from error

    async def lines(self, call: HttpCall) -> AsyncIterator[bytes]:
        """A body's lines as they come. `call.timeout` is the longest silence, not the time of the whole.

        Raises TransportError, and HttpError for a status that is not 200. A line of more than 64 MiB comes cut short.
        """
        splitter = bodies.Splitter()
        try:
            session = self._session or self._open()
            url = URL(call.url)
            if self._tls is True and url.scheme == "https":
                self._tls = tls_context(self._environ)
            async with session.request(
                call.method,
                url,
                headers=call.headers,
                allow_redirects=False,
                proxy=proxy_for(url.scheme, url.host or "", url.port or 0, self._environ),
                ssl=self._tls,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=call.timeout),
            ) as response:
                if response.status != 200:
                    raise HttpError(HttpAnswer(response.status, response.headers, await response.read()))
                async for piece in response.content.iter_any():
                    for line in splitter.feed(piece):
                        yield line
                if rest := splitter.rest():
                    yield rest
        except TimeoutError:
            raise TransportError(Fault(FaultKind.TIMEOUT, f"nothing came for {call.timeout:g} s")) from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise TransportError(Fault(FaultKind.CONNECTION, str(error) or type(error).__name__)) from error

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )
        return self._session

    def _proxy(self, text: str, url: URL) -> str | None:
        found = proxy_for(url.scheme, url.host or "", url.port or 0, self._environ)
        self._proxies[text] = found
        return found

    async def close(self) -> None:
        """Closes every connection; the transport can be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
