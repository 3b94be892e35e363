"""Anthropic's messages: read as the same question in OpenAI's form, answered in Anthropic's.

https://platform.claude.com/docs/en/api/messages, …/errors and …/build-with-claude/structured-outputs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from synth_cli.simulator.asked import Asked, Refused, read_chat
from synth_cli.simulator.model import Choice

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}


def error_body(refused: Refused) -> bytes:
    kind = "billing_error" if refused.code == "insufficient_quota" else KINDS.get(refused.status, "api_error")
    error = {"type": kind, "message": refused.message}
    return orjson.dumps({"type": "error", "error": error, "request_id": "req_simulator"})


def read_message(body: Mapping[str, Any]) -> Asked:
    """Raises `Refused`."""
    for name in ("model", "max_tokens", "messages"):
        if body.get(name) is None:
            raise Refused(400, f"{name}: Field required", param=name)
    chat: dict[str, Any] = {"model": body["model"], "max_tokens": body["max_tokens"], "messages": turns_of(body)}
    for name in ("temperature", "top_p"):
        if name in body:
            chat[name] = body[name]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, Mapping) else None
    if isinstance(form, Mapping):
        wanted = {"name": "answer", "schema": form.get("schema", {}), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": wanted}
    tools = [tool_of(tool) for tool in body.get("tools") or () if isinstance(tool, Mapping) and "input_schema" in tool]
    if tools:
        chat["tools"] = tools
        chat |= choice_of(body.get("tool_choice"))
    return read_chat(chat)


def tool_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {
        "name": tool.get("name"),
        "description": tool.get("description") or "",
        "parameters": tool["input_schema"],
    }
    return {"type": "function", "function": function}


def choice_of(choice: Any) -> dict[str, Any]:
    if not isinstance(choice, Mapping):
        return {}
    if choice.get("type") == "tool":
        return {"tool_choice": {"type": "function", "function": {"name": choice.get("name")}}}
    kind = choice.get("type")
    if kind not in CHOICES:
        raise Refused(400, "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'", param="tool_choice")
    return {"tool_choice": CHOICES[kind]}


def turns_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    system = body.get("system")
    if system:
        turns.append({"role": "system", "content": system if isinstance(system, str) else text_of(system)})
    if not isinstance(body["messages"], list) or not body["messages"]:
        raise Refused(400, "messages: at least one message is required", param="messages")
    for place, message in enumerate(body["messages"]):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ("user", "assistant"):
            raise Refused(400, f"messages.{place}.role: Input should be 'user' or 'assistant'", param="messages")
        content = message.get("content")
        turns.extend([{"role": role, "content": content}] if isinstance(content, str) else turns_in(role, content))
    return turns


def text_of(blocks: Any) -> str:
    if isinstance(blocks, str):
        return blocks
    return "\n".join(block.get("text") or "" for block in blocks or () if isinstance(block, Mapping))


def turns_in(role: str, blocks: Any) -> list[dict[str, Any]]:
    """One turn of blocks; what tools said is a turn of its own in OpenAI's form."""
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        raise Refused(400, "messages.content: Input should be a string or an array of blocks", param="messages")
    turns: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        match block.get("type"):
            case "text":
                parts.append({"type": "text", "text": block.get("text")})
            case "image" | "document":
                parts.append(PICTURE)
            case "tool_use":
                function = {"name": block.get("name"), "arguments": orjson.dumps(block.get("input")).decode()}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "tool_result":
                turns.append(
                    {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text_of(block.get("content"))}
                )
            case "thinking" | "redacted_thinking":
                pass
            case other:
                raise Refused(400, f"messages.content: Input tag '{other}' is not known", param="messages")
    if parts or calls:
        only = parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
        turns.append({"role": role, "content": only or None, **({"tool_calls": calls} if calls else {})})
    return turns


def message_shape(asked: Asked, choice: Choice, content: int) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    if choice.reasoning is not None:
        blocks.append({"type": "thinking", "thinking": choice.reasoning, "signature": "c2ltdWxhdGVk"})
    if choice.text:
        blocks.append({"type": "text", "text": choice.text})
    for name, function, arguments in choice.tool_calls:
        blocks.append({"type": "tool_use", "id": f"toolu_{name[5:]}", "name": function, "input": given(arguments)})
    stop = "tool_use" if choice.tool_calls and choice.finish_reason == "stop" else STOPS[choice.finish_reason]
    return {
        "id": f"msg_{content:016x}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": blocks,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": asked.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": choice.tokens,
        },
    }


def given(arguments: str) -> Any:
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {}  # cut off: there is no half an object in this protocol


def message_body(asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    return orjson.dumps(message_shape(asked[0], choices[0], content))
