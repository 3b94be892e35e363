"""`synth plan`: the same plan that a run executes, counted and priced instead. No call is made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from synth_cli.compile.inputs import volatile
from synth_cli.compile.plan import Plan, StepPlan
from synth_cli.compile.requests import Drafter
from synth_cli.core.cost import Price, cost, worst_case
from synth_cli.core.figures import Traffic
from synth_cli.core.reply import Usage
from synth_cli.core.row import Context
from synth_cli.core.state import NOTHING, Answered, Failed
from synth_cli.report.words import usd
from synth_cli.run.feed import Feed, Passed
from synth_cli.run.local import Workers, workers_of
from synth_cli.run.local import lines as lines_of
from synth_cli.run.opening import epoch_of, state_of
from synth_cli.run.options import RunOptions
from synth_cli.run.prepare import prepare
from synth_cli.run.wire import (
    available,
    given_length,
    input_rows,
    most_output,
    policy_of,
    price_in,
    price_of,
    simulated,
)
from synth_cli.stores.ledger import SqliteLedger
from synth_cli.stores.memory import MemoryLedger
from synth_cli.stores.worksheet import Worksheet

DENSE, SPARSE = 3.0, 5.0
"""UTF-8 bytes of a token: the fewest that ordinary text comes to, and the most."""
OVERHEAD = 10
"""Tokens of a chat's own marks."""
LEAST_OUT, USUAL_OUT = 16, 1000
"""Tokens of an answer where neither the spec nor the ledger says."""
FEW = 32
"""Requests at once, below which a budget is what makes a run slow."""


TIMES = {
    "online": "as fast as the provider's limits allow",
    "batch": "within the provider's window, usually 24 hours and often much less",
}


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    high: float


@dataclass(slots=True)
class Counted:
    """Requests, and the bytes of those that are new."""

    new: int = 0
    answered: int = 0
    failed: int = 0
    pending: int = 0
    """In open batches."""
    bytes: int = 0
    largest: int = 0
    """Bytes of the largest new one."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The same requests on another engine. `time` in words: nobody promises more."""

    engine: str
    cost: Range | None
    time: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run would do. Costs in USD, None where the price is not known."""

    name: str
    model: str
    engine: str
    simulated: bool
    rows: int
    requests: int
    new: int
    answered: int
    failed_before: int
    pending: int
    """In open batches: paid, or about to be."""
    refused: int
    """Rows whose prompt cannot be made."""
    input_tokens: Range
    output_tokens: Range
    cost: Range | None
    elsewhere: Elsewhere | None
    """What the same would cost on the other engine, batch or online."""
    basis: str
    """What the estimate of the output rests on."""
    outputs: tuple[str, ...]
    limits: Mapping[str, float | str | None]
    notes: tuple[str, ...] = ()
    workers: Workers | None = None
    """What would run the model, where that is not somebody else's server."""


def explain(path: Path, options: RunOptions, *, environ: Mapping[str, str]) -> Outlook:
    """Reads the input, drafts every request and looks each up in the ledger; nothing is asked and nothing written."""
    plan = prepare(path, options, environ)
    step = plan.steps[0]
    with known(plan, options) as (ledger, epoch), scratch(plan) as worksheet:
        policy = policy_of(step, epoch, options)
        rows = input_rows(plan, worksheet.tally)
        drafter = Drafter(step, plan.folder)
        part = options.part
        feed = Feed(step.name, rows, drafter=drafter, worksheet=worksheet, ledger=ledger, policy=policy, only=part)
        count = Counted()
        for request, row, sample, history in feed.requests():
            stands = None if history is NOTHING else policy.standing(history, Context(row, sample), asking=True)
            if request.id in feed.pending:
                count.pending += 1
            elif isinstance(stands, Answered):
                count.answered += 1
            elif isinstance(stands, Failed):
                count.failed += 1
            else:
                count.new += 1
                count.bytes += request.input_bytes
                count.largest = max(count.largest, request.input_bytes)
        traffic = ledger.traffic()
    workers = None if simulated(step, options) else workers_of(step, plan.folder, environ)
    return replace(_outlook(plan, options, feed.passed, count, traffic), workers=workers)


