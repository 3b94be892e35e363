"""A whole run in one line."""

from __future__ import annotations

from synth_cli.report.figures import Report, Rows
from synth_cli.report.words import brief_cost, counted, duration, number

SIMULATED = "SIMULATED"


def headline(report: Report) -> str:
    """'1,000 rows in, 987 out, 3 filtered, 10 failed · $0.42 · 1m12s → out/recipes.jsonl'."""
    parts = [balance(report.rows, counted(report.rows.read, "row")), price(report), duration(report.seconds)]
    if report.simulated:
        parts.insert(0, SIMULATED)
    return f"{' · '.join(parts)} → {destination(report)}"


def balance(rows: Rows, read: str) -> str:
    rest = [
        (rows.filtered, "filtered"),
        (rows.dropped, "dropped"),
        (rows.failed, "failed"),
        (rows.unasked, "not asked yet"),
    ]
    figures = [f"{number(count)} {name}" for count, name in rest if count]
    return ", ".join([f"{read} in, {number(rows.out)} out", *figures])


def price(report: Report) -> str:
    """Of this run. What a simulated run would have cost is not what it cost."""
    return "no cost" if report.simulated else brief_cost(report.traffic)


def destination(report: Report) -> str:
    published = [output.path for output in report.outputs if output.published]
    return ", ".join(published) if published else "nothing published"
