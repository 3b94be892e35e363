from __future__ import annotations

from typing import Any

import orjson
import pytest

from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage
from synth_cli.core.request import Constraint, Request, Terms
from synth_cli.providers.clients import read as read_kept
from synth_cli.providers.codecs import exchange
from synth_cli.providers.gemini import encoder, read, status_fault, subset
from synth_cli.providers.openai import BodyError, StatedError

USER = ({"role": "user", "content": "Why is the sky blue?"},)
CONTENTS = [{"role": "user", "parts": [{"text": "Why is the sky blue?"}]}]
MODEL = "gemini-3-flash-preview"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^x"},
        "kind": {"const": "a"},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 2}, "maxItems": 3},
    },
    "required": ["name"],
    "additionalProperties": False,
}
SUBSET = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["a"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["name"],
    "additionalProperties": False,
}
ANSWER = {
    "candidates": [
        {"content": {"parts": [{"text": "Rayleigh scattering."}], "role": "model"}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": {"promptTokenCount": 6, "candidatesTokenCount": 4, "totalTokenCount": 10},
    "modelVersion": "gemini-3-flash-preview",
    "responseId": "r1",
}


def _sent(terms: Terms, messages: Any = USER, **request: Any) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(encoder(terms).encode(Request(b"", terms, tuple(messages), **request)))
    return body


def _config(params: dict[str, Any], model: str = MODEL) -> Any:
    return _sent(Terms("gemini", model, params=params)).get("generationConfig")


def test_a_request_is_its_contents() -> None:
    """The model's name stands in the address, not in the body."""
    assert _sent(Terms("gemini", MODEL)) == {"contents": CONTENTS}


def test_what_the_system_says_is_apart() -> None:
    """An assistant is called model here."""
    messages = [
        {"role": "system", "content": "You are a cat."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Meow"},
        {"role": "user", "content": "Again"},
    ]
    assert _sent(Terms("gemini", MODEL), messages) == {
        "systemInstruction": {"parts": [{"text": "You are a cat."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Meow"}]},
            {"role": "user", "parts": [{"text": "Again"}]},
        ],
    }


@pytest.mark.parametrize(
    ("params", "config"),
    [
        ({}, None),
        (
            {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "max_tokens": 100, "stop": "END", "presence_penalty": None},
            {"temperature": 0.7, "topP": 0.9, "topK": 40, "maxOutputTokens": 100, "stopSequences": ["END"]},
        ),
        ({"max_output_tokens": 5, "topK": 3, "n": 1, "stream": True}, {"maxOutputTokens": 5, "topK": 3}),
        ({"logprobs": True, "top_logprobs": 2}, {"responseLogprobs": True, "logprobs": 2}),
        ({"logprobs": False}, None),
        ({"generation_config": {"mediaResolution": "LOW"}, "topP": 1}, {"mediaResolution": "LOW", "topP": 1}),
        ({"reasoning_effort": "none"}, {"thinkingConfig": {"thinkingLevel": "minimal"}}),
        ({"reasoning_effort": "medium"}, {"thinkingConfig": {"thinkingLevel": "medium"}}),
        ({"thinking_config": {"includeThoughts": True}}, {"thinkingConfig": {"includeThoughts": True}}),
    ],
)
def test_parameters_have_the_names_of_this_protocol(params: dict[str, Any], config: Any) -> None:
    """Those of OpenAI, and Gemini's own in either spelling."""
    assert _config(params) == config


def test_older_models_think_within_a_budget() -> None:
    """A level would be refused by them."""
    assert _config({"reasoning_effort": "low"}, "gemini-2.5-flash") == {"thinkingConfig": {"thinkingBudget": 1024}}


def test_what_is_no_part_of_the_configuration_stands_beside_it() -> None:
    """Safety settings and cached content; `extra_body` is part of the body as it is."""
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    params = {
        "safety_settings": safety,
        "cached_content": "cachedContents/1",
        "extra_body": {"labels": {"a": "b"}, "generationConfig": {"seed": 3}},
    }
    assert _sent(Terms("gemini", MODEL, params=params)) == {
        "safetySettings": safety,
        "cachedContent": "cachedContents/1",
        "labels": {"a": "b"},
        "generationConfig": {"seed": 3},
        "contents": CONTENTS,
    }


@pytest.mark.parametrize(("params", "config"), [({}, {"seed": 9}), ({"topK": 1}, {"topK": 1, "seed": 9})])
def test_a_requests_own_seed_is_sent(params: dict[str, Any], config: dict[str, Any]) -> None:
    """In the place of the parameters' seed."""
    terms = Terms("gemini", MODEL, params={"seed": 7, **params})
    assert _sent(terms, seed=9)["generationConfig"] == config
    assert _sent(terms).get("generationConfig", {}) == params


def test_images_and_files_are_parts() -> None:
    """Data URLs stand in the part itself, all else is an address with its type where that can be told."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg?x=1"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
    ]
    assert _sent(Terms("gemini", MODEL), [{"role": "user", "content": parts}])["contents"][0]["parts"] == [
        {"text": "What is this?"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0="}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a.jpg?x=1"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
    ]


def test_tools_and_their_results_are_translated() -> None:
    """Definitions, calls, and all results of one turn in one content, with the names that only the calls have."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    terms = Terms(
        "gemini",
        MODEL,
        tools=(
            {"type": "function", "function": {"name": "weather", "description": "W.", "parameters": parameters}},
            {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
            {"googleSearch": {}},
        ),
        tool_choice="required",
    )
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
        {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
    ]
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "blue"}'},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    ]
    assert _sent(terms, messages) == {
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "weather", "description": "W.", "parametersJsonSchema": parameters},
                    {"name": "now"},
                ]
            },
            {"googleSearch": {}},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "contents": [
            *CONTENTS,
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Rome"}}},
                    {"functionCall": {"id": "c2", "name": "now", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "c1", "name": "weather", "response": {"sky": "blue"}}},
                    {"functionResponse": {"id": "c2", "name": "now", "response": {"output": "noon"}}},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_choice_of_a_tool(choice: Any, sent: dict[str, Any]) -> None:
    """OpenAI's ways of saying it."""
    terms = Terms("gemini", MODEL, tools=({"type": "function", "function": {"name": "f"}},), tool_choice=choice)
    assert _sent(terms)["toolConfig"] == {"functionCallingConfig": sent}


def test_a_schema_is_sent_in_the_keywords_that_are_known() -> None:
    """What is left out is checked here."""
    terms = Terms("gemini", MODEL, params={"topK": 1}, constraint=Constraint("schema", SCHEMA))
    assert _sent(terms)["generationConfig"] == {
        "topK": 1,
        "responseMimeType": "application/json",
        "responseJsonSchema": SUBSET,
    }


def test_definitions_and_references_in_a_schema() -> None:
    """They have one name here, and nothing stands beside a reference."""
    node = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/A", "description": "x"}, "b": {"allOf": [{"type": "string"}]}},
        "definitions": {"A": {"type": "string", "minLength": 2}},
        "enum": [None],
    }
    assert subset(node) == {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": "string"}},
        "$defs": {"A": {"type": "string"}},
    }


def test_a_choice_is_a_schema_too() -> None:
    """And is taken out of its object when it is read."""
    terms = Terms("gemini", MODEL, constraint=Constraint("choice", ["yes", "no"]))
    schema = _sent(terms)["generationConfig"]["responseJsonSchema"]
    assert schema["properties"] == {"answer": {"type": "string", "enum": ["yes", "no"]}}
    part = {"content": {"parts": [{"text": '{"answer": "no"}'}]}, "finishReason": "STOP"}
    body = orjson.dumps({**ANSWER, "candidates": [part]})
    assert read_kept(Answer(encoder(terms).protocol, body)).text == "no"


LOOP = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}}


