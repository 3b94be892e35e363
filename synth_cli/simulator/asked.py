"""A request's body, read and checked as OpenAI checks it.

Fields: https://platform.openai.com/docs/api-reference/chat/create and …/completions/create; `structured_outputs`:
https://docs.vllm.ai/en/latest/features/structured_outputs.html. What is not known is ignored, as vLLM does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from synth_cli.core.reply import Json


class Refused(Exception):  # noqa: N818 - what the server says, not what went wrong here
    """The request is answered with an error in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form that the answer must have: a schema (with its JSON text, to find it again), or one of vLLM's others."""

    kind: Literal["schema", "json", "regex", "choice", "grammar"]
    value: Json = None
    strict: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """`texts` are (role, text) of each message; a raw completion is one `user` text."""

    model: str
    texts: tuple[tuple[str, str], ...]
    identity: Json
    """What makes two requests of one model the same question: the messages or the prompt."""
    prompt_tokens: int
    chat: bool = True
    n: int = 1
    seed: int = 0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many alternatives beside each token's own; None: none asked for."""
    stream: bool = False
    include_usage: bool = False
    wanted: Wanted | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Json = None
    echo: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def user(self) -> str:
        """The latest user text."""
        return next((text for role, text in reversed(self.texts) if role == "user"), self.texts[-1][1])


ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
IMAGE_TOKENS = 85
MESSAGE_TOKENS = 3


def tokens_in(text: str) -> int:
    """A token is 4 bytes, rounded up."""
    return (len(text) if text.isascii() else len(text.encode())) + 3 >> 2


def body_of(data: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    return body


def read_chat(body: Mapping[str, Any]) -> Asked:
    """Raises `Refused`."""
    messages = body.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "expected a non-empty array of messages")
    tokens = MESSAGE_TOKENS
    texts: list[tuple[str, str]] = []
    for index, message in enumerate(messages):
        role, text, more = message_of(message, f"messages[{index}]")
        texts.append((role, text))
        tokens += tokens_in(text) + more + MESSAGE_TOKENS
    tools = tools_of(body)
    if tools:
        tokens += len(orjson.dumps(tools)) + 3 >> 2
    logprobs = (integer(body, "top_logprobs", 0, 20) or 0) if flag(body, "logprobs") else None
    return Asked(
        model=model_of(body),
        texts=tuple(texts),
        identity=messages,
        prompt_tokens=tokens,
        max_tokens=integer(body, "max_completion_tokens", 1) or integer(body, "max_tokens", 1),
        logprobs=logprobs,
        wanted=wanted_of(body, texts),
        tools=tools,
        tool_choice=tool_choice_of(body, tools),
        **common(body),
    )


def read_completions(body: Mapping[str, Any]) -> list[Asked]:
    """One for each prompt. Raises `Refused`."""
    prompt = body.get("prompt")
    if prompt is None:
        raise missing("prompt")
    prompts = prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], str) else [prompt]
    if not all(isinstance(text, str) for text in prompts):
        raise wrong("prompt", "expected a string or an array of strings; token ids are not supported here")
    return [
        Asked(
            model=model_of(body),
            texts=(("user", text),),
            identity=text,
            prompt_tokens=max(1, tokens_in(text)),
            chat=False,
            max_tokens=integer(body, "max_tokens", 0) if body.get("max_tokens") is not None else 16,
            logprobs=integer(body, "logprobs", 0, 20),
            wanted=wanted_of(body, [("user", text)]),
            echo=flag(body, "echo"),
            **common(body),
        )
        for text in prompts
    ]


def common(body: Mapping[str, Any]) -> dict[str, Any]:
    number(body, "temperature", 0, 2)
    number(body, "top_p", 0, 1)
    number(body, "presence_penalty", -2, 2)
    number(body, "frequency_penalty", -2, 2)
    options = body.get("stream_options") or {}
    return {
        "n": integer(body, "n", 1, 128) or 1,
        "seed": integer(body, "seed") or 0,
        "stop": stop_of(body),
        "stream": flag(body, "stream"),
        "include_usage": isinstance(options, Mapping) and bool(options.get("include_usage")),
        "raw": body,
    }


