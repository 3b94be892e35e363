"""HTTP over aiohttp: the only client import of it."""

from __future__ import annotations

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
from synth_cli.providers.deadlines import Deadlines
from synth_cli.providers.proxies import proxy_for, tls_context

CONNECT_SECONDS = 30.0
"""Most time to reach a server; the rest of a call's timeout is for its answer."""

LARGEST = 256 << 20
"""Bytes of the largest answer that is taken: a server's mistake must not fill the memory."""
BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
"""All that aiohttp raises for what a server or the network does."""
UNMADE = (aiohttp.ClientConnectorError, aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
"""Those that it raises before there is a connection."""


class _Connector(aiohttp.TCPConnector):
    """Hands out no kept connection on which something came that nobody asked for: it would be taken for an answer."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()


def _fault(error: BaseException) -> Fault:
    """A connection that broke, in words that are text whatever the server sent."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        said = f"the certificate of {error.host} is not trusted: {why} (an authority of your own: SSL_CERT_FILE)"
        return Fault(FaultKind.UNREACHABLE, said)
    # aiohttp says this of every address, whether TLS is spoken there or not
    words = str(error).replace(" ssl:default", "").encode(errors="replace").decode()
    # nothing was sent where no connection came about, so nothing can have been charged
    unmade = isinstance(error, UNMADE)
    return Fault(FaultKind.UNREACHABLE if unmade else FaultKind.CONNECTION, words or type(error).__name__)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises TransportError for one that is too large, as soon as that shows."""
    length = response.content_length
    if length is not None and length <= LARGEST and "content-encoding" not in response.headers:
        return await response.read()
    pieces: list[bytes] = []
    size = 0
    while max(size, length or 0) <= LARGEST:
        piece = await response.content.readany()
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    response.close()
    raise TransportError(Fault(FaultKind.CONNECTION, f"the answer is larger than {LARGEST >> 20} MiB"))


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
        self._deadlines = Deadlines()
        self._proxies: dict[str, str | None] = {}

    async def send(self, call: HttpCall) -> HttpAnswer:
        """Raises TransportError: TIMEOUT when `call.timeout` seconds were not enough, UNREACHABLE when no connection
        came about, CONNECTION for all else."""
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
            with self._deadlines.within(call.timeout):
                async with session.request(
                    call.method,
                    url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    proxy=proxy,
                    ssl=self._tls,
                ) as response:
                    return HttpAnswer(response.status, response.headers, await _read(response))
        except TimeoutError:
            raise TransportError(Fault(FaultKind.TIMEOUT, f"no answer within {call.timeout:g} s")) from None
        except BROKEN as error:
            raise TransportError(_fault(error)) from error

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
                    raise HttpError(HttpAnswer(response.status, response.headers, await _read(response)))
                async for piece in response.content.iter_any():
                    for line in splitter.feed(piece):
                        yield line
                if rest := splitter.rest():
                    yield rest
        except TimeoutError:
            raise TransportError(Fault(FaultKind.TIMEOUT, f"nothing came for {call.timeout:g} s")) from None
        except BROKEN as error:
            raise TransportError(_fault(error)) from error

    def _open(self) -> aiohttp.ClientSession:
        connector = _Connector(limit=0, ttl_dns_cache=300)
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
