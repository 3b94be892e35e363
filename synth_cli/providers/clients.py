"""A client for an endpoint, the body it would send, and what a kept answer says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from synth_cli.core.ports import Client, Exchange, HttpCall, Transport, TransportError
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.core.request import Request
from synth_cli.providers import codecs, limits, sse
from synth_cli.providers.encoders import Encoders
from synth_cli.providers.faults import fault_of, masked
from synth_cli.providers.openai import READERS, BodyError, StatedError, encoder
from synth_cli.providers.resolve import Endpoint
from synth_cli.spec.secrets import SHORTEST, is_secret_header

if TYPE_CHECKING:
    from synth_cli.providers.http import AiohttpTransport


class HttpClient:
    """Speaks OpenAI's protocol to one endpoint. A transport that is given is closed by whoever made it."""

    def __init__(self, endpoint: Endpoint, transport: Transport | None = None) -> None:
        self._endpoint = endpoint
        self._own: AiohttpTransport | None = None
        if transport is None:
            from synth_cli.providers.http import AiohttpTransport

            transport = self._own = AiohttpTransport()
        self._transport = transport
        self._headers = headers(endpoint)
        self._chat, self._completion = endpoint.url(), endpoint.url(completion=True)
        self._dialect = limits.DIALECTS.get(endpoint.host.limits)
        self._secrets = secrets(endpoint)
        self._encoders = Encoders(lambda terms: encoder(terms, endpoint.host, stream=endpoint.stream))

    async def ask(self, request: Request) -> Exchange:
        encode = self._encoders.of(request.terms)
        call = HttpCall(
            "POST",
            self._completion if encode.completion else self._chat,
            self._headers,
            encode.encode(request),
            self._endpoint.timeout,
        )
        try:
            answer = await self._transport.send(call)
        except TransportError as error:
            return Exchange(fault=error.fault)
        return self._exchange(encode.protocol, answer.status, answer.headers, answer.body)

    def _exchange(self, protocol: str, status: int, headers: Any, body: bytes) -> Exchange:
        stated = limits.read(headers, self._dialect, time.time()) if self._dialect is not None else None
        if status < 200 or status >= 300:
            fault = fault_of(status, headers, body, now=time.time(), secrets=self._secrets)
            return Exchange(None, self._unusable(protocol, body) if body else None, fault, stated)
        try:
            if body[:1] != b"{" and sse.is_stream(headers.get("content-type", ""), body):
                body = sse.assemble(body)
            reply = READERS[protocol](body)
        except sse.BrokenStreamError as error:
            return Exchange(None, self._unusable(protocol, body), Fault(FaultKind.CONNECTION, str(error)), stated)
        except StatedError:
            fault = fault_of(status, headers, body, now=time.time(), secrets=self._secrets)
            return Exchange(None, self._unusable(protocol, body), fault, stated)
        except BodyError as error:
            fault = Fault(FaultKind.MALFORMED, masked(str(error), self._secrets), status)
            return Exchange(None, self._unusable(protocol, body), fault, stated)
        return Exchange(reply, Answer(protocol, body), None, stated)

    def _unusable(self, protocol: str, body: bytes) -> Answer:
        return Answer(protocol, codecs.without(body, self._secrets))

    async def close(self) -> None:
        """Closes the transport, if it is this client's own."""
        if self._own is not None:
            await self._own.close()


def client(endpoint: Endpoint, transport: Transport | None) -> Client:
    """The client for an endpoint; without a transport it has one of its own."""
    if endpoint.host.litellm:
        from synth_cli.providers.litellm import LitellmClient

        return LitellmClient(endpoint)
    return HttpClient(endpoint, transport)


def body(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """The JSON body that `request` is sent as."""
    if endpoint.host.litellm:
        from synth_cli.providers.litellm import arguments

        return arguments(endpoint, request)
    made = encoder(request.terms, endpoint.host, stream=endpoint.stream)
    sent: dict[str, Any] = orjson.loads(made.encode(request))
    return sent


def read(answer: Answer) -> Reply:
    """What a kept answer says. Raises BodyError where that cannot be told; never for one that was accepted."""
    reader = codecs.READERS.get(answer.protocol)
    if reader is None:
        raise BodyError(f"no codec for answers of protocol '{answer.protocol}'")
    return reader(answer.body)


def headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers of every request, the user's own last."""
    sent = {"content-type": "application/json", "accept": "application/json", "user-agent": "synth-cli"}
    if endpoint.stream:
        sent["accept"] = "text/event-stream"
    if endpoint.api_key:
        if endpoint.host.auth == "api-key":
            sent["api-key"] = endpoint.api_key
        else:
            sent["authorization"] = f"Bearer {endpoint.api_key}"
    return sent | {name.lower(): value for name, value in endpoint.headers.items()}


def secrets(endpoint: Endpoint) -> tuple[str, ...]:
    """What must not be shown when a server repeats it."""
    found = [endpoint.api_key or ""]
    for name, value in endpoint.headers.items():
        if is_secret_header(name):
            # with and without the word before it: 'Bearer …'
            found += [value, value.rpartition(" ")[2]]
    return tuple(dict.fromkeys(secret for secret in found if len(secret) >= SHORTEST))
