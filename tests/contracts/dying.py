"""Runs that die when so many facts are recorded, as if the process were gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

import synth_cli.run.opening
from synth_cli.core.events import Fact
from synth_cli.stores.ledger import SqliteLedger


class DeadError(BaseException):
    """The process is gone: nothing that catches errors may see it."""


@contextmanager
def dying_after(facts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fact]]:
    """Runs die when so many facts are recorded; from then on nothing is. Yields what was recorded."""
    recorded: list[Fact] = []

    class Dying(SqliteLedger):
        def append(self, group: Sequence[Fact]) -> None:
            kept = group[: facts - len(recorded)]
            if kept:
                super().append(kept)
                recorded.extend(kept)
            if len(recorded) >= facts:
                raise DeadError

    with monkeypatch.context() as patched:
        patched.setattr(synth_cli.run.opening, "SqliteLedger", Dying)
        yield recorded
