"""`synth plan`: the same plan that a run executes, counted and priced instead. No call is made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from synth_cli.compile.inputs import volatile
from synth_cli.compile.plan import Plan, Voice
from synth_cli.core.cost import Price, cost, worst_case
from synth_cli.core.figures import Traffic
from synth_cli.core.reply import Usage
from synth_cli.run.counting import Counted, Counting
from synth_cli.run.local import workers_of
from synth_cli.run.opening import epoch_of, state_of
from synth_cli.run.options import RunOptions
from synth_cli.run.outlook import TIMES, Elsewhere, Outlook, Range, StepOutlook, plainly
from synth_cli.run.passage import Chain
from synth_cli.run.prepare import prepare
from synth_cli.run.stage import ModelStage
from synth_cli.run.wire import (
    all_simulated,
    available,
    chain_of,
    given_length,
    input_rows,
    led_nowhere,
    most_output,
    price_in,
    price_of,
    simulated,
    voices_of,
)
from synth_cli.stores.ledger import SqliteLedger
from synth_cli.stores.memory import MemoryLedger
from synth_cli.stores.spool import Spool
from synth_cli.stores.worksheet import Worksheet

DENSE, SPARSE = 3.0, 5.0
"""UTF-8 bytes of a token: the fewest that ordinary text comes to, and the most."""
OVERHEAD = 10
"""Tokens of a chat's own marks."""
LEAST_OUT, USUAL_OUT = 16, 1000
"""Tokens of an answer where neither the spec nor the ledger says."""
LIMITS = (
    "max_requests_per_minute",
    "max_tokens_per_minute",
    "max_input_tokens_per_minute",
    "max_output_tokens_per_minute",
    "max_concurrent_requests",
    "max_retries",
)
FEW = 32
"""Requests at once, below which a budget is what makes a run slow."""


UNKNOWN = Range(50, 1000)
"""Tokens of a request that cannot be made yet."""


def explain(path: Path, options: RunOptions, *, environ: Mapping[str, str]) -> Outlook:
    """Reads the input, drafts every request and looks each up in the ledger; nothing is asked and nothing written."""
    plan = prepare(path, options, environ)
    with known(plan, options) as (ledger, epoch), scratch(plan) as worksheet:
        chain = chain_of(
            plan,
            options,
            ledger,
            worksheet,
            epoch=epoch,
            rows=lambda tally: input_rows(plan, tally),
            spool=spools(plan, options, ledger, worksheet),
        )
        if plan.target is not None:
            chain.bound.rows = plan.target.rows
        counting = Counting(chain)
        for _ in chain.first(counting).rows():
            pass
        traffic = {name: ledger.traffic(step=name) for name in chain.stages}
    workers = [
        workers_of(step.name, voice, plan.folder, environ)
        for step in plan.steps
        for voice in step.voices
        if not simulated(voice, options)
    ]
    outlook = _outlook(plan, options, chain, counting, traffic)
    return replace(outlook, workers=tuple(dict.fromkeys(found for found in workers if found is not None)))


def _outlook(
    plan: Plan, options: RunOptions, chain: Chain, counting: Counting, traffic: Mapping[str, Traffic]
) -> Outlook:
    voices = voices_of(plan)
    steps: list[StepOutlook] = []
    bases: dict[str, str] = {}
    guessed = False
    for stage in chain.stages.values():
        if isinstance(stage, ModelStage):
            rows = counting.arriving(stage)
            guessed |= rows.high > rows.low
            for place, voice in enumerate(stage.plan.voices):
                each, basis = _output(voice, traffic[stage.name])
                steps.append(_step(stage, place, counting, options, each))
                if steps[-1].new or steps[-1].coming.high or len(plan.steps) == 1:
                    bases.setdefault(basis, stage.name)
    single = len(steps) == 1
    costs = [step.cost for step in steps]
    total = Counted(*(sum(getattr(step, key) for step in steps) for key in ("new", "answered", "failed_before")))
    total.pending = sum(step.pending for step in steps)
    total.largest = max((count.largest for count in counting.counted.values()), default=0)
    return Outlook(
        name=plan.name,
        model=", ".join(dict.fromkeys(voice.title for voice in voices)) or "no model",
        engine=", ".join(dict.fromkeys(voice.engine for voice in voices)) or "none",
        simulated=all_simulated(plan, options),
        rows=counting.rows,
        requests=sum(step.requests for step in steps),
        new=total.new,
        answered=total.answered,
        failed_before=total.failed,
        pending=total.pending,
        refused=counting.refused,
        input_tokens=_sum(step.input_tokens for step in steps),
        output_tokens=_sum(step.output_tokens for step in steps),
        cost=None if any(cost is None for cost in costs) else _sum(cost for cost in costs if cost is not None),
        elsewhere=_elsewhere(voices[0], steps[0], total, options) if single else None,
        basis=_basis(bases),
        outputs=plan.outputs,
        limits={
            **{name: _said(getattr(voice.settings, name) for voice in voices) for name in LIMITS},
            "max_cost_usd": plan.limits.cost,
            "max_tokens": plan.limits.tokens,
            "max_time_seconds": plan.limits.seconds,
        },
        notes=tuple(_notes(plan, voices, options, total, guessed=guessed)),
        coming=_sum(step.coming for step in steps),
        steps=() if single else tuple(steps),
    )


def _basis(bases: Mapping[str, str]) -> str:
    """What the estimate rests on, by the first step that it is true of where there is more than one."""
    if len(bases) == 1:
        return next(iter(bases))
    return "; ".join(f"{step}: {basis}" for basis, step in bases.items())


