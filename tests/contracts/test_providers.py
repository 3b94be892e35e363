"""The same cases for every way to a provider: each host of the table, streamed or not, and LiteLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web

from synth_cli.core.ports import Exchange
from synth_cli.core.reply import FaultKind, Usage
from synth_cli.core.request import Constraint, Request, Terms
from synth_cli.providers.clients import body, client, read
from synth_cli.providers.hosts import HOSTS
from synth_cli.providers.resolve import Endpoint, resolve

pytestmark = pytest.mark.filterwarnings("ignore:.*Pydantic will not protect items")

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
KEY = "key-that-is-secret-0123456789"

OPENAI = tuple(HOSTS)
WAYS = (*OPENAI, "anthropic")
STREAMED = ("openai", "mistral", "vllm", "anthropic")


def _openai_answer(text: str) -> Any:
    return {
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }


def _anthropic_answer(text: str) -> Any:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 4},
    }


def _openai_events(text: str) -> bytes:
    events: list[Any] = [
        {"model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": part}}]} for part in text
    ]
    events.append({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"model": "m", "choices": [], "usage": _openai_answer("")["usage"]})
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def _anthropic_events(text: str) -> bytes:
    start = {
        **_anthropic_answer(""),
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    events: list[Any] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}} for t in text),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events)


def _error(way: str, status: int, message: str, kind: str = "") -> Callable[[web.Request], web.Response]:
    error = {"type": kind or "some_error", "message": message}
    said = {"type": "error", "error": error} if way == "anthropic" else {"error": {**error, "code": None}}
    return lambda _: web.json_response(said, status=status, headers={"retry-after": "7"})


Answering = Callable[[web.Request], Any]


@asynccontextmanager
async def _serving(answering: Answering) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that answers every POST so, and keeps what it was asked."""
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, dict(request.headers), await request.json()))
        answer = answering(request)
        response: web.StreamResponse = await answer if asyncio.iscoroutine(answer) else answer
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


def _endpoint(way: str, base_url: str, **changes: Any) -> Endpoint:
    made = resolve("claude-sonnet-4-5" if way == "anthropic" else "m", backend=way, base_url=base_url, api_key=KEY,
                   environ={})  # fmt: skip
    return replace(made, **{"timeout": 30.0, **changes})


def _terms(way: str, **changes: Any) -> Terms:
    model = "claude-sonnet-4-5" if way == "anthropic" else "m"
    return Terms(way, model, **{"params": {"temperature": 0.5, "max_tokens": 50}, **changes})


async def _ask(way: str, answering: Answering, *, terms: Terms | None = None, **changes: Any) -> tuple[Exchange, Any]:
    async with _serving(answering) as (url, seen):
        asking = client(_endpoint(way, url, **changes), None)
        try:
            exchange = await asking.ask(Request(b"", terms or _terms(way), MESSAGES))
        finally:
            await asking.close()
        return exchange, seen


def _whole(way: str, text: str) -> Answering:
    made = _anthropic_answer if way == "anthropic" else _openai_answer
    return lambda _: web.json_response(made(text))


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_is_read_and_kept(way: str) -> None:
    """Text, finish reason and usage; and what is kept says the same when it is read again."""
    exchange, seen = asyncio.run(_ask(way, _whole(way, "hello")))
    assert exchange.fault is None
    assert exchange.reply is not None
    assert exchange.answer is not None
    reply = exchange.reply
    assert (reply.text, reply.finish_reason, reply.usage) == ("hello", "stop", Usage(9, 4))
    assert read(exchange.answer) == reply
    assert len(seen) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_key_is_sent_and_the_prompt_arrives(way: str) -> None:
    """In the host's own header; parameters and messages are in the body that `preview` shows."""
    exchange, seen = asyncio.run(_ask(way, _whole(way, "x")))
    assert exchange.fault is None
    _, headers, sent = seen[0]
    assert KEY in (headers.get("Authorization", "").removeprefix("Bearer "), headers.get("api-key"),
                   headers.get("x-api-key"))  # fmt: skip
    assert "Hi" in str(sent["messages"])
    assert sent["temperature"] == 0.5
    shown = body(_endpoint(way, "http://x.test"), Request(b"", _terms(way), MESSAGES))
    assert KEY not in str(shown)
    if way != "anthropic":
        assert shown == sent


