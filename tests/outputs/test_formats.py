"""Rows in the shapes that trainers read, and what is dropped on the way there."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.turns import Dropped
from synth_cli.spec.model import Output

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}


def shape(format: str, row: dict[str, Any], **map: str) -> Any:
    """The row as this format has it, or why it is dropped."""
    output = Output.model_validate({"format": format, "map": map or None})
    shaped = Formatter(output).shape(row)
    return shaped.reason if isinstance(shaped, Dropped) else shaped


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def test_rows_are_left_as_they_are() -> None:
    """Without a format a row is itself, the very object."""
    row = {"a": 1}
    assert Formatter(Output.model_validate({})).shape(row) is row


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "Hi?", "response": "Ho."}, [user("Hi?"), assistant("Ho.")]),
        ({"question": "Hi?", "answer": "Ho.", "topic": "x"}, [user("Hi?"), assistant("Ho.")]),
        (
            {"instruction": "Hi?", "completion": "Ho.", "system_prompt": "Be."},
            [system("Be."), user("Hi?"), assistant("Ho.")],
        ),
        ({"prompt": "Hi?", "response": "Ho.", "system": None}, [user("Hi?"), assistant("Ho.")]),
        ({"messages": [user("a"), assistant("b")]}, [user("a"), assistant("b")]),
        ({"messages": [user("a"), assistant("b")], "response": "c"}, [user("a"), assistant("b")]),
        ({"messages": [user("a")], "response": "b"}, [user("a"), assistant("b")]),
        ({"messages": [system("s"), user("a")], "response": "b"}, [system("s"), user("a"), assistant("b")]),
        ({"messages": [user("a"), assistant("b")], "system": "s"}, [system("s"), user("a"), assistant("b")]),
        ({"conversation": '[{"role": "user", "content": "a"}]', "response": "b"}, [user("a"), assistant("b")]),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            [user("a"), assistant("b")],
        ),
        ({"prompt": [system("s"), user("a")], "response": "b"}, [system("s"), user("a"), assistant("b")]),
        ({"prompt": "a", "response": {"role": "assistant", "content": "b"}}, [user("a"), assistant("b")]),
        ({"prompt": "a", "response": {"steps": [1, True]}}, [user("a"), assistant('{"steps":[1,true]}')]),
        (
            {"messages": [user([{"type": "text", "text": "a"}]), assistant("b", name=None)]},
            [user("a"), assistant("b")],
        ),
        ({"prompt": "a", "response": None, "tool_calls": [CALL]}, [user("a"), assistant("", tool_calls=[CALL])]),
        ({"prompt": "a", "response": "b", "tool_calls": []}, [user("a"), assistant("b")]),
        ({"prompt": "a", "response": "b", "tool_calls": "none"}, [user("a"), assistant("b")]),
        ({"prompt": "a", "tool_calls": '[{"name": "f"}]'}, [user("a"), assistant("", tool_calls=[{"name": "f"}])]),
    ],
)
def test_chat(row: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """A list of turns, or a prompt and an answer under their usual names, becomes `messages` alone."""
    assert shape("chat", row) == {"messages": messages}


def test_chat_keeps_images() -> None:
    """A turn with more than text in it keeps its parts."""
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    row = {"messages": [user(parts), assistant("A cat.")]}
    assert shape("chat", row) == row


def test_chat_with_tools() -> None:
    """Function definitions stand in `tools`; calls and their results stay in the conversation."""
    turns = [user("a"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "blue"}, assistant("Blue.")]
    row = {
        "messages": [{**turn, "content": turn["content"] or None} for turn in turns],
        "tools": [{"type": "function"}],
    }
    assert shape("chat", row) == {"messages": turns, "tools": [{"type": "function"}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "response": None}, "response is null"),
        ({"prompt": "a", "response": " \n"}, "response is empty"),
        ({"prompt": None, "response": "b"}, "prompt is null"),
        ({"prompt": "", "response": "b"}, "prompt is empty"),
        ({"messages": None}, "messages is null"),
        ({"messages": []}, "messages has no turns"),
        ({"messages": "Hi"}, "messages is not a list of turns"),
        ({"messages": {"role": "user"}}, "messages is not a list of turns"),
        ({"messages": ["Hi"]}, "a turn is not a mapping"),
        ({"messages": [{"content": "a"}]}, "a turn has no role"),
        ({"messages": [{"role": "narrator", "content": "a"}]}, "a turn has an unknown role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "a turn has an unknown role"),
        ({"messages": [user("a"), assistant(None), user("b"), assistant("c")]}, "a turn has no content"),
        ({"messages": [user("a"), assistant("  ")]}, "a turn is empty"),
        ({"messages": [user("a"), user("b"), assistant("c")]}, "two user turns in a row"),
        ({"messages": [user("a"), assistant("b"), assistant("c")]}, "two assistant turns in a row"),
        ({"messages": [assistant("b")]}, "the conversation does not begin with a user turn"),
        ({"messages": [system("s")]}, "there is no assistant turn"),
        ({"messages": [user("a")]}, "there is no assistant turn"),
        ({"messages": [user("a"), assistant("b"), user("c")]}, "the conversation ends with the user's turn"),
        ({"messages": [user("a"), system("s"), assistant("b")]}, "a system turn is not the first"),
        ({"messages": [user("a"), assistant(None, tool_calls=[CALL]), user("b")]}, "a tool call has no result"),
        ({"messages": [user("a"), {"role": "tool", "content": "x"}]}, "a turn of the tool follows one of the user"),
        ({"messages": [user("a")], "response": None}, "response is null"),
    ],
)
def test_what_is_no_conversation_is_dropped(row: dict[str, Any], reason: str) -> None:
    """Nothing empty, nobody missing, nobody twice in a row: such a row goes whole, it is not mended."""
    assert shape("chat", row) == shape("sharegpt", row) == reason


def test_map_names_the_columns() -> None:
    """What `map` says goes before what the columns are called."""
    row = {"q": "a", "response": "judged", "answer": "b", "messages": [user("x"), assistant("y")]}
    assert shape("chat", row, prompt="q", response="answer") == {"messages": [user("a"), assistant("b")]}
    assert shape("chat", row, messages="messages", response="answer") == "two assistant turns in a row"


def test_two_columns_that_could_be_the_answer_are_not_guessed_between() -> None:
    """A judge's text must not become the answer that a model is trained on."""
    row = {"question": "a", "answer": "b", "response": "Good, 5 of 5."}
    assert (
        shape("chat", row) == "'response' and 'answer' could each be the response; say which: map: {response: response}"
    )
    assert shape("chat", row, response="answer") == {"messages": [user("a"), assistant("b")]}


