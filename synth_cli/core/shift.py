"""What the works of one run share: its budget, its time, and why it ended before everything was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from synth_cli.core.budget import Allowance
from synth_cli.core.reply import Fault

Why: TypeAlias = Literal["fault", "budget", "deadline", "stopped", "hopeless", "on_failure", "pending"]
"""Why work ended before it was done: a fault that ends the run, the budget, the deadline, a signal, no success in
the first attempts, a failed row where the spec says `on_failure: stop`, or batches that somebody will come back to."""


@dataclass(frozen=True, slots=True)
class Ending:
    why: Why
    message: str = ""
    fault: Fault | None = None


@dataclass(slots=True)
class Tally:
    """What a run did, for the display; the report is made from the ledger."""

    answered: int = 0
    failed: int = 0
    retries: int = 0
    rate_limited: int = 0
    lost: int = 0
    """Attempts that ended with their worker."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    """Answers of each step."""


def total(tallies: Iterable[Tally]) -> Tally:
    """All of these together."""
    found = Tally()
    for one in tallies:
        found.answered += one.answered
        found.failed += one.failed
        found.retries += one.retries
        found.rate_limited += one.rate_limited
        found.lost += one.lost
        found.input_tokens += one.input_tokens
        found.output_tokens += one.output_tokens
        found.cost += one.cost
        found.unpriced += one.unpriced
        found.causes.update(one.causes)
        found.steps.update(one.steps)
    return found


class Shift:
    """`deadline` is on the clock of `Work.take`; `ended` is called once, when something ends the run, and `freed` when
    something gave back what it held of the budget."""

    __slots__ = ("allowance", "deadline", "ended", "ending", "freed")

    def __init__(
        self,
        *,
        allowance: Allowance | None = None,
        deadline: float | None = None,
        ended: Callable[[], None] | None = None,
        freed: Callable[[], None] | None = None,
    ) -> None:
        self.allowance = allowance
        self.deadline = deadline
        self.ended = ended
        self.freed = freed
        self.ending: Ending | None = None

    def late(self, now: float) -> bool:
        """Whether the time is over; then that ends the run."""
        if self.ending is None and self.deadline is not None and now >= self.deadline:
            self.end(Ending("deadline", "the time allowed for a run is over"))
            return True
        return False

    def end(self, ending: Ending) -> None:
        """The first ending counts."""
        if self.ending is None:
            self.ending = ending
            if self.ended is not None:
                self.ended()
