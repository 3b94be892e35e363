"""OpenAI's chat and text completions: a request to a body, a body to a reply. Pure; used online and in batches.

Source: https://platform.openai.com/docs/api-reference/chat. Reading is tolerant: hosts that call themselves
compatible leave out fields, put null where an object should be, and send errors with status 200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from synth_cli.core.depth import too_deep
from synth_cli.core.reply import Fault, Reply, Usage
from synth_cli.core.request import Request, Terms
from synth_cli.providers.hosts import Host
from synth_cli.providers.lower import Reading, instructed, lower

CHAT = "openai"
COMPLETION = "openai.completion"
BOUND = 10**15
"""No count of tokens and no price is as large as this; what a server says beyond it, or below 0, is not taken."""


class BodyError(ValueError):
    """The body is not an answer; the message says what is wrong with it."""


class StatedError(BodyError):
    """The body is an error that came with a status of success."""

    def __init__(self, message: str, error: Any, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.fault = fault
        """What it means, where the body's own words alone would not tell."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """What all requests of one `Terms` have in common, encoded once."""

    head: bytes
    """The body up to the messages (or the prompt)."""
    instruction: str
    protocol: str
    completion: bool
    seed: bytes
    """The key under which a request's own seed is sent, with the comma before it."""

    def encode(self, request: Request) -> bytes:
        if self.completion:
            said = orjson.dumps(request.prompt)
        elif self.instruction:
            said = orjson.dumps(instructed(request.messages, self.instruction))
        else:
            said = orjson.dumps(request.messages)
        if request.seed is None:
            return b"%b%b}" % (self.head, said)
        return b"%b%b%b%d}" % (self.head, said, self.seed, request.seed)


def encoder(terms: Terms, host: Host, *, stream: bool = False) -> Encoder:
    """The encoder for these terms on this host. `stream` asks for server-sent events that end with the usage."""
    renames = host.renames_for(terms.model)
    given = dict(terms.params)
    extra = given.pop("extra_body", None)
    if isinstance(extra, Mapping):
        given |= extra
    # what is read is decided by the backend's `stream`, not by a parameter
    given.pop("stream", None)
    if isinstance(given.get("seed"), int) and not isinstance(given["seed"], bool):
        del given["seed"]
    body: dict[str, Any] = {"model": terms.model}
    body |= {renames.get(name, name): value for name, value in given.items() if value is not None}
    if terms.tools and not terms.completion:
        body["tools"] = terms.tools
        if terms.tool_choice is not None:
            body["tool_choice"] = terms.tool_choice
    lowered = lower(
        terms.constraint,
        host.structured_for(terms.model),
        completion=terms.completion,
        tools=bool(terms.tools),
        unsupported=host.unsupported,
    )
    body |= lowered.fields
    if stream:
        body["stream"] = True
        if host.stream_usage:
            body["stream_options"] = {"include_usage": True}
    last = b',"prompt":' if terms.completion else b',"messages":'
    seed = b',"%b":' % renames.get("seed", "seed").encode()
    head = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)[:-1] + last
    return Encoder(head, lowered.instruction, protocol(terms.completion, lowered.reading), terms.completion, seed)


def protocol(completion: bool, reading: Reading) -> str:
    """The name under which an answer is kept, so that it can be read without its request."""
    return COMPLETION if completion else CHAT + reading


def read_chat(body: bytes) -> Reply:
    """Raises BodyError."""
    data, choice = _choice_of(body)
    message = choice.get("message")
    if type(message) is not dict:
        raise BodyError("the answer's choice has no message")
    content = message.get("content")
    text = content if type(content) is str or content is None else _joined(content)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    calls = message.get("tool_calls")
    refusal = message.get("refusal")
    usage = data.get("usage")
    finish = choice.get("finish_reason")
    model = data.get("model")
    return Reply(
        text,
        finish if type(finish) is str else None,
        model if type(model) is str else None,
        _usage(usage) if type(usage) is dict else None,
        (reasoning if type(reasoning) is str else _joined(reasoning)) if reasoning else None,
        refusal if type(refusal) is str and refusal else None,
        _calls(calls) if type(calls) is list and calls else (),
        choice.get("logprobs"),
        _stated_cost(usage) if type(usage) is dict and "cost" in usage else None,
        data,
    )


def read_completion(body: bytes) -> Reply:
    """Raises BodyError."""
    data, choice = _choice_of(body)
    text = choice.get("text")
    if text is not None and not isinstance(text, str):
        raise BodyError("the completion's text is not a text")
    usage = data.get("usage")
    finish, model = choice.get("finish_reason"), data.get("model")
    return Reply(
        text=text,
        finish_reason=finish if isinstance(finish, str) else None,
        model=model if isinstance(model, str) else None,
        usage=_usage(usage) if isinstance(usage, dict) else None,
        logprobs=choice.get("logprobs"),
        cost=_stated_cost(usage) if isinstance(usage, dict) else None,
        raw=data,
    )


