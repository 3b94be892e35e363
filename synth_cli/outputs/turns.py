"""Conversations as trainers take them: who speaks when, and nothing empty. Pure.

A conversation that is not so is dropped whole: to leave out a turn would leave two of one side in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from synth_cli.outputs.encode import text

Turn: TypeAlias = dict[str, Any]
"""`role` (system, user, assistant or tool), `content` (text, or parts), and what else stood with it."""

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""What speakers are called, by OpenAI, Gemini and ShareGPT → what they are called here."""
PLAIN = frozenset({"role", "content"})
NEXT: Mapping[str, frozenset[str]] = {
    "": frozenset({"user"}),
    "user": frozenset({"assistant"}),
    "assistant": frozenset({"user"}),
    "calling": frozenset({"tool"}),
    "tool": frozenset({"tool", "assistant"}),
}
"""Who may speak after whom; `calling` is an assistant that called tools."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a row is not in the output; a class of reasons, with none of the row's own data."""

    reason: str


def said(value: Any, what: str) -> str | Dropped:
    """A value as a text: lists and mappings as JSON. Null and blank are none."""
    if value is None:
        return Dropped(f"{what} is null")
    found = value if isinstance(value, str) else text(value)
    return found if found.strip() else Dropped(f"{what} is empty")


def turns_of(value: Any, what: str) -> list[Turn] | Dropped:
    """A list of `{role, content}` or `{from, value}`, or JSON text of one."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return Dropped(f"{what} is not a list of turns")
    if value is None:
        return Dropped(f"{what} is null")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return Dropped(f"{what} is not a list of turns")
    found: list[Turn] = []
    for each in value:
        turn = turn_of(each)
        if isinstance(turn, Dropped):
            return turn
        found.append(turn)
    return found or Dropped(f"{what} has no turns")


def turn_of(value: Any) -> Turn | Dropped:
    if type(value) is dict and value.keys() == PLAIN:
        # as nearly all turns are
        role, content = value["role"], value["content"]
        if type(role) is str and role in ROLES and type(content) is str and content and not content.isspace():
            return {"role": ROLES[role], "content": content}
    if not isinstance(value, Mapping):
        return Dropped("a turn is not a mapping")
    theirs = "role" not in value and "from" in value
    speaker, words = ("from", "value") if theirs else ("role", "content")
    role = value.get(speaker)
    if role is None:
        return Dropped("a turn has no role")
    known = ROLES.get(str(role).lower())
    if known is None:
        return Dropped("a turn has an unknown role")
    rest = {key: each for key, each in value.items() if key not in (speaker, words) and each is not None}
    calls = calls_of(rest.pop("tool_calls", None))
    if calls is not None:
        rest["tool_calls"] = calls
    content = _content(value.get(words))
    if isinstance(content, Dropped):
        if "tool_calls" not in rest:
            return content
        content = ""
    return {"role": known, "content": content, **rest}


def calls_of(value: Any) -> list[Any] | None:
    """The calls of tools in a value, which may be JSON text; None where there are none."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    return value if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value) else None


def _content(value: Any) -> Any:
    """Text; parts stay parts only where they are more than text."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and "type" in part for part in value):
        if any(part["type"] != "text" for part in value):
            return value
        value = "".join(str(part.get("text") or "") for part in value)
    if value is None:
        return Dropped("a turn has no content")
    return said(value, "a turn")


def trouble(turns: Sequence[Turn], *, answered: bool) -> Dropped | None:
    """Why the turns are no conversation that ends with an answer (`answered`), or that waits for one; or None."""
    before = ""
    for position, turn in enumerate(turns):
        role = turn["role"]
        if role == "system" and position == 0:
            continue
        if role not in NEXT[before]:
            return Dropped(_disorder(role, before))
        before = "calling" if role == "assistant" and "tool_calls" in turn else role
    speaks = "assistant" if before == "calling" else before
    if answered and not any(turn["role"] == "assistant" for turn in turns):
        return Dropped("there is no assistant turn")
    if not speaks:
        return Dropped("there is no user turn")
    if (speaks == "assistant") is not answered:
        return Dropped(f"the conversation ends with the {speaks}'s turn")
    return None


def _disorder(role: str, before: str) -> str:
    if role == "system":
        return "a system turn is not the first"
    if not before:
        return "the conversation does not begin with a user turn"
    if before == "calling":
        return "a tool call has no result"
    if role == before:
        return f"two {role} turns in a row"
    return f"a turn of the {role} follows one of the {before}"


def with_system(turns: Sequence[Turn], system: Any) -> list[Turn]:
    """The system prompt first, unless there is none, or the conversation has its own."""
    words = None if system is None else said(system, "system")
    if not isinstance(words, str) or (turns and turns[0]["role"] == "system"):
        return list(turns)
    return [{"role": "system", "content": words}, *turns]


def plain_text(turn: Turn) -> str | Dropped:
    """What a turn says, for shapes that have room for texts alone."""
    content = turn["content"]
    return content if isinstance(content, str) else Dropped("a turn has parts that are not text")