def _said(values: Iterable[float | None]) -> float | str | None:
    """What all models have in common, or each one's."""
    found = list(dict.fromkeys(values))
    if len(found) < 2:
        return found[0] if found else None
    return " or ".join(plainly(value) for value in found if value is not None)


def _step(stage: ModelStage, place: int, counting: Counting, options: RunOptions, each: Range) -> StepOutlook:
    voice = stage.plan.voices[place]
    count, coming = counting.counted[stage.name, place], counting.asking_for(stage, place)
    entering = Range(
        count.bytes / SPARSE + UNKNOWN.low * coming.low,
        count.bytes / DENSE + OVERHEAD * count.new + UNKNOWN.high * coming.high,
    )
    leaving = Range(each.low * (count.new + coming.low), each.high * (count.new + coming.high))
    return StepOutlook(
        name=stage.name,
        stands_in=place in stage.plan.fallbacks,
        model=voice.title,
        engine=voice.engine,
        rows=counting.arrived[stage.name],
        requests=count.new + count.answered + count.failed + count.pending,
        new=count.new,
        answered=count.answered,
        failed_before=count.failed,
        pending=count.pending,
        coming=coming,
        input_tokens=entering,
        output_tokens=leaving,
        cost=_estimate(entering, leaving, price_of(voice, options)),
    )


def _sum(ranges: Iterable[Range]) -> Range:
    found = list(ranges)
    return Range(sum(one.low for one in found), sum(one.high for one in found))


def _elsewhere(voice: Voice, step: StepOutlook, count: Counted, options: RunOptions) -> Elsewhere | None:
    other = "online" if voice.engine == "batch" else "batch"
    if not count.new or voice.engine == "vllm" or not available(voice, other):
        return None
    cost = _estimate(step.input_tokens, step.output_tokens, price_in(voice, other, options))
    return Elsewhere(other, cost, TIMES[other])


def _estimate(entering: Range, leaving: Range, paid: Price | None) -> Range | None:
    if paid is None:
        return None
    low, high = (cost(Usage(int(getattr(entering, end)), int(getattr(leaving, end))), paid) for end in ("low", "high"))
    return Range(low, high)


def _notes(plan: Plan, voices: Sequence[Voice], options: RunOptions, count: Counted, *, guessed: bool) -> Iterator[str]:
    yield from led_nowhere(plan)
    if volatile(plan.source):
        yield "the source may change: a run may read other rows"
    if plan.target is not None:
        most = "as many as there are" if plan.target.candidates is None else f"at most {plan.target.candidates:,}"
        yield f"inputs are drawn until {plan.target.rows:,} rows came through, {most}; the first are counted here"
    if count.failed:
        yield "what failed before for good is asked again only with --retry-failed"
    if guessed:
        yield "how many rows the later steps get is a guess until the answers before them are there"
    if len(voices) == 1:
        yield from _held(plan, voices[0], price_of(voices[0], options), count)


def _held(plan: Plan, voice: Voice, paid: Price | None, count: Counted) -> Iterator[str]:
    most = most_output(voice)
    if count.new and most is not None and not (plan.limits.cost is None and plan.limits.tokens is None):
        dearest, longest = worst_case(count.largest, most, paid)
        shares = [
            limit / each
            for limit, each in ((plan.limits.cost, dearest), (plan.limits.tokens, longest))
            if limit is not None and each
        ]
        at_once = int(min(shares, default=FEW))
        if at_once < min(FEW, count.new):
            says = f"so {at_once:,} may be under way at once" if at_once else "so not one can be sent"
            yield f"each request's worst case ({most:,} tokens out) is held against the budget, {says}"


def _output(voice: Voice, traffic: Traffic) -> tuple[Range, str]:
    """Tokens of one answer, low to high, and where that comes from."""
    most = most_output(voice)
    metered = traffic.replies - traffic.unmetered
    if metered:
        mean = traffic.usage.output / metered
        return Range(0.8 * mean, 1.2 * mean), f"the {metered:,} answers in the ledger"
    given = given_length(voice)
    if given is not None:
        return Range(min(LEAST_OUT, given), given), "max_tokens"
    high = USUAL_OUT if most is None else min(USUAL_OUT, most)
    return Range(LEAST_OUT, high), f"{LEAST_OUT} to {high:,} tokens an answer, a guess: max_tokens is not set"


@contextmanager
def known(plan: Plan, options: RunOptions) -> Iterator[tuple[SqliteLedger | MemoryLedger, int]]:
    """The job's ledger for reading, or an empty one before the first run; and the epoch the next run belongs to."""
    state = state_of(plan, options)
    if not state.ledger_path.exists():
        yield MemoryLedger(), 0
        return
    with SqliteLedger(state.ledger_path, read_only=True) as ledger:
        rounds = ledger.standing()
        ledger.begin(rounds.present_round)
        yield ledger, epoch_of(rounds, fresh=options.fresh)


def spools(
    plan: Plan, options: RunOptions, ledger: SqliteLedger | MemoryLedger, worksheet: Worksheet
) -> Callable[[bytes], Spool]:
    """Where the rows of a key are: those that the open round keeps, or a place beside the worksheet."""
    state, rounds = state_of(plan, options), ledger.standing()

    def spool(key: bytes) -> Spool:
        kept = state.spool(rounds.round, key)
        return kept if rounds.open and kept.complete else Spool(worksheet.path.with_name(kept.path.name))

    return spool


@contextmanager
def scratch(plan: Plan) -> Iterator[Worksheet]:
    """A worksheet that leaves no trace beside the spec."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".synth-", dir=plan.folder))
        except OSError:
            # a spec in a folder that cannot be written to can still be explained
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="synth-"))
        yield stack.enter_context(Worksheet(Path(folder) / "worksheet.sqlite"))
