"""Anthropic's Messages API: a request to a body, a body to a reply. Pure.

Source: https://platform.claude.com/docs/en/api/messages (fields, stop reasons, usage),
https://platform.claude.com/docs/en/build-with-claude/structured-outputs (`output_config.format` and its subset of
JSON Schema), https://platform.claude.com/docs/en/api/errors (types of errors), and the types of Anthropic's client.

A schema goes into `output_config.format` where the model knows that and the schema can be said in its subset. Older
models are made to call a tool whose arguments are the answer, unless they think (a forced tool and thinking exclude
each other) or have tools of their own; all else is said in the prompt. The answer is validated here in any case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from synth_cli.core.reply import Fault, Reply, Usage
from synth_cli.core.request import Message, Request, Terms
from synth_cli.providers.contents import count, document, image, object_of, plain, system_parts, texts
from synth_cli.providers.faults import fault_of
from synth_cli.providers.lower import Lowered, Reading, instructed, lower, recursive, unions
from synth_cli.providers.openai import BodyError, StatedError, chosen, shown, told
from synth_cli.providers.prices import max_output_tokens

MESSAGES = "anthropic"
VERSION = "2023-06-01"
"""Sent as `anthropic-version`."""
FALLBACK_TOKENS = 4096
"""`max_tokens` is required; this is for models whose maximum is not known. None puts out less."""

WITHOUT_FORMAT = re.compile(r"claude-(instant|[123])|claude-(opus|sonnet)-4(-[01])?(-\d{8})?(@|$)")
"""Models from before `output_config.format`."""
WITH_BUDGETS = re.compile(r"claude-3|claude-(opus|sonnet|haiku)-4(-[015])?(-\d{8})?(@|$)")
"""Models whose thinking is given a budget of tokens; later ones have efforts."""
BUDGETS: Mapping[str, int] = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
# of the subset that OpenAI takes
UNSUPPORTED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems"}
)
MOST_UNIONS = 16
"""Fields with several types that one schema may have."""
_HARD_PATTERN = re.compile(r"\\[1-9bB]|\(\?")

# what only OpenAI knows and what changes nothing here: there is no seed, and several answers are several requests
_DROPPED = frozenset({"seed", "stream", "stream_options", "store", "n", "extra_body"})
_HARMLESS = frozenset({"frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs"})
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CHOICES: Mapping[str, str] = {"auto": "auto", "required": "any", "none": "none"}

FINISH: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
    # of a turn that the server would go on with: as it stands it is cut off
    "pause_turn": "length",
    "compaction": "length",
}

STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "invalid_request": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that each type of error comes with, where it comes over HTTP."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """What all requests of one `Terms` have in common, encoded once."""

    head: bytes
    """The body up to the system prompt and the messages, without a closing brace."""
    instruction: str
    protocol: str

    def encode(self, request: Request) -> bytes:
        messages: Sequence[Message] = request.messages or ({"role": "user", "content": request.prompt or ""},)
        if self.instruction:
            messages = instructed(messages, self.instruction)
        system, turns = _split(messages)
        said = orjson.dumps(turns)
        if not system:
            return b'%b,"messages":%b}' % (self.head, said)
        return b'%b,"system":%b,"messages":%b}' % (self.head, orjson.dumps(system), said)


def encoder(terms: Terms) -> Encoder:
    """The encoder for these terms. A raw completion is sent as one user turn: there is no other endpoint left."""
    given = dict(terms.params)
    extra = given.get("extra_body")
    given = {name: value for name, value in given.items() if name not in _DROPPED and value is not None}
    given = {name: value for name, value in given.items() if name not in _HARMLESS or value}
    body: dict[str, Any] = {"model": terms.model, "max_tokens": _length(given, terms.model)}
    body |= _renamed(given, terms.model, body["max_tokens"])
    if isinstance(extra, Mapping):
        body |= extra
    lowered = _lowered(terms, body)
    body |= _tools(terms, lowered, given.get("parallel_tool_calls"))
    if "output_config" in lowered.fields:
        body["output_config"] = {**body.get("output_config", {}), **lowered.fields["output_config"]}
    head = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)[:-1]
    return Encoder(head, lowered.instruction, MESSAGES + lowered.reading)


def _length(given: Mapping[str, Any], model: str) -> Any:
    for name in _LENGTHS:
        if name in given:
            return given[name]
    return max_output_tokens("anthropic", model) or FALLBACK_TOKENS


def _renamed(given: Mapping[str, Any], model: str, most: Any) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, value in given.items():
        if name in _LENGTHS or name == "parallel_tool_calls":
            continue
        if name == "stop":
            body["stop_sequences"] = [value] if isinstance(value, str) else value
        elif name == "user":
            body["metadata"] = {"user_id": value}
        elif name == "reasoning_effort":
            body |= _effort(str(value), model, most)
        else:
            body[name] = value
    return body


def _effort(effort: str, model: str, most: Any) -> dict[str, Any]:
    """https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking and extended-thinking"""
    if effort in ("none", "disable"):
        return {"thinking": {"type": "disabled"}}
    if WITH_BUDGETS.match(model) is None:
        known = "low" if effort == "minimal" else effort
        return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": known}}
    budget = BUDGETS.get(effort, BUDGETS["medium"])
    if isinstance(most, int):
        # a budget must stay below the length, and may not be below the least
        budget = min(budget, most - 1)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= BUDGETS["minimal"] else {}


def _lowered(terms: Terms, body: Mapping[str, Any]) -> Lowered:
    constraint, tools = terms.constraint, bool(terms.tools)
    if constraint is None:
        return Lowered()
    if WITHOUT_FORMAT.match(terms.model):
        thinking = body.get("thinking")
        thinks = isinstance(thinking, Mapping) and thinking.get("type") != "disabled"
        can_call = constraint.kind == "schema" and constraint.value.get("type") == "object" and not thinks
        lowered = lower(constraint, "tool" if can_call else "json", tools=tools)
    else:
        lowered = lower(constraint, "strict", tools=tools, unsupported=UNSUPPORTED)
        wanted = lowered.fields.get("response_format", {}).get("json_schema", {})
        schema = wanted.get("schema")
        if wanted.get("strict") and not recursive(schema) and unions(schema) <= MOST_UNIONS:
            told_format = {"type": "json_schema", "schema": _easy(schema)}
            return Lowered({"output_config": {"format": told_format}}, reading=lowered.reading)
        if constraint.kind == "schema":
            lowered = lower(constraint, "json", tools=tools)
    # there is no JSON mode
    kept = {name: value for name, value in lowered.fields.items() if name != "response_format"}
    return Lowered(kept, lowered.instruction, lowered.reading)


def _easy(node: Any) -> Any:
    """The schema without the patterns that Anthropic's regular expressions do not know."""
    if isinstance(node, Mapping):
        hard = isinstance(node.get("pattern"), str) and _HARD_PATTERN.search(node["pattern"])
        return {key: _easy(value) for key, value in node.items() if not (hard and key == "pattern")}
    return [_easy(part) for part in node] if isinstance(node, list) else node