@pytest.mark.parametrize(
    "terms",
    [
        Terms("gemini", MODEL, constraint=Constraint("schema", LOOP)),
        Terms("gemini", MODEL, constraint=Constraint("schema", SCHEMA), tools=({"googleSearch": {}},)),
    ],
)
def test_a_schema_that_cannot_be_sent_is_said_in_the_prompt(terms: Terms) -> None:
    """One that leads back to itself, and any beside tools."""
    body = _sent(terms)
    assert "generationConfig" not in body
    assert terms.constraint is not None
    assert orjson.dumps(terms.constraint.value).decode() in body["systemInstruction"]["parts"][0]["text"]


def test_an_answer_as_the_documentation_shows_it() -> None:
    """Text, finish reason in OpenAI's words, model and usage."""
    assert read(orjson.dumps(ANSWER)) == Reply(
        "Rayleigh scattering.", "stop", "gemini-3-flash-preview", Usage(6, 4), raw=ANSWER
    )


def test_thoughts_calls_and_the_cache() -> None:
    """Thoughts are the reasoning and charged as output, what tools gave is input, calls have OpenAI's shape."""
    parts = [
        {"text": "Hm.", "thought": True},
        {"text": "I'll "},
        {"text": "look.", "thoughtSignature": "x"},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
        {"functionCall": {"id": "abc", "name": "g"}},
    ]
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 155,
    }
    body = {**ANSWER, "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage}
    assert read(orjson.dumps(body)) == Reply(
        "I'll look.",
        "tool_calls",
        "gemini-3-flash-preview",
        Usage(105, 50, 40, 0, 30),
        reasoning="Hm.",
        tool_calls=(
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
            {"id": "abc", "type": "function", "function": {"name": "g", "arguments": {}}},
        ),
        raw=body,
    )


def test_thoughts_that_are_among_the_candidates_are_not_counted_twice() -> None:
    """The total tells which it is."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 50, "thoughtsTokenCount": 30, "totalTokenCount": 60}
    assert read(orjson.dumps({**ANSWER, "usageMetadata": usage})).usage == Usage(10, 50, 0, 0, 30)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("FINISH_REASON_UNSPECIFIED", None),
        (None, None),
    ],
)
def test_finish_reasons(reason: str | None, finish: str | None) -> None:
    """In OpenAI's words where it has one; a candidate without content is an answer without a text."""
    body = {**ANSWER, "candidates": [{"finishReason": reason}]}
    reply = read(orjson.dumps(body))
    assert (reply.text, reply.finish_reason) == (None, finish)


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKLIST"])
def test_a_blocked_prompt_is_a_fault(reason: str) -> None:
    """It ends the row: there is no candidate, and there will be none."""
    body = orjson.dumps({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 4}})
    assert exchange("gemini", body, now=0.0).fault == Fault(
        FaultKind.CONTENT_FILTER, f"the prompt was blocked: {reason}"
    )


