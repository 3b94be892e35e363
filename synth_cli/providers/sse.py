"""Server-sent events put together into the one body that the same model would have answered without streaming.

Source: https://platform.openai.com/docs/api-reference/chat-streaming and the HTML standard's event streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson


class BrokenStream(ValueError):
    """The stream ended before the answer did."""


def is_stream(content_type: str, body: bytes) -> bool:
    """Whether a body is an event stream: by its type, or by its first line where the type is missing."""
    return content_type.startswith("text/event-stream") or body.startswith((b"data:", b":", b"event:"))


def assemble(body: bytes) -> bytes:
    """One OpenAI-shaped body. An error event becomes an error body.

    Raises BrokenStream when the stream has neither a finish reason nor a closing `[DONE]`.
    """
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0}
    parts: dict[str, list[str]] = {}
    calls: dict[int, dict[str, Any]] = {}
    logprobs: list[Any] = []
    done = chat = False
    for event in _events(body):
        if event is None:
            done = True
            break
        if event.get("error"):
            return orjson.dumps({"error": event["error"]})
        whole.update({key: value for key, value in event.items() if key != "choices" and value is not None})
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            continue
        piece = choices[0]
        if piece.get("error"):
            return orjson.dumps({"error": piece["error"]})
        if piece.get("finish_reason") is not None:
            choice["finish_reason"] = piece["finish_reason"]
        if isinstance(piece.get("text"), str):
            parts.setdefault("text", []).append(piece["text"])
        _gather_logprobs(piece.get("logprobs"), logprobs)
        delta = piece.get("delta") or piece.get("message")
        if isinstance(delta, dict):
            chat = True
            _gather(delta, parts, calls)
    if not done and choice.get("finish_reason") is None:
        raise BrokenStream("the stream broke off before the answer was complete")
    if not whole and not chat and not parts:
        return b""
    joined = {name: "".join(texts) for name, texts in parts.items()}
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    if chat or "text" not in joined:
        message: dict[str, Any] = {"role": "assistant", "content": joined.pop("content", None), **joined}
        if calls:
            message["tool_calls"] = [calls[index] for index in sorted(calls)]
        choice["message"] = message
        whole["object"] = "chat.completion"
    else:
        choice["text"] = joined["text"]
    whole["choices"] = [choice]
    return orjson.dumps(whole)


def _gather(delta: dict[str, Any], parts: dict[str, list[str]], calls: dict[int, dict[str, Any]]) -> None:
    for name in ("content", "reasoning_content", "reasoning", "refusal"):
        value = delta.get(name)
        if isinstance(value, list):
            value = "".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
        if isinstance(value, str) and (value or name == "content"):
            parts.setdefault(name, []).append(value)
    pieces = delta.get("tool_calls")
    for place, piece in enumerate(pieces if isinstance(pieces, list) else ()):
        if not isinstance(piece, dict):
            continue
        index = piece.get("index")
        call = calls.setdefault(index if isinstance(index, int) else place, {"type": "function", "function": {}})
        call.update({key: piece[key] for key in ("id", "type") if piece.get(key)})
        function = piece.get("function")
        if isinstance(function, dict):
            if function.get("name"):
                call["function"]["name"] = function["name"]
            if isinstance(function.get("arguments"), str):
                call["function"]["arguments"] = call["function"].get("arguments", "") + function["arguments"]


def _gather_logprobs(piece: Any, into: list[Any]) -> None:
    content = piece.get("content") if isinstance(piece, dict) else None
    if isinstance(content, list):
        into.extend(content)


def _events(body: bytes) -> Iterator[dict[str, Any] | None]:
    """Each event's data; None for `[DONE]`. Lines that are not JSON objects are passed over."""
    data: list[bytes] = []
    for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield from _event(b"\n".join(data))
            data = []
    if data:
        yield from _event(b"\n".join(data))


def _event(data: bytes) -> Iterator[dict[str, Any] | None]:
    if data.strip() == b"[DONE]":
        yield None
        return
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        # servers that leave out the blank line between events
        for line in data.split(b"\n"):
            if line.strip() == b"[DONE]":
                yield None
                continue
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event
        return
    if isinstance(event, dict):
        yield event