def test_metadata_stays_beside_the_shape() -> None:
    """`_synth` is kept, every other column is left out."""
    assert shape("alpaca", {"prompt": "a", "response": "b", "x": 1, "_synth": {"row_id": "1"}}) == {
        "instruction": "a",
        "input": "",
        "output": "b",
        "_synth": {"row_id": "1"},
    }


@pytest.mark.parametrize(
    ("row", "shaped"),
    [
        (
            {"instruction": "a", "context": "c", "output": "b"},
            {"instruction": "a", "input": "c", "output": "b"},
        ),
        (
            {"instruction": "a", "input": None, "response": ["x"], "system": None, "history": None},
            {"instruction": "a", "input": "", "output": '["x"]', "system": "", "history": []},
        ),
        (
            {"instruction": "a", "output": "b", "history": [("p", "q")]},
            {"instruction": "a", "input": "", "output": "b", "history": [["p", "q"]]},
        ),
        (
            {"messages": [system("s"), user("p"), assistant("q"), user("a"), assistant("b")]},
            {"instruction": "a", "input": "", "output": "b", "system": "s", "history": [["p", "q"]]},
        ),
        (
            {"messages": [user("a")], "response": "b"},
            {"instruction": "a", "input": "", "output": "b", "system": "", "history": []},
        ),
        ({"instruction": "a", "output": None}, "output is null"),
        ({"instruction": "a", "output": "b", "history": [["p"]]}, "history is not a list of pairs"),
        ({"instruction": "a", "output": "b", "history": [["p", None]]}, "a turn of the history is null"),
        (
            {"messages": [user("a"), assistant("", tool_calls=[CALL])]},
            "alpaca has no room for tool calls",
        ),
        (
            {"messages": [user([{"type": "image", "image": "x"}]), assistant("b")]},
            "a turn has parts that are not text",
        ),
    ],
)
def test_alpaca(row: dict[str, Any], shaped: Any) -> None:
    """Instruction, input, output; a conversation is its last round, with the others as history."""
    assert shape("alpaca", row) == shaped


