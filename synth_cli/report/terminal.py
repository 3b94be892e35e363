"""The report on a terminal: fits 80 columns, without colour where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from synth_cli.report.causes import Cause
from synth_cli.report.figures import Report
from synth_cli.report.sections import PRETEND, lines, named, title
from synth_cli.report.steps import table
from synth_cli.report.words import number

CAUSES = 8
"""Failure causes shown; the JSON has all."""
PLAIN_WIDTH = 100
"""Columns where there is no terminal to ask."""


def show(report: Report, stream: TextIO) -> None:
    """Writes the report for people; they read it on stderr."""
    width = None if stream.isatty() else PLAIN_WIDTH
    console = Console(file=stream, width=width, markup=False, emoji=False, highlight=False)
    if stream.isatty():
        console.print(render(report))
        return
    with console.capture() as captured:
        console.print(render(report))
    # cells are padded to their columns, which a log need not keep
    stream.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def render(report: Report) -> RenderableType:
    head = Text.assemble((report.name, "bold"), "  ", (title(report), "green" if report.exit_code == 0 else "red"))
    parts: list[RenderableType] = ["", head]
    if report.simulated:
        parts.append(Text(PRETEND, "yellow"))
    parts += ["", _figures(report)]
    if report.steps:
        parts += ["", _steps(report)]
    for what, causes in (("Failed", report.rows.causes), ("Dropped", report.rows.drops)):
        if causes:
            parts += ["", _causes(what, causes)]
    if report.exit_reason:
        parts += ["", Text(report.exit_reason, "red" if report.exit_code else "")]
        if report.hint:
            parts.append(Text(report.hint, "dim"))
    return Group(*parts, "")


def _figures(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines(report):
        grid.add_row(line.label, Text(line.text))
    return grid


def _steps(report: Report) -> Table:
    head, steps = table(report)
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="cyan")
    # a long name is folded, never a figure cut
    shown.add_column(head[0], overflow="fold")
    for name in head[1:]:
        shown.add_column(name, justify="right", no_wrap=True)
    for step in steps:
        shown.add_row(*(Text(cell) for cell in step))
    return shown


def _causes(what: str, causes: Sequence[Cause]) -> Table:
    shown = [(number(cause.count), named(cause), cause.example) for cause in causes[:CAUSES]]
    rest = causes[CAUSES:]
    if rest:
        shown.append((number(sum(cause.count for cause in rest)), f"{len(rest)} more causes", "in report.json"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="cyan")
    table.add_column(what, justify="right", no_wrap=True)
    table.add_column("Why", no_wrap=True)
    # the only column that rich may narrow; its texts do not wrap but end in an ellipsis
    table.add_column("For example", style="dim")
    for count, why, example in shown:
        table.add_row(count, Text(why), Text(example, no_wrap=True, overflow="ellipsis"))
    return table
