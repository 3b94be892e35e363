from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

from synth_cli.core.ports import Exchange, RateLimits
from synth_cli.core.reply import FaultKind, Usage
from synth_cli.core.request import Constraint, Request, Terms
from synth_cli.providers.clients import body, client, read
from synth_cli.providers.resolve import resolve

pytestmark = pytest.mark.filterwarnings("ignore:.*Pydantic will not protect items")

MODEL = "claude-sonnet-4-5"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
USER = ({"role": "user", "content": "hi"},)


def _message(content: list[Any], stop: str = "end_turn", **usage: int) -> dict[str, Any]:
    tokens = {"input_tokens": 10, "output_tokens": 5, **usage}
    return {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": content,
            "stop_reason": stop, "usage": tokens}  # fmt: skip


async def _ask(answering: Callable[[], web.Response], terms: Terms, **request: Any) -> tuple[Exchange, Any]:
    seen: list[Any] = []

    async def handle(asked: web.Request) -> web.Response:
        seen.append(await asked.json())
        return answering()

    app = web.Application()
    app.router.add_post("/v1/messages", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    asking = client(resolve(terms.model, backend="anthropic", base_url=url, api_key="key-1234", environ={}), None)
    try:
        return await asking.ask(Request(b"", terms, USER, **request)), seen[0] if seen else None
    finally:
        await asking.close()
        await runner.cleanup()


def _terms(**changes: Any) -> Terms:
    return Terms("anthropic", changes.pop("model", MODEL), **{"params": {"max_tokens": 9}, **changes})


def test_usage_and_limits_are_the_providers_own() -> None:
    """Anthropic's input excludes its cache, ours includes it; its rate headers are read."""

    def answering() -> web.Response:
        sent = _message([{"type": "text", "text": "x"}], cache_read_input_tokens=7, cache_creation_input_tokens=3)
        headers = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49"}
        return web.json_response(sent, headers=headers)

    exchange, _ = asyncio.run(_ask(answering, _terms()))
    assert exchange.reply is not None
    assert exchange.reply.usage == Usage(20, 5, 7, 3)
    assert exchange.limits == RateLimits(requests_per_minute=50, remaining_requests=49)


def test_tools_and_reasoning_come_in_our_shape() -> None:
    """Anthropic's blocks become tool calls with parsed arguments, and reasoning."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
    ]
    tools = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}},)
    exchange, seen = asyncio.run(
        _ask(lambda: web.json_response(_message(blocks, "tool_use")), _terms(tools=tools, tool_choice="auto"))
    )
    assert exchange.reply is not None
    assert seen["tools"][0]["name"] == "f"
    assert (exchange.reply.reasoning, exchange.reply.finish_reason) == ("hm", "tool_calls")
    assert [call["function"] for call in exchange.reply.tool_calls] == [{"name": "f", "arguments": {"x": 1}}]


def test_a_choice_is_asked_for_and_unpacked() -> None:
    """The constraint reaches the provider, the text is the choice."""
    terms = _terms(constraint=Constraint("choice", ["a", "b"]))
    sent = _message([{"type": "text", "text": '{"answer": "b"}'}])
    exchange, seen = asyncio.run(_ask(lambda: web.json_response(sent), terms))
    assert exchange.reply is not None
    assert exchange.answer is not None
    assert exchange.reply.text == read(exchange.answer).text == "b"
    assert "enum" in orjson.dumps(seen).decode()


def test_a_model_without_schemas_is_asked_by_a_tool_call() -> None:
    """One that LiteLLM's table does not know, too; the arguments are the answer."""
    terms = _terms(model="claude-of-tomorrow", constraint=Constraint("schema", SCHEMA))
    sent = _message([{"type": "tool_use", "id": "t", "name": "answer", "input": {"a": "b"}}], "tool_use")
    exchange, seen = asyncio.run(_ask(lambda: web.json_response(sent), terms))
    assert [(tool["name"], tool["input_schema"]["required"]) for tool in seen["tools"]] == [("answer", ["a"])]
    assert seen["tool_choice"] == {"type": "tool", "name": "answer"}
    assert exchange.reply is not None
    assert exchange.answer is not None
    assert (exchange.reply.text, exchange.reply.tool_calls, exchange.reply.finish_reason) == ('{"a":"b"}', (), "stop")
    assert read(exchange.answer) == exchange.reply


def test_a_model_with_neither_is_told_in_the_prompt() -> None:
    """The schema stands in the system turn; a JSON mode that the provider lacks is not asked for."""
    terms = Terms("petals", "petals-team/StableBeluga2", constraint=Constraint("schema", SCHEMA))
    made = body(resolve(terms.model, backend="petals", environ={}), Request(b"", terms, USER))
    assert made["messages"][0]["role"] == "system"
    assert '"required":["a"]' in made["messages"][0]["content"]
    assert "response_format" not in made


def test_a_parameter_that_litellm_refuses_is_a_bad_request() -> None:
    """Parameters are sent as they are: what the provider has no word for is said, not dropped."""
    exchange, seen = asyncio.run(_ask(web.Response, _terms(params={"logit_bias": {"1": 2}})))
    assert seen is None
    assert exchange.fault is not None
    assert exchange.fault.kind is FaultKind.BAD_REQUEST
    assert "logit_bias" in exchange.fault.message


def test_its_import_neither_asks_the_network_nor_talks() -> None:
    """The environment that keeps it quiet is set before it is imported."""
    code = (
        "import os, socket\n"
        "def refuse(*a, **k): raise AssertionError('the network was asked')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "from synth_cli.providers.clients import client\n"
        "from synth_cli.providers.resolve import resolve\n"
        "client(resolve('anthropic/x', api_key='k', environ={}), None)\n"
        "print(os.environ['LITELLM_LOCAL_MODEL_COST_MAP'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "True", "")
