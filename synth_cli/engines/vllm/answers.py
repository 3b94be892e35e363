"""What vLLM's engine gives for a call → one body per sample, as OpenAI's chat and text completions write it.

So an answer is read, kept and shown like one of a server, and no codec of its own is needed. Tokens of the prompt are
counted once per call: the first sample's usage has them, its siblings' has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from synth_cli.core.depth import too_deep
from synth_cli.core.ports import Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage

CHAT = "openai"
COMPLETION = "openai.completion"
LEAST = -9999.0
"""In place of minus infinity, which JSON cannot say; as vLLM's server does."""


class Token(Protocol):
    """One candidate for a place in the answer (vLLM's `Logprob`)."""

    @property
    def logprob(self) -> float: ...
    @property
    def decoded_token(self) -> str | None: ...


class Output(Protocol):
    """One sample (vLLM's `CompletionOutput`)."""

    @property
    def index(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def token_ids(self) -> Sequence[int]: ...
    @property
    def logprobs(self) -> Sequence[Mapping[int, Token]] | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def stop_reason(self) -> int | str | None: ...


class Outcome(Protocol):
    """What came of one call (vLLM's `RequestOutput`)."""

    @property
    def outputs(self) -> Sequence[Output]: ...
    @property
    def prompt_token_ids(self) -> Sequence[int] | None: ...
    @property
    def num_cached_tokens(self) -> int | None: ...
    @property
    def prompt_logprobs(self) -> Sequence[Mapping[int, Token] | None] | None: ...


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model's text says, once its reasoning and its tool calls are told apart from the answer."""

    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """In OpenAI's shape, `arguments` as text."""
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Manner:
    """How the answers of a request are written down."""

    model: str
    completion: bool = False
    top: int | None = None
    """How many candidates are shown beside each token; None: no probabilities, -1: all."""
    first: float | None = None
    """Seconds from handing the request to the engine to the first token of the call."""


def exchanges(outcome: Outcome, manner: Manner, hear: Callable[[Output], Heard] | None = None) -> tuple[Exchange, ...]:
    """One exchange for each sample, in their order."""
    entered = len(outcome.prompt_token_ids or ())
    cached = outcome.num_cached_tokens or 0
    found = []
    # parts of samples come as they are ready
    for place, output in enumerate(sorted(outcome.outputs, key=lambda each: each.index)):
        fault = _broken(output)
        if fault is not None:
            found.append(Exchange(fault=fault))
            continue
        heard = Heard(output.text) if hear is None else hear(output)
        usage = Usage(
            entered if place == 0 else 0,
            len(output.token_ids),
            cached if place == 0 else 0,
            reasoning=heard.reasoning_tokens,
        )
        own: dict[str, Any] = {}
        if manner.first is not None and place == 0:
            own["time_to_first_token"] = round(manner.first, 6)
        if output.stop_reason is not None:
            own["stop_reason"] = output.stop_reason
        if len(outcome.outputs) > 1:
            own["samples"] = len(outcome.outputs)
        if outcome.prompt_logprobs is not None and place == 0:
            own["prompt_logprobs"] = [_candidates(each) for each in outcome.prompt_logprobs]
        found.append(_exchange(output, heard, usage, manner, own))
    return tuple(found)


def _broken(output: Output) -> Fault | None:
    """vLLM answers some troubles of its own with an answer that only says so."""
    if output.finish_reason == "abort":
        return Fault(FaultKind.CANCELLED, "vLLM's engine gave the request up")
    if output.finish_reason == "error":
        return Fault(FaultKind.SERVER_ERROR, "vLLM's engine failed at this request")
    return None


def _exchange(output: Output, heard: Heard, usage: Usage, manner: Manner, own: Mapping[str, Any]) -> Exchange:
    finish = output.finish_reason or "stop"
    logprobs = None
    if manner.completion:
        if manner.top is not None and output.logprobs is not None:
            logprobs = completion_logprobs(output, manner.top)
        choice: dict[str, Any] = {"index": 0, "text": heard.content}
    else:
        if manner.top is not None and output.logprobs is not None:
            logprobs = {"content": chat_logprobs(output, manner.top)}
        message: dict[str, Any] = {"role": "assistant", "content": heard.content}
        if heard.reasoning:
            message["reasoning_content"] = heard.reasoning
        if heard.tool_calls:
            message["tool_calls"] = list(heard.tool_calls)
            finish = "tool_calls" if finish == "stop" else finish
        choice = {"index": 0, "message": message}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    choice["finish_reason"] = finish
    counted: dict[str, Any] = {"prompt_tokens": usage.input, "completion_tokens": usage.output}
    if usage.cached:
        counted["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    if usage.reasoning:
        counted["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    data: dict[str, Any] = {
        "object": "text_completion" if manner.completion else "chat.completion",
        "model": manner.model,
        "choices": [choice],
        "usage": counted,
    }
    if own:
        data["vllm"] = own
    reply = Reply(
        text=heard.content,
        finish_reason=finish,
        model=manner.model,
        usage=usage,
        reasoning=heard.reasoning or None,
        tool_calls=tuple(_parsed(call) for call in heard.tool_calls),
        logprobs=logprobs,
        raw=data,
    )
    return Exchange(reply, Answer(COMPLETION if manner.completion else CHAT, orjson.dumps(data)))


def _parsed(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call with its arguments as a value, as a codec reads it."""
    function = call["function"]
    arguments = function["arguments"]
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return call
    return {**call, "function": {**function, "arguments": arguments if too_deep(value, arguments) else value}}


def chat_logprobs(output: Output, top: int) -> list[dict[str, Any]]:
    """The answer's tokens with their probabilities, each with its `top` likeliest ones (-1: all that are known)."""
    found = []
    for token_id, step in zip(output.token_ids, output.logprobs or (), strict=False):
        own = step.get(token_id)
        shown = _shown(own, token_id)
        shown["top_logprobs"] = [_shown(each, other) for other, each in _likeliest(step, top)]
        found.append(shown)
    return found


def completion_logprobs(output: Output, top: int) -> dict[str, Any]:
    """The same in the older shape of text completions."""
    tokens, values, likeliest, offsets, at = [], [], [], [], 0
    for token_id, step in zip(output.token_ids, output.logprobs or (), strict=False):
        own = step.get(token_id)
        word = _word(own, token_id)
        tokens.append(word)
        values.append(None if own is None else max(own.logprob, LEAST))
        likeliest.append({_word(each, other): max(each.logprob, LEAST) for other, each in _likeliest(step, top)})
        offsets.append(at)
        at += len(word)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": likeliest, "text_offset": offsets}


def _shown(token: Token | None, token_id: int) -> dict[str, Any]:
    word = _word(token, token_id)
    value = LEAST if token is None else max(token.logprob, LEAST)
    return {"token": word, "logprob": value, "bytes": list(word.encode("utf-8", "replace"))}


def _likeliest(step: Mapping[int, Token], top: int) -> list[tuple[int, Token]]:
    """vLLM puts the token itself first where it is not among the likeliest: the order is made anew."""
    ranked = sorted(step.items(), key=lambda each: -each[1].logprob)
    return ranked if top < 0 else ranked[:top]


def _word(token: Token | None, token_id: int) -> str:
    told = None if token is None else token.decoded_token
    return f"token_id:{token_id}" if told is None else told


def _candidates(step: Mapping[int, Token] | None) -> dict[str, Any] | None:
    if step is None:
        return None
    return {
        str(token_id): {"logprob": max(token.logprob, LEAST), "decoded_token": token.decoded_token}
        for token_id, token in step.items()
    }
