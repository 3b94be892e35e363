"""`synth plan`: the same plan that a run executes, counted and priced instead. No call is made."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from synth_cli.compile.inputs import volatile
from synth_cli.compile.plan import INPUT, Plan, Voice
from synth_cli.core.cost import Price, cost, worst_case
from synth_cli.core.figures import Traffic
from synth_cli.core.reply import Usage
from synth_cli.core.row import Finished, Row, Sampled
from synth_cli.report.words import usd
from synth_cli.run.local import Workers, workers_of
from synth_cli.run.local import lines as lines_of
from synth_cli.run.opening import epoch_of, state_of
from synth_cli.run.options import RunOptions
from synth_cli.run.passage import Chain
from synth_cli.run.prepare import prepare
from synth_cli.run.stage import EachStage, ModelStage, Open, Seen, Stage, WholeStage
from synth_cli.run.wire import (
    all_simulated,
    available,
    chain_of,
    given_length,
    idle,
    input_rows,
    most_output,
    price_in,
    price_of,
    simulated,
    voices_of,
)
from synth_cli.spec.backend import BackendParams
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


UNKNOWN = Range(50, 1000)
"""Tokens of a request that cannot be made yet."""
FAN_OUT = 10
"""Rows that an answer may become where `each` makes several of it: a guess."""


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
class StepOutlook:
    """What a run would do in one step, for each of its models. `coming`: rows that earlier steps may bring yet."""

    name: str
    model: str
    engine: str
    rows: int
    requests: int
    new: int
    answered: int
    failed_before: int
    pending: int
    coming: Range
    input_tokens: Range
    output_tokens: Range
    cost: Range | None


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
    steps: tuple[StepOutlook, ...] = ()
    """Where there are several steps or models."""
    workers: tuple[Workers, ...] = ()
    """What would run models, where that is not somebody else's server."""


class Counting:
    """A `Visitor` that counts what is left to ask, for each step and model."""

    asking = True

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.rows = 0
        self.refused = 0
        self.counted: dict[tuple[str, int], Counted] = {}
        self.arrived: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        """Samples that each step has still to answer."""

    def read(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)

    def gap(self, stage: WholeStage) -> bool:
        return False

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None:
        self.arrived[stage.name] += 1

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        self.arrived[stage.name] += rows

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        self.arrived[stage.name] += 1
        if seen.refused is not None:
            self.refused += 1
        else:
            for place, one in enumerate(seen.samples):
                self._count(stage, place, one)
        if seen.open:
            return None
        samples = [one for one in seen.samples if isinstance(one, Sampled)]
        return stage.shaper.finish(seen.row, samples) if self._chain.readers(stage.name) else Finished()

    def _count(self, stage: ModelStage, place: int, one: Sampled | Open) -> None:
        voice = one.draft.voice if isinstance(one, Open) else stage.plan.members[place]
        count = self.counted.setdefault((stage.name, voice), Counted())
        if isinstance(one, Sampled):
            count.answered += one.cause is None
            count.failed += one.cause is not None
        elif one.pending:
            count.pending += 1
        else:
            self.missing[stage.name] += 1
            count.new += 1
            count.bytes += one.request.input_bytes
            count.largest = max(count.largest, one.request.input_bytes)


def explain(path: Path, options: RunOptions, *, environ: Mapping[str, str]) -> Outlook:
    """Reads the input, drafts every request and looks each up in the ledger; nothing is asked and nothing written."""
    plan = prepare(path, options, environ)
    with known(plan, options) as (ledger, epoch), scratch(plan) as worksheet:
        chain = chain_of(plan, options, ledger, worksheet, epoch=epoch, rows=lambda tally: input_rows(plan, tally))
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
    steps, bases = [], []
    for stage in chain.stages.values():
        if isinstance(stage, ModelStage):
            coming = _coming(chain, stage, counting)
            for place, voice in enumerate(stage.plan.voices):
                each, basis = _output(voice, traffic[stage.name])
                steps.append(_step(stage, place, counting, options, coming=coming, each=each))
                bases.append(basis)
    single = len(steps) == 1
    costs = [step.cost for step in steps]
    total = Counted(*(sum(getattr(step, key) for step in steps) for key in ("new", "answered", "failed_before")))
    total.pending = sum(step.pending for step in steps)
    total.largest = max((count.largest for count in counting.counted.values()), default=0)
    settings = voices[0].settings if voices else BackendParams()
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
        basis="; ".join(dict.fromkeys(bases)),
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
        notes=tuple(_notes(plan, voices, options, total, steps)),
        steps=() if single else tuple(steps),
    )


def _step(
    stage: ModelStage, place: int, counting: Counting, options: RunOptions, *, coming: Range, each: Range
) -> StepOutlook:
    voice = stage.plan.voices[place]
    count = counting.counted.get((stage.name, place), Counted())
    share = stage.plan.members.count(place)
    coming = Range(coming.low * share, coming.high * share)
    entering = Range(
        count.bytes / SPARSE + UNKNOWN.low * coming.low,
        count.bytes / DENSE + OVERHEAD * count.new + UNKNOWN.high * coming.high,
    )
    leaving = Range(each.low * (count.new + coming.low), each.high * (count.new + coming.high))
    return StepOutlook(
        name=stage.name,
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


def _coming(chain: Chain, stage: Stage, counting: Counting) -> Range:
    """Rows that may come to a step when what is missing before it is there: nobody knows how many."""
    low = high = 0.0
    for source in stage.plan.sources:
        if source == INPUT:
            continue
        before = chain.stages[source]
        more = _coming(chain, before, counting)
        step = before.plan.step
        missing = counting.missing[source]
        samples = 1 if step.group_samples else before.plan.samples or 1
        least = (missing + more.low * samples) if step.keep_if is None and step.type in ("llm", "map") else 0.0
        most = (missing + more.high * samples) * (FAN_OUT if step.each is not None else 1)
        low, high = low + (0.0 if step.each is not None else least), high + most
    return Range(low, high)


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


def _notes(
    plan: Plan, voices: Sequence[Voice], options: RunOptions, count: Counted, steps: Sequence[StepOutlook]
) -> Iterator[str]:
    yield from idle(plan)
    if volatile(plan.source):
        yield "the source may change: a run may read other rows"
    if plan.target is not None:
        most = "as many as there are" if plan.target.candidates is None else f"at most {plan.target.candidates:,}"
        yield f"inputs are drawn until {plan.target.rows:,} rows came through, {most}; the first are counted here"
    if count.failed:
        yield "what failed before for good is asked again only with --retry-failed"
    if any(step.coming.high for step in steps):
        yield "how many rows the later steps get is a guess until the answers before them are there"
    if len(steps) == 1:
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
        f"limits      {_limits(outlook.limits)}",
        *_by_step(outlook),
        *(f"{label:<12}{text}" for workers in outlook.workers for label, text in lines_of(workers)),
        f"output      {', '.join(outlook.outputs)}",
        *(f"note        {note}" for note in outlook.notes),
    ]
    return "\n".join(lines) + "\n"


def _by_step(outlook: Outlook) -> Iterator[str]:
    for step in outlook.steps:
        known = f"{step.requests:,} known ({step.new:,} new, {step.answered:,} answered, {step.failed_before:,} failed)"
        coming = f", {_span(step.coming)} to come" if step.coming.high else ""
        pending = f", {step.pending:,} in open batches" if step.pending else ""
        requests = f"requests {known}{pending}{coming}"
        yield f"step        {step.name}: {step.model}, {step.engine}; {requests}; {_money(step.cost)}"


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