def _tools(terms: Terms, lowered: Lowered, parallel: Any) -> dict[str, Any]:
    if "tools" in lowered.fields:
        tools, choice = lowered.fields["tools"], lowered.fields["tool_choice"]
    elif terms.tools:
        tools, choice = terms.tools, terms.tool_choice
    else:
        return {}
    body: dict[str, Any] = {"tools": [_tool(tool) for tool in tools]}
    said = _choice(choice)
    if parallel is False and (said or {}).get("type") != "none":
        said = {**(said or {"type": "auto"}), "disable_parallel_tool_use": True}
    if said is not None:
        body["tool_choice"] = said
    return body


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        # already in Anthropic's shape: the server's own tools, or one with an input_schema
        return tool
    made: dict[str, Any] = {"name": function.get("name")}
    if function.get("description"):
        made["description"] = function["description"]
    made["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict") is not None:
        made["strict"] = function["strict"]
    if "cache_control" in tool:
        made["cache_control"] = tool["cache_control"]
    return made


def _choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        return {"type": _CHOICES.get(choice, choice)}
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(function, Mapping):
        return {"type": "tool", "name": function.get("name")}
    return dict(choice) if isinstance(choice, Mapping) else None


def _split(messages: Sequence[Message]) -> tuple[Any, list[dict[str, Any]]]:
    """(what the system says, the turns): there is no role for the system among the turns."""
    system = system_parts(messages)
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            continue
        if role in ("tool", "function"):
            result = _result(message)
            if turns and turns[-1].get("role") == "user" and _is_results(turns[-1]["content"]):
                turns[-1]["content"].append(result)
            else:
                turns.append({"role": "user", "content": [result]})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _said(message)})
        else:
            turns.append({"role": role, "content": _content(message.get("content"))})
    return plain(system), turns


def _is_results(content: Any) -> bool:
    return isinstance(content, list) and all(part.get("type") == "tool_result" for part in content)


def _result(message: Message) -> dict[str, Any]:
    named = message.get("tool_call_id") or message.get("name")
    return {"type": "tool_result", "tool_use_id": named, "content": _content(message.get("content"))}


