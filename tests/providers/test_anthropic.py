from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage
from synth_cli.core.request import Constraint, Request, Terms
from synth_cli.providers.anthropic import FALLBACK_TOKENS, encoder, error_fault, read
from synth_cli.providers.clients import read as read_kept
from synth_cli.providers.codecs import exchange
from synth_cli.providers.openai import BodyError, StatedError

USER = ({"role": "user", "content": "Hello, Claude"},)
MODEL = "claude-opus-4-8"
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "minLength": 1}, "minutes": {"type": "integer", "minimum": 1}},
    "required": ["title"],
}
STRICT = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "minutes": {"type": "integer"}},
    "required": ["title", "minutes"],
    "additionalProperties": False,
}
EMPTY = {"type": "object", "properties": {}}
MESSAGE = {
    "id": "msg_014VwiXbi91y3JMjcpyGBHX5",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-8",
    "content": [{"type": "text", "text": "Hello again!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 36},
}


def _sent(terms: Terms, messages: Any = USER, **request: Any) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(encoder(terms).encode(Request(b"", terms, tuple(messages), **request)))
    return body


def _rest(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("model", "max_tokens", "messages")}


def test_a_request_is_its_parameters_its_system_and_its_turns() -> None:
    """The system is apart from the turns, wherever it stood; parameters are sent as they are."""
    terms = Terms("anthropic", MODEL, params={"max_tokens": 9, "temperature": 0.5, "top_k": 3, "top_p": None})
    messages = [{"role": "system", "content": "Be brief."}, *USER, {"role": "developer", "content": "Be kind."}]
    assert _sent(terms, messages) == {
        "model": MODEL,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "system": "Be brief.\n\nBe kind.",
        "messages": [{"role": "user", "content": "Hello, Claude"}],
    }


@pytest.mark.parametrize(
    ("model", "params", "most"),
    [
        ("claude-haiku-4-5", {}, 64000),
        ("claude-haiku-4-5", {"max_completion_tokens": 5}, 5),
        ("claude-of-tomorrow", {}, FALLBACK_TOKENS),
    ],
)
def test_the_length_is_always_sent(model: str, params: dict[str, Any], most: int) -> None:
    """It is required: the spec's own, or the most that the model can put out."""
    assert _sent(Terms("anthropic", model, params=params))["max_tokens"] == most


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop_sequences": ["a"]}, {"stop_sequences": ["a"]}),
        ({"seed": 7, "n": 1, "stream": True, "logprobs": False, "presence_penalty": 0}, {}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"extra_body": {"service_tier": "standard_only"}}, {"service_tier": "standard_only"}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"reasoning_effort": "high"},
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
    ],
)
def test_parameters_have_the_names_of_this_protocol(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """What only another provider knows and changes nothing is left out, all else is for Anthropic to judge."""
    assert _rest(_sent(Terms("anthropic", MODEL, params=params))) == sent


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        ({"max_tokens": 9000}, {"thinking": {"type": "enabled", "budget_tokens": 4096}}),
        ({"max_tokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 1999}}),
        ({"max_tokens": 500}, {}),
    ],
)
def test_older_models_think_within_a_budget(params: dict[str, Any], sent: dict[str, Any]) -> None:
    """An effort becomes a number of tokens that stays below the answer's length, or none where that is too short."""
    terms = Terms("anthropic", "claude-haiku-4-5-20251001", params={"reasoning_effort": "high", **params})
    assert _rest(_sent(terms)) == sent


def test_images_and_files_are_blocks() -> None:
    """Data URLs become base64, URLs stay ones, texts stay readable, a mark for the cache goes along."""
    text = base64.b64encode("Grüße".encode()).decode()
    parts = [
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": ""},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}, "cache_control": {"ttl": "1h"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{text}"}},
        {"type": "file", "file": {"filename": "b.pdf", "file_data": "https://example.com/b.pdf"}},
        {"type": "file", "file": {"file_id": "file_011"}},
    ]
    assert _sent(Terms("anthropic", MODEL), [{"role": "user", "content": parts}])["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="},
            "cache_control": {"ttl": "1h"},
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}, "title": "a.txt"},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/b.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_011"}},
    ]


def test_a_system_with_a_mark_for_the_cache_stays_in_parts() -> None:
    """Otherwise the mark would be lost."""
    part = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}
    assert _sent(Terms("anthropic", MODEL), [{"role": "system", "content": [part]}, *USER])["system"] == [part]


