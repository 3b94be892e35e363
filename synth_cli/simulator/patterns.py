"""Regular expression → a text that matches it, by walking what Python's own parser made of it, and checked after."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

# the parser has no public name; its tree has been the same since Python 2, and every text is checked with `re` itself
from re import _constants as k  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, TypeAlias

from synth_cli.simulator.draw import Draw

Tree: TypeAlias = Sequence[tuple[Any, Any]]

LOWER = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
WORDLIKE = LOWER + LOWER.upper() + DIGITS + "_"
PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))
MOST_REPEATS = 4096
TRIES = 60
CLASSES = {
    k.CATEGORY_DIGIT: DIGITS,
    k.CATEGORY_WORD: WORDLIKE,
    k.CATEGORY_SPACE: " ",
    k.CATEGORY_NOT_DIGIT: LOWER + " ",
    k.CATEGORY_NOT_WORD: " -,.",
    k.CATEGORY_NOT_SPACE: WORDLIKE,
}
DIALECT = (
    (re.compile(r"\\p\{(?:L|Letter|Alphabetic)\}"), "[A-Za-z]"),
    (re.compile(r"\\p\{(?:Lu|Uppercase)\}"), "[A-Z]"),
    (re.compile(r"\\p\{(?:Ll|Lowercase)\}"), "[a-z]"),
    (re.compile(r"\\p\{(?:N|Nd)\}"), "[0-9]"),
    (re.compile(r"\\p\{P\}"), "[.,!?-]"),
    (re.compile(r"\\z"), r"\\Z"),
    (re.compile(r"\(\?<([A-Za-z_]\w*)>"), r"(?P<\1>"),
    (re.compile(r"\\/"), "/"),
    (re.compile(r"\\u\{?([0-9a-fA-F]{4})\}?"), r"\\u\1"),
)


class PatternError(ValueError):
    """No text could be made for the pattern; the message says why."""


class Writer:
    """Walks a parsed pattern and writes a text.

    At most `most` repeats beyond the least; `looks` writes out what a look-ahead wants.
    """

    def __init__(self, draw: Draw, *, most: int, looks: bool) -> None:
        self.draw = draw
        self.most = most
        self.looks = looks
        self.groups: dict[int, str] = {}

    def write(self, tree: Tree) -> str:
        return "".join([self.part(op, argument) for op, argument in tree])

    def part(self, op: Any, argument: Any) -> str:  # noqa: PLR0912
        match op:
            case k.LITERAL:
                return chr(argument)
            case k.NOT_LITERAL:
                return self.draw.pick([c for c in WORDLIKE if ord(c) != argument])
            case k.ANY:
                return self.draw.pick(LOWER)
            case k.IN:
                return self.draw.pick(members(tuple(argument)))
            case k.CATEGORY:
                return self.draw.pick(CLASSES[argument])
            case k.BRANCH:
                return self.write(self.draw.pick(argument[1]))
            case k.MAX_REPEAT | k.MIN_REPEAT | k.POSSESSIVE_REPEAT:
                low, high, inner = argument
                if low > MOST_REPEATS:
                    raise PatternError(f"it repeats {low} times")
                top = min(int(high), max(low + self.most, low))
                return "".join([self.write(inner) for _ in range(self.draw.between(low, top))])
            case k.SUBPATTERN:
                number, _, _, inner = argument
                text = self.write(inner)
                if number is not None:
                    self.groups[number] = text
                return text
            case k.ATOMIC_GROUP:
                return self.write(argument)
            case k.GROUPREF:
                return self.groups.get(argument, "")
            case k.GROUPREF_EXISTS:
                number, yes, no = argument
                return self.write(yes if number in self.groups else no or ())
            case k.ASSERT:
                # what a look-ahead wants is often satisfied by writing it: `(?=.*\d).{8,}`
                return self.write(argument[1]) if self.looks and argument[0] > 0 else ""
            case _:
                return ""  # anchors, and what must not follow: the check decides


@lru_cache(512)
def members(items: tuple[Any, ...]) -> str:
    """The printable characters of a set (or its first other ones); letters and digits where it has them."""
    negated = bool(items) and items[0][0] is k.NEGATE
    found: dict[str, None] = {}
    for op, argument in items[negated:]:
        if op is k.LITERAL:
            found[chr(argument)] = None
        elif op is k.RANGE:
            low, high = argument
            found.update((chr(code), None) for code in range(low, min(high, low + 255) + 1))
        elif op is k.CATEGORY:
            found.update((c, None) for c in CLASSES[argument])
    if negated:
        left = [c for c in PRINTABLE if c not in found]
        return "".join([c for c in left if c in WORDLIKE] or left) or "\u00e9"
    printable = "".join(c for c in found if c in PRINTABLE)
    if not (printable or found):
        raise PatternError("it has an empty set")
    return printable or "".join(found)


@lru_cache(512)
def parsed(pattern: str) -> tuple[Tree, re.Pattern[str]]:
    """Raises `PatternError` where Python does not read it, after common spellings of other dialects are put in ours."""
    for spelling, ours in DIALECT:
        pattern = spelling.sub(ours, pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parser.parse(pattern), re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"it cannot be read: {error}") from error


def found_by(pattern: str, text: str) -> bool:
    return parsed(pattern)[1].search(text) is not None


def matching(
    pattern: str,
    draw: Draw,
    *,
    whole: bool,
    shortest: int = 0,
    longest: int | None = None,
) -> str:
    """A text that the pattern matches, all of it (`whole`) or somewhere in it, of so many characters.

    Raises `PatternError` when none was found: the pattern asks for something that chance does not meet.
    """
    tree, compiled = parsed(pattern)
    check = compiled.fullmatch if whole else compiled.search
    for attempt in range(TRIES):
        own = draw.child(attempt)
        most = (6, 3, 1, 0, 12, max(shortest, 1))[attempt % 6]
        text = Writer(own, most=most, looks=attempt % 2 == 1).write(tree)
        candidates = [text]
        if not whole and len(text) < shortest:
            padding = "".join(own.pick(LOWER) for _ in range(shortest - len(text)))
            candidates += [text + padding, padding + text]
        for candidate in candidates:
            fits = shortest <= len(candidate) and (longest is None or len(candidate) <= longest)
            if fits and check(candidate):
                return candidate
    raise PatternError(f"no text was found in {TRIES} tries")
