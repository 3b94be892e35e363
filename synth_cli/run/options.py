"""What the command line may say about a run."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from synth_cli.run.sharding import Shard


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`sets` are `key=value`; `max_time` like `5h`; `max_cost` in USD over the round."""

    sets: tuple[str, ...] = ()
    profile: str | None = None
    limit: int | None = None
    output: str | None = None
    simulate: bool = False
    fresh: bool = False
    no_calls: bool = False
    no_wait: bool = False
    retry_failed: bool = False
    max_cost: float | None = None
    max_time: str | None = None
    state_dir: Path | None = None
    only: int | None = None
    """The index of the one row to look at."""
    shard: Shard | None = None

    @property
    def part(self) -> Container[int] | None:
        """The indexes of the input rows that are asked; None for all. The others are read all the same."""
        return self.shard if self.only is None else range(self.only, self.only + 1)
