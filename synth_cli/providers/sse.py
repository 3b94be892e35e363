"""Server-sent events put together into the one body that the same model would have answered without streaming.

Source: https://platform.openai.com/docs/api-reference/chat-streaming and the HTML standard's event streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson


class BrokenStreamError(ValueError):
    """The stream ended before the answer did."""


def is_stream(content_type: str, body: bytes) -> bool:
    """Whether a body is an event stream: by its type, or by its first line where the type is missing."""
    return content_type.startswith("text/event-stream") or body.startswith((b"data:", b":", b"event:"))


def assemble(body: bytes) -> bytes:
    """One OpenAI-shaped body. An error event becomes an error body.

    Raises BrokenStreamError when the stream has neither a finish reason nor a closing `[DONE]`.
    """
    parts = _Parts()
    done = False
    for event in _events(body):
        if event is None:
            done = True
            break
        error = parts.take(event)
        if error:
            return orjson.dumps({"error": error})
    if not done and "finish_reason" not in parts.choice:
        raise BrokenStreamError("the stream broke off before the answer was complete")
    return parts.body()


@dataclass(slots=True)
class _Parts:
    """What the events so far said."""

    whole: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=lambda: {"index": 0})
    texts: dict[str, list[str]] = field(default_factory=dict)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)
    chat: bool = False

    def take(self, event: dict[str, Any]) -> Any:
        """Adds an event; returns the error that it holds, if any."""
        if event.get("error"):
            return event["error"]
        self.whole.update({key: value for key, value in event.items() if key != "choices" and value is not None})
        choices = event.get("choices")
        piece = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(piece, dict):
            return None
        if piece.get("finish_reason") is not None:
            self.choice["finish_reason"] = piece["finish_reason"]
        if isinstance(piece.get("text"), str):
            self.texts.setdefault("text", []).append(piece["text"])
        logprobs = piece.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self.logprobs.extend(logprobs["content"])
        delta = piece.get("delta") or piece.get("message")
        if isinstance(delta, dict):
            self.chat = True
            self._take_delta(delta)
        return piece.get("error")

    def _take_delta(self, delta: dict[str, Any]) -> None:
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            value = delta.get(name)
            if isinstance(value, list):
                value = "".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
            if isinstance(value, str) and (value or name == "content"):
                self.texts.setdefault(name, []).append(value)
        pieces = delta.get("tool_calls")
        for place, piece in enumerate(pieces if isinstance(pieces, list) else ()):
            if isinstance(piece, dict):
                self._take_call(place, piece)

    def _take_call(self, place: int, piece: dict[str, Any]) -> None:
        index = piece.get("index")
        call = self.calls.setdefault(index if isinstance(index, int) else place, {"type": "function", "function": {}})
        call.update({key: piece[key] for key in ("id", "type") if piece.get(key)})
        function = piece.get("function")
        if isinstance(function, dict):
            if function.get("name"):
                call["function"]["name"] = function["name"]
            if isinstance(function.get("arguments"), str):
                call["function"]["arguments"] = call["function"].get("arguments", "") + function["arguments"]

    def body(self) -> bytes:
        joined = {name: "".join(texts) for name, texts in self.texts.items()}
        if not self.whole and not self.chat and not joined:
            return b""
        choice = dict(self.choice)
        if self.logprobs:
            choice["logprobs"] = {"content": self.logprobs}
        if "text" in joined and not self.chat:
            choice["text"] = joined["text"]
        else:
            choice["message"] = {"role": "assistant", "content": joined.pop("content", None), **joined}
            if self.calls:
                choice["message"]["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
            self.whole["object"] = "chat.completion"
        return orjson.dumps({**self.whole, "choices": [choice]})


def _events(body: bytes) -> Iterator[dict[str, Any] | None]:
    """Each event's data; None for `[DONE]`. Data that is not a JSON object is passed over.

    An event's data is one line here: OpenAI's is, and servers that leave out the blank line between events exist.
    """
    for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            yield None
            continue
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict):
            yield event
