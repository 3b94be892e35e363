from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from synth_cli.core.ports import Exchange, HttpAnswer, HttpCall, RateLimits, TransportError
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.core.request import Request, Terms
from synth_cli.providers.clients import body, client, read
from synth_cli.providers.encoders import MOST
from synth_cli.providers.openai import BodyError
from synth_cli.providers.resolve import resolve

ENDPOINT = resolve("openai/m", api_key="key-1234", headers={"X-Team": "a"}, timeout=9, environ={})
TERMS = Terms("openai", "m", params={"max_tokens": 3})
USER = ({"role": "user", "content": "hi"},)
SAID = orjson.dumps({"model": "m", "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]})


@dataclass
class Wire:
    """A transport that answers from a value."""

    answer: HttpAnswer | Fault = field(default_factory=lambda: HttpAnswer(200, {}, SAID))
    calls: list[HttpCall] = field(default_factory=list)

    async def send(self, call: HttpCall) -> HttpAnswer:
        self.calls.append(call)
        if isinstance(self.answer, Fault):
            raise TransportError(self.answer)
        return self.answer


def _asked(wire: Wire, *requests: Request, endpoint: Any = ENDPOINT) -> list[Exchange]:
    async def run() -> list[Exchange]:
        asking = client(endpoint, wire)
        return [await asking.ask(request) for request in requests]

    return asyncio.run(run())


def test_a_call_has_all_that_the_endpoint_says() -> None:
    """Address, key, the user's headers, timeout, and the body that `preview` shows."""
    wire, request = Wire(), Request(b"", TERMS, USER)
    _asked(wire, request)
    call = wire.calls[0]
    assert (call.method, call.url, call.timeout) == ("POST", "https://api.openai.com/v1/chat/completions", 9)
    assert {"authorization": "Bearer key-1234", "x-team": "a"}.items() <= call.headers.items()
    assert orjson.loads(call.body or b"") == body(ENDPOINT, request)
    _asked(wire, Request(b"", Terms("openai", "m", completion=True), prompt="once"))
    assert wire.calls[1].url == "https://api.openai.com/v1/completions"


def test_an_exchange_keeps_what_was_said() -> None:
    """The reply, the bytes it was read from, and the limits of the headers."""
    wire = Wire(HttpAnswer(200, {"x-ratelimit-remaining-requests": "5"}, SAID))
    reply = Reply("yes", "stop", "m", raw=orjson.loads(SAID))
    assert _asked(wire, Request(b"", TERMS, USER)) == [
        Exchange(reply, Answer("openai", SAID), None, RateLimits(remaining_requests=5))
    ]


@pytest.mark.parametrize(
    ("answer", "kind", "kept"),
    [
        (Fault(FaultKind.CONNECTION, "gone"), FaultKind.CONNECTION, None),
        (HttpAnswer(500, {}, b""), FaultKind.SERVER_ERROR, None),
        (HttpAnswer(500, {}, b"oops"), FaultKind.SERVER_ERROR, b"oops"),
        (HttpAnswer(200, {}, b"oops"), FaultKind.MALFORMED, b"oops"),
        (HttpAnswer(200, {}, b'{"error":{"code":429}}'), FaultKind.RATE_LIMITED, b'{"error":{"code":429}}'),
        (HttpAnswer(200, {}, b"data: {}\n\n"), FaultKind.CONNECTION, b"data: {}\n\n"),
        (HttpAnswer(200, {}, b'data: {"error":{"code":503,"message":"overloaded"}}\n\n'), FaultKind.OVERLOADED,
         b'{"error":{"code":503,"message":"overloaded"}}'),
        (HttpAnswer(200, {"content-type": "text/event-stream"}, b""), FaultKind.CONNECTION, b""),
    ],
)  # fmt: skip
def test_whatever_comes_is_an_exchange(answer: Any, kind: FaultKind, kept: bytes | None) -> None:
    """Never an exception; a body that could not be used is kept beside its fault."""
    (exchange,) = _asked(Wire(answer), Request(b"", TERMS, USER))
    assert exchange.reply is None
    assert exchange.fault is not None
    assert exchange.fault.kind is kind
    assert exchange.answer == (None if kept is None else Answer("openai", kept))


def test_terms_of_each_row_do_not_pile_up() -> None:
    """Tools per row make terms per row: each is sent rightly, few are kept."""
    wire = Wire()
    tools = [({"type": "function", "function": {"name": f"f{n}"}},) for n in range(3 * MOST)]
    _asked(wire, *(Request(b"", Terms("openai", "m", tools=tool), USER) for tool in tools))
    sent = [orjson.loads(call.body or b"")["tools"] for call in wire.calls]
    assert sent == [list(tool) for tool in tools]


def test_an_answer_of_an_unknown_protocol_says_so() -> None:
    """A ledger of a newer version may hold one."""
    with pytest.raises(BodyError, match="telegraph"):
        read(Answer("telegraph", b""))


def test_a_client_without_a_transport_closes_its_own() -> None:
    """Nothing is left open after `close`."""

    async def run() -> Exchange:
        asking = client(resolve("m", base_url="http://127.0.0.1:1/v1", environ={}), None)
        try:
            return await asking.ask(Request(b"", TERMS, USER))
        finally:
            await asking.close()

    fault = asyncio.run(run()).fault
    assert fault is not None
    assert fault.kind is FaultKind.UNREACHABLE
