"""`synth status`: where a job stands, from its ledger and, of open batches, from the provider."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from synth_cli.compile.plan import Plan
from synth_cli.core.ports import BatchStanding
from synth_cli.errors import SynthError
from synth_cli.report.batches import batch_line
from synth_cli.report.words import counted, duration
from synth_cli.run.explain import known
from synth_cli.run.opening import state_of
from synth_cli.run.options import RunOptions
from synth_cli.run.prepare import prepare
from synth_cli.run.wire import voices_of
from synth_cli.stores.folder import StateFolder
from synth_cli.stores.ledger import SqliteLedger


@dataclass(frozen=True, slots=True)
class Standing:
    """Times are seconds since the epoch; costs in USD, of the round."""

    name: str
    started: bool
    round: int = 0
    round_open: bool = False
    epoch: int = 0
    runs: int = 0
    last_exit_code: int | None = None
    last_opened: float | None = None
    last_closed: float | None = None
    answers: int = 0
    faults: int = 0
    spent_usd: float | None = 0.0
    """None where no price is known."""
    spent_tokens: int = 0
    unpriced: int = 0
    """Answers of the round whose price is not known; the costs are without them."""
    running: str = ""
    previewed: bool = False
    """Rows were asked for a preview, and no run has come to an end yet."""
    folder: str = ""
    batches: tuple[BatchStanding, ...] = ()
    """Those that are open, as the provider sees them now."""
    note: str = ""
    """Why the provider could not be asked."""


def stand(path: Path, options: RunOptions, *, environ: Mapping[str, str]) -> Standing:
    """Reads the ledger, and asks the provider how open batches stand; takes no lock and changes nothing."""
    plan = prepare(path, options, environ)
    state = state_of(plan, options)
    if not state.ledger_path.exists():
        return Standing(plan.name, started=False)
    holder = state.holder()
    with known(plan, options) as (ledger, _):
        assert isinstance(ledger, SqliteLedger)
        rounds = ledger.standing()
        traffic = ledger.traffic(round=rounds.round)
        cost, tokens = ledger.spent(rounds.round)
        last = rounds.last_run
        batches, note = _survey(plan, options, state, ledger, environ) if rounds.pending else ((), "")
        return Standing(
            name=plan.name,
            started=True,
            round=rounds.round,
            round_open=rounds.open,
            epoch=rounds.epoch,
            runs=len(rounds.runs),
            last_exit_code=last.exit_code if last else None,
            last_opened=last.opened if last else None,
            last_closed=last.closed if last else None,
            answers=traffic.replies,
            faults=traffic.faulted,
            spent_usd=None if traffic.known_cost is None else cost,
            spent_tokens=tokens,
            unpriced=traffic.unpriced,
            running=str(holder) if holder is not None else "",
            previewed=not any((state.path / run.folder / "report.json").exists() for run in rounds.runs),
            folder=str(state.path / last.folder) if last else "",
            batches=batches,
            note=note,
        )


def _survey(
    plan: Plan, options: RunOptions, state: StateFolder, ledger: SqliteLedger, environ: Mapping[str, str]
) -> tuple[tuple[BatchStanding, ...], str]:
    """How the open batches stand at the provider; where it cannot be asked, what the ledger knows of them and why."""
    from synth_cli.run.asking import on_loop
    from synth_cli.run.batch import Office

    told = tuple(
        BatchStanding(pending.opening.key, "not asked", total=pending.opening.requests, at=pending.opening.at)
        for pending in ledger.standing().pending.values()
    )
    if not any(voice.engine == "batch" for voice in voices_of(plan)):
        return told, "the spec's engine is no longer batch"

    async def look() -> tuple[tuple[BatchStanding, ...], str]:
        async with AsyncExitStack() as leave:
            engines = await Office(plan, options, state, ledger, environ, lambda line: None).engines(leave)
            batches = tuple([standing for engine in engines for standing in await engine.survey()])
            return batches, "; ".join(engine.note for engine in engines if engine.note)

    try:
        return on_loop(look())
    except SynthError as error:
        return told, error.message


def as_json(standing: Standing) -> bytes:
    return orjson.dumps(asdict(standing), option=orjson.OPT_INDENT_2)


def as_text(standing: Standing) -> str:
    """For people, a line a fact."""
    if not standing.started:
        return f"{standing.name}: not run yet\n"
    if standing.running:
        now = f"running now: {standing.running}"
    elif standing.round_open:
        now = "not finished; run again to go on"
    elif standing.previewed:
        now = "only previewed so far"
    else:
        now = "finished"
    opened = "open" if standing.round_open else "closed"
    lines = [
        f"{standing.name}: {now}",
        f"round       {standing.round} ({opened}), {counted(standing.runs, 'run')}",
        f"answers     {standing.answers:,} in this round, {counted(standing.faults, 'fault')}",
        f"spent       {_cost(standing)}, {standing.spent_tokens:,} tokens (what budgets count)",
    ]
    if standing.last_opened is not None:
        began = f"{datetime.fromtimestamp(standing.last_opened, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if standing.last_closed is None:
            ended = "did not end in order" if not standing.running else "goes on"
        else:
            ended = f"exit {standing.last_exit_code} after {duration(standing.last_closed - standing.last_opened)}"
        lines.append(f"last run    {began}, {ended}")
        lines.append(f"folder      {standing.folder}")
    at = time.time()
    lines += [f"batch       {batch_line(batch, at)}" for batch in standing.batches]
    if standing.note:
        lines.append(f"note        {standing.note}")
    return "\n".join(lines) + "\n"


def _cost(standing: Standing) -> str:
    if standing.spent_usd is None:
        return "cost unknown"
    rest = f" + {counted(standing.unpriced, 'answer')} of unknown price" if standing.unpriced else ""
    return f"${standing.spent_usd:,.4f}{rest}"
