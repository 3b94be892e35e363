from __future__ import annotations

from collections.abc import Sequence

import pytest

from synth_cli.core.events import Fact, RunClosed
from synth_cli.engines.recording import GroupRecord


class Kept:
    def __init__(self) -> None:
        self.groups: list[list[Fact]] = []
        self.fails = False

    def append(self, facts: Sequence[Fact]) -> None:
        if self.fails:
            raise OSError("disk full")
        self.groups.append(list(facts))


FACTS = [RunClosed(number, 0, 0.0) for number in range(5)]


def test_groups_facts() -> None:
    """`size` facts make a transaction; a flush commits what is left, and nothing when there is none."""
    kept = Kept()
    record = GroupRecord(kept, 2)
    for fact in FACTS:
        record.add(fact)
    pending = record.pending
    record.flush()
    record.flush()
    assert (kept.groups, pending, record.pending) == ([FACTS[:2], FACTS[2:4], FACTS[4:]], 1, 0)


def test_a_failed_append_loses_nothing() -> None:
    """Facts stay pending until a transaction took them."""
    kept = Kept()
    record = GroupRecord(kept)
    record.add(FACTS[0])
    kept.fails = True
    with pytest.raises(OSError, match="disk full"):
        record.flush()
    kept.fails = False
    record.flush()
    assert kept.groups == [FACTS[:1]]
