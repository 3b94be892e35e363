"""Gemini's generateContent: a request to a body, a body to a reply. Pure.

Source: https://ai.google.dev/api/generate-content (fields, finish reasons, usage), https://ai.google.dev/api/caching
(contents, tools), https://ai.google.dev/gemini-api/docs/structured-output (`responseJsonSchema` and what it knows of
JSON Schema), https://ai.google.dev/gemini-api/docs/thinking, and the types of Google's client.

A schema goes into `responseJsonSchema`, without the keywords that it does not know. Beside tools, and where a
definition that leads back to itself would have to be unrolled, the schema is said in the prompt instead: older models
refuse a schema together with functions. The answer is validated here in any case.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from synth_cli.core.reply import Fault, FaultKind, Reply, Usage
from synth_cli.core.request import Message, Request, Terms
from synth_cli.providers.contents import Source, count, document, image, object_of, system_parts
from synth_cli.providers.faults import fault_of
from synth_cli.providers.lower import Lowered, Reading, choice_schema, instructed, lower, recursive
from synth_cli.providers.openai import BodyError, StatedError, chosen, shown

GENERATE = "gemini"

CONFIG: Mapping[str, str] = {
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "n": "candidateCount",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
"""OpenAI's names in `generationConfig`; Gemini's own are written in either spelling, `top_k` or `topK`."""
BESIDE = frozenset({"safetySettings", "cachedContent", "toolConfig", "serviceTier", "labels", "store"})
"""What stands beside `generationConfig`."""
KNOWN = frozenset(
    {"$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems"}
    | {"minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties"}
    | {"required", "propertyOrdering"}
)
"""Keywords of JSON Schema that `responseJsonSchema` knows."""
WITH_BUDGETS = re.compile(r"(models/)?gemini-2\.")
"""Models whose thinking is given a budget of tokens; later ones have levels."""
BUDGETS: Mapping[str, int] = {"none": 0, "disable": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
LEVELS: Mapping[str, str] = {"none": "minimal", "disable": "minimal", "xhigh": "high", "max": "high"}
_MODES: Mapping[str, str] = {"auto": "AUTO", "required": "ANY", "none": "NONE"}

FILTERED = (
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII ESCALATION MODEL_ARMOR IMAGE_SAFETY "
    "IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION PUP_LIMITED_DISABLED"
)
FINISH: Mapping[str, str | None] = {
    "FINISH_REASON_UNSPECIFIED": None,
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(FILTERED.split(), "content_filter"),
}
"""Others (a malformed call, no image, other) keep their own word, in small letters."""

# https://cloud.google.com/apis/design/errors#handling_errors
CODES: Mapping[int, int] = {
    1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500,
    14: 503, 15: 500, 16: 401,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoder:
    """What all requests of one `Terms` have in common, encoded once."""

    head: bytes
    """Fields of the body with the comma behind each, up to the contents; no opening brace is missing."""
    config: bytes
    """`generationConfig` without a closing brace; empty where there is none."""
    instruction: str
    protocol: str

    def encode(self, request: Request) -> bytes:
        messages: Sequence[Message] = request.messages or ({"role": "user", "content": request.prompt or ""},)
        if self.instruction:
            messages = instructed(messages, self.instruction)
        system = system_parts(messages)
        parts = [self.head]
        if system:
            said = {"parts": [{"text": str(part["text"])} for part in system]}
            parts.append(b'"systemInstruction":%b,' % orjson.dumps(said))
        if request.seed is not None:
            comma = b"," if len(self.config) > 1 else b""
            parts.append(b'"generationConfig":%b%b"seed":%d},' % (self.config, comma, request.seed))
        elif len(self.config) > 1:
            parts.append(b'"generationConfig":%b},' % self.config)
        parts.append(b'"contents":%b}' % orjson.dumps(_contents(messages)))
        return b"".join(parts)


def encoder(terms: Terms) -> Encoder:
    """The encoder for these terms. A raw completion is sent as one user turn: there is no other endpoint."""
    given = {name: value for name, value in terms.params.items() if value is not None}
    extra = given.pop("extra_body", None)
    seed = given.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool):
        del given["seed"]
    config, beside = _config(given, terms.model)
    lowered, schema = _lowered(terms)
    if schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
    body = beside | _tools(terms)
    if isinstance(extra, Mapping):
        own = extra.get("generationConfig")
        config |= own if isinstance(own, Mapping) else {}
        body |= {name: value for name, value in extra.items() if name != "generationConfig"}
    head = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)[:-1] + (b"," if body else b"")
    stated = orjson.dumps(config, option=orjson.OPT_NON_STR_KEYS)[:-1]
    return Encoder(head, stated, lowered.instruction, GENERATE + lowered.reading)


def _config(given: Mapping[str, Any], model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`generationConfig`, what stands beside it)."""
    config: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("stream", "stream_options", "user", "parallel_tool_calls"):
            continue
        known = CONFIG.get(name) or _camel(name)
        if known == "generationConfig" and isinstance(value, Mapping):
            config |= value
        elif name == "reasoning_effort":
            config.setdefault("thinkingConfig", _thinking(str(value), model))
        elif known in BESIDE:
            beside[known] = value
        elif known == "stopSequences":
            config[known] = [value] if isinstance(value, str) else value
        elif (known == "responseLogprobs" and value is False) or (known == "candidateCount" and value == 1):
            continue
        else:
            config[known] = value
    return config, beside


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _thinking(effort: str, model: str) -> dict[str, Any]:
    if WITH_BUDGETS.match(model):
        return {"thinkingBudget": BUDGETS.get(effort, BUDGETS["high"])}
    return {"thinkingLevel": LEVELS.get(effort, effort)}


