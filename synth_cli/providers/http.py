"""HTTP over aiohttp: the only client import of it. One method, every failure a `TransportError`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache

import aiohttp
from yarl import URL

from synth_cli.core.ports import HttpAnswer, HttpCall, TransportError
from synth_cli.core.reply import Fault, FaultKind

CONNECT_SECONDS = 30.0
"""Most time to reach a server; the rest of a call's timeout is for its answer."""


@lru_cache(256)
def _url(text: str) -> URL:
    return URL(text)


class AiohttpTransport:
    """Keep-alive connections, at most `limit` at once; proxies and certificate authorities from the environment."""

    def __init__(self, limit: int = 256, *, environ: Mapping[str, str] | None = None) -> None:
        self._limit = limit
        self._environ = environ or {}
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        bundle = next((self._environ[name] for name in CA_VARIABLES if self._environ.get(name)), None)
        context: ssl.SSLContext | bool = ssl.create_default_context(cafile=bundle) if bundle else True
        connector = aiohttp.TCPConnector(limit=0, ssl=context, ttl_dns_cache=300, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
            auto_decompress=True,
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=CONNECT_SECONDS),
        )
        return self._session

    async def send(self, call: HttpCall) -> HttpAnswer:
        """Raises TransportError: TIMEOUT when `call.timeout` seconds were not enough, CONNECTION for all else."""
        session = self._session or self._open()
        try:
            async with asyncio.timeout(call.timeout):
                async with session.request(
                    call.method, _url(call.url), data=call.body, headers=call.headers, allow_redirects=False
                ) as response:
                    body = await response.read()
                    return HttpAnswer(response.status, response.headers, body)
        except TimeoutError:
            raise TransportError(Fault(FaultKind.TIMEOUT, f"no answer within {call.timeout:g} s")) from None
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError) as error:
            raise TransportError(Fault(FaultKind.CONNECTION, str(error) or type(error).__name__)) from error

    async def close(self) -> None:
        """Closes every connection; the transport can be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
