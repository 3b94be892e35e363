"""What all requests of one `Terms` share, encoded once and found again by whose it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from synth_cli.core.request import Terms

T = TypeVar("T")
MOST: Final = 64
"""Terms whose encoders are kept; more than that are a row's own (tools per row), each used once."""


class Encoders(Generic[T]):
    """`make` is called once for the same terms, as long as there are not too many of them."""

    __slots__ = ("_known", "_make")

    def __init__(self, make: Callable[[Terms], T]) -> None:
        self._make = make
        self._known: dict[int, tuple[Terms, T]] = {}

    def of(self, terms: Terms) -> T:
        known = self._known.get(id(terms))
        if known is not None:
            return known[1]
        if len(self._known) >= MOST:
            self._known.clear()
        made = self._make(terms)
        # the terms are kept too: an id is only theirs while they live
        self._known[id(terms)] = (terms, made)
        return made
