"""What vLLM's engine gives, as bodies; from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from synth_cli.core.ports import Exchange
from synth_cli.core.reply import FaultKind, Usage
from synth_cli.engines.vllm.answers import Heard, Manner, exchanges
from synth_cli.providers.codecs import READERS

CALL = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@dataclass
class Token:
    logprob: float
    decoded_token: str | None


@dataclass
class Output:
    text: str = "Hello"
    token_ids: Sequence[int] = (1, 2)
    logprobs: Sequence[Mapping[int, Token]] | None = None
    finish_reason: str | None = "stop"
    stop_reason: int | str | None = None
    index: int = 0


@dataclass
class Outcome:
    outputs: Sequence[Output] = field(default_factory=lambda: [Output()])
    prompt_token_ids: Sequence[int] | None = (1, 2, 3)
    num_cached_tokens: int | None = None
    prompt_logprobs: Sequence[Mapping[int, Token] | None] | None = None


def reads_back(exchange: Exchange) -> bool:
    assert exchange.answer is not None
    return READERS[exchange.answer.protocol](exchange.answer.body) == exchange.reply


def test_a_chat_answer_is_a_body_as_openai_writes_it() -> None:
    """The whole body, and what it reads back as."""
    (exchange,) = exchanges(Outcome(), Manner("tiny", first=0.25))
    assert exchange.answer is not None
    assert orjson.loads(exchange.answer.body) == {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "vllm": {"time_to_first_token": 0.25},
    }
    assert reads_back(exchange)


def test_a_raw_completion_is_one_of_text() -> None:
    """Under the protocol that the online engine has for it."""
    (exchange,) = exchanges(Outcome(), Manner("tiny", completion=True))
    assert exchange.answer is not None
    assert exchange.answer.protocol == "openai.completion"
    assert orjson.loads(exchange.answer.body)["choices"] == [{"index": 0, "text": "Hello", "finish_reason": "stop"}]
    assert reads_back(exchange)


def test_the_prompt_is_counted_once_for_all_samples() -> None:
    """And samples are put in their order, however they came."""
    outputs = [Output("b", (1,), index=1), Output("a", (1, 2), index=0), Output("c", (1, 2, 3), index=2)]
    found = exchanges(Outcome(outputs, num_cached_tokens=2), Manner("tiny", first=1.0))
    assert [one.reply and (one.reply.text, one.reply.usage) for one in found] == [
        ("a", Usage(3, 2, cached=2)),
        ("b", Usage(0, 1)),
        ("c", Usage(0, 3)),
    ]
    assert all(map(reads_back, found))


def test_reasoning_and_tool_calls_stand_beside_the_answer() -> None:
    """Arguments are kept as text and read as values."""
    heard = Heard(None, "Hm.", (CALL,), reasoning_tokens=1)
    (exchange,) = exchanges(Outcome(), Manner("tiny"), lambda output: heard)
    reply = exchange.reply
    assert reply is not None
    assert (reply.text, reply.reasoning, reply.finish_reason) == (None, "Hm.", "tool_calls")
    assert reply.tool_calls == ({**CALL, "function": {"name": "f", "arguments": {"a": 1}}},)
    assert reply.usage == Usage(3, 2, reasoning=1)
    assert reads_back(exchange)


def test_arguments_that_are_no_json_stay_text() -> None:
    """A model may write anything."""
    broken = {**CALL, "function": {"name": "f", "arguments": "{oops"}}
    (exchange,) = exchanges(Outcome(), Manner("tiny"), lambda output: Heard("", None, (broken,)))
    assert exchange.reply is not None
    assert exchange.reply.tool_calls == (broken,)
    assert reads_back(exchange)


STEPS = [{1: Token(-2.0, "He"), 5: Token(-0.5, "No")}, {2: Token(float("-inf"), None), 6: Token(-0.1, "?")}]


def test_probabilities_of_a_chat_are_openais() -> None:
    """Each token with its likeliest neighbours; what JSON cannot say is the least number."""
    (exchange,) = exchanges(Outcome([Output(logprobs=STEPS)]), Manner("tiny", top=1))
    assert exchange.reply is not None
    assert exchange.reply.logprobs == {
        "content": [
            {
                "token": "He",
                "logprob": -2.0,
                "bytes": [72, 101],
                "top_logprobs": [{"token": "No", "logprob": -0.5, "bytes": [78, 111]}],
            },
            {
                "token": "token_id:2",
                "logprob": -9999.0,
                "bytes": list(b"token_id:2"),
                "top_logprobs": [{"token": "?", "logprob": -0.1, "bytes": [63]}],
            },
        ]
    }
    assert reads_back(exchange)


def test_probabilities_of_a_completion_are_openais() -> None:
    """In the older shape."""
    (exchange,) = exchanges(Outcome([Output(logprobs=STEPS)]), Manner("tiny", completion=True, top=0))
    assert exchange.reply is not None
    assert exchange.reply.logprobs == {
        "tokens": ["He", "token_id:2"],
        "token_logprobs": [-2.0, -9999.0],
        "top_logprobs": [{}, {}],
        "text_offset": [0, 2],
    }
    assert reads_back(exchange)


def test_probabilities_of_the_prompt_stand_with_the_engines_facts() -> None:
    """They belong to no answer."""
    (exchange,) = exchanges(Outcome(prompt_logprobs=[None, {7: Token(-1.0, "x")}]), Manner("tiny"))
    assert exchange.reply is not None
    assert exchange.reply.raw["vllm"] == {"prompt_logprobs": [None, {"7": {"logprob": -1.0, "decoded_token": "x"}}]}
    assert reads_back(exchange)


def test_an_answer_that_only_says_so_is_a_fault() -> None:
    """vLLM ends requests that it gave up, or failed at, as if they were answered."""
    found = exchanges(Outcome([Output(finish_reason="abort"), Output(finish_reason="error")]), Manner("tiny"))
    assert [one.fault and one.fault.kind for one in found] == [FaultKind.CANCELLED, FaultKind.SERVER_ERROR]