def test_sharegpt() -> None:
    """Speakers are called as LLaMA-Factory calls them; definitions, calls and results are text."""
    other = {"type": "function", "function": {"name": "hear", "arguments": {}}}
    tool = {"role": "tool", "tool_call_id": "c1"}
    row = {
        "messages": [
            system("s"),
            user("a"),
            assistant(None, tool_calls=[CALL]),
            {**tool, "content": "blue"},
            assistant("Blue."),
            user("And?"),
            assistant(None, tool_calls=[CALL, other]),
            {**tool, "content": "blue"},
            {**tool, "content": {"sound": "none"}},
            assistant("Still."),
        ],
        "tools": [{"name": "look"}],
    }
    assert shape("sharegpt", row) == {
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "human", "value": "a"},
            {"from": "function_call", "value": '{"name":"look","arguments":{"at":"sky"}}'},
            {"from": "observation", "value": "blue"},
            {"from": "gpt", "value": "Blue."},
            {"from": "human", "value": "And?"},
            {
                "from": "function_call",
                "value": '[{"name":"look","arguments":{"at":"sky"}},{"name":"hear","arguments":{}}]',
            },
            {"from": "observation", "value": '["blue","{\\"sound\\":\\"none\\"}"]'},
            {"from": "gpt", "value": "Still."},
        ],
        "tools": '[{"name":"look"}]',
    }


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        (
            {"prompt": "a", "chosen": "good", "rejected": "bad", "x": 1},
            {"prompt": "a", "chosen": "good", "rejected": "bad"},
        ),
        (
            {"question": "a", "responses": ["x", "y", "z"], "scores": [2, 5, 1]},
            {"prompt": "a", "chosen": "y", "rejected": "z"},
        ),
        (
            {"question": "a", "response": ["x", None, "z"], "rating": ["4", "5", "4.5"]},
            {"prompt": "a", "chosen": "z", "rejected": "x"},
        ),
        (
            {"question": "a", "response": ["x", "y", "z", "w"], "score": [5, 5, 1, 1]},
            {"prompt": "a", "chosen": "x", "rejected": "z"},
        ),
        (
            {"prompt": "a", "system": "s", "chosen": "good", "rejected": "bad"},
            {"prompt": [system("s"), user("a")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        ),
        (
            {"messages": [user("a"), assistant("b"), user("c")], "chosen": "good", "rejected": "bad"},
            {
                "prompt": [user("a"), assistant("b"), user("c")],
                "chosen": [assistant("good")],
                "rejected": [assistant("bad")],
            },
        ),
        (
            {"chosen": [user("a"), assistant("good")], "rejected": [user("a"), assistant("bad")]},
            {"prompt": [user("a")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        ),
        (
            {"prompt": "a", "chosen": [user("a"), assistant("good")], "rejected": [user("a"), assistant("bad")]},
            {"prompt": [user("a")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        ),
    ],
)
def test_dpo(row: dict[str, Any], pair: dict[str, Any]) -> None:
    """Chosen against rejected, or the best scored answer against the worst; texts, or lists of turns."""
    assert shape("dpo", row) == pair


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "x", "rejected": "x "}, "chosen and rejected are the same"),
        ({"prompt": "a", "chosen": None, "rejected": "x"}, "chosen is null"),
        ({"prompt": "a", "chosen": "x", "rejected": ""}, "rejected is empty"),
        ({"prompt": None, "chosen": "x", "rejected": "y"}, "prompt is null"),
        ({"chosen": "x", "rejected": "y"}, "prompt is null"),
        ({"prompt": "a", "responses": ["x", "y"], "scores": [3, 3]}, "a tie: all scores are equal"),
        ({"prompt": "a", "responses": ["x", "x"], "scores": [3, 4]}, "chosen and rejected are the same"),
        ({"prompt": "a", "responses": ["x", "y"], "scores": [3, None]}, "fewer than two answers with a score"),
        ({"prompt": "a", "responses": ["x", "y"], "scores": [3, "n/a"]}, "fewer than two answers with a score"),
        ({"prompt": "a", "responses": ["x", None], "scores": [3, 4]}, "fewer than two answers with a score"),
        ({"prompt": "a", "responses": ["x", "y"], "scores": [3, float("nan")]}, "fewer than two answers with a score"),
        ({"prompt": "a", "responses": ["x", "y"], "scores": [3]}, "responses and scores are not equally many"),
        ({"prompt": "a", "responses": "x", "scores": [3]}, "responses is not a list"),
        ({"prompt": "a", "responses": ["x"], "scores": None}, "scores is null"),
        (
            {"prompt": [user("a"), assistant("b")], "chosen": "x", "rejected": "y"},
            "the conversation ends with the assistant's turn",
        ),
        (
            {"prompt": [user("a")], "chosen": [user("b")], "rejected": [assistant("y")]},
            "two user turns in a row",
        ),
        (
            {"prompt": [user("a")], "chosen": [assistant("y")], "rejected": [assistant(" y")]},
            "chosen and rejected are the same",
        ),
    ],
)
def test_what_is_no_pair_is_dropped(row: dict[str, Any], reason: str) -> None:
    """Ties, nulls and answers that are the same teach nothing, or the wrong thing."""
    assert shape("dpo", row) == reason


def test_a_row_without_the_columns_is_dropped() -> None:
    """Where rows differ, one that lacks what the format needs says so."""
    assert shape("chat", {"topic": "x"}) == (
        "format chat needs 'messages', or 'prompt' and 'response' or 'tool_calls': no columns are called so; "
        "name them: map: {prompt: …}; there are: topic"
    )
    assert shape("chat", {"topic": "x"}, prompt="question") == "no column 'question'; there are: topic"


def test_a_history_that_is_no_list_drops_the_row() -> None:
    """What is there and is no list of pairs is not taken for an empty history."""
    shaped = Formatter(Output.model_validate({"format": "alpaca"})).shape(
        {"instruction": "a", "output": "b", "history": 1}
    )
    assert shaped == Dropped("history is not a list of pairs")
