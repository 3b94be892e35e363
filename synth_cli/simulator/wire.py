"""Answers in OpenAI's shapes: whole bodies, and chunks for server-sent events.

https://platform.openai.com/docs/api-reference/chat/object, …/chat/streaming, …/completions/object
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from synth_cli.simulator.asked import Asked
from synth_cli.simulator.draw import Draw, number_of
from synth_cli.simulator.model import Choice

CREATED = 1_767_225_600
"""The simulated model lives on the first of January 2026: equal requests get equal bodies."""
FINGERPRINT = "fp_simulator"
PIECE = re.compile(r"\s*\S{1,4}|\s+")
CHUNK = 16


def usage_of(asked: Sequence[Asked], choices: Sequence[Choice]) -> dict[str, Any]:
    prompt = sum(one.prompt_tokens for one in asked)
    output = sum(choice.tokens for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sum(choice.reasoning_tokens for choice in choices)},
    }


def chat_body(asked: Asked, choices: Sequence[Choice], content: int) -> bytes:
    return orjson.dumps(
        {
            "id": f"chatcmpl-{content:016x}",
            "object": "chat.completion",
            "created": CREATED,
            "model": asked.model,
            "choices": [
                {
                    "index": index,
                    "message": message(choice),
                    "logprobs": chat_logprobs(choice, asked.logprobs),
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": usage_of((asked,), choices),
            "system_fingerprint": FINGERPRINT,
        }
    )


def message(choice: Choice) -> dict[str, Any]:
    found: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.reasoning is not None:
        found["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        found["tool_calls"] = tool_calls(choice)
    return found


def tool_calls(choice: Choice) -> list[dict[str, Any]]:
    return [
        {"id": name, "type": "function", "function": {"name": function, "arguments": arguments}}
        for name, function, arguments in choice.tool_calls
    ]


def completion_body(asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    """`choices` are the first prompt's, then the second's…"""
    share = len(choices) // len(asked)
    return orjson.dumps(
        {
            "id": f"cmpl-{content:016x}",
            "object": "text_completion",
            "created": CREATED,
            "model": asked[0].model,
            "choices": [
                {
                    "index": index,
                    "text": full_text(asked[index // share], choice),
                    "logprobs": text_logprobs(choice, asked[0].logprobs),
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": usage_of(asked, choices),
            "system_fingerprint": FINGERPRINT,
        }
    )


def full_text(asked: Asked, choice: Choice) -> str:
    return (asked.texts[0][1] if asked.echo else "") + (choice.text or "")


def pieces(choice: Choice) -> Iterator[tuple[str, float]]:
    """The tokens of the text, each with its log probability."""
    for piece in PIECE.findall(choice.text or ""):
        likely = 0.35 + 0.64 * Draw(number_of(piece.encode())).unit()
        yield piece, round(math.log(likely), 6)


def chat_logprobs(choice: Choice, alternatives: int | None) -> dict[str, Any] | None:
    if alternatives is None:
        return None
    content = []
    for piece, logprob in pieces(choice):
        top = [entry(piece if rank == 0 else f"{piece[:1]}{rank}", logprob - rank) for rank in range(alternatives)]
        content.append({**entry(piece, logprob), "top_logprobs": top})
    return {"content": content, "refusal": None}


def entry(piece: str, logprob: float) -> dict[str, Any]:
    return {"token": piece, "logprob": round(logprob, 6), "bytes": list(piece.encode())}


def text_logprobs(choice: Choice, alternatives: int | None) -> dict[str, Any] | None:
    if alternatives is None:
        return None
    found = list(pieces(choice))
    offsets, place = [], 0
    for piece, _ in found:
        offsets.append(place)
        place += len(piece)
    return {
        "tokens": [piece for piece, _ in found],
        "token_logprobs": [logprob for _, logprob in found],
        "top_logprobs": [{piece: logprob} for piece, logprob in found] if alternatives else None,
        "text_offset": offsets,
    }


def event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chat_events(asked: Asked, choices: Sequence[Choice], content: int) -> Iterator[bytes]:
    """The answer as server-sent events; usage in a last chunk of its own when it was asked for."""
    head = {
        "id": f"chatcmpl-{content:016x}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": asked.model,
        "system_fingerprint": FINGERPRINT,
    }
    extra = {"usage": None} if asked.include_usage else {}

    def chunk(index: int, delta: Mapping[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return event({**head, "choices": [choice], **extra})

    for index, choice in enumerate(choices):
        yield chunk(index, {"role": "assistant", "content": None if choice.tool_calls else "", "refusal": None})
        for part in parts(choice.reasoning):
            yield chunk(index, {"reasoning_content": part})
        for number, call in enumerate(tool_calls(choice)):
            first = {"index": number, **call, "function": {**call["function"], "arguments": ""}}
            yield chunk(index, {"tool_calls": [first]})
            for part in parts(call["function"]["arguments"]):
                yield chunk(index, {"tool_calls": [{"index": number, "function": {"arguments": part}}]})
        if asked.logprobs is None:
            for part in parts(choice.text):
                yield chunk(index, {"content": part})
        else:
            for told in (chat_logprobs(choice, asked.logprobs) or {})["content"]:
                yield chunk(index, {"content": told["token"]}, logprobs={"content": [told], "refusal": None})
        yield chunk(index, {}, choice.finish_reason)
    if asked.include_usage:
        yield event({**head, "choices": [], "usage": usage_of((asked,), choices)})
    yield DONE


def completion_events(asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> Iterator[bytes]:
    head = {
        "id": f"cmpl-{content:016x}",
        "object": "text_completion",
        "created": CREATED,
        "model": asked[0].model,
        "system_fingerprint": FINGERPRINT,
    }
    share = len(choices) // len(asked)
    for index, choice in enumerate(choices):
        for part in parts(full_text(asked[index // share], choice)):
            told = {"index": index, "text": part, "logprobs": None, "finish_reason": None}
            yield event({**head, "choices": [told]})
        last = {"index": index, "text": "", "logprobs": None, "finish_reason": choice.finish_reason}
        yield event({**head, "choices": [last]})
    if asked[0].include_usage:
        yield event({**head, "choices": [], "usage": usage_of(asked, choices)})
    yield DONE


def parts(text: str | None) -> Iterator[str]:
    for start in range(0, len(text or ""), CHUNK):
        yield (text or "")[start : start + CHUNK]


def models_body(names: Sequence[str]) -> bytes:
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "synth"} for name in names]
    return orjson.dumps({"object": "list", "data": data})
