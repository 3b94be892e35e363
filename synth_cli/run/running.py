"""A run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import orjson

from synth_cli.compile.plan import Plan
from synth_cli.run.journal import Journal
from synth_cli.run.options import RunOptions
from synth_cli.stores.folder import RunFolder, StateFolder
from synth_cli.stores.ledger import SqliteLedger


@dataclass(frozen=True, slots=True)
class Running:
    """`started` in seconds since the epoch."""

    plan: Plan
    options: RunOptions
    state: StateFolder
    folder: RunFolder
    ledger: SqliteLedger
    run: int
    round: int
    epoch: int
    started: float
    journal: Journal
    continued: bool = False
    """Whether the round was open before this run."""
    notes: tuple[str, ...] = ()
    """What people should know besides: warnings of the store."""

    @property
    def source_key(self) -> bytes:
        """Tells apart what is read from a source that changes between readings: another query is another reading."""
        source = self.plan.source
        said = source.model_dump(mode="json", exclude_unset=True) if source is not None else None
        return blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=8).digest()
