from __future__ import annotations

from typing import Any

import orjson
import pytest

from synth_cli.core.reply import Reply, Usage
from synth_cli.core.request import Constraint, Request, Terms
from synth_cli.providers.hosts import HOSTS
from synth_cli.providers.openai import (
    BodyError,
    StatedError,
    encoder,
    read_chat,
    read_choice,
    read_completion,
    read_tool,
)

USER = ({"role": "user", "content": "hi"},)


def _sent(terms: Terms, host: str = "openai", *, stream: bool = False, **request: Any) -> dict[str, Any]:
    encode = encoder(terms, HOSTS[host], stream=stream)
    body: dict[str, Any] = orjson.loads(encode.encode(Request(b"", terms, **{"messages": USER, **request})))
    return body


def test_a_request_is_its_parameters_and_its_messages() -> None:
    """Parameters are sent as they are; those that are null are not sent."""
    terms = Terms("openai", "gpt-4o", params={"temperature": 0.5, "max_tokens": 9, "top_p": None, "stop": ["a"]})
    assert _sent(terms) == {
        "model": "gpt-4o",
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["a"],
        "messages": [{"role": "user", "content": "hi"}],
    }


@pytest.mark.parametrize(
    ("host", "model", "params", "sent"),
    [
        ("openai", "gpt-5-mini", {"max_tokens": 1}, {"max_completion_tokens": 1}),
        ("openai", "o3", {"max_tokens": 1}, {"max_completion_tokens": 1}),
        ("openai", "ft:gpt-5-mini:me", {"max_tokens": 1}, {"max_completion_tokens": 1}),
        ("openai", "gpt-4o", {"max_tokens": 1}, {"max_tokens": 1}),
        ("openai", "Qwen/Qwen3-8B", {"max_tokens": 1}, {"max_tokens": 1}),
        ("openrouter", "openai/gpt-5", {"max_tokens": 1}, {"max_tokens": 1}),
        ("azure", "deployment", {"max_tokens": 1}, {"max_completion_tokens": 1}),
        ("deepseek", "m", {"max_completion_tokens": 1}, {"max_tokens": 1}),
        ("mistral", "m", {"seed": "x"}, {"random_seed": "x"}),
        ("vllm", "m", {"extra_body": {"top_k": 4}, "min_p": 0.1}, {"top_k": 4, "min_p": 0.1}),
        ("openai", "m", {"stream": True}, {}),
    ],
)
def test_parameters_are_renamed_where_the_provider_renamed_them(
    host: str, model: str, params: dict[str, Any], sent: dict[str, Any]
) -> None:
    """And `extra_body`, which users bring from OpenAI's own client, is part of the body."""
    body = _sent(Terms(host, model, params=params), host)
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == sent


@pytest.mark.parametrize(("host", "name"), [("openai", "seed"), ("mistral", "random_seed")])
def test_a_requests_own_seed_is_sent(host: str, name: str) -> None:
    """It stands in the place of the parameters' seed, under the host's name for it."""
    terms = Terms(host, "m", params={"seed": 7})
    assert _sent(terms, host, seed=9)[name] == 9
    assert name not in _sent(terms, host)


