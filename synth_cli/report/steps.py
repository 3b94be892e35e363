"""A job of several steps, a line for each: only the columns in which there is anything. Tokens are in/out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synth_cli.report.figures import Report, Step
from synth_cli.report.words import brief_cost, number, short

Cell = Callable[[Step], str]
NONE = "-"


def table(report: Report) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The columns' names and each step's cells."""
    chosen = [(name, cell) for name, cell, there in _columns(report) if any(there(step) for step in report.steps)]
    head = ("Step", *(name for name, _ in chosen))
    return head, tuple((step.name, *(cell(step) for _, cell in chosen)) for step in report.steps)


def _columns(report: Report) -> Sequence[tuple[str, Cell, Callable[[Step], object]]]:
    # where a run ended before its rows could be counted, zeros would be wrong
    uncounted = any(step.traffic.requests for step in report.steps) and not any(step.rows_in for step in report.steps)
    return (
        ("In", lambda step: number(step.rows_in), lambda step: not uncounted),
        ("Out", lambda step: number(step.rows_out), lambda step: not uncounted),
        ("Filtered", lambda step: number(step.filtered), lambda step: step.filtered),
        ("Failed", lambda step: number(step.failed), lambda step: step.failed),
        ("Unasked", lambda step: number(step.unasked), lambda step: step.unasked),
        ("Sent", lambda step: number(step.traffic.requests), lambda step: step.traffic.requests),
        ("Tokens", _tokens, lambda step: step.traffic.replies),
        ("Cost", _cost, lambda step: step.traffic.replies and not report.simulated),
    )


def _tokens(step: Step) -> str:
    usage = step.traffic.usage
    return f"{short(usage.input)}/{short(usage.output)}" if step.traffic.replies else NONE


def _cost(step: Step) -> str:
    # a step that sent nothing costs nothing, but was not free either
    if not step.traffic.replies:
        return NONE
    return "unknown" if step.traffic.known_cost is None else brief_cost(step.traffic)
