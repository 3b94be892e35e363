"""Gemini's generateContent: read as the same question in OpenAI's form, answered in Gemini's.

https://ai.google.dev/api/generate-content and https://ai.google.dev/api/caching (contents, tools)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from synth_cli.simulator.anthropic import PICTURE, given
from synth_cli.simulator.asked import Asked, Refused, read_chat
from synth_cli.simulator.model import Choice

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 10, 429: 8, 500: 13, 503: 14}
"""google.rpc.Code of an HTTP status."""
FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
CONFIG = {
    "maxOutputTokens": "max_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "stopSequences": "stop",
    "candidateCount": "n",
    "seed": "seed",
}
MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none"}


def error_body(refused: Refused) -> bytes:
    status = STATUSES.get(refused.status, "UNKNOWN")
    return orjson.dumps({"error": {"code": refused.status, "message": refused.message, "status": status}})


def field(holder: Mapping[str, Any], name: str) -> Any:
    """A field by its JSON name, or as the protocol's own files write it: `displayName` or `display_name`."""
    if name in holder:
        return holder[name]
    return holder.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def read_content(body: Mapping[str, Any], model: str) -> Asked:
    """Raises `Refused`."""
    contents = field(body, "contents")
    if isinstance(contents, (str, Mapping)):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
    turns: list[dict[str, Any]] = []
    system = field(body, "systemInstruction")
    if isinstance(system, Mapping):
        turns.append({"role": "system", "content": "\n".join(str(part.get("text") or "") for part in parts_of(system))})
    for content in contents:
        turns.extend(turns_in({"parts": [{"text": content}]} if isinstance(content, str) else content))
    chat: dict[str, Any] = {"model": model.removeprefix("models/"), "messages": turns}
    config = field(body, "generationConfig") or {}
    for name, known in CONFIG.items():
        if field(config, name) is not None:
            chat[known] = field(config, name)
    chat |= form_of(config)
    chat |= tools_of(body)
    return read_chat(chat)


def parts_of(content: Any) -> list[Mapping[str, Any]]:
    parts = content.get("parts") if isinstance(content, Mapping) else None
    if isinstance(parts, Mapping):
        parts = [parts]
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise Refused(400, "* GenerateContentRequest.contents.parts: expected a list of parts")
    return parts


def turns_in(content: Any) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for part in parts_of(content):
        called, result = field(part, "functionCall"), field(part, "functionResponse")
        if isinstance(called, Mapping):
            function = {"name": called.get("name"), "arguments": orjson.dumps(called.get("args") or {}).decode()}
            calls.append({"id": called.get("id") or called.get("name"), "type": "function", "function": function})
        elif isinstance(result, Mapping):
            told = orjson.dumps(result.get("response")).decode()
            turns.append({"role": "tool", "tool_call_id": result.get("id") or result.get("name"), "content": told})
        elif field(part, "inlineData") is not None or field(part, "fileData") is not None:
            said.append(PICTURE)
        elif not part.get("thought"):
            said.append({"type": "text", "text": str(part.get("text") or "")})
    if said or calls:
        role = "assistant" if content.get("role") == "model" else "user"
        only = said[0]["text"] if len(said) == 1 and said[0]["type"] == "text" else said
        turns.append({"role": role, "content": only or None, **({"tool_calls": calls} if calls else {})})
    return turns


def form_of(config: Mapping[str, Any]) -> dict[str, Any]:
    schema = field(config, "responseJsonSchema")
    if schema is None:
        schema = config.get("_responseJsonSchema")
    if schema is None and field(config, "responseSchema") is not None:
        schema = lowered(field(config, "responseSchema"))
    if schema is not None:
        wanted = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": wanted}}
    if field(config, "responseMimeType") == "application/json":
        # the word that OpenAI wants in the prompt is not asked for here
        return {"structured_outputs": {"json_object": True}}
    return {}


def lowered(node: Any) -> Any:
    """Gemini's own schema as JSON Schema: it writes the types in capitals, and `nullable` beside them."""
    if isinstance(node, list):
        return [lowered(part) for part in node]
    if not isinstance(node, Mapping):
        return node
    out = {key: value if key in ("enum", "required") else lowered(value) for key, value in node.items()}
    if isinstance(node.get("type"), str):
        out["type"] = node["type"].lower()
        if node.get("nullable"):
            out["type"] = [out["type"], "null"]
    return out


def tools_of(body: Mapping[str, Any]) -> dict[str, Any]:
    functions = [
        declared
        for tool in field(body, "tools") or ()
        for declared in field(tool, "functionDeclarations") or ()
        if isinstance(declared, Mapping)
    ]
    if not functions:
        return {}
    chat: dict[str, Any] = {"tools": [tool_of(function) for function in functions]}
    calling = field(field(body, "toolConfig") or {}, "functionCallingConfig") or {}
    allowed = field(calling, "allowedFunctionNames") or []
    if len(allowed) == 1:
        chat["tool_choice"] = {"type": "function", "function": {"name": allowed[0]}}
    elif calling.get("mode") in MODES:
        chat["tool_choice"] = MODES[calling["mode"]]
    return chat


def tool_of(function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = field(function, "parametersJsonSchema") or lowered(function.get("parameters")) or {"type": "object"}
    about = {"name": function.get("name"), "description": function.get("description") or "", "parameters": parameters}
    return {"type": "function", "function": about}


def content_shape(asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> dict[str, Any]:
    thought = sum(choice.reasoning_tokens for choice in choices)
    output = sum(choice.tokens for choice in choices) - thought
    prompt = sum(one.prompt_tokens for one in asked)
    usage: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": output,
        "totalTokenCount": prompt + output + thought,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }
    if thought:
        usage["thoughtsTokenCount"] = thought
    return {
        "candidates": [candidate(choice, place) for place, choice in enumerate(choices)],
        "usageMetadata": usage,
        "modelVersion": asked[0].model,
        "responseId": f"{content:016x}",
    }


def candidate(choice: Choice, place: int) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if choice.reasoning is not None:
        parts.append({"text": choice.reasoning, "thought": True})
    if choice.text:
        parts.append({"text": choice.text})
    for name, function, arguments in choice.tool_calls:
        parts.append({"functionCall": {"id": name, "name": function, "args": given(arguments)}})
    found: dict[str, Any] = {"finishReason": FINISH[choice.finish_reason], "index": place}
    # a withheld candidate has no content at all
    return {"content": {"parts": parts, "role": "model"}, **found} if parts else found


def content_body(asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    return orjson.dumps(content_shape(asked, choices, content))
