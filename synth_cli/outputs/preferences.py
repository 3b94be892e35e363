"""Preference pairs: a prompt, the better answer, the worse one. Pure.

The shape is TRL's preference type with an explicit prompt ("Dataset formats and types"): three texts, or three lists
of turns, where the answers' lists hold only what follows the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from synth_cli.outputs.turns import Dropped, Turn, said, trouble, turn_of, turns_of, with_system

SAME = Dropped("chosen and rejected are the same")


def preference(fields: Mapping[str, Any]) -> dict[str, Any] | Dropped:
    """A pair from `chosen` and `rejected`, or from `responses` and their `scores`: the best against the worst.

    Among equals the first is taken. Answers without a score, and scores without an answer, are left out.
    """
    if "responses" in fields:
        pair = _best_and_worst(fields["responses"], fields["scores"])
    else:
        pair = (fields["chosen"], fields["rejected"])
    if isinstance(pair, Dropped):
        return pair
    answers: list[str | list[Turn]] = []
    for what, value in zip(("chosen", "rejected"), pair, strict=True):
        answer = _answer(value, what)
        if isinstance(answer, Dropped):
            return answer
        answers.append(answer)
    prompt, system = fields.get("prompt"), fields.get("system")
    chosen, rejected = answers
    talks = isinstance(prompt, list) or isinstance(chosen, list) or isinstance(rejected, list) or bool(system)
    if talks:
        return _conversations(prompt, system, chosen, rejected)
    asked = said(prompt, "prompt")
    if isinstance(asked, Dropped):
        return asked
    if str(chosen).strip() == str(rejected).strip():
        return SAME
    return {"prompt": asked, "chosen": chosen, "rejected": rejected}


def _best_and_worst(responses: Any, scores: Any) -> tuple[Any, Any] | Dropped:
    for what, value in (("responses", responses), ("scores", scores)):
        if value is None:
            return Dropped(f"{what} is null")
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return Dropped(f"{what} is not a list")
    if len(responses) != len(scores):
        return Dropped("responses and scores are not equally many")
    scored = [
        (score, response)
        for response, score in zip(responses, map(_score, scores), strict=True)
        if score is not None and not _is_blank(response)
    ]
    if len(scored) < 2:
        return Dropped("fewer than two answers with a score")
    best, worst = max(scored, key=lambda pair: pair[0]), min(scored, key=lambda pair: pair[0])
    if best[0] == worst[0]:
        return Dropped("a tie: all scores are equal")
    return best[1], worst[1]


def _score(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(score) else score


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _answer(value: Any, what: str) -> str | list[Turn] | Dropped:
    if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        return turns_of(value, what)
    if isinstance(value, Mapping) and ("role" in value or "from" in value):
        turn = turn_of(value)
        return turn if isinstance(turn, Dropped) else [turn]
    return said(value, what)


def _conversations(
    prompt: Any, system: Any, chosen: str | list[Turn], rejected: str | list[Turn]
) -> dict[str, Any] | Dropped:
    chosen, rejected = _turns(chosen), _turns(rejected)
    if prompt is None:
        # what both begin with is what was asked
        asked: list[Turn] | Dropped = chosen[: _common(chosen, rejected)]
    elif isinstance(prompt, list):
        asked = turns_of(prompt, "prompt")
    else:
        words = said(prompt, "prompt")
        asked = words if isinstance(words, Dropped) else [{"role": "user", "content": words}]
    if isinstance(asked, Dropped):
        return asked
    if not asked:
        return Dropped("prompt is null")
    asked = with_system(asked, system)
    pair = [_after(asked, answer) for answer in (chosen, rejected)]
    if not all(pair) or pair[0] == pair[1]:
        return SAME
    wrong = trouble(asked, answered=False)
    for answer in pair:
        wrong = wrong or trouble([*asked, *answer], answered=True)
    if wrong is not None:
        return wrong
    if [_words(turn) for turn in pair[0]] == [_words(turn) for turn in pair[1]]:
        return SAME
    return {"prompt": asked, "chosen": pair[0], "rejected": pair[1]}


def _turns(answer: str | list[Turn]) -> list[Turn]:
    return [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer


def _after(asked: Sequence[Turn], answer: list[Turn]) -> list[Turn]:
    """What an answer says beyond the prompt, which it may repeat, with the system prompt or without."""
    for begun in (list(asked), [turn for turn in asked if turn["role"] != "system"]):
        if answer[: len(begun)] == begun:
            return answer[len(begun) :]
    return answer


def _common(one: Sequence[Turn], other: Sequence[Turn]) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _words(turn: Turn) -> Turn:
    content = turn["content"]
    return {**turn, "content": content.strip()} if isinstance(content, str) else turn
