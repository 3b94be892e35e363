"""What the marks of a ledger amount to: rounds, runs, what they reserved, and work that is still open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from synth_cli.core.events import (
    Closed,
    Fact,
    Opened,
    Opening,
    Published,
    Publishing,
    Reserved,
    RoundClosed,
    RoundOpened,
    RunClosed,
    RunOpened,
    Sought,
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job. `closed` and `exit_code` are None while it goes on, and for ever if it was killed."""

    run: int
    round: int
    folder: str
    opened: float
    simulated: bool = False
    closed: float | None = None
    exit_code: int | None = None
    reserved_cost: float = 0.0
    reserved_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """A remote piece of work that was announced and is not closed; without `opened` nobody knows if it exists."""

    opening: Opening
    opened: Opened | None = None
    sought: float | None = None
    """When the provider was first asked for it in vain (seconds since the epoch)."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """`round` and `epoch` are the latest ones, 0 before the first; `open` says whether that round goes on."""

    round: int = 0
    epoch: int = 0
    open: bool = False
    runs: tuple[Run, ...] = ()
    publishing: Publishing | None = None
    """Announced and not known to be done: its renames are to be rolled forward."""
    published: Publishing | None = None
    """The latest one that was done: what a lesser run must not replace."""
    pending: Mapping[str, Pending] = field(default_factory=dict)

    @property
    def last_run(self) -> Run | None:
        return self.runs[-1] if self.runs else None

    @property
    def next_run(self) -> int:
        return self.runs[-1].run + 1 if self.runs else 1

    @property
    def present_round(self) -> int:
        """The round that the next run belongs to."""
        return self.round if self.open else self.round + 1

    def reserved(self, round: int, *, besides: int = 0) -> tuple[float, int]:
        """(USD, tokens) that a round still holds: what runs of it that died may have spent unseen, and what open
        work may cost at most, which is counted in the latest round, or the next: there it will be collected."""
        holding = [run for run in self.runs if run.round == round and run.run != besides]
        cost, tokens = sum(run.reserved_cost for run in holding), sum(run.reserved_tokens for run in holding)
        if round >= self.round:
            cost += sum(pending.opening.cost for pending in self.pending.values())
            tokens += sum(pending.opening.tokens for pending in self.pending.values())
        return cost, tokens


def fold_marks(marks: Iterable[Fact]) -> Rounds:
    """Facts about single requests among them are passed over."""
    round = epoch = 0
    is_open = False
    runs: dict[int, Run] = {}
    publishing: Publishing | None = None
    published: Publishing | None = None
    pending: dict[str, Pending] = {}
    for mark in marks:
        match mark:
            case RoundOpened():
                round, epoch, is_open = mark.round, mark.epoch, True
            case RoundClosed():
                is_open = False
            case RunOpened():
                runs[mark.run] = Run(mark.run, mark.round, mark.folder, mark.at, mark.simulated)
            case RunClosed() if mark.run in runs:
                runs[mark.run] = replace(runs[mark.run], closed=mark.at, exit_code=mark.exit_code)
            case Reserved() if mark.run in runs:
                runs[mark.run] = replace(runs[mark.run], reserved_cost=mark.cost, reserved_tokens=mark.tokens)
            case Publishing():
                publishing = mark
            case Published():
                publishing, published = None, publishing or published
            case Opening():
                pending[mark.key] = Pending(mark)
            case Opened() | Sought() if mark.key in pending:
                pending[mark.key] = _heard(pending[mark.key], mark)
            case Closed():
                pending.pop(mark.key, None)
            case _:
                pass
    return Rounds(round, epoch, is_open, tuple(runs.values()), publishing, published, pending)


def _heard(pending: Pending, mark: Opened | Sought) -> Pending:
    if isinstance(mark, Opened):
        return replace(pending, opened=mark)
    return pending if pending.sought is not None else replace(pending, sought=mark.at)