def test_a_stream_asks_for_its_usage() -> None:
    """Except where the host sends it unasked and refuses the field."""
    assert _sent(Terms("openai", "m"), stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in _sent(Terms("mistral", "m"), "mistral", stream=True)


def test_a_raw_prompt_goes_to_completions() -> None:
    """Without messages, tools or anything added to the prompt."""
    terms = Terms("vllm", "m", params={"max_tokens": 4}, completion=True, tools=({"type": "function"},))
    assert _sent(terms, "vllm", messages=(), prompt="once ") == {"model": "m", "max_tokens": 4, "prompt": "once "}


def test_tools_are_sent_with_their_choice() -> None:
    """In OpenAI's shape, as the spec gives them."""
    tools = ({"type": "function", "function": {"name": "f", "parameters": {}}},)
    body = _sent(Terms("openai", "m", tools=tools, tool_choice="required"))
    assert (body["tools"], body["tool_choice"]) == (list(tools), "required")


def test_json_mode_adds_the_schema_to_the_system_turn() -> None:
    """DeepSeek knows no schemas: the prompt says it, and asks for JSON by name."""
    terms = Terms("deepseek", "m", constraint=Constraint("schema", {"type": "object"}))
    body = _sent(terms, "deepseek")
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["role"] == "system"
    assert '{"type":"object"}' in body["messages"][0]["content"]


def _chat(message: Any = None, usage: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "message": message if message is not None else {"content": "hi"}, "finish_reason": "stop"}
    return orjson.dumps({"model": "m", "choices": [choice], "usage": usage, **more})


def _read(body: bytes) -> dict[str, Any]:
    """What is said beyond model and finish reason."""
    reply = read_chat(body)
    plain = Reply(finish_reason="stop", model="m")
    names = [name for name in Reply.__slots__ if name != "raw"]
    return {name: getattr(reply, name) for name in names if getattr(reply, name) != getattr(plain, name)}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "hi"}, {"text": "hi"}),
        ({"content": ""}, {"text": ""}),
        ({"content": None}, {}),
        ({}, {}),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "x"}]}, {"text": "ab"}),
        ({"content": ["a", "b", 3]}, {"text": "ab"}),
        ({"content": {"text": "a"}}, {"text": "a"}),
        ({"content": 7}, {"text": "7"}),
        ({"content": "a", "reasoning_content": "r"}, {"text": "a", "reasoning": "r"}),
        ({"content": "a", "reasoning": "r", "reasoning_content": None}, {"text": "a", "reasoning": "r"}),
        ({"content": "a", "reasoning": [{"text": "r"}]}, {"text": "a", "reasoning": "r"}),
        ({"content": None, "refusal": "no"}, {"refusal": "no"}),
        ({"content": "a", "refusal": ""}, {"text": "a"}),
        (
            {"content": None, "tool_calls": [CALL]},
            {"tool_calls": ({**CALL, "function": {"name": "f", "arguments": {"a": 1}}},)},
        ),
        (
            {"tool_calls": [{"id": "c", "index": 0, "function": {"name": "f", "arguments": "{oops"}}, 5, {"id": 1}]},
            {"tool_calls": ({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{oops"}},)},
        ),
        (
            {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]},
            {"tool_calls": ({"id": "c", "type": "function", "function": {"name": "f", "arguments": None}},)},
        ),
        ({"content": "a", "tool_calls": "x"}, {"text": "a"}),
    ],
)
def test_a_message_is_read_in_every_shape_that_servers_send(message: Any, said: dict[str, Any]) -> None:
    """Text, parts, nulls, reasoning under both names, refusals, and tool calls with arguments that are not JSON."""
    assert _read(_chat(message)) == {**said}


@pytest.mark.parametrize(
    ("usage", "tokens", "usd"),
    [
        (None, None, None),
        ({}, None, None),
        ([1], None, None),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4), None),
        ({"prompt_tokens": 3, "completion_tokens": None}, Usage(3, 0), None),
        ({"prompt_tokens": "x", "completion_tokens": 4.0}, Usage(0, 4), None),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4), None),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(9, 4), None),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 8,
                "total_tokens": 17,
                "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 6},
            },
            Usage(9, 8, 5, 2, 6),
            None,
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_cache_hit_tokens": 4},
            Usage(9, 1, 4),
            None,
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "total_tokens": 16,
                "completion_tokens_details": {"reasoning_tokens": 6},
            },
            Usage(9, 7, reasoning=6),
            None,
        ),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.25}, Usage(1, 1), 0.25),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": {"total_cost": 0.5}}, Usage(1, 1), 0.5),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": "dear"}, Usage(1, 1), None),
    ],
)
def test_usage_is_read_as_each_host_counts(usage: Any, tokens: Usage | None, usd: float | None) -> None:
    """Cached under its four names, reasoning beside or within the output, and a cost that the provider states."""
    reply = read_chat(_chat(usage=usage))
    assert (reply.usage, reply.cost) == (tokens, usd)


def test_everything_else_is_kept() -> None:
    """Finish reason, model, logprobs, and the whole body."""
    body = {"model": "m", "choices": [{"message": {"content": "a"}, "finish_reason": "length", "logprobs": {"x": 1}}]}
    assert read_chat(orjson.dumps(body)) == Reply("a", "length", "m", logprobs={"x": 1}, raw=body)
    odd = {"model": 4, "choices": [{"message": {"content": "a"}, "finish_reason": ["x"]}]}
    assert read_chat(orjson.dumps(odd)) == Reply("a", raw=odd)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<html><body>Bad gateway</body></html>", "not JSON"),
        (b'{"choices": [{"mess', "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "no choices"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": null}', "no choices"),
        (b'{"choices": [null]}', "no choices"),
        (b'{"choices": {"0": {}}}', "no choices"),
        (b'{"choices": [{}]}', "no message"),
        (b'{"choices": [{"message": "hi"}]}', "no message"),
    ],
)
def test_a_body_that_is_no_answer_says_what_is_wrong(body: bytes, words: str) -> None:
    """Nothing is invented from half an answer."""
    with pytest.raises(BodyError, match=words):
        read_chat(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "m", "code": 429}}',
        b'{"choices": [{"error": {"message": "m"}, "message": {"content": ""}, "finish_reason": "error"}]}',
        b'{"choices": [], "error": "overloaded"}',
    ],
)
def test_an_error_with_a_status_of_success_is_an_error(body: bytes) -> None:
    """In the body, or in its choice."""
    with pytest.raises(StatedError):
        read_chat(body)


def test_a_completion_is_read() -> None:
    """Its text is the answer."""
    body = {
        "model": "m",
        "choices": [{"text": "on", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    assert read_completion(orjson.dumps(body)) == Reply("on", "stop", "m", Usage(1, 2), raw=body)
    with pytest.raises(BodyError, match="not a text"):
        read_completion(b'{"choices": [{"text": 3}]}')


@pytest.mark.parametrize(
    ("content", "text"),
    [('{"answer": "a"}', "a"), ("a", "a"), ('{"answer": 3}', '{"answer": 3}'), ("3", "3"), (None, None)],
)
def test_a_choice_is_taken_out_of_its_object(content: str | None, text: str | None) -> None:
    """Where the server did not answer in the form that was asked for, the text stays as it is."""
    assert read_choice(_chat({"content": content})).text == text


def test_a_tools_arguments_are_the_answer() -> None:
    """The call is not shown as one; without a call the text is the answer."""
    reply = read_tool(_chat({"content": None, "tool_calls": [CALL]}))
    assert (reply.text, reply.tool_calls, reply.finish_reason) == ('{"a":1}', (), "stop")
    broken = {"function": {"name": "f", "arguments": '{"a":'}}
    assert read_tool(_chat({"content": None, "tool_calls": [broken]})).text == '{"a":'
    assert read_tool(_chat({"content": '{"a":1}'})).text == '{"a":1}'
