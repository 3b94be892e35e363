"""What a run came to, as values: the terminal, Markdown and JSON show the same `Report`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from synth_cli.core.figures import Traffic
from synth_cli.core.ports import RateLimits
from synth_cli.core.reply import FaultKind
from synth_cli.report.causes import Cause


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of the rows. `read` and `failed` count input rows, `out`, `filtered` and `dropped` output rows."""

    read: int = 0
    out: int = 0
    filtered: int = 0
    """Left out by `keep_if`."""
    dropped: int = 0
    """Output rows that `output.format` has no room for."""
    failed: int = 0
    """Input rows of which an answer never came, was never valid, or could not be shaped; not the unasked."""
    kept: int = 0
    """Failed input rows that stand in the output with nulls (`on_failure: keep`)."""
    unasked: int = 0
    """Input rows that this round has still to ask for."""
    reused: int = 0
    """Answers that were there before this run and were not asked for again."""
    causes: tuple[Cause, ...] = ()
    """Why rows failed, commonest first; counts failed answers, of which a row may have several."""
    drops: tuple[Cause, ...] = ()
    """Why rows were dropped, commonest first."""

    @property
    def error_rate(self) -> float:
        """Failed input rows / input rows; 0 where nothing was read."""
        return self.failed / self.read if self.read else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of several: what became of its rows, and what was sent for it in this run."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    filtered: int = 0
    """Left out by `keep_if`, or as duplicates."""
    failed: int = 0
    """Of its own rows; not the unasked."""
    unasked: int = 0
    """Its rows that this round has still to ask for."""
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True, slots=True)
class Output:
    """One output file. `path` is as people write it."""

    path: str
    rows: int
    published: bool = True
    note: str = ""
    """Why it was not published."""
    candidate: str = ""
    """Where the rows are instead, when it was not."""


@dataclass(frozen=True, slots=True)
class Report:
    """Times are seconds since the epoch. Nothing here is a secret."""

    name: str
    spec: str
    """The spec's path."""
    exit_code: int
    started: float
    ended: float
    exit_reason: str = ""
    """What kept the run from being accepted, or why it ended early; empty with exit code 0."""
    hint: str = ""
    """What to do next, where something is to be done."""
    run: int = 1
    round: int = 1
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    model: str = ""
    """As the spec names it; `traffic.models` says who answered."""
    engine: str = "online"
    simulated: bool = False
    limited: int | None = None
    """`--limit`."""
    rows: Rows = Rows()
    traffic: Traffic = field(default_factory=Traffic)
    """Of this run."""
    round_traffic: Traffic | None = None
    """Of the whole round, where it took more than this run."""
    steps: tuple[Step, ...] = ()
    """Where there are several, in their order."""
    limits: RateLimits | None = None
    """What the provider's headers said last."""
    outputs: tuple[Output, ...] = ()
    folder: str = ""
    """The run's folder: this report, the log, failed.jsonl."""
    notes: tuple[str, ...] = ()
    """What a user should know besides, one sentence each."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of synth, Python and the libraries that matter."""

    @property
    def seconds(self) -> float:
        return max(self.ended - self.started, 0.0)

    @property
    def rows_per_second(self) -> float | None:
        """Input rows / seconds of the run; None where there are none of either, or not all were gone through."""
        rows = self.rows
        # of a run that ended before rows were made, `read` is only how far the input was read
        made = rows.out or rows.filtered or rows.dropped or rows.failed == rows.read
        return rows.read / self.seconds if rows.read and self.seconds and made and not rows.unasked else None

    @property
    def output_rate(self) -> float | None:
        """Output tokens per second of asking; None where nothing was, or a provider took its time over batches."""
        return None if self.engine == "batch" else self.traffic.output_rate

    @property
    def rate_limited(self) -> int:
        """Answers 429, and the like, of this run."""
        return self.traffic.faults.get(FaultKind.RATE_LIMITED, 0)
