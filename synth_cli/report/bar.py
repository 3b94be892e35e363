"""The progress on a terminal: drawn when told to, gone when the run has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from synth_cli.core.ports import Progress
from synth_cli.report.batches import batch_lines
from synth_cli.report.headline import SIMULATED
from synth_cli.report.live import by_step, done, extent, portion, remaining, spent, traffic
from synth_cli.report.pace import Pace, observe
from synth_cli.report.words import duration, short

DOT = " · "


class Bar:
    """A `Display` for a terminal. `unit` is what is counted, in the singular."""

    def __init__(
        self,
        name: str,
        stream: TextIO,
        *,
        clock: Callable[[], float],
        simulated: bool = False,
        unit: str = "row",
    ) -> None:
        self._name = name
        self._clock = clock
        self._simulated = simulated
        self._unit = unit
        self._pace: Pace | None = None
        # warnings that others write to stderr appear above it; stdout is data and left alone
        self._live = Live(
            console=Console(file=stream, markup=False, emoji=False, highlight=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *raised: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        self._live.update(self.drawing(progress), refresh=True)

    def drawing(self, progress: Progress) -> RenderableType:
        """What is drawn now."""
        pace = self._pace = observe(self._pace, progress.answered + progress.failed, self._clock())
        head = Text(self._name, "bold", no_wrap=True, overflow="ellipsis")
        if self._simulated:
            head.append(f" {SIMULATED}", "yellow")
        left = remaining(progress, pace)
        figures = Text(DOT.join(traffic(progress, pace, self._unit)), "dim", no_wrap=True, overflow="ellipsis")
        tokens = f"{short(progress.input_tokens)} tokens in, {short(progress.output_tokens)} out"
        times = f"{duration(pace.at - pace.began)} so far" + (f", about {left} left" if left else "")
        totals = Text(DOT.join((tokens, spent(progress), times)), "dim", no_wrap=True, overflow="ellipsis")
        parts: list[RenderableType] = [self._bar(head, progress), figures, totals]
        if progress.steps:
            parts.append(Text(by_step(progress), "dim", no_wrap=True, overflow="ellipsis"))
        batches = batch_lines(progress.batches, progress.time_of_day)
        parts.extend(Text(line, no_wrap=True, overflow="ellipsis") for line in batches)
        if progress.note:
            parts.append(Text(progress.note, "yellow", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _bar(self, head: Text, progress: Progress) -> RenderableType:
        grid = Table.grid(padding=(0, 1), expand=True)
        count = Text(f"{extent(progress)} {self._unit}s", no_wrap=True)
        if progress.total is None:
            grid.add_column()
            grid.add_column(ratio=1)
            grid.add_row(head, count)
            return grid
        grid.add_column(max_width=40)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, justify="right", width=5)
        bar = ProgressBar(total=max(progress.total, 1), completed=done(progress) if progress.total else 1)
        grid.add_row(head, bar, count, portion(progress))
        return grid
