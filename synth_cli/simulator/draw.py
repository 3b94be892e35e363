"""Chance that is a function of what it is drawn for: the same key and path give the same draws on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def number_of(content: bytes) -> int:
    """64 bits that stand for this content."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big")


@lru_cache(4096)
def tag(name: str) -> int:
    """64 bits that stand for a name in a path."""
    return number_of(name.encode())


def mix(z: int) -> int:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Draw:
    """A stream of draws at one place; `child` is the stream of a place below it, however much was drawn here.

    `words` are what the answer is about; `trail` the schema references that were followed to get here; `loose`
    asks for unlikely choices too (optional properties left out), because the likely ones did not fit.
    """

    __slots__ = ("loose", "state", "trail", "words")

    def __init__(
        self, state: int, words: Sequence[str] = (), trail: tuple[bytes, ...] = (), *, loose: bool = False
    ) -> None:
        self.state = state
        self.words = words
        self.trail = trail
        self.loose = loose

    def child(self, place: int) -> Draw:
        # an own function of the place, not of how often this stream was drawn from: so `state` must not move
        return Draw(mix(self.state ^ mix(place & MASK)), self.words, self.trail, loose=self.loose)

    def bits(self) -> int:
        self.state = (self.state + GOLDEN) & MASK
        return mix(self.state)

    def below(self, n: int) -> int:
        """A whole number in [0, n)."""
        return self.bits() % n

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + self.bits() % (high - low + 1)

    def unit(self) -> float:
        """A number in [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.bits() % len(choices)]

    def word(self) -> str:
        """One of the words that the answer is about."""
        return self.pick(self.words) if self.words else "subject"