def test_tools_and_their_results_are_translated() -> None:
    """Definitions, the choice, calls, and all results of one turn in one user turn."""
    function = {
        "name": "get_stock_price",
        "description": "A price.",
        "parameters": {"type": "object", "properties": {}},
    }
    own = {"type": "web_search_20250305", "name": "web_search"}
    terms = Terms(
        "anthropic",
        MODEL,
        params={"parallel_tool_calls": False},
        tools=({"type": "function", "function": function}, own),
        tool_choice="required",
    )
    calls = [
        {"id": "toolu_1", "type": "function", "function": {"name": "get_stock_price", "arguments": '{"ticker":"A"}'}},
        {"id": "toolu_2", "type": "function", "function": {"name": "get_stock_price", "arguments": {"ticker": "B"}}},
    ]
    messages = [
        *USER,
        {"role": "assistant", "content": "Let me look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "1"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "2"},
        {"role": "user", "content": "So?"},
    ]
    body = _sent(terms, messages)
    assert body["tools"] == [
        {"name": "get_stock_price", "description": "A price.", "input_schema": EMPTY},
        own,
    ]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_stock_price", "input": {"ticker": "A"}},
                {"type": "tool_use", "id": "toolu_2", "name": "get_stock_price", "input": {"ticker": "B"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "2"},
            ],
        },
        {"role": "user", "content": "So?"},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "any"}, {"type": "any"}),
    ],
)
def test_the_choice_of_a_tool(choice: Any, sent: dict[str, Any]) -> None:
    """OpenAI's four ways, and Anthropic's own."""
    tools = ({"type": "function", "function": {"name": "f"}},)
    assert _sent(Terms("anthropic", MODEL, tools=tools, tool_choice=choice))["tool_choice"] == sent


def _protocol(terms: Terms) -> str:
    return encoder(terms).protocol


def test_a_schema_is_an_output_format() -> None:
    """In the subset that is known there: no numeric bounds, all fields required, nothing else allowed."""
    terms = Terms("anthropic", MODEL, constraint=Constraint("schema", SCHEMA))
    assert _rest(_sent(terms)) == {"output_config": {"format": {"type": "json_schema", "schema": STRICT}}}
    effort = Terms("anthropic", MODEL, params={"reasoning_effort": "low"}, constraint=Constraint("schema", SCHEMA))
    assert _sent(effort)["output_config"].keys() == {"effort", "format"}


def test_a_choice_is_an_output_format_too() -> None:
    """And is taken out of its object when it is read."""
    terms = Terms("anthropic", MODEL, constraint=Constraint("choice", ["yes", "no"]))
    schema = _sent(terms)["output_config"]["format"]["schema"]
    assert schema["properties"] == {"answer": {"type": "string", "enum": ["yes", "no"]}}
    body = orjson.dumps({**MESSAGE, "content": [{"type": "text", "text": '{"answer": "no"}'}]})
    assert read_kept(Answer(_protocol(terms), body)).text == "no"


def test_older_models_call_a_tool_with_the_answer() -> None:
    """Its arguments are the answer's text."""
    terms = Terms("anthropic", "claude-opus-4-1-20250805", constraint=Constraint("schema", SCHEMA))
    body = _sent(terms)
    assert (body["tools"][0]["input_schema"], body["tool_choice"]) == (SCHEMA, {"type": "tool", "name": "answer"})
    block = {"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {"title": "a"}}
    kept = orjson.dumps({**MESSAGE, "content": [block], "stop_reason": "tool_use"})
    reply = read_kept(Answer(_protocol(terms), kept))
    assert (reply.text, reply.finish_reason, reply.tool_calls) == ('{"title":"a"}', "stop", ())


FREE = {"type": "object", "additionalProperties": {"type": "string"}}
RECURSIVE = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/node"}},
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}
MANY = {"type": "object", "properties": {f"f{i}": {"type": ["string", "null"]} for i in range(17)}}


