from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console

from synth_cli.core.ports import BatchStanding, Progress, StepProgress
from synth_cli.report.bar import Bar
from synth_cli.report.live import Lines, Quiet, display, sentence
from synth_cli.report.pace import observe

MIDWAY = Progress(
    total=1000,
    answered=500,
    failed=12,
    reused=100,
    in_flight=48,
    retries=12,
    rate_limited=4,
    input_tokens=61_200,
    output_tokens=120_400,
    cost=0.1234,
    note="paused 8s: rate limited",
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def clock(*times: float) -> Iterator[float]:
    return iter(times)


def plain(looks: Sequence[tuple[float, Progress]], *, simulated: bool = False, unit: str = "row") -> list[str]:
    stream = io.StringIO()
    ticks = clock(*(now for now, _ in looks))
    lines = Lines("recipes", stream, clock=lambda: next(ticks), simulated=simulated, unit=unit)
    with lines:
        for _, progress in looks:
            lines.update(progress)
    return stream.getvalue().splitlines()


def screen(looks: Sequence[tuple[float, Progress]], *, simulated: bool = False) -> list[str]:
    """What was drawn last, at 80 columns without colour."""
    ticks = clock(*(now for now, _ in looks))
    bar = Bar("recipes", io.StringIO(), clock=lambda: next(ticks), simulated=simulated)
    drawn = io.StringIO()
    for _, progress in looks:
        rendered = bar.drawing(progress)
        drawn = io.StringIO()
        Console(file=drawn, width=80, color_system=None, markup=False).print(rendered)
    return [line.rstrip() for line in drawn.getvalue().splitlines()]


def test_which_display() -> None:
    """A terminal gets the bar, anything else plain lines, and who wants quiet gets nothing."""
    made = [
        display("x", stream, clock=lambda: 0.0, environ=environ, quiet=quiet)
        for stream, environ, quiet in [
            (Terminal(), {"TERM": "xterm"}, False),
            (Terminal(), {"TERM": "dumb"}, False),
            (io.StringIO(), {}, False),
            (Terminal(), {}, True),
        ]
    ]
    assert [type(one) for one in made] == [Bar, Lines, Lines, Quiet]


def test_quiet() -> None:
    """Quiet shows nothing."""
    stream = Terminal()
    with display("x", stream, clock=lambda: 0.0, environ={}, quiet=True) as _:
        pass
    assert stream.getvalue() == ""


def test_plain_lines_come_now_and_then() -> None:
    """The first plain line comes after 5 seconds, the next ones every 10."""
    looks = [(100 + tick / 4, Progress(answered=tick)) for tick in range(4 * 31)]
    assert [line.split(",")[0] for line in plain(looks)] == [
        "recipes: 20 rows",
        "recipes: 60 rows",
        "recipes: 100 rows",
    ]


def test_plain_line() -> None:
    """A plain line says all that is known, and what the run is waiting for."""
    [line] = plain([(0.0, Progress(reused=100)), (40.0, MIDWAY)])
    assert line == (
        "recipes: 612/1,000 rows (61%), 12.8 rows/s, 48 in flight, 100 reused, 12 failed, 12 retries, "
        "4 rate limited, 61.2k tokens in, 120k out, $0.12, 40s so far, about 30s left, paused 8s: rate limited"
    )


def test_steps_are_told_one_by_one() -> None:
    """Of several steps each says how many of the requests that are known so far are answered."""
    chain = Progress(answered=272, steps=(StepProgress("topics", 60, 60), StepProgress("answer", 212, 1512)))
    [line] = plain([(0.0, Progress()), (40.0, chain)])
    assert line.endswith("$0, 40s so far, topics 60/60, answer 212/1,512")
    assert screen([(0.0, Progress()), (40.0, chain)])[3] == "topics 60/60, answer 212/1,512"


def test_plain_line_of_a_simulated_run() -> None:
    """A simulated run says so; a cost that is not known is not $0; an unknown total has no end."""
    looks = [(0.0, Progress()), (5.0, Progress(answered=50, in_flight=4, cost=None))]
    assert plain(looks, simulated=True, unit="answer") == [
        "recipes (SIMULATED): 50 answers, 10.0 answers/s, 4 in flight, 0 tokens in, 0 out, cost unknown, 5.0s so far"
    ]


def test_what_was_not_sent_gives_no_pace() -> None:
    """Failures that this run has not asked for are part of what is done, and say nothing about how fast it goes."""
    looks = [(0.0, Progress(total=10)), (40.0, Progress(total=10, unsent=4, note="starting the engine"))]
    line = "4/10 rows (40%), 0 in flight, 4 failed, 0 tokens in, 0 out, $0, 40s so far, starting the engine"
    assert plain(looks) == [f"recipes: {line}"]
    assert [row.split("  ")[0] for row in screen(looks)][1:] == [
        "0 in flight · 4 failed",
        "0 tokens in, 0 out · $0 · 40s so far",
        "starting the engine",
    ]


def test_bar() -> None:
    """On a terminal three lines, and one for what the run is waiting for."""
    assert screen([(0.0, Progress(reused=100)), (40.0, MIDWAY)]) == [
        "recipes ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━                     612/1,000 rows   61%",
        "12.8 rows/s · 48 in flight · 100 reused · 12 failed · 12 retries · 4 rate limit…",
        "61.2k tokens in, 120k out · $0.12 · 40s so far, about 30s left",
        "paused 8s: rate limited",
    ]


def test_bar_without_total() -> None:
    """As long as the total is not known there is no bar, but all the rest."""
    assert screen([(0.0, Progress(answered=3, in_flight=2))], simulated=True) == [
        "recipes SIMULATED 3 rows",
        "2 in flight",
        "0 tokens in, 0 out · $0 · 0.0s so far",
    ]


def test_bar_of_no_rows() -> None:
    """Nothing to do is shown as done, not as a division by zero."""
    assert screen([(0.0, Progress(total=0))])[0].endswith("━━ 0/0 rows")


def test_bar_leaves_the_terminal_as_it_was() -> None:
    """When the run ends the bar is erased and the cursor is back, also after an error."""
    stream = Terminal()
    bar = Bar("x", stream, clock=lambda: 0.0)
    with pytest.raises(KeyboardInterrupt):
        _break_off(bar)
    drawn, _, after = stream.getvalue().rpartition(MIDWAY.note)
    assert drawn.startswith("\x1b[?25l")
    assert set(re.findall(r"\x1b\[[?\d]*\w|\S", after)) == {"\x1b[0m", "\x1b[?25h", "\x1b[1A", "\x1b[2K"}
    assert after.count("\x1b[1A\x1b[2K") >= 4


def _break_off(bar: Bar) -> None:
    with bar:
        bar.update(MIDWAY)
        raise KeyboardInterrupt


def test_batches_are_told_and_no_pace_is_made_of_them() -> None:
    """They answer all at once after hours: how many are done is told, and no time that is left."""
    batches = (
        BatchStanding("one", "in_progress", 300, 0, 800),
        BatchStanding("two", "ended", 800, 0, 800, outcome="collected"),
    )
    progress = Progress(total=1600, answered=800, in_flight=800, batches=batches)
    pace = observe(observe(None, 0, 0.0), 800, 100.0)
    assert sentence(progress, pace, "request") == (
        "800/1,600 requests (50%), 800 in flight, 0 tokens in, 0 out, $0, 1m40s so far, 1 batch open: 300/800 done"
    )