@pytest.mark.parametrize("way", STREAMED)
def test_a_stream_is_an_answer_like_any_other(way: str) -> None:
    """The pieces are put together, usage included, and kept in the same form."""
    events = _anthropic_events if way == "anthropic" else _openai_events

    def answering(_: web.Request) -> web.Response:
        return web.Response(body=events("hello"), content_type="text/event-stream")

    exchange, seen = asyncio.run(_ask(way, answering, stream=True))
    assert exchange.fault is None
    assert exchange.reply is not None
    assert exchange.answer is not None
    assert (exchange.reply.text, exchange.reply.finish_reason) == ("hello", "stop")
    assert exchange.reply.usage == Usage(9, 4)
    assert read(exchange.answer) == exchange.reply
    assert seen[0][2]["stream"] is True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("status", "message", "kind", "fault"),
    [
        (429, "Number of requests has exceeded your rate limit", "rate_limit_error", FaultKind.RATE_LIMITED),
        (529, "Overloaded", "overloaded_error", FaultKind.OVERLOADED),
        (500, "Internal server error", "api_error", FaultKind.SERVER_ERROR),
        (401, "invalid x-api-key", "authentication_error", FaultKind.CREDENTIALS),
        (403, "no access", "permission_error", FaultKind.CREDENTIALS),
        (404, "model: none-such", "not_found_error", FaultKind.UNKNOWN_MODEL),
        (400, "Your credit balance is too low", "billing_error", FaultKind.QUOTA),
        (400, "prompt is too long: 9 tokens > 8 maximum", "invalid_request_error", FaultKind.CONTEXT_LENGTH),
        (400, "temperature: bad", "invalid_request_error", FaultKind.BAD_REQUEST),
        (413, "Request exceeds the maximum size", "request_too_large", FaultKind.TOO_LARGE),
    ],
)
def test_a_refusal_is_the_same_fault_everywhere(
    way: str, status: int, message: str, kind: str, fault: FaultKind
) -> None:
    """With the provider's words, and with its Retry-After where the request may come again."""
    exchange, seen = asyncio.run(_ask(way, _error(way, status, message, kind)))
    assert exchange.reply is None
    assert exchange.fault is not None
    assert exchange.fault.kind is fault
    assert message in exchange.fault.message
    assert exchange.fault.retry_after == (7.0 if fault.name in ("RATE_LIMITED", "OVERLOADED", "SERVER_ERROR") else None)
    assert len(seen) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sent", ["", "<html>It works!</html>", '{"choices": [{"mess'])
def test_a_body_that_is_no_answer_is_malformed(way: str, sent: str) -> None:
    """Status 200 is not enough."""
    exchange, _ = asyncio.run(_ask(way, lambda _: web.Response(text=sent, content_type="application/json")))
    assert exchange.reply is None
    assert exchange.fault is not None
    assert exchange.fault.kind is FaultKind.MALFORMED
    if sent and way != "anthropic":
        assert exchange.answer is not None
        assert exchange.answer.body == sent.encode()


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_breaks_is_a_connection_fault(way: str) -> None:
    """Reset while the answer was awaited, or nobody there at all."""

    def reset(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    exchange, _ = asyncio.run(_ask(way, reset))
    assert exchange.fault is not None
    assert exchange.fault.kind is FaultKind.CONNECTION

    async def nobody() -> Exchange:
        asking = client(_endpoint(way, "http://127.0.0.1:1"), None)
        try:
            return await asking.ask(Request(b"", _terms(way), MESSAGES))
        finally:
            await asking.close()

    exchange = asyncio.run(nobody())
    assert exchange.fault is not None
    # LiteLLM does not tell the two apart
    assert exchange.fault.kind is (FaultKind.CONNECTION if way == "anthropic" else FaultKind.UNREACHABLE)


@pytest.mark.parametrize("way", WAYS)
def test_silence_is_a_timeout(way: str) -> None:
    """After the endpoint's own time."""

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    exchange, _ = asyncio.run(_ask(way, silent, timeout=0.1))
    assert exchange.fault is not None
    assert exchange.fault.kind is FaultKind.TIMEOUT


@pytest.mark.parametrize("way", WAYS)
def test_a_schema_is_sent_and_its_answer_is_the_text(way: str) -> None:
    """As a schema, in JSON mode, or otherwise: the text that comes back is the JSON to be validated."""
    terms = _terms(way, constraint=Constraint("schema", SCHEMA, "thing"))
    exchange, seen = asyncio.run(_ask(way, _whole(way, '{"a": "b"}'), terms=terms))
    assert exchange.reply is not None
    assert orjson.loads(exchange.reply.text or "") == {"a": "b"}
    assert '"a"' in orjson.dumps(seen[0][2]).decode().replace("\\", "")


@pytest.mark.parametrize("way", OPENAI)
def test_a_choice_may_be_answered_plainly_or_in_its_object(way: str) -> None:
    """Whatever the host makes of the constraint, the text is the choice."""
    terms = _terms(way, constraint=Constraint("choice", ["x", "y"]))
    plain, seen = asyncio.run(_ask(way, _whole(way, "x"), terms=terms))
    assert plain.reply is not None
    assert plain.reply.text == "x"
    if "response_format" in seen[0][2]:
        wrapped, _ = asyncio.run(_ask(way, _whole(way, '{"answer":"x"}'), terms=terms))
        assert wrapped.reply is not None
        assert wrapped.answer is not None
        assert wrapped.reply.text == read(wrapped.answer).text == "x"


@pytest.mark.parametrize("way", WAYS)
def test_the_key_is_masked_where_a_server_repeats_it(way: str) -> None:
    """Faults go into logs and reports."""
    exchange, _ = asyncio.run(_ask(way, _error(way, 400, f"what is {KEY}?")))
    assert exchange.fault is not None
    assert KEY not in exchange.fault.message
    assert "what is ***?" in exchange.fault.message