def _lowered(terms: Terms) -> tuple[Lowered, Any]:
    """(how it is said and read, the schema for `responseJsonSchema`)."""
    constraint = terms.constraint
    if constraint is None or constraint.kind in ("regex", "grammar"):
        return Lowered(), None
    if constraint.kind == "choice":
        return (Lowered(), None) if terms.tools else (Lowered(reading=".choice"), choice_schema(constraint.value))
    if terms.tools or recursive(constraint.value):
        return Lowered(instruction=lower(constraint, "json", tools=bool(terms.tools)).instruction), None
    return Lowered(), subset(constraint.value)


def subset(node: Any) -> Any:
    """The schema in the keywords that Gemini knows; what it does not know is left to the validation of the answer."""
    if not isinstance(node, Mapping):
        return node
    if isinstance(node.get("$ref"), str):
        # beside a reference nothing else may stand but what begins with a $
        kept = {key: value for key, value in node.items() if key.startswith("$")}
        kept["$ref"] = node["$ref"].replace("#/definitions/", "#/$defs/")
        return _deep(kept | _definitions(node))
    one = node.get("allOf")
    if isinstance(one, list) and len(one) == 1 and isinstance(one[0], Mapping):
        node = {**{key: value for key, value in node.items() if key != "allOf"}, **one[0]}
    out = {key: value for key, value in node.items() if key in KNOWN}
    if "const" in node:
        out["enum"] = [node["const"]]
    if "enum" in out and not all(isinstance(value, str | int | float) for value in out["enum"]):
        del out["enum"]
    if any(isinstance(value, bool) for value in out.get("enum", ())):
        del out["enum"]
    return _deep(out | _definitions(node))


def _definitions(node: Mapping[str, Any]) -> dict[str, Any]:
    found = {**(node.get("definitions") or {}), **(node.get("$defs") or {})}
    return {"$defs": found} if found else {}


def _deep(node: dict[str, Any]) -> dict[str, Any]:
    for key in ("properties", "$defs"):
        if isinstance(node.get(key), Mapping):
            node[key] = {name: subset(part) for name, part in node[key].items()}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(node.get(key), list):
            node[key] = [subset(part) for part in node[key]]
    for key in ("items", "additionalProperties"):
        if key in node:
            node[key] = subset(node[key])
    return node


