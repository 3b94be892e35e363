"""Opening a run: the lock, the ledger, the round it belongs to, its folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from synth_cli.compile.plan import Plan
from synth_cli.core.events import RoundOpened, RunOpened
from synth_cli.core.rounds import Rounds
from synth_cli.errors import UsageError
from synth_cli.outputs.places import check
from synth_cli.report.words import counted
from synth_cli.run.again import command
from synth_cli.run.journal import Journal
from synth_cli.run.options import RunOptions
from synth_cli.run.prepare import prepare
from synth_cli.run.publishing import roll_forward
from synth_cli.run.pushing import ready
from synth_cli.run.running import Running
from synth_cli.run.wire import led_nowhere, place_of, reachable, voices_of
from synth_cli.spec.secrets import hidden
from synth_cli.stores.folder import StateFolder
from synth_cli.stores.ledger import SqliteLedger


def state_of(plan: Plan, options: RunOptions) -> StateFolder:
    """The job's state folder, made by the first run."""
    return StateFolder.locate(plan.loaded.path, plan.name, options.state_dir, simulated=options.simulate)


@contextmanager
def opened(
    path: Path, options: RunOptions, environ: Mapping[str, str], *, cancelling: bool = False
) -> Iterator[Running]:
    """A run of the job in a spec file. What can be found wrong is found before anything is opened or spent."""
    plan = prepare(path, options, environ)
    if not options.no_calls:
        reachable(plan, options, environ)
    if not cancelling:
        ready(plan, options, environ)
        for target in plan.outputs:
            check(target, plan.folder)
    state = state_of(plan, options)
    with state.lock(), SqliteLedger(state.ledger_path) as ledger:
        _check_batches(plan, options, ledger)
        notes = (*ledger.warnings, *roll_forward(ledger, plan), *_elsewhere(plan, options, ledger), *led_nowhere(plan))
        running = _open(plan, options, state, ledger, notes)
        try:
            yield running
        finally:
            running.journal.close()
            running.folder.worksheet_path.unlink(missing_ok=True)


def _check_batches(plan: Plan, options: RunOptions, ledger: SqliteLedger) -> None:
    """Requests in open batches would be paid for twice if they were asked online."""
    pending = ledger.standing().pending
    if pending and not any(voice.engine == "batch" for voice in voices_of(plan)):
        batched = replace(options, sets=(*options.sets, "engine=batch"))
        raise UsageError(
            f"{counted(len(pending), 'batch is', 'batches are')} open, and this run would ask the same requests online",
            hint=f"collect them: {command('run', plan, batched)}; or end them: {command('cancel', plan, batched)}",
        )


def _elsewhere(plan: Plan, options: RunOptions, ledger: SqliteLedger) -> Iterator[str]:
    """What is said of open batches that this run will not look at."""
    here = {place_of(step, voice, options) for step in plan.steps for voice in step.voices}
    places = Counter(one.opening.place for one in ledger.standing().pending.values() if one.opening.place not in here)
    for place, count in places.items():
        yield f"{counted(count, 'batch', 'batches')} left open at {place}: collected when the spec names that again"


def _open(plan: Plan, options: RunOptions, state: StateFolder, ledger: SqliteLedger, notes: tuple[str, ...]) -> Running:
    """Opens the run, and a round unless one goes on."""
    now = time.time()
    rounds = ledger.standing()
    epoch = epoch_of(rounds, fresh=options.fresh)
    if not rounds.open:
        ledger.append([RoundOpened(rounds.present_round, epoch, now)])
    run = rounds.next_run
    folder = state.new_run(run, now)
    ledger.append([RunOpened(run, rounds.present_round, folder.relative, now, options.simulate)])
    state.drop_spools(besides=rounds.present_round)
    state.drop_leftovers()
    folder.plan_path.write_bytes(plan_json(plan, options))
    journal = Journal(folder.log_path)
    journal.write(f"run {run} of {plan.name}, round {rounds.present_round}, epoch {epoch}")
    for note in notes:
        journal.write(note)
    present, continued = rounds.present_round, rounds.open
    return Running(plan, options, state, folder, ledger, run, present, epoch, now, journal, continued, notes)


def plan_json(plan: Plan, options: RunOptions) -> bytes:
    """What the run was asked to do, without secrets."""
    said: dict[str, Any] = {
        "name": plan.name,
        "spec": str(plan.loaded.path),
        "effective": plan.loaded.effective(),
        "steps": [
            {
                "name": step.name,
                "type": step.step.type,
                "models": [
                    {"engine": voice.engine, "backend": voice.terms.backend, "model": voice.terms.model}
                    for voice in step.voices
                ],
            }
            for step in plan.steps
        ],
        "outputs": list(plan.outputs),
        "limits": asdict(plan.limits),
        "options": {key: value for key, value in asdict(options).items() if value not in (None, False, ())},
    }
    if options.sets:
        said["options"]["sets"] = [hidden(text, plan.loaded.secrets) for text in options.sets]
    return orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str)


def epoch_of(rounds: Rounds, *, fresh: bool) -> int:
    """`--fresh` goes on with an epoch that is not complete, and starts a new one after a complete one."""
    return rounds.epoch + 1 if fresh and not rounds.open and rounds.round else rounds.epoch
