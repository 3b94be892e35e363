"""Rows in the shapes that trainers read: `output.format`.

The shapes, as TRL ("Dataset formats and types": language modeling, preference, tool calling), Axolotl ("Dataset
formats", "RLHF") and LLaMA-Factory (data/README.md) document them:

    chat       {"messages": [{"role", "content"}]}; with tools a column `tools` and `tool_calls` in the turns. TRL's
               conversational language modeling, Axolotl's chat_template, LLaMA-Factory's openai format
    alpaca     {"instruction", "input", "output"}, and `system` and `history` ([[asked, answered]]) where there are any
    sharegpt   {"conversations": [{"from", "value"}]}; from is system, human, gpt, function_call or observation,
               the last two and the column `tools` (JSON text) as LLaMA-Factory has them
    dpo        {"prompt", "chosen", "rejected"}: texts, or, where the prompt is a conversation or there is a system
               prompt, lists of turns (TRL's preference type with an explicit prompt)

Which column goes where is said in `synth_cli.spec.formats`. A row that does not make the shape is dropped with a
reason; its words are never changed to fit. Other columns are left out, but for `_synth`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from synth_cli.outputs.encode import text
from synth_cli.outputs.preferences import preference
from synth_cli.outputs.turns import Dropped, Turn, calls_of, plain_text, said, trouble, turn_of, turns_of, with_system
from synth_cli.spec.formats import METADATA, Filling, Fillings, Unfilled
from synth_cli.spec.model import Output

Shaped: TypeAlias = dict[str, Any] | Dropped
SHAREGPT: Mapping[str, str] = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


class Formatter:
    """Shapes the rows of a job; `format: rows` leaves them as they are."""

    def __init__(self, output: Output) -> None:
        self._fillings = Fillings(output.format, output.map or {})
        self._shape = SHAPES.get(output.format)

    def shape(self, row: Mapping[str, Any]) -> Mapping[str, Any] | Dropped:
        if self._shape is None:
            return row
        metadata = row.get(METADATA)
        found = self._fillings.of(tuple(name for name in row if name != METADATA))
        if isinstance(found, Unfilled):
            return Dropped("; ".join(filter(None, (found.message, found.hint))))
        shaped = self._shape(row, found)
        if metadata is not None and not isinstance(shaped, Dropped):
            shaped[METADATA] = metadata
        return shaped


def _value(row: Mapping[str, Any], filled: Filling, field: str) -> Any:
    column = filled.columns.get(field)
    return None if column is None else row.get(column)


def _chat(row: Mapping[str, Any], filled: Filling) -> Shaped:
    turns = _conversation(row, filled)
    if isinstance(turns, Dropped):
        return turns
    shaped: dict[str, Any] = {"messages": turns}
    if "tools" in filled.columns:
        shaped["tools"] = _value(row, filled, "tools")
    return shaped


def _sharegpt(row: Mapping[str, Any], filled: Filling) -> Shaped:
    turns = _conversation(row, filled)
    if isinstance(turns, Dropped):
        return turns
    spoken: list[dict[str, str]] = []
    results: list[str] = []
    for turn in turns:
        words = plain_text(turn)
        if isinstance(words, Dropped):
            return words
        if turn["role"] == "tool":
            # sides alternate strictly: the results of several calls are one turn
            results.append(words)
            said_so = words if len(results) == 1 else text(results)
            if len(results) > 1:
                spoken.pop()
            spoken.append({"from": SHAREGPT["tool"], "value": said_so})
            continue
        results.clear()
        if turn.get("tool_calls"):
            spoken.append({"from": "function_call", "value": _calls(turn["tool_calls"])})
        else:
            spoken.append({"from": SHAREGPT[turn["role"]], "value": words})
    shaped: dict[str, Any] = {"conversations": spoken}
    if "tools" in filled.columns:
        tools = _value(row, filled, "tools")
        shaped["tools"] = tools if isinstance(tools, str) else "" if tools is None else text(tools)
    return shaped


def _calls(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls in OpenAI's shape as `{"name", "arguments"}`; several are a list."""
    bare = [call.get("function", call) for call in calls]
    return text(bare[0] if len(bare) == 1 else bare)