def _outlook(plan: Plan, options: RunOptions, passed: Passed, count: Counted, traffic: Traffic) -> Outlook:
    step = plan.steps[0]
    each, basis = _output(step, traffic)
    entering = Range(count.bytes / SPARSE, count.bytes / DENSE + OVERHEAD * count.new)
    leaving = Range(each.low * count.new, each.high * count.new)
    paid = price_of(step, options)
    other = "online" if step.engine == "batch" else "batch"
    settings = step.settings
    return Outlook(
        name=plan.name,
        model=f"{step.terms.backend}/{step.terms.model}",
        engine=step.engine,
        simulated=simulated(step, options),
        rows=passed.rows,
        requests=passed.requests,
        new=count.new,
        answered=count.answered,
        failed_before=count.failed,
        pending=count.pending,
        refused=passed.refused,
        input_tokens=entering,
        output_tokens=leaving,
        cost=_estimate(entering, leaving, paid),
        elsewhere=Elsewhere(other, _estimate(entering, leaving, price_in(step, other, options)), TIMES[other])
        if count.new and step.engine != "vllm" and available(step, other)
        else None,
        basis=basis,
        outputs=plan.outputs,
        limits={
            "max_requests_per_minute": settings.max_requests_per_minute,
            "max_tokens_per_minute": settings.max_tokens_per_minute,
            "max_input_tokens_per_minute": settings.max_input_tokens_per_minute,
            "max_output_tokens_per_minute": settings.max_output_tokens_per_minute,
            "max_concurrent_requests": settings.max_concurrent_requests,
            "max_retries": settings.max_retries,
            "max_cost_usd": plan.limits.cost,
            "max_tokens": plan.limits.tokens,
            "max_time_seconds": plan.limits.seconds,
        },
        notes=tuple(_notes(plan, step, paid, count)),
    )


def _estimate(entering: Range, leaving: Range, paid: Price | None) -> Range | None:
    if paid is None:
        return None
    low, high = (cost(Usage(int(getattr(entering, end)), int(getattr(leaving, end))), paid) for end in ("low", "high"))
    return Range(low, high)


def _notes(plan: Plan, step: StepPlan, paid: Price | None, count: Counted) -> Iterator[str]:
    if volatile(plan.source):
        yield "the source may change: a run may read other rows"
    if count.failed:
        yield "what failed before for good is asked again only with --retry-failed"
    most = most_output(step)
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


def _output(step: StepPlan, traffic: Traffic) -> tuple[Range, str]:
    """Tokens of one answer, low to high, and where that comes from."""
    most = most_output(step)
    metered = traffic.replies - traffic.unmetered
    if metered:
        mean = traffic.usage.output / metered
        return Range(0.8 * mean, 1.2 * mean), f"the {metered:,} answers in the ledger"
    given = given_length(step)
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


def as_json(outlook: Outlook) -> bytes:
    return orjson.dumps(asdict(outlook), option=orjson.OPT_INDENT_2)


def as_text(outlook: Outlook) -> str:
    """For people, a line a fact."""
    stand = f"{outlook.new:,} new, {outlook.answered:,} already answered, {outlook.failed_before:,} failed before"
    if outlook.pending:
        stand += f", {outlook.pending:,} in open batches"
    simulated_text = " (simulated)" if outlook.simulated else ""
    lines = [
        f"{outlook.name}: {outlook.model}, engine {outlook.engine}{simulated_text}",
        f"rows        {outlook.rows:,}" + (f" ({outlook.refused:,} cannot be asked)" if outlook.refused else ""),
        f"requests    {outlook.requests:,}: {stand}",
        f"tokens      in {_span(outlook.input_tokens)}, out {_span(outlook.output_tokens)} ({outlook.basis})",
        f"cost        {_money(outlook.cost)}",
        *_compared(outlook),
        *(f"{label:<12}{text}" for label, text in (lines_of(outlook.workers) if outlook.workers else ())),
        f"limits      {_limits(outlook.limits)}",
        f"output      {', '.join(outlook.outputs)}",
        *(f"note        {note}" for note in outlook.notes),
    ]
    return "\n".join(lines) + "\n"


def _span(span: Range) -> str:
    return f"{span.low:,.0f}-{span.high:,.0f}" if span.high else "0"


def _compared(outlook: Outlook) -> Iterator[str]:
    if outlook.engine in TIMES:
        yield f"time        {TIMES[outlook.engine]}"
    if outlook.elsewhere is not None:
        other = outlook.elsewhere
        yield f"or          engine {other.engine}: {_money(other.cost)}, {other.time}"


def _money(span: Range | None) -> str:
    if span is None:
        return "unknown: no price is known for this model; give in_mtok_cost and out_mtok_cost"
    if not span.high:
        return "nothing"
    return f"{usd(span.low)}-{usd(span.high)}"


def _limits(limits: Mapping[str, float | str | None]) -> str:
    given = [
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:g}"
        for name, value in limits.items()
        if isinstance(value, int | float)
    ]
    return ", ".join(given) or "none"
