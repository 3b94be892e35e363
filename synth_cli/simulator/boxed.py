r"""The result in a \boxed{} that prompts for mathematics ask for: a guess, made of the numbers in the question.

A guess that takes two of them and one of the four operations is right now and then, as a weak model's is: enough to
try what sorts right answers from wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth_cli.simulator.draw import Draw, tag

MARK = "\\boxed"
NUMBER = re.compile(r"(?<![\w.])\d{1,9}(?:\.\d{1,4})?(?![\w]|\.\d)")
PLACE = tag("boxed")


def asked_for(texts: Sequence[tuple[str, str]]) -> bool:
    """`texts` are (role, text) of each message."""
    return any(MARK in text for _, text in texts)


def result(question: str, draw: Draw) -> str:
    """The last sentence of an answer."""
    own = draw.child(PLACE)
    numbers = [float(number) for number in NUMBER.findall(question)]
    if not numbers:
        return f"So the result is \\boxed{{{own.below(100)}}}."
    one, other = (numbers[0], numbers[1]) if len(numbers) == 2 else (own.pick(numbers), own.pick(numbers))
    guesses = (one + other, abs(one - other), one * other, one / other if other else one)
    return f"So the result is \\boxed{{{own.pick(guesses):.10g}}}."
