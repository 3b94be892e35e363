"""The end of a run that asked all there was to ask: rows are written, judged against what was asked for, published."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from synth_cli.compile.plan import Acceptance, Plan, Target
from synth_cli.core.events import Published
from synth_cli.errors import BelowFloor, SynthError
from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.places import exists, name_of
from synth_cli.outputs.publish import Provenance, last_published, publish, refusal
from synth_cli.outputs.publish import roll_forward as roll
from synth_cli.outputs.sinks import sink
from synth_cli.run.carding import Carded, carded, target_of
from synth_cli.run.finish import Counts, write
from synth_cli.run.running import Running
from synth_cli.run.wire import Wired
from synth_cli.spec.formats import COLUMNS
from synth_cli.stores.ledger import SqliteLedger


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the second pass came to: `published` outputs, or candidates `kept` in the run's folder."""

    counts: Counts = field(default_factory=Counts)
    published: tuple[str, ...] = ()
    kept: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()
    """For each output why this run must leave it as it is, or nothing."""
    error: SynthError | None = None
    notes: tuple[str, ...] = ()


def finish(wired: Wired, running: Running) -> Verdict:
    """Writes candidates, and publishes them when they are accepted."""
    plan, folder = running.plan, running.folder
    with ExitStack() as discarding:
        output = plan.loaded.spec.output
        columns = COLUMNS.get(output.format, wired.columns)
        sinks = [sink(target, folder.path, expected=columns) for target in plan.outputs]
        for one in sinks:
            discarding.callback(one.discard)
        counts = write(wired.chain, running, sinks, Formatter(output))
        if not counts.succeeded:
            return Verdict(counts, error=below(counts, plan.acceptance, plan.target) or fruitless(counts))
        if counts.drops.total and not counts.rows_out and running.options.shard is None:
            return Verdict(counts, error=shapeless(counts, output.format))
        candidates = [one.close() for one in sinks]
    error = below(counts, plan.acceptance, plan.target)
    kept = tuple(candidate.path for candidate in candidates)
    if error is not None and plan.acceptance.floor:
        return Verdict(counts, kept=kept, error=error)
    new = Provenance(counts.rows_out, running.options.simulate, running.options.limit is not None, time.time())
    refused = _refused(running, new, plan.outputs)
    if any(refused):
        return Verdict(counts, kept=kept, refused=refused, error=error)
    target = target_of(running)
    card = Carded() if target is None else carded(running, counts, target, *_refused(running, new, (target,)))
    whole = (*candidates, *card.candidates)
    publish(whole, run=running.run, provenance=new, append=running.ledger.append, base=plan.folder)
    return Verdict(counts, published=plan.outputs, error=error, notes=card.notes)


def below(counts: Counts, acceptance: Acceptance, target: Target | None = None) -> BelowFloor | None:
    """Why the rows are less than what was asked for, or None. A candidate that failed is no failure of the target."""
    hint = "each one's row, messages and errors are in failed.jsonl of the run's folder"
    if target is not None and counts.rows_out < target.rows:
        return BelowFloor(
            f"{counts.rows_out:,} rows came through of the {target.rows:,} that target_rows asks for, "
            f"from {counts.rows_in:,} inputs",
            hint="raise target_rows.max_candidates or give more input: what is answered stays answered",
        )
    if not acceptance.floor:
        if target is not None:
            return None
        if not counts.failed:
            return None
        return BelowFloor(_unfinished(counts), hint=hint if counts.failed > counts.unasked else UNASKED)
    rate = counts.failed / counts.rows_in if counts.rows_in else 0.0
    if counts.rows_out < acceptance.min_rows:
        return BelowFloor(
            f"not accepted: {counts.rows_out:,} rows, and accept asks for {acceptance.min_rows:,}; "
            "the old output stays",
            hint=hint if counts.failed else "no row failed: give more input, filter less, or lower accept.min_rows",
        )
    if acceptance.max_error_rate is not None and rate > acceptance.max_error_rate:
        return BelowFloor(
            f"not accepted: {counts.failed:,} of {counts.rows_in:,} rows failed ({rate:.2%}), and accept allows "
            f"{acceptance.max_error_rate:.2%}; the old output stays",
            hint=hint,
        )
    return None


UNASKED = "run again without --no-calls to ask for them"


def _unfinished(counts: Counts) -> str:
    """How many rows did not come through: what was never asked did not fail."""
    failed, unasked = counts.failed - counts.unasked, counts.unasked
    if not unasked:
        return f"{failed:,} of {counts.rows_in:,} rows failed"
    if not failed:
        return f"{unasked:,} of {counts.rows_in:,} rows are not asked yet"
    return f"{failed:,} of {counts.rows_in:,} rows failed, {unasked:,} are not asked yet"


def fruitless(counts: Counts) -> BelowFloor:
    """Rows failed and no row came out: such an output replaces none, whatever share may fail."""
    return BelowFloor(
        f"{counts.failed:,} of {counts.rows_in:,} rows failed and no row came out; the old output stays",
        hint="each one's row, messages and errors are in failed.jsonl of the run's folder",
    )


def shapeless(counts: Counts, format: str) -> BelowFloor:
    """Every row was dropped by its format: such an output is a mistake, and replaces none."""
    causes = "; ".join(f"{cause.what} ({cause.count:,})" for cause in counts.drops.ranked()[:3])
    return BelowFloor(
        f"no row makes the format {format}: {causes}; the old output stays",
        hint="name the columns with output.map, or mend them with columns; answers are kept, nothing is asked again",
    )


def _refused(running: Running, new: Provenance, targets: Sequence[str]) -> tuple[str, ...]:
    """For each target why a simulated or limited run must leave what is there, or nothing."""
    if not (new.simulated or new.limited):
        return ("",) * len(targets)
    base = running.plan.folder
    ledgers = [tuple(running.ledger.marks())]
    other = replace(running.state, simulated=not running.state.simulated).ledger_path
    if other.exists():
        with SqliteLedger(other, read_only=True) as ledger:
            ledgers.append(tuple(ledger.marks()))
    return tuple(
        (refusal(name_of(target, base), last_published(target, base, *ledgers), new) or "")
        if exists(target, base)
        else ""
        for target in targets
    )


def roll_forward(ledger: SqliteLedger, plan: Plan) -> tuple[str, ...]:
    """Ends a publication that a run died in; returns what could not be moved, which the next one overtakes."""
    publishing = ledger.standing().publishing
    if publishing is None:
        return ()
    refused = roll(publishing, plan.folder)
    if not refused:
        ledger.append([Published(publishing.run)])
    return tuple(error.message for error in refused.values())


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
