"""The marks of a shard's output rows: by them `synth merge` knows what belongs together, and in which order.

`2/4:17 recipes --limit 20` is of part 2 of 4 of such a run of the job `recipes`, and of the input row of index 17. In a
job with `input.shuffle` the row's place in the new order follows, in hex: `2/4:17@09af… recipes`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_cli.compile.inputs.order import placing
from synth_cli.core.row import Row
from synth_cli.run.running import Running
from synth_cli.run.sharding import MARK, Shard, taken

MARKED = re.compile(r"(\d+)/(\d+):(\d+)(?:@([0-9a-f]+))? (\S.*)")


@dataclass(frozen=True, slots=True)
class Mark:
    """`place` sorts the rows of a shuffled input; without a shuffle it is empty, and `index` sorts them."""

    shard: Shard
    index: int
    place: str
    run: str

    @property
    def whole(self) -> str:
        """What all parts of one whole have in common, in words."""
        return f"{self.run}, shuffled" if self.place else self.run


def mark_of(value: object) -> Mark | None:
    """None for what is no mark."""
    found = MARKED.fullmatch(value) if isinstance(value, str) else None
    return found and Mark(Shard(int(found[1]), int(found[2])), int(found[3]), found[4] or "", found[5])


class Marking:
    """Marks the output rows of a run of a shard, which come in the order in which their input rows were read."""

    def __init__(self, shard: Shard, running: Running) -> None:
        plan, options = running.plan, running.options
        limit = "" if options.limit is None else f" --limit {options.limit}"
        self._shard = shard
        self._run = f"{plan.loaded.name}{limit}{' --simulate' if options.simulate else ''}"
        self._place = placing(plan.seed) if plan.source is not None and plan.source.shuffle else None
        self._read: deque[tuple[int, bytes]] = deque()
        """Index and place of the input rows from which output rows may still come."""

    def read(self, rows: Sequence[Row]) -> None:
        """Input rows of the shard."""
        if self._place is not None:
            self._read.extend((row.index, self._place(row)) for row in rows)

    def marked(self, index: int, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """An output row that came from the input row of this index. Raises UsageError if the mark's column is taken."""
        if MARK in row:
            raise taken()
        place = ""
        if self._place is not None:
            # later steps know the input row by its index alone
            while self._read[0][0] != index:
                self._read.popleft()
            place = f"@{self._read[0][1].hex()}"
        return {**row, MARK: f"{self._shard}:{index}{place} {self._run}"}