def _conversation(row: Mapping[str, Any], filled: Filling) -> list[Turn] | Dropped:
    """The turns of a row, from a list of them or from a prompt, and the answer."""
    field = "messages" if "messages" in filled.columns else "prompt"
    value = _value(row, filled, field)
    begun = turns_of(value, field) if field == "messages" or isinstance(value, list) else _asked(value)
    if isinstance(begun, Dropped):
        return begun
    turns = with_system(begun, _value(row, filled, "system"))
    # a conversation that has its answer already is not given another, unless that is what `map` says
    if field == "prompt" or turns[-1]["role"] in ("user", "tool") or filled.said & {"response", "tool_calls", "output"}:
        answer = _answer(row, filled)
        if isinstance(answer, Dropped):
            return answer
        if answer is not None:
            turns.append(answer)
    return trouble(turns, answered=True) or turns


def _asked(value: Any) -> list[Turn] | Dropped:
    words = said(value, "prompt")
    return words if isinstance(words, Dropped) else [{"role": "user", "content": words}]


def _answer(row: Mapping[str, Any], filled: Filling) -> Turn | Dropped | None:
    """The assistant's turn; None where no column holds one."""
    field = "output" if "output" in filled.columns else "response"
    if field not in filled.columns and "tool_calls" not in filled.columns:
        return None
    value, calls = _value(row, filled, field), calls_of(_value(row, filled, "tool_calls"))
    if calls is not None:
        words = said(value, field)
        return {"role": "assistant", "content": "" if isinstance(words, Dropped) else words, "tool_calls": calls}
    if isinstance(value, Mapping) and "role" in value:
        return turn_of(value)
    words = said(value, field)
    return words if isinstance(words, Dropped) else {"role": "assistant", "content": words}


def _alpaca(row: Mapping[str, Any], filled: Filling) -> Shaped:
    if "messages" in filled.columns:
        return _rounds(row, filled)
    shaped: dict[str, Any] = {}
    for field in ("instruction", "input", "output", "system"):
        words = said(_value(row, filled, field), field)
        if isinstance(words, Dropped):
            if field in ("instruction", "output"):
                return words
            words = ""
        if field != "system" or field in filled.columns:
            shaped[field] = words
    if "history" not in filled.columns:
        return shaped
    history = _history(_value(row, filled, "history"))
    return history if isinstance(history, Dropped) else {**shaped, "history": history}


def _history(value: Any) -> list[list[str]] | Dropped:
    rounds: list[list[str]] = []
    if value is None or value == "":
        return rounds
    if not isinstance(value, Sequence) or isinstance(value, str):
        return Dropped("history is not a list of pairs")
    for pair in value:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            return Dropped("history is not a list of pairs")
        words = [said(each, "a turn of the history") for each in pair]
        unsaid = next((each for each in words if isinstance(each, Dropped)), None)
        if unsaid is not None:
            return unsaid
        rounds.append([each for each in words if isinstance(each, str)])
    return rounds


def _rounds(row: Mapping[str, Any], filled: Filling) -> Shaped:
    """A conversation as its last round, with those before it as history."""
    turns = _conversation(row, filled)
    if isinstance(turns, Dropped):
        return turns
    if any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns):
        return Dropped("alpaca has no room for tool calls")
    words = [plain_text(turn) for turn in turns]
    unsaid = next((each for each in words if isinstance(each, Dropped)), None)
    if unsaid is not None:
        return unsaid
    spoken = [each for each in words if isinstance(each, str)]
    system = spoken.pop(0) if turns[0]["role"] == "system" else ""
    rounds = [[asked, answered] for asked, answered in zip(spoken[::2], spoken[1::2], strict=True)]
    asked, answered = rounds.pop()
    return {"instruction": asked, "input": "", "output": answered, "system": system, "history": rounds}


def _dpo(row: Mapping[str, Any], filled: Filling) -> Shaped:
    return preference({field: row.get(column) for field, column in filled.columns.items()})


SHAPES: Mapping[str, Callable[[Mapping[str, Any], Filling], Shaped]] = {
    "chat": _chat,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "dpo": _dpo,
}
