"""What a run shows while it goes on. The driver looks a few times a second and calls `update`; nothing else draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

from synth_cli.core.ports import Progress
from synth_cli.report.batches import batches_in_words
from synth_cli.report.headline import SIMULATED
from synth_cli.report.pace import Pace, observe
from synth_cli.report.words import counted, duration, number, percent, rate, short, usd

FIRST_LINE = 5.0
NEXT_LINE = 10.0
"""Seconds before the first plain line, and between the others."""
NEXT_BATCH_LINE = 60.0
"""The same where batches are waited for, for hours."""


class Display(Protocol):
    """Shows progress between enter and exit; the terminal is as it was afterwards, however the run ends."""

    def __enter__(self) -> object: ...

    def __exit__(self, *raised: object) -> None: ...

    def update(self, progress: Progress) -> None: ...


def display(
    name: str,
    stream: TextIO,
    *,
    clock: Callable[[], float],
    environ: Mapping[str, str],
    quiet: bool = False,
    simulated: bool = False,
    unit: str = "row",
) -> Display:
    """The display that suits `stream` (stderr). `unit` is what `Progress` counts, in the singular."""
    if quiet:
        return Quiet()
    if stream.isatty() and environ.get("TERM") != "dumb":
        from synth_cli.report.bar import Bar

        return Bar(name, stream, clock=clock, simulated=simulated, unit=unit)
    return Lines(name, stream, clock=clock, simulated=simulated, unit=unit)


class Quiet:
    """A `Display` that shows nothing."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        return None

    def update(self, progress: Progress) -> None:
        return None


class Lines:
    """A plain line now and then, for logs."""

    def __init__(self, name: str, stream: TextIO, *, clock: Callable[[], float], simulated: bool, unit: str) -> None:
        self._head = f"{name} ({SIMULATED})" if simulated else name
        self._stream = stream
        self._clock = clock
        self._unit = unit
        self._pace: Pace | None = None
        self._due = FIRST_LINE

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        return None

    def update(self, progress: Progress) -> None:
        now = self._clock()
        self._pace = observe(self._pace, progress.answered + progress.failed, now)
        if now - self._pace.began >= self._due:
            self._due = now - self._pace.began + (NEXT_BATCH_LINE if progress.batches else NEXT_LINE)
            self._stream.write(f"{self._head}: {sentence(progress, self._pace, self._unit)}\n")
            self._stream.flush()


def sentence(progress: Progress, pace: Pace, unit: str) -> str:
    """'612/1,000 rows (61%), 3 failed, 13.9 rows/s, 48 in flight, 12 retries, …, about 28s left'."""
    parts = [
        f"{extent(progress)} {unit}s{f' ({share})' if (share := portion(progress)) else ''}",
        *traffic(progress, pace, unit),
        f"{short(progress.input_tokens)} tokens in, {short(progress.output_tokens)} out",
        spent(progress),
        f"{duration(pace.at - pace.began)} so far",
    ]
    if progress.steps:
        parts.append(by_step(progress))
    left = remaining(progress, pace)
    if left:
        parts.append(f"about {left} left")
    parts += filter(None, (batches_in_words(progress.batches), progress.note))
    return ", ".join(parts)


def by_step(progress: Progress) -> str:
    """'topics 60/60, answer 212/512': answered of what is known so far."""
    return ", ".join(f"{step.name} {number(step.answered)}/{number(step.known)}" for step in progress.steps)


def done(progress: Progress) -> int:
    return progress.answered + progress.failed + progress.unsent + progress.reused


def extent(progress: Progress) -> str:
    """'612/1,000', or '612' as long as the total is not known."""
    return number(done(progress)) if progress.total is None else f"{number(done(progress))}/{number(progress.total)}"


def portion(progress: Progress) -> str:
    return percent(min(done(progress) / progress.total, 1.0)) if progress.total else ""


def remaining(progress: Progress, pace: Pace) -> str:
    # batches answer all at once, when they please: no pace can be told from the last ones
    if progress.total is None or progress.batches:
        return ""
    left = progress.total - done(progress)
    seconds = pace.seconds_for(left) if left > 0 else None
    return "" if seconds is None else duration(max(seconds, 1.0) if seconds < 9.95 else seconds)


def traffic(progress: Progress, pace: Pace, unit: str) -> list[str]:
    """Speed and trouble, only what there is."""
    parts = [] if pace.rate is None or progress.batches else [f"{rate(pace.rate)} {unit}s/s"]
    parts.append(f"{number(progress.in_flight)} in flight")
    if progress.reused:
        parts.append(f"{number(progress.reused)} reused")
    if progress.failed or progress.unsent:
        parts.append(f"{number(progress.failed + progress.unsent)} failed")
    if progress.retries:
        parts.append(counted(progress.retries, "retry", "retries"))
    if progress.rate_limited:
        parts.append(f"{number(progress.rate_limited)} rate limited")
    return parts


def spent(progress: Progress) -> str:
    return "cost unknown" if progress.cost is None else usd(progress.cost)
