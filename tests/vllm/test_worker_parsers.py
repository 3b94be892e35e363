"""Reasoning and tool calls, told apart by vLLM's parsers; and our table of names against the installed vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from worker_runs import Asking, asking, request, settings

from synth_cli.core.request import Constraint
from synth_cli.engines.vllm.params import CALL, CHAT, NOT_SAMPLING, PROMPT, SAMPLING
from synth_cli.providers.codecs import READERS

MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"warm": {"type": "boolean"}},
            "required": ["warm"],
            "additionalProperties": False,
        },
    },
}


def thoughtful(folder: Path) -> Path:
    """A tiny model whose tokenizer has the marks of reasoning and of tool calls."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tiny_model.make(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(MARKS))
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    model = thoughtful(tmp_path_factory.mktemp("models") / "thoughtful")
    parsers = {"reasoning_parser": "deepseek_r1", "tool_call_parser": "hermes"}
    with asking(settings(model, engine_args=parsers)) as asked:
        yield asked


def mark(asked: Asking, token: str) -> int:
    return int(asked.worker._engine.get_tokenizer().convert_tokens_to_ids(token))


def test_reasoning_stands_beside_the_answer(thinking: Asking) -> None:
    """What is before the mark is no part of the text."""
    biased = {"logit_bias": {str(mark(thinking, "</think>")): 5.0}, "seed": 3, "max_tokens": 200, "ignore_eos": True}
    reply = thinking.reply(biased)
    assert reply.reasoning
    assert reply.text is not None
    assert "</think>" not in reply.reasoning


def test_a_constraint_holds_after_the_reasoning(thinking: Asking) -> None:
    """The model thinks freely, and then answers as asked."""
    biased = {"logit_bias": {str(mark(thinking, "</think>")): 5.0}, "seed": 3, "max_tokens": 200}
    reply = thinking.reply(biased, constraint=Constraint("choice", ["left", "right"]))
    assert reply.text in ("left", "right")
    assert reply.reasoning


def test_reasoning_that_is_not_wanted_is_left_out(thinking: Asking) -> None:
    """`include_reasoning: false`, as vLLM's server takes it."""
    biased = {"logit_bias": {str(mark(thinking, "</think>")): 5.0}, "seed": 3, "max_tokens": 60}
    assert thinking.reply({**biased, "include_reasoning": False}).reasoning is None


def test_a_tool_that_must_be_called_is_called(thinking: Asking) -> None:
    """With arguments of its schema, read as values, in bodies that read back."""
    biased = {"logit_bias": {str(mark(thinking, "</think>")): 5.0}, "seed": 3, "max_tokens": 400}
    params = {**biased, "parallel_tool_calls": False}
    (exchange,) = thinking.exchanges(request(params, tools=(WEATHER,), tool_choice="required"))
    assert exchange.reply is not None, exchange.fault
    assert exchange.answer is not None
    assert exchange.reply.tool_calls, exchange.reply
    first: Any = exchange.reply.tool_calls[0]
    assert first["function"]["name"] == "weather"
    assert first["function"]["arguments"].keys() == {"warm"}
    assert exchange.reply.finish_reason == "tool_calls"
    assert READERS[exchange.answer.protocol](exchange.answer.body) == exchange.reply


def test_the_table_of_names_is_that_of_the_installed_vllm() -> None:
    """A field that vLLM gained or lost is found here, and not by a user."""
    import msgspec
    from vllm.sampling_params import SamplingParams

    fields = {field.name for field in msgspec.structs.fields(SamplingParams) if not field.name.startswith("_")}
    assert fields == SAMPLING | NOT_SAMPLING


def test_the_names_of_a_chat_are_those_of_vllms_server() -> None:
    """So the same spec asks a server, or a model here."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    assert ChatCompletionRequest.model_fields.keys() >= CHAT | PROMPT | CALL
