"""What the tests of inputs share: reading one with a tally like the worksheet's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synth_cli.compile.inputs import read
from synth_cli.core.row import Row
from synth_cli.spec.model import Input
from synth_cli.template import Templates


class Seen:
    """Counts equal hashes, and how often it was asked."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.calls: list[int] = []

    def __call__(self, hashes: Sequence[bytes]) -> list[int]:
        self.calls.append(len(hashes))
        before = []
        for content in hashes:
            before.append(self.counts[content])
            self.counts[content] += 1
        return before


def reading(folder: Path, *, seed: int = 0, vars: dict[str, Any] | None = None, **keys: Any) -> list[Row]:
    templates = Templates(vars=vars or {}, seed=seed, step="input")
    return list(read(Input(**keys), folder=folder, seed=seed, templates=templates, tally=Seen()))


def values(folder: Path, **keys: Any) -> list[dict[str, Any]]:
    return [dict(row.values) for row in reading(folder, **keys)]
