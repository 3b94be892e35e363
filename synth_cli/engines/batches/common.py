"""What opening and collecting share: the settings, the doors to the outside, and what was done so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from synth_cli.core.cost import Price
from synth_cli.core.events import Faulted
from synth_cli.core.ports import BatchClient, BatchStanding, Ledger, Record
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.rounds import Pending
from synth_cli.core.state import NOTHING

CHUNK: Final = 256
"""Requests that are looked up and recorded together."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`job` names the batches, `place` says where they go (provider and address): others are left alone."""

    step: str
    job: str
    place: str = ""
    batch_size: int | None = None
    delete_successful: bool = False
    delete_failed: bool = False
    grace: float = 120.0
    """Seconds that a batch must be missing from the provider's list before it counts as never submitted."""
    price: Price | None = None
    """What a batch's tokens cost."""
    adopts: frozenset[str] = frozenset()
    """Steps that are asked elsewhere now and left batches at the same place: those are looked after too."""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Collected:
    """What this engine has collected, for the display; the report is made from the ledger."""

    replies: int = 0
    faults: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0


@dataclass(slots=True)
class Desk:
    """The engine's view of the outside, and its memory from one advance to the next."""

    client: BatchClient
    ledger: Ledger
    settings: BatchSettings
    folder: Path
    clock: Callable[[], float]
    time_of_day: Callable[[], float]
    log: Callable[[str], None]
    standings: dict[str, BatchStanding] = field(default_factory=dict)
    collected: Collected = field(default_factory=Collected)
    note: str = ""
    crowded: bool = False
    """The provider refused a batch because too much is queued: none is added before another one ends."""
    most: int | None = None
    """Requests in a batch at most, after the provider refused a larger one."""

    def say(self, line: str) -> None:
        """For the log, and for the display until the next thing is said."""
        self.note = line
        self.log(line)

    def stands(self, key: str, **changes: Any) -> None:
        known = self.standings.get(key)
        if known is not None:
            self.standings[key] = replace(known, **changes)

    def watch(self, pending: Pending) -> None:
        """Takes an open batch among those that are shown."""
        opening, opened = pending.opening, pending.opened
        if opening.key not in self.standings:
            self.standings[opening.key] = BatchStanding(
                opening.key,
                "submitted" if opened is not None else "looked for",
                total=opening.requests,
                opened_at=None if opened is None else opened.at,
                at=opening.at,
            )

    def refuse(self, size: int) -> None:
        """A file of so many requests was refused as a whole: the next ones are smaller, to find out which it is."""
        self.most = max(1, size // 2)


def chunks(ids: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def fault_all(
    desk: Desk, record: Record, key: str, ids: Iterator[bytes], *, fault: Fault, share: tuple[float, int] = (0.0, 0)
) -> int:
    """Records the same fault for each of these requests of a batch; how many there were. `share`: what each used."""
    ledger, settings, count = desk.ledger, desk.settings, 0
    while chunk := list(islice(ids, CHUNK)):
        histories = ledger.histories(chunk)
        at = desk.time_of_day()
        for id in chunk:
            attempt = histories.get(id, NOTHING).tries + 1
            record.add(Faulted(id, settings.step, attempt, fault, at, 0.0, None, *share, key))
        record.flush()
        count += len(chunk)
    desk.collected.faults += count
    return count


def not_taken(fault: Fault, requests: int) -> Fault:
    """What a refusal of a whole file means for each of its requests: not one of them is known to be the reason."""
    if requests == 1:
        return fault
    return Fault(FaultKind.MISSING, f"the provider refused the batch: {fault.message}", fault.status)