def _said(message: Message) -> Any:
    content, calls = _content(message.get("content")), message.get("tool_calls")
    if not calls:
        return content
    blocks: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
    if isinstance(content, list):
        blocks = list(content)
    for call in calls:
        function = call.get("function") or {}
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = orjson.loads(arguments or "{}")
            except orjson.JSONDecodeError:
                arguments = {"arguments": arguments}
        blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments})
    return blocks


def _content(content: Any) -> Any:
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    # an empty text is refused, and says nothing beside other parts
    return [part for part in parts if part.get("type") != "text" or part.get("text")] or ""


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    match part.get("type"):
        case "image_url":
            made = _image(part)
        case "file":
            made = _document(part)
        case _:
            return part
    marked = part.get("cache_control")
    return made if marked is None else {**made, "cache_control": marked}


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    source = image(part)
    if source.data is None:
        return {"type": "image", "source": {"type": "url", "url": source.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": source.mime, "data": source.data}}


def _document(part: Mapping[str, Any]) -> dict[str, Any]:
    source = document(part)
    if source.id:
        return {"type": "document", "source": {"type": "file", "file_id": source.id}}
    if source.data is None:
        return {"type": "document", "source": {"type": "url", "url": source.url}}
    if source.mime.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": source.mime, "data": source.data}}
    text = None if source.mime == "application/pdf" else source.text()
    if text is not None:
        made: dict[str, Any] = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        made = {"type": "base64", "media_type": source.mime, "data": source.data}
    return {"type": "document", "source": made, **({"title": source.name} if source.name else {})}


def read(body: bytes) -> Reply:
    """Raises BodyError."""
    data = object_of(body)
    if data.get("type") == "error" or (data.get("error") and "content" not in data):
        raise StatedError("the answer is an error", data.get("error"))
    content = data.get("content")
    if type(content) is not list:
        raise BodyError(f"the answer has no content: {shown(body)}")
    blocks = [block for block in content if type(block) is dict]
    calls = tuple(_call(block) for block in blocks if block.get("type") == "tool_use")
    text, stop = texts(blocks, "text", "text"), data.get("stop_reason")
    model, usage = data.get("model"), data.get("usage")
    return Reply(
        text=text,
        finish_reason=FINISH.get(stop, stop) if type(stop) is str else None,
        model=model if type(model) is str else None,
        usage=_usage(usage) if type(usage) is dict else None,
        reasoning=texts(blocks, "thinking", "thinking"),
        refusal=_refusal(data, text) if stop == "refusal" else None,
        tool_calls=calls,
        raw=data,
    )


def _refusal(data: Mapping[str, Any], text: str | None) -> str:
    details = data.get("stop_details")
    details = details if isinstance(details, Mapping) else {}
    return str(details.get("explanation") or text or details.get("category") or "refused without a word")


def _call(block: Mapping[str, Any]) -> Mapping[str, Any]:
    function = {"name": block.get("name"), "arguments": block.get("input")}
    return {"id": block.get("id"), "type": "function", "function": function}


def _usage(usage: Mapping[str, Any]) -> Usage | None:
    """All input is the sum of three: `input_tokens` leaves out what the cache gave and what was written to it."""
    if usage.get("input_tokens") is None and usage.get("output_tokens") is None:
        return None
    cached, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    details = usage.get("output_tokens_details")
    reasoning = count(details, "thinking_tokens") if isinstance(details, Mapping) else 0
    entered = count(usage, "input_tokens") + cached + written
    return Usage(entered, count(usage, "output_tokens"), cached, written, reasoning)


def error_fault(error: Any, *, now: float, secrets: tuple[str, ...] = ()) -> Fault:
    """What an error means that came without a status: each type has one of its own."""
    inner = error.get("error") if isinstance(error, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else error
    kind = str(inner.get("type") or "") if isinstance(inner, Mapping) else ""
    return fault_of(STATUS.get(kind, 500), {}, orjson.dumps({"error": inner}), now=now, secrets=secrets)


def read_choice(body: bytes) -> Reply:
    """A choice that was asked for as `{"answer": …}`."""
    return chosen(read(body))


def read_tool(body: bytes) -> Reply:
    """An answer that was asked for as the arguments of a tool."""
    return told(read(body))


_BY_READING: Mapping[Reading, Callable[[bytes], Reply]] = {"": read, ".choice": read_choice, ".tool": read_tool}
READERS: Mapping[str, Callable[[bytes], Reply]] = {MESSAGES + mark: reader for mark, reader in _BY_READING.items()}