def message_of(message: Any, where: str) -> tuple[str, str, int]:
    """(role, text, tokens of what is not text)."""
    if not isinstance(message, Mapping):
        raise wrong(where, "expected an object")
    role = message.get("role")
    if role not in ROLES:
        raise wrong(f"{where}.role", f"expected one of {', '.join(sorted(ROLES))}, not {role!r}")
    content = message.get("content")
    if isinstance(content, str):
        return role, content, 0
    if content is None:
        if role == "assistant":
            return role, "", len(orjson.dumps(message.get("tool_calls"))) + 3 >> 2
        raise wrong(f"{where}.content", "expected a string or an array of parts, not null")
    if not isinstance(content, list):
        raise wrong(f"{where}.content", "expected a string or an array of parts")
    parts = [part_of(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    return role, "\n".join(text for text, _ in parts if text is not None), sum(more for _, more in parts)


def part_of(part: Any, place: str) -> tuple[str | None, int]:
    """(text, tokens of what is not text)."""
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise wrong(place, "expected an object with a type")
    match part["type"]:
        case "text" | "input_text" | "refusal":
            text = part.get(part["type"], part.get("text"))
            if not isinstance(text, str):
                raise wrong(f"{place}.text", "expected a string")
            return text, 0
        case "image_url":
            image = part.get("image_url")
            if not isinstance(image, Mapping) or not isinstance(image.get("url"), str):
                raise wrong(f"{place}.image_url", "expected an object with a url")
            if not image["url"].startswith(("data:", "https://", "http://")):
                raise wrong(f"{place}.image_url.url", "expected an http(s) address or a data URL")
            return None, IMAGE_TOKENS
        case "input_audio" | "file" | "video_url" | "audio_url":
            return None, IMAGE_TOKENS
        case other:
            raise wrong(f"{place}.type", f"unknown content part '{other}'")


def tools_of(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    tools = body.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list) or not tools:
        raise wrong("tools", "expected a non-empty array")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type") != "function":
            raise wrong(f"tools[{index}]", "expected {type: 'function', function: {name, parameters}}")
        name = function.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise wrong(f"tools[{index}].function.name", "expected letters, digits, _ and -, at most 64")
    return tuple(tools)


def tool_choice_of(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> Json:
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if not tools and choice != "none":
        raise wrong("tool_choice", "it is only allowed when 'tools' are given")
    if choice in ("none", "auto", "required"):
        return choice
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if name is None:
        raise wrong("tool_choice", "expected none, auto, required or {type: 'function', function: {name}}")
    if name not in [tool["function"]["name"] for tool in tools]:
        raise wrong("tool_choice", f"the function '{name}' is not among the tools")
    return choice


def wanted_of(body: Mapping[str, Any], texts: Sequence[tuple[str, str]]) -> Wanted | None:
    structured = body.get("structured_outputs")
    if structured is not None:
        return structured_of(structured)
    form = body.get("response_format")
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, Mapping) else None
    match kind:
        case "text":
            return None
        case "json_object":
            if not any("json" in text.lower() for _, text in texts):
                raise wrong(
                    "messages",
                    "'messages' must contain the word 'json' in some form, to use 'response_format' of type"
                    " 'json_object'",
                )
            return Wanted("json")
        case "json_schema":
            holder = form.get("json_schema")
            if not isinstance(holder, Mapping):
                raise missing("response_format.json_schema")
            name = holder.get("name")
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise wrong("response_format.json_schema.name", "expected letters, digits, _ and -, at most 64")
            schema = holder.get("schema", {})
            if not isinstance(schema, (Mapping, bool)):
                raise wrong("response_format.json_schema.schema", "expected a JSON Schema")
            return Wanted("schema", schema, strict=bool(holder.get("strict")))
        case _:
            raise wrong("response_format.type", f"expected text, json_object or json_schema, not {kind!r}")


def structured_of(structured: Any) -> Wanted | None:
    if not isinstance(structured, Mapping):
        raise wrong("structured_outputs", "expected an object")
    given = [key for key in ("json", "regex", "choice", "grammar", "json_object") if structured.get(key) is not None]
    if len(given) != 1:
        raise wrong("structured_outputs", "expected exactly one of json, regex, choice, grammar, json_object")
    kind, value = given[0], structured[given[0]]
    match kind:
        case "json":
            if isinstance(value, str):
                value = body_of(value.encode())
            return Wanted("schema", value)
        case "regex" | "grammar" if isinstance(value, str):
            return Wanted("regex" if kind == "regex" else "grammar", value)
        case "choice" if isinstance(value, list) and value and all(isinstance(option, str) for option in value):
            return Wanted("choice", tuple(value))
        case "json_object":
            return Wanted("json") if value else None
        case _:
            raise wrong(f"structured_outputs.{kind}", "it has the wrong type or is empty")


def model_of(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if model is None:
        raise Refused(400, "you must provide a model parameter", param="model")
    if not isinstance(model, str) or not model:
        raise wrong("model", "expected a string")
    return model


def stop_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise wrong("stop", "expected a string or an array of strings")
    return tuple(text for text in stops if text)


def flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "expected a boolean")
    return bool(value)


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(name, "expected a number")
    if not low <= value <= high:
        raise wrong(name, f"expected a value between {low} and {high}, but got {value} instead")


def integer(body: Mapping[str, Any], name: str, low: int | None = None, high: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(name, "expected an integer")
    if (low is not None and value < low) or (high is not None and value > high):
        raise wrong(name, f"expected a value of at least {low}" + (f" and at most {high}" if high is not None else ""))
    return value


def server_error() -> Refused:
    """The fault `500`."""
    message = "The server had an error while processing your request."
    return Refused(500, message, kind="server_error", code="server_error")


def wrong(param: str, message: str) -> Refused:
    return Refused(400, f"Invalid value for '{param}': {message}.", param=param, code="invalid_value")


def missing(param: str) -> Refused:
    message = f"Missing required parameter: '{param}'."
    return Refused(400, message, param=param, code="missing_required_parameter")
