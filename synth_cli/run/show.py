"""What people see of a run: the display while it goes on, the report after it, and the last report again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from synth_cli.compile.plan import Plan
from synth_cli.errors import UsageError
from synth_cli.report import live, machine
from synth_cli.report.figures import Report
from synth_cli.run.job import Ended
from synth_cli.run.opening import state_of
from synth_cli.run.options import RunOptions
from synth_cli.run.prepare import prepare
from synth_cli.run.wire import all_simulated


def display(options: RunOptions, *, quiet: bool = False) -> Callable[[Plan], live.Display]:
    """The display that suits stderr, once the plan is known."""

    def suited(plan: Plan) -> live.Display:
        return live.display(
            plan.name,
            sys.stderr,
            clock=time.monotonic,
            environ=os.environ,
            quiet=quiet,
            simulated=all_simulated(plan, options),
            unit="request",
        )

    return suited


def show(report: Report) -> None:
    """The report on stderr."""
    from synth_cli.report import terminal

    terminal.show(report, sys.stderr)


def last_report(path: Path, options: RunOptions, *, environ: Mapping[str, str]) -> Ended:
    """The report of the last run that has one."""
    plan = prepare(path, options, environ)
    state = state_of(plan, options)
    runs = sorted((state.root / "runs").glob("*/report.json"), key=lambda found: int(found.parent.name.split("-")[0]))
    if not runs:
        raise UsageError(f"{plan.name} has no report yet", hint=f"run it: synth run {path}")
    data = runs[-1].read_bytes()
    try:
        return Ended(machine.load(data), data.rstrip(), None)
    except ValueError as error:
        raise UsageError(
            f"{runs[-1]}: {error}", hint="it was not written by this version; run again to have a new one"
        ) from None
