"""Text that reads like an answer: the sentences are ours, what they are about comes from the prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from synth_cli.simulator.draw import Draw

WORD = re.compile(r"[^\W\d_]{4,}")
MOST_TEXT = 1500
COMMON = frozenset(
    """
    about above after again also answer answers assistant because been before being below between both could
    does doing down during each exactly every following from further given gives have having help helpful here
    into just like list make more most must never none once only other over please reply respond response same
    several should show some such tell than that their them then there these they this those through under until
    very want was were what when where which while will with without would write your yours you user system
    question prompt text sentence sentences word words short long
    """.split()  # noqa: SIM905
)
SUBJECTS = ("subject", "matter", "approach", "example", "detail", "practice", "result", "idea")
SENTENCES = (
    "The %s is best understood together with the %s.",
    "In practice, a good %s depends on the %s around it.",
    "Many people begin with the %s and only later turn to the %s.",
    "What matters most here is how the %s relates to the %s.",
    "A careful look at the %s shows why the %s deserves attention.",
    "Start with the %s, then adjust the %s step by step.",
    "It helps to compare one %s with another before settling on a %s.",
    "Without a clear %s, even the finest %s loses its point.",
    "The first thing to notice is the %s, which shapes the %s.",
    "There are good reasons to keep the %s simple and the %s honest.",
    "Over time the %s changes, and the %s changes with it.",
    "One example is a small %s that turns into a remarkable %s.",
    "Experts often describe the %s in terms of its %s.",
    "For a beginner, the %s can seem harder than the %s itself.",
    "Consider the %s from the point of view of the %s.",
    "The result is a balanced %s with a touch of %s.",
    "Some prefer the %s as it is, others would rather change the %s.",
    "Taken together, the %s and the %s make a convincing whole.",
    "A second look reveals that the %s was part of the %s all along.",
    "Nothing replaces patience when the %s meets the %s.",
    "Keep notes on the %s, because the %s is easy to forget.",
    "That is why the %s should come before the %s.",
    "The difference between a plain %s and a memorable %s is small.",
    "Finally, check the %s once more and enjoy the %s.",
)
COUNT = len(SENTENCES)
STRIDES = (1, 5, 7, 11, 13, 17, 19, 23)
"""Each visits every sentence before it comes back to the first."""


def words_of(text: str) -> Sequence[str]:
    """What the text is about: its longer words, each once; of a very long text those at its end."""
    text = text[-MOST_TEXT:].lower()
    # splitting is several times cheaper than the pattern, and mostly finds enough
    words = [
        word for word in dict.fromkeys(text.split()) if 3 < len(word) < 25 and word.isalpha() and word not in COMMON
    ]
    if len(words) < 4:
        words = [word[:24] for word in dict.fromkeys(WORD.findall(text)) if word not in COMMON]
    return words or SUBJECTS


def sentence(draw: Draw) -> str:
    bits = draw.bits()
    words = draw.words or SUBJECTS
    count = len(words)
    return SENTENCES[bits % COUNT] % (words[(bits >> 8) % count], words[(bits >> 32) % count])


def prose(draw: Draw, tokens: int) -> str:
    """About this many tokens (of 4 bytes), in whole sentences and a paragraph now and then."""
    bits = draw.bits()
    words = draw.words or SUBJECTS
    mean = sum(map(len, words)) * 2 // len(words) + MEAN_TEMPLATE
    sentences = max(1, round(tokens * 4 / mean))
    start, stride = (bits >> 8) % len(words), 1 + 2 * ((bits >> 24) % 3)
    wanted = 2 * sentences * stride
    cycle = [*words] * ((start + wanted) // len(words) + 1)
    return template(bits % COUNT, STRIDES[(bits >> 40) % 8], sentences) % tuple(cycle[start : start + wanted : stride])


MEAN_TEMPLATE = sum(len(template) - 4 + 1 for template in SENTENCES) // COUNT


@lru_cache(2048)
def template(first: int, stride: int, sentences: int) -> str:
    """So many sentences with two places each for words; every eighth ends a paragraph."""
    chosen = [SENTENCES[(first + number * stride) % COUNT] for number in range(sentences)]
    return "\n\n".join(" ".join(chosen[start : start + 8]) for start in range(0, sentences, 8))


def fit(text: str, draw: Draw, shortest: int, longest: int | None) -> str:
    """The text made long enough with more sentences, or short enough at the end of a word where there is one."""
    while len(text) < shortest:
        text = f"{text} {sentence(draw)}" if text else sentence(draw)
    if longest is None or len(text) <= longest:
        return text
    cut = text[:longest]
    space = cut.rfind(" ")
    if space >= max(shortest, 1):
        cut = cut[:space].rstrip(" ,.;") or cut
    return cut if len(cut) >= shortest else text[:longest]