def read_choice(body: bytes) -> Reply:
    """A choice that was asked for as `{"answer": …}`; a server that ignored this answers with the plain text."""
    return chosen(read_chat(body))


def chosen(reply: Reply) -> Reply:
    """The reply with the choice itself as its text."""
    try:
        said = orjson.loads(reply.text or "")
    except orjson.JSONDecodeError:
        return reply
    answer = said.get("answer") if isinstance(said, dict) else None
    return _with(reply, text=answer) if isinstance(answer, str) else reply


def read_tool(body: bytes) -> Reply:
    """An answer that was asked for as the arguments of a tool."""
    return told(read_chat(body))


def told(reply: Reply) -> Reply:
    """The reply with the arguments of its first call as its text."""
    if not reply.tool_calls:
        return reply
    arguments = reply.tool_calls[0]["function"]["arguments"]
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    finish = "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
    return _with(reply, text=text, tool_calls=(), finish_reason=finish)


READERS: Mapping[str, Callable[[bytes], Reply]] = {
    CHAT: read_chat,
    COMPLETION: read_completion,
    CHAT + ".choice": read_choice,
    CHAT + ".tool": read_tool,
}


def _choice_of(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BodyError(f"the answer is not JSON: {shown(body)}" if body.strip() else "the answer is empty") from None
    if type(data) is not dict:
        raise BodyError(f"the answer is not an object: {shown(body)}")
    choices = data.get("choices")
    if type(choices) is not list or not choices or type(choices[0]) is not dict:
        error = data.get("error")
        if error:
            raise StatedError("the answer is an error", error)
        raise BodyError(f"the answer has no choices: {shown(body)}")
    choice = choices[0]
    if choice.get("error"):
        # OpenRouter: the provider behind it broke off
        raise StatedError("the choice is an error", choice["error"])
    return data, choice


def _usage(usage: dict[str, Any]) -> Usage | None:
    entered = usage.get("prompt_tokens")
    left = usage.get("completion_tokens")
    if entered is None and left is None:
        entered, left = usage.get("input_tokens"), usage.get("output_tokens")
        if entered is None and left is None:
            return None
    into = entered if type(entered) is int and 0 <= entered < BOUND else _whole(entered)
    out = left if type(left) is int and 0 <= left < BOUND else _whole(left)
    details = usage.get("prompt_tokens_details")
    cached = written = reasoning = 0
    if details:
        cached = _of(details, "cached_tokens")
        written = _of(details, "cache_write_tokens") or _of(details, "cache_creation_tokens")
    if not cached and len(usage) > 3:
        # DeepSeek; Moonshot and Together; Anthropic's words
        cached = _of(usage, "prompt_cache_hit_tokens") or _of(usage, "cached_tokens")
        cached = cached or _of(usage, "cache_read_input_tokens")
        written = written or _of(usage, "cache_creation_input_tokens")
    details = usage.get("completion_tokens_details")
    if details:
        reasoning = _of(details, "reasoning_tokens")
        # xAI counts reasoning apart from the completion
        if reasoning and _of(usage, "total_tokens") == into + out + reasoning:
            out += reasoning
    return Usage(into, out, cached, written, reasoning)


def _of(mapping: Any, name: str) -> int:
    value = mapping.get(name) if type(mapping) is dict else None
    return value if type(value) is int and 0 <= value < BOUND else _whole(value)


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < BOUND else 0


def _stated_cost(usage: dict[str, Any]) -> float | None:
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < BOUND:
        return None
    return float(cost)


def _joined(parts: Any) -> str | None:
    """The text of a content that is a list of parts."""
    if isinstance(parts, str):
        return parts
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list):
        return None if parts is None else str(parts)
    texts = [part if isinstance(part, str) else part.get("text") for part in parts if isinstance(part, str | dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _calls(calls: list[Any]) -> tuple[Mapping[str, Any], ...]:
    read: list[Mapping[str, Any]] = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                parsed = orjson.loads(arguments)
            except orjson.JSONDecodeError:
                pass
            else:
                arguments = arguments if too_deep(parsed, arguments) else parsed
        read.append(
            {
                **{key: value for key, value in call.items() if key != "index"},
                "type": call.get("type") or "function",
                "function": {**function, "arguments": arguments},
            }
        )
    return tuple(read)


def _with(reply: Reply, **changes: Any) -> Reply:
    return Reply(**{name: getattr(reply, name) for name in Reply.__slots__} | changes)


def shown(body: bytes) -> str:
    """The beginning of a body, for messages."""
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    return text[:200] + "…" if len(text) > 200 else text