def _tools(terms: Terms) -> dict[str, Any]:
    if not terms.tools:
        return {}
    functions = [_function(tool["function"]) for tool in terms.tools if isinstance(tool.get("function"), Mapping)]
    # already in Gemini's shape: its own tools
    tools: list[Any] = [tool for tool in terms.tools if not isinstance(tool.get("function"), Mapping)]
    if functions:
        tools.insert(0, {"functionDeclarations": functions})
    body: dict[str, Any] = {"tools": [_without_kind(tool) for tool in tools]}
    choice = terms.tool_choice
    named = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(choice, str):
        body["toolConfig"] = {"functionCallingConfig": {"mode": _MODES.get(choice, choice)}}
    elif isinstance(named, Mapping):
        body["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [named.get("name")]}}
    elif isinstance(choice, Mapping):
        body["toolConfig"] = dict(choice)
    return body


def _without_kind(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in tool.items() if name != "type"}


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": function.get("name")}
    if function.get("description"):
        made["description"] = function["description"]
    parameters = function.get("parameters")
    # a function without parameters leaves them out
    if isinstance(parameters, Mapping) and parameters.get("properties"):
        made["parametersJsonSchema"] = parameters
    return made


def _contents(messages: Sequence[Message]) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            continue
        if role in ("tool", "function"):
            result = _result(message, names)
            if contents and contents[-1]["role"] == "user" and "functionResponse" in contents[-1]["parts"][-1]:
                contents[-1]["parts"].append(result)
            else:
                contents.append({"role": "user", "parts": [result]})
            continue
        parts = _parts(message.get("content"))
        for call in message.get("tool_calls") or ():
            made = _called(call)
            names[str(call.get("id"))] = made["functionCall"]["name"]
            parts.append(made)
        contents.append({"role": "model" if role == "assistant" else "user", "parts": parts or [{"text": ""}]})
    return contents


def _called(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _object(arguments or "{}", "arguments")
    made = {"name": function.get("name"), "args": arguments or {}}
    return {"functionCall": {"id": call["id"], **made} if call.get("id") else made}


def _result(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    id, content = message.get("tool_call_id"), message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content)
    name = message.get("name") or names.get(str(id)) or str(id)
    made = {"name": name, "response": _object(str(content or ""), "output")}
    return {"functionResponse": {"id": id, **made} if id else made}


def _object(text: str, name: str) -> dict[str, Any]:
    """The object that the text is, or one that holds it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {name: text}
    return value if isinstance(value, dict) else {name: value}


def _parts(content: Any) -> list[Any]:
    if not isinstance(content, list):
        return [{"text": content}] if content else []
    return [_part(part) for part in content]


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    match part.get("type"):
        case "text":
            return {"text": part.get("text") or ""}
        case "image_url":
            return _media(image(part))
        case "file":
            return _media(document(part))
        case _:
            return _without_kind(part)


def _media(source: Source) -> dict[str, Any]:
    """Bytes stand in the part itself; an address is a file of Google's, a video there, or anything in the open."""
    if source.data is not None:
        return {"inlineData": {"mimeType": source.mime, "data": source.data}}
    uri = source.id or source.url
    kind = mimetypes.guess_type(uri.partition("?")[0])[0]
    return {"fileData": {"mimeType": kind, "fileUri": uri} if kind else {"fileUri": uri}}


def read(body: bytes) -> Reply:
    """Raises BodyError; a prompt that was blocked is a StatedError with its fault."""
    data = object_of(body)
    candidates = data.get("candidates")
    if type(candidates) is not list or not candidates or type(candidates[0]) is not dict:
        raise _without_answer(data, body)
    candidate = candidates[0]
    content, reason = candidate.get("content"), candidate.get("finishReason")
    parts = content.get("parts") if type(content) is dict else None
    parts = [part for part in parts if type(part) is dict] if type(parts) is list else []
    called = [part["functionCall"] for part in parts if type(part.get("functionCall")) is dict]
    calls = tuple(_call(call, position) for position, call in enumerate(called))
    finish = FINISH.get(reason, reason.lower()) if type(reason) is str else None
    model, usage = data.get("modelVersion"), data.get("usageMetadata")
    return Reply(
        text=_said(parts, thought=False),
        finish_reason="tool_calls" if calls and finish == "stop" else finish,
        model=model if type(model) is str else None,
        usage=_usage(usage) if type(usage) is dict else None,
        reasoning=_said(parts, thought=True),
        tool_calls=calls,
        logprobs=candidate.get("logprobsResult"),
        raw=data,
    )


def _without_answer(data: Mapping[str, Any], body: bytes) -> BodyError:
    feedback = data.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, Mapping) else None
    if reason:
        said = feedback.get("blockReasonMessage") if isinstance(feedback, Mapping) else None
        message = f"the prompt was blocked: {reason}" + (f": {said}" if said else "")
        return StatedError(message, feedback, Fault(FaultKind.CONTENT_FILTER, message))
    if isinstance(data.get("error"), Mapping):
        return StatedError("the answer is an error", data["error"])
    return BodyError(f"the answer has no candidates: {shown(body)}")


def _said(parts: Sequence[Mapping[str, Any]], *, thought: bool) -> str | None:
    found = [
        str(part["text"]) for part in parts if part.get("text") is not None and bool(part.get("thought")) == thought
    ]
    return "".join(found) if found else None


def _call(call: Mapping[str, Any], position: int) -> Mapping[str, Any]:
    function = {"name": call.get("name"), "arguments": call.get("args") or {}}
    return {"id": call.get("id") or f"call_{position}", "type": "function", "function": function}


def _usage(usage: Mapping[str, Any]) -> Usage | None:
    """Thoughts are counted beside the candidates and charged as output; what tools gave is input."""
    if usage.get("promptTokenCount") is None and usage.get("totalTokenCount") is None:
        return None
    entered = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount")
    left, thoughts = count(usage, "candidatesTokenCount"), count(usage, "thoughtsTokenCount")
    # some models count their thoughts among the candidates: the total tells
    among = thoughts and entered + left == count(usage, "totalTokenCount")
    return Usage(entered, left if among else left + thoughts, count(usage, "cachedContentTokenCount"), 0, thoughts)


def status_fault(status: Mapping[str, Any], *, now: float, secrets: tuple[str, ...] = ()) -> Fault:
    """What a google.rpc.Status means: its `code` is one of 16, each of which stands for a status of HTTP."""
    code = status.get("code")
    number = CODES.get(code, code if 400 <= code < 600 else 500) if isinstance(code, int) else 500
    return fault_of(number, {}, orjson.dumps({"error": status}), now=now, secrets=secrets)


def read_choice(body: bytes) -> Reply:
    """A choice that was asked for as `{"answer": …}`."""
    return chosen(read(body))


_BY_READING: Mapping[Reading, Callable[[bytes], Reply]] = {"": read, ".choice": read_choice}
READERS: Mapping[str, Callable[[bytes], Reply]] = {GENERATE + mark: reader for mark, reader in _BY_READING.items()}
