"""Answers that are JSON but for their wrapping or spelling."""

from __future__ import annotations

import pytest

from synth_cli.responses.repair import NotJsonError, json_of


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": [2]}',
        '```json\n{"a": 1, "b": [2]}\n```',
        'Here it is:\n```\n{"a": 1, "b": [2],}\n```\nEnjoy!',
        'Sure! {"a": 1, "b": [2]} Anything else?',
        '{"a": 1, "b": [2],}',
        "{'a': 1, 'b': [2]}",
        '{"a": 1, "b": [2]',
        '<think>{"a": 0}?</think>\n{"a": 1, "b": [2]}',
    ],
)
def test_wrapped_and_misspelt_json_is_read(text: str) -> None:
    """Fences, prose around, trailing commas, single quotes, a missing end, thoughts before."""
    assert json_of(text) == {"a": 1, "b": [2]}


@pytest.mark.parametrize("text", ["I cannot do that.", "", "   ", "```\n```", "{", "[]]", "{}}"])
def test_prose_and_empty_guesses_are_not_json(text: str) -> None:
    """A repair that comes to nothing is no answer."""
    with pytest.raises(NotJsonError):
        json_of(text)


def test_numbers_are_read_as_those_of_sound_json() -> None:
    """An integer beyond 64 bits is a float, however the rest was misspelt."""
    assert json_of(f"{{'a': [{10**30}],}}") == json_of(f'{{"a": [{10**30}]}}') == {"a": [1e30]}
    assert isinstance(json_of(f"{{'a': [{10**30}],}}")["a"][0], float)
