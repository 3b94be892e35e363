"""Whatever rows come: a format gives its shape, whole, or a reason; it never fails."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cli.outputs.encode import lines
from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.turns import Dropped
from synth_cli.spec.formats import COLUMNS, WAYS
from synth_cli.spec.model import Output

NAMES = sorted({name for ways in WAYS.values() for way in ways for names in way.usual.values() for name in names})
WORDS = st.sampled_from(["", " ", "a", "b ", "b", "[]", '[{"role": "user", "content": "a"}]'])
LEAF = st.none() | st.booleans() | st.integers(0, 5) | st.floats() | WORDS
CALLS = st.none() | st.just([{"function": {"name": "f", "arguments": {}}}]) | LEAF
TURN = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "assistant", "tool", "x"]) | LEAF},
        optional={"content": LEAF | st.just([{"type": "text", "text": "a"}]) | st.just([{"type": "image"}])}
        | {"tool_calls": CALLS},
    ),
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "system"]) | LEAF, "value": LEAF}),
    LEAF,
)
SPOKEN = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6).map(
    lambda words: [{"role": ("user", "assistant")[at % 2], "content": word} for at, word in enumerate(words)]
)
VALUE = LEAF | st.lists(LEAF, max_size=4) | st.lists(TURN, max_size=5) | SPOKEN | TURN | CALLS
ROWS = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=6)


def texts(turns: list[dict[str, Any]]) -> list[Any]:
    return [turn["content"] for turn in turns if not turn.get("tool_calls")]


def whole(turns: list[dict[str, Any]]) -> bool:
    """Every turn has a speaker and says something, and nobody speaks twice in a row."""
    speakers = [turn["role"] for turn in turns if turn["role"] not in ("system", "tool")]
    assert all(isinstance(turn.get("tool_calls", []), list) for turn in turns)
    said = all(content and (not isinstance(content, str) or content.strip()) for content in texts(turns))
    return said and speakers[0] == "user" and all(a != b or a == "assistant" for a, b in pairwise(speakers))


@settings(max_examples=400, deadline=None)
@given(row=ROWS)
@pytest.mark.parametrize("format", sorted(COLUMNS))
def test_any_row_is_shaped_or_dropped(format: str, row: dict[str, Any]) -> None:
    """The format's columns are all there and nothing in them is null or empty; the row can be written."""
    shaped = Formatter(Output.model_validate({"format": format})).shape(row)
    if isinstance(shaped, Dropped):
        assert shaped.reason
        return
    assert set(COLUMNS[format]) <= shaped.keys()
    assert lines([shaped])
    match format:
        case "chat":
            assert whole(shaped["messages"])
            assert shaped["messages"][-1]["role"] == "assistant"
        case "sharegpt":
            assert all(isinstance(turn["value"], str) for turn in shaped["conversations"])
            assert shaped["conversations"][-1]["from"] in ("gpt", "function_call")
        case "alpaca":
            assert shaped["instruction"].strip()
            assert shaped["output"].strip()
        case "dpo":
            assert shaped["chosen"] != shaped["rejected"]
            if isinstance(shaped["prompt"], list):
                assert whole([*shaped["prompt"], *shaped["chosen"]])
                assert whole([*shaped["prompt"], *shaped["rejected"]])
            else:
                assert all(shaped[name].strip() for name in COLUMNS[format])
