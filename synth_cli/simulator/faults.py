"""What goes wrong with a request: drawn from its content and how often it came, so that a retry can succeed."""

from __future__ import annotations

from enum import StrEnum

from synth_cli.simulator.draw import Draw, mix, tag
from synth_cli.simulator.model import Choice
from synth_cli.simulator.settings import SHARES, Settings


class Trouble(StrEnum):
    """Named as the settings and the `x-simulator-fault` header name them, and as the counts report them."""

    RATE = "429"
    ERROR = "500"
    RESET = "reset"
    STALL = "stall"
    MALFORMED = "malformed"
    EMPTY = "empty"
    INVALID = "invalid"
    LENGTH = "length"
    FILTER = "filter"


ORDER = tuple(Trouble(name.removeprefix("share_")) for name in SHARES)
PLACE = tag("fault")


def troubled(settings: Settings, content: int, turn: int) -> Trouble | None:
    """The trouble of the `turn`-th try (from 1) of a request of this content."""
    drawn = Draw(mix(content ^ PLACE ^ mix(settings.seed + (turn << 32)))).unit()
    for trouble, name in zip(ORDER, SHARES, strict=True):
        share: float = getattr(settings, name)
        if drawn < share:
            return trouble
        drawn -= share
    return None


def faultless(settings: Settings) -> bool:
    return not any(getattr(settings, name) for name in SHARES)


def spoilt(choice: Choice, trouble: Trouble) -> Choice:
    text = choice.text or ""
    if trouble is Trouble.FILTER:
        return Choice("", "content_filter", choice.reasoning_tokens, (), choice.reasoning, choice.reasoning_tokens)
    half = max(1, (choice.tokens - choice.reasoning_tokens) // 2) + choice.reasoning_tokens
    calls = tuple((name, function, given[: len(given) // 2]) for name, function, given in choice.tool_calls)
    return Choice(
        None if choice.text is None else text[: len(text) // 2],
        "length",
        half,
        calls,
        choice.reasoning,
        choice.reasoning_tokens,
    )