DEEP = b'{"x":' * 300 + b"1" + b"}" * 300


@pytest.mark.parametrize("body", [DEEP, b"", b"nope", b"[]", b"{}", b'{"candidates": []}', b'{"candidates": [1]}'])
def test_what_is_no_answer(body: bytes) -> None:
    """It is malformed, so that it is asked again."""
    with pytest.raises(BodyError):
        read(body)
    fault = exchange("gemini", body, now=0.0).fault
    assert fault is not None
    assert fault.kind is FaultKind.MALFORMED


def test_an_error_in_the_place_of_an_answer() -> None:
    """It is judged as the error that it is."""
    body = orjson.dumps({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
    with pytest.raises(StatedError):
        read(body)
    fault = exchange("gemini", body, now=0.0).fault
    assert fault is not None
    assert fault.kind is FaultKind.OVERLOADED


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (3, "Invalid value at 'generation_config'", FaultKind.BAD_REQUEST),
        (400, "Invalid value", FaultKind.BAD_REQUEST),
        (3, "The input token count (2) exceeds the maximum number of tokens allowed (1).", FaultKind.CONTEXT_LENGTH),
        (4, "Deadline exceeded", FaultKind.TIMEOUT),
        (5, "models/x is not found", FaultKind.UNKNOWN_MODEL),
        (8, "Resource has been exhausted (e.g. check quota).", FaultKind.RATE_LIMITED),
        (13, "Internal error encountered.", FaultKind.SERVER_ERROR),
        (14, "The model is overloaded.", FaultKind.OVERLOADED),
        (16, "Request had invalid authentication credentials.", FaultKind.CREDENTIALS),
        (None, "?", FaultKind.SERVER_ERROR),
    ],
)
def test_a_status_of_googles_is_a_fault(code: int | None, message: str, kind: FaultKind) -> None:
    """By its canonical code, which is not HTTP's."""
    assert status_fault({"code": code, "message": message}, now=0.0).kind is kind
