"""`synth run`: advance a job as far as it can be, publish what is accepted, and report what happened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from synth_cli.compile.plan import Plan
from synth_cli.core.events import Fact, RoundClosed, RunClosed
from synth_cli.core.shift import Ending
from synth_cli.errors import AuthError, BelowFloor, BudgetReached, Interrupted, SynthError, Unfinished
from synth_cli.report.figures import Report
from synth_cli.report.live import Display
from synth_cli.run.again import again
from synth_cli.run.asking import ask
from synth_cli.run.desk import Asked
from synth_cli.run.finish import note_failures
from synth_cli.run.halt import interrupting
from synth_cli.run.opening import opened
from synth_cli.run.options import RunOptions
from synth_cli.run.publishing import Verdict, finish
from synth_cli.run.pushing import pushed
from synth_cli.run.reporting import assemble, write_report
from synth_cli.run.running import Running
from synth_cli.run.wire import wire

FINISHED = frozenset({0, 1})
"""Exit codes after which nothing is left to do: the round is closed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its report, the report as JSON, and what kept it from being accepted."""

    report: Report
    json: bytes
    error: SynthError | None


def run_job(
    path: Path, options: RunOptions, *, environ: Mapping[str, str], display: Callable[[Plan], Display]
) -> Ended:
    """Runs the job of a spec file. Raises `SynthError` only for what happens before there is anything to report."""
    with opened(path, options, environ) as running:
        return _advance(running, environ, display(running.plan))


def _advance(running: Running, environ: Mapping[str, str], display: Display) -> Ended:
    error: SynthError | None = None
    verdict, asked = Verdict(), Asked()
    with wire(running) as wired:
        try:
            asked = ask(wired, running, display, environ, chance=random.random)
            error = ended_by(asked, again(running.plan, running.options))
            with interrupting(again(running.plan, running.options)):
                if error is None:
                    verdict = finish(wired, running)
                    # a push that is interrupted leaves what was published
                    verdict = pushed(verdict, running, environ)
                    error = verdict.error
                elif not isinstance(error, Interrupted):
                    hopeless = isinstance(error, BelowFloor | AuthError)
                    failed = running.folder.failed_path
                    counts = note_failures(wired.chain, running.ledger, running.started, failed, tried=hopeless)
                    verdict = Verdict(counts)
        except SynthError as raised:
            error = raised
        code, now = code_of(error), time.time()
        part = running.options.limit is not None or verdict.counts.unasked > 0
        running.ledger.append(closing(running, code, now, part=part))
        running.journal.write(f"exit {code}" + (f": {error.message}" if error is not None else ""))
        report = assemble(running, asked, verdict, error=error, code=code, now=now)
    return Ended(report, write_report(running.folder, report), error)


def closing(running: Running, code: int, now: float, *, part: bool) -> list[Fact]:
    """The end of a run, and of its round when nothing is left to do.

    A run of only a part of the job leaves a round that was open before it, with what that has spent and tried.
    """
    end: list[Fact] = [RunClosed(running.run, code, now)]
    if code in FINISHED and not (part and running.continued):
        end.append(RoundClosed(running.round, now))
    return end


def code_of(error: SynthError | None) -> int:
    """The exit code that a run ends with."""
    return 0 if error is None else error.exit_code


def ended_by(asked: Asked, hint: str) -> SynthError | None:
    """What stopped the asking, as the error that ends the run; None when all was asked. `hint` says how to go on."""
    ending: Ending | None = asked.ending
    if ending is None:
        return None
    match ending.why:
        case "fault":
            return AuthError(ending.message, hint="mend it and run again: what is answered stays answered")
        case "budget":
            return BudgetReached(
                f"budget reached: {ending.message}",
                hint="raise the budget and run again, or publish what is answered with --no-calls",
            )
        case "deadline" | "pending":
            return Unfinished(ending.message, hint=hint)
        case "stopped":
            return Interrupted("stopped; everything answered is kept", signum=asked.signum or 2, hint=hint)
        case "hopeless" | "on_failure":
            return BelowFloor(ending.message, hint="mend it and run again: what is answered stays answered")
        case _:
            assert_never(ending.why)
