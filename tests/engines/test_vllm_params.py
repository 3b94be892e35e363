"""The table of generation parameters for vLLM, read without vLLM."""

from __future__ import annotations

import subprocess
import sys

import pytest

from synth_cli.engines.vllm.params import Asked, ParamError, asked, problems


def test_parameters_are_sorted_by_what_they_are_part_of() -> None:
    """Sampling, the chat's template, the prompt's tokens and the call itself."""
    params = {"temperature": 0.5, "add_generation_prompt": False, "add_special_tokens": False, "priority": 3}
    assert asked(params) == Asked(
        {"temperature": 0.5}, {"add_generation_prompt": False}, {"add_special_tokens": False}, {"priority": 3}
    )


@pytest.mark.parametrize(
    ("params", "sampling"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 5}, {"max_tokens": 5}),
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 4}, {"logprobs": 4}),
        ({"top_logprobs": 4}, {"logprobs": 4}),
        ({"logprobs": False}, {}),
        ({"logprobs": False, "top_logprobs": 4}, {}),
        ({"logprobs": 3}, {"logprobs": 3}),
        ({"extra_body": {"top_k": 5}, "top_p": 0.9}, {"top_p": 0.9, "top_k": 5}),
        ({"seed": None, "top_k": 2}, {"top_k": 2}),
    ],
)
def test_other_spellings_mean_vllms_own(params: dict[str, object], sampling: dict[str, object]) -> None:
    """What people bring from OpenAI's API is taken where it can mean only one thing."""
    assert asked(params).sampling == sampling


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temprature", "did you mean 'temperature'?"),
        ("repitition_penalty", "did you mean 'repetition_penalty'?"),
        ("n", "write samples"),
        ("structured_outputs", "write response"),
        ("enable_thinking", "write chat_template_kwargs"),
        ("use_beam_search", "does not search in beams"),
        ("xyzzy", "it has: add_generation_prompt, add_special_tokens"),
    ],
)
def test_an_unknown_name_is_told_the_right_one(name: str, words: str) -> None:
    """By the nearest name, by the key it belongs to, or by the list of all."""
    ((culprit, message),) = problems({name: 1, "temperature": 1})
    assert culprit == name
    assert message.startswith(f"vLLM has no sampling parameter '{name}'; ")
    assert words in message


def test_all_problems_are_found_at_once() -> None:
    """Unknown names, and one parameter said twice with different values."""
    wrong = problems({"max_tokens": 5, "max_completion_tokens": 6, "a_word": 1, "extra_body": {"b_word": 2}})
    assert [name for name, _ in wrong] == ["max_completion_tokens", "a_word", "b_word"]
    assert wrong[0][1] == "'max_completion_tokens' and 'max_tokens' are the same parameter with different values"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"priority": "high"}, "priority: 'high' is not a whole number"),
        ({"priority": True}, "priority: True is not a whole number"),
        ({"cache_salt": 5}, "cache_salt: 5 is not a text"),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs: 'x' is not a mapping"),
        ({"add_generation_prompt": 1}, "add_generation_prompt: 1 is not true or false"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(params: dict[str, object], message: str) -> None:
    """vLLM would not look at it, and its engine would stop answering."""
    with pytest.raises(ParamError) as caught:
        asked(params)
    assert str(caught.value) == message


def test_nothing_here_loads_vllm() -> None:
    """A spec is checked, and a worker's settings made, on machines that have no vLLM."""
    rooms = ("params", "settings", "constraints", "answers", "prompts", "sampling", "hearing", "starting", "worker")
    code = "import sys\n" + "".join(f"import synth_cli.engines.vllm.{room}\n" for room in rooms)
    code += "print([name for name in ('vllm', 'torch', 'transformers', 'ray', 'psutil') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
