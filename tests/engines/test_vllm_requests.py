"""How requests become calls, templates and constraints of vLLM; from plain values."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.core.request import Constraint, Message, Request, Terms
from synth_cli.engines.vllm import constraints
from synth_cli.engines.vllm.prompts import template_args
from synth_cli.engines.vllm.worker import together

TERMS = Terms("vllm", "tiny")
USER: Message = {"role": "user", "content": "a"}
OPEN = (USER, {"role": "assistant", "content": "b"})


def seeded(*seeds: int | None) -> list[Request]:
    return [Request(bytes(16), TERMS, seed=seed) for seed in seeds]


@pytest.mark.parametrize(
    ("seeds", "greedy", "sizes"),
    [
        ((None, None, None), False, [3]),
        ((4, 5, 6), False, [3]),
        ((4, 6, 7), False, [1, 2]),
        ((4, 4), False, [1, 1]),
        ((None, 1), False, [1, 1]),
        ((4, 5), True, [1, 1]),
    ],
)
def test_samples_are_one_call_where_their_seeds_count_on(
    seeds: tuple[int | None, ...], greedy: bool, sizes: list[int]
) -> None:
    """vLLM gives each further sample the next seed; those without chance it takes one by one."""
    requests = seeded(*seeds)
    groups = together(requests, greedy)
    assert [len(group) for group in groups] == sizes
    assert [request for group in groups for request in group] == requests


@pytest.mark.parametrize(
    ("messages", "told", "begins", "goes_on"),
    [
        ((USER,), {}, True, False),
        (OPEN, {}, False, True),
        (OPEN, {"add_generation_prompt": True}, True, False),
        (OPEN, {"add_generation_prompt": False}, False, True),
        (OPEN, {"continue_final_message": False}, True, False),
        ((USER,), {"continue_final_message": True}, False, True),
        ((USER,), {"add_generation_prompt": False}, False, False),
    ],
)
def test_a_final_message_of_the_assistant_is_continued(
    messages: tuple[Message, ...], told: dict[str, Any], begins: bool, goes_on: bool
) -> None:
    """Unless a new turn is asked for."""
    args = template_args(messages, told, {})
    assert args == {"add_generation_prompt": begins, "continue_final_message": goes_on}


def test_arguments_of_the_template_are_merged() -> None:
    """A request's own win over those of the engine."""
    told = {"chat_template_kwargs": {"a": 2}, "reasoning_effort": "low", "documents": []}
    assert template_args((USER,), told, {"a": 1, "b": 1}) == {
        "a": 2,
        "b": 1,
        "reasoning_effort": "low",
        "documents": [],
        "add_generation_prompt": True,
        "continue_final_message": False,
    }


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        (Constraint("schema", {"type": "object"}), {"json": '{"type":"object"}'}),
        (
            Constraint("schema", {"type": "array", "uniqueItems": True}),
            {"json": '{"type":"array","uniqueItems":true,"x-guidance":{"lenient":true}}'},
        ),
        (Constraint("choice", ("a", "b")), {"choice": ["a", "b"]}),
        (Constraint("regex", "a+"), {"regex": "a+"}),
        (Constraint("grammar", 'root ::= "a"'), {"grammar": 'root ::= "a"'}),
    ],
)
def test_each_constraint_is_one_field(constraint: Constraint, fields: dict[str, Any]) -> None:
    """Of vLLM's `StructuredOutputsParams`."""
    assert constraints.fields(constraint) == fields
