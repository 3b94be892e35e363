"""What a run came to, put together from the ledger's figures and the second pass."""

from __future__ import annotations

from pathlib import Path

from synth_cli.core.events import RunOpened
from synth_cli.core.figures import Traffic
from synth_cli.errors import SynthError
from synth_cli.report.figures import Output, Report, Rows, Step
from synth_cli.report.machine import dump
from synth_cli.run.desk import Asked
from synth_cli.run.publishing import Verdict, shown
from synth_cli.run.running import Running
from synth_cli.run.timing import timed
from synth_cli.run.versions import versions
from synth_cli.run.wire import all_simulated, voices_of
from synth_cli.spec.addresses import is_url
from synth_cli.stores.folder import RunFolder


def assemble(
    running: Running, asked: Asked, verdict: Verdict, *, error: SynthError | None, code: int, now: float
) -> Report:
    """The report of a run that has ended."""
    plan, options, spec = running.plan, running.options, running.plan.loaded.spec
    runs_of_round = sum(mark.round == running.round for mark in running.ledger.marks() if isinstance(mark, RunOpened))
    return Report(
        name=plan.name,
        spec=shown(plan.loaded.path),
        exit_code=code,
        started=running.started,
        ended=now,
        exit_reason=error.message if error is not None else "",
        hint=error.hint if error is not None else "",
        run=running.run,
        round=running.round,
        description=spec.description or "",
        labels=spec.labels,
        seed=plan.seed,
        model=", ".join(dict.fromkeys(voice.title for voice in voices_of(plan))),
        engine=", ".join(dict.fromkeys(voice.engine for voice in voices_of(plan))),
        simulated=all_simulated(plan, options),
        limited=options.limit,
        rows=rows_of(asked, verdict),
        traffic=timed(running, running.ledger.traffic(run=running.run), run=running.run),
        round_traffic=timed(running, running.ledger.traffic(round=running.round), round=running.round)
        if runs_of_round > 1
        else None,
        steps=steps_of(running, verdict),
        limits=asked.limits,
        outputs=outputs_of(running, verdict),
        folder=shown(running.folder.path),
        notes=(*running.notes, *asked.notes, *verdict.notes),
        versions=versions(),
    )


def rows_of(asked: Asked, verdict: Verdict) -> Rows:
    """The rows as the second pass found them; of a run that ended before it, as far as the input was read."""
    counts = verdict.counts
    if counts.rows_in:
        return Rows(
            read=counts.rows_in,
            out=counts.rows_out,
            filtered=counts.filtered,
            dropped=counts.drops.total,
            failed=counts.failed - counts.unasked,
            kept=counts.kept,
            unasked=counts.unasked,
            reused=counts.reused,
            causes=counts.causes.ranked(),
            drops=counts.drops.ranked(),
        )
    failed = counts.failed or asked.failed + asked.tally.failed
    return Rows(read=asked.rows, failed=failed, reused=asked.reused, causes=counts.causes.ranked())


def steps_of(running: Running, verdict: Verdict) -> tuple[Step, ...]:
    """Each step, also those that no row came to; none where a job has only one, or where there is nothing to say."""
    if len(running.plan.steps) < 2:
        return ()
    found: list[Step] = []
    anything = False
    for step in running.plan.steps:
        counts = verdict.counts.steps.get(step.name)
        traffic = running.ledger.traffic(run=running.run, step=step.name) if step.voices else Traffic()
        if counts is not None:
            failed = counts.failed - counts.unasked
            rows = (counts.rows_in, counts.rows_out, counts.filtered, failed, counts.unasked)
            found.append(Step(step.name, *rows, traffic))
        else:
            found.append(Step(step.name, traffic=traffic))
        anything |= counts is not None or traffic.requests > 0
    return tuple(found) if anything else ()


def outputs_of(running: Running, verdict: Verdict) -> tuple[Output, ...]:
    """Each output, where its rows are and why."""
    if verdict.published:
        return tuple(Output(_short(path), verdict.counts.rows_out) for path in verdict.published)
    reason = verdict.error.message if verdict.error is not None else ""
    notes = verdict.refused or ("",) * len(verdict.kept)
    # outputs are published together: one that must stay holds back the others
    held = next((note for note in notes if note), reason)
    return tuple(
        Output(_short(target), verdict.counts.rows_out, published=False, note=note or held, candidate=shown(path))
        for target, path, note in zip(running.plan.outputs, verdict.kept, notes, strict=False)
    )


def _short(target: str) -> str:
    return target if is_url(target) else shown(Path(target))


def write_report(folder: RunFolder, report: Report) -> bytes:
    """Writes report.json into the run's folder; returns it."""
    data = dump(report)
    folder.report_path.write_bytes(data)
    return data.rstrip()
