"""Facts gathered into one transaction: a commit for each row would cost more than the row."""

from __future__ import annotations

from typing import Final

from synth_cli.core.events import Fact
from synth_cli.core.ports import Ledger

GROUP: Final = 128


class GroupRecord:
    """Satisfies `Record`: holds back at most `size` facts. What a failed append held stays pending."""

    __slots__ = ("_facts", "_ledger", "_size")

    def __init__(self, ledger: Ledger, size: int = GROUP) -> None:
        self._ledger = ledger
        self._size = size
        self._facts: list[Fact] = []

    @property
    def pending(self) -> int:
        return len(self._facts)

    def add(self, fact: Fact) -> None:
        self._facts.append(fact)
        if len(self._facts) >= self._size:
            self.flush()

    def flush(self) -> None:
        if self._facts:
            self._ledger.append(self._facts)
            self._facts = []