@pytest.mark.parametrize(
    "terms",
    [
        Terms("anthropic", MODEL, constraint=Constraint("schema", FREE)),
        Terms("anthropic", MODEL, constraint=Constraint("schema", RECURSIVE)),
        Terms("anthropic", MODEL, constraint=Constraint("schema", MANY)),
        Terms(
            "anthropic",
            "claude-opus-4-1",
            params={"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
            constraint=Constraint("schema", SCHEMA),
        ),
    ],
)
def test_what_cannot_be_said_as_a_format_is_said_in_the_prompt(terms: Terms) -> None:
    """Free keys, definitions that lead back to themselves, too many unions; older models while they think."""
    body = _sent(terms)
    assert body.keys() - {"thinking"} == {"model", "max_tokens", "system", "messages"}
    assert terms.constraint is not None
    assert orjson.dumps(terms.constraint.value).decode() in body["system"]


def test_patterns_that_anthropic_does_not_know_are_left_out() -> None:
    """Word boundaries and references back; the answer is checked against them here."""
    properties = {"a": {"type": "string", "pattern": r"\bx"}, "b": {"type": "string", "pattern": "^x$"}}
    terms = Terms("anthropic", MODEL, constraint=Constraint("schema", {"type": "object", "properties": properties}))
    schema = _sent(terms)["output_config"]["format"]["schema"]
    assert schema["properties"] == {"a": {"type": "string"}, "b": {"type": "string", "pattern": "^x$"}}


def test_an_answer_as_the_documentation_shows_it() -> None:
    """Text, finish reason in OpenAI's words, model and usage."""
    assert read(orjson.dumps(MESSAGE)) == Reply("Hello again!", "stop", "claude-opus-4-8", Usage(11, 36), raw=MESSAGE)


def test_thoughts_calls_and_the_cache() -> None:
    """Thoughts are the reasoning, calls have OpenAI's shape, and input includes what the cache gave and took."""
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "redacted_thinking", "data": "y"},
        {"type": "text", "text": "I'll "},
        {"type": "text", "text": "look."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ]
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 1000,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    body = {**MESSAGE, "content": content, "stop_reason": "tool_use", "usage": usage}
    assert read(orjson.dumps(body)) == Reply(
        "I'll look.",
        "tool_calls",
        "claude-opus-4-8",
        Usage(1110, 50, 100, 1000, 20),
        reasoning="Hm.",
        tool_calls=({"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},),
        raw=body,
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("of tomorrow", "of tomorrow"),
        (None, None),
    ],
)
def test_finish_reasons(reason: str | None, finish: str | None) -> None:
    """In OpenAI's words where it has one."""
    assert read(orjson.dumps({**MESSAGE, "stop_reason": reason})).finish_reason == finish


def test_a_refusal_says_why() -> None:
    """A refusal comes with status 200: it ends the row as a content filter does."""
    details = {"type": "refusal", "category": "bio", "explanation": "It could do harm."}
    body = {**MESSAGE, "content": [], "stop_reason": "refusal", "stop_details": details}
    reply = read(orjson.dumps(body))
    assert (reply.text, reply.finish_reason, reply.refusal) == (None, "content_filter", "It could do harm.")
    del body["stop_details"]
    assert read(orjson.dumps(body)).refusal == "refused without a word"


DEEP = b'{"x":' * 300 + b"1" + b"}" * 300


@pytest.mark.parametrize("body", [DEEP, b"", b"nope", b"[]", b"{}", b'{"content": null}'])
def test_what_is_no_answer(body: bytes) -> None:
    """It is malformed, so that it is asked again."""
    with pytest.raises(BodyError):
        read(body)
    fault = exchange("anthropic", body, now=0.0).fault
    assert fault is not None
    assert fault.kind is FaultKind.MALFORMED


def test_an_error_in_the_place_of_an_answer() -> None:
    """It is judged as the error that it is."""
    body = orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    with pytest.raises(StatedError):
        read(body)
    assert exchange("anthropic", body, now=0.0).fault == Fault(
        FaultKind.OVERLOADED, "overloaded_error: Overloaded", 200
    )


@pytest.mark.parametrize(
    ("kind", "status", "meaning"),
    [
        ("invalid_request_error", 400, FaultKind.BAD_REQUEST),
        ("invalid_request", 400, FaultKind.BAD_REQUEST),
        ("authentication_error", 401, FaultKind.CREDENTIALS),
        ("billing_error", 402, FaultKind.QUOTA),
        ("permission_error", 403, FaultKind.CREDENTIALS),
        ("not_found_error", 404, FaultKind.UNKNOWN_MODEL),
        ("request_too_large", 413, FaultKind.TOO_LARGE),
        ("rate_limit_error", 429, FaultKind.RATE_LIMITED),
        ("api_error", 500, FaultKind.SERVER_ERROR),
        ("timeout_error", 504, FaultKind.TIMEOUT),
        ("overloaded_error", 529, FaultKind.OVERLOADED),
        ("tomorrows_error", 500, FaultKind.SERVER_ERROR),
    ],
)
def test_errors_that_came_without_a_status(kind: str, status: int, meaning: FaultKind) -> None:
    """Each type stands for the status that the documentation gives it."""
    fault = error_fault({"type": "error", "error": {"type": kind, "message": "m"}}, now=0.0)
    assert fault == Fault(meaning, f"HTTP {status}: {kind}: m", status)


def test_a_prompt_that_is_too_long_is_known_by_its_words() -> None:
    """And not asked again."""
    words = "prompt is too long: 208310 tokens > 200000 maximum"
    fault = error_fault({"type": "error", "error": {"type": "invalid_request_error", "message": words}}, now=0.0)
    assert fault.kind is FaultKind.CONTEXT_LENGTH
