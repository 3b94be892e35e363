"""The report as Markdown, for a pull request or a wiki."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from synth_cli.report.figures import Report
from synth_cli.report.headline import headline
from synth_cli.report.sections import PRETEND, lines, named, title
from synth_cli.report.steps import table
from synth_cli.report.words import number

ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]#"} | {mark: f"&#{ord(mark)};" for mark in "<>|"})


def markdown(report: Report) -> str:
    """Ends with a newline."""
    return "\n".join(_paragraphs(report)) + "\n"


def _paragraphs(report: Report) -> Iterator[str]:
    yield f"# {_safe(report.name)}: {title(report)}"
    if report.simulated:
        yield f"\n> **{PRETEND}**"
    if report.description:
        yield f"\n{_safe(report.description)}"
    yield f"\n{_safe(headline(report))}"
    if report.exit_reason:
        yield f"\n**{_safe('; '.join(filter(None, (report.exit_reason, report.hint))))}**"
    yield ""
    yield from _table(("", ""), ((line.label, line.text) for line in lines(report)))
    if report.steps:
        yield "\n## Steps\n"
        yield from _table(*table(report))
    if report.rows.causes:
        yield "\n## Why rows failed\n"
        yield from _table(
            ("Failed", "Why", "For example"),
            ((number(cause.count), named(cause), cause.example) for cause in report.rows.causes),
        )
    if report.rows.drops:
        yield "\n## Why rows were dropped\n"
        yield from _table(
            ("Dropped", "Why", "For example"),
            ((number(cause.count), named(cause), cause.example) for cause in report.rows.drops),
        )
    yield "\n## Job\n"
    yield from _table(("", ""), _job(report))


def _job(report: Report) -> Iterator[tuple[str, str]]:
    yield "Spec", report.spec
    if report.model:
        yield "Model asked", f"{report.model} ({report.engine})"
    yield "Seed", str(report.seed)
    if report.limited is not None:
        yield "Limit", f"the first {number(report.limited)} rows"
    yield "Started", _time(report.started)
    yield "Ended", _time(report.ended)
    yield "Run, round", f"{report.run}, {report.round}"
    for name, value in report.labels.items():
        yield f"Label {name}", value
    for name, version in report.versions.items():
        yield name, version


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join(' --- ' for _ in header)}|"
    for row in rows:
        yield f"| {' | '.join(_safe(cell) for cell in row)} |"


def _safe(text: str) -> str:
    """Keeps what is shown from being read as Markdown or HTML."""
    return " ".join(text.split()).translate(ESCAPES)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
