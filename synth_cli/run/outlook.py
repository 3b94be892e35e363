"""What `synth plan` says, as values and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import orjson

from synth_cli.report.words import usd
from synth_cli.run.local import Workers
from synth_cli.run.local import lines as lines_of

TIMES = {
    "online": "as fast as the provider's limits allow",
    "batch": "within the provider's window, usually 24 hours and often much less",
}


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    high: float


NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The same requests on another engine. `time` in words: nobody promises more."""

    engine: str
    cost: Range | None
    time: str


@dataclass(frozen=True, slots=True)
class StepOutlook:
    """What a run would do in one step, for each of its models."""

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
    """Requests that hang on answers which are not there yet."""
    input_tokens: Range
    output_tokens: Range
    cost: Range | None
    stands_in: bool = False
    """It is a fallback: asked only what others failed."""


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
    coming: Range = NOTHING
    """Requests that hang on answers which are not there yet."""
    steps: tuple[StepOutlook, ...] = ()
    """Where there are several steps or models."""
    workers: tuple[Workers, ...] = ()
    """What would run models, where that is not somebody else's server."""


def as_json(outlook: Outlook) -> bytes:
    return orjson.dumps(asdict(outlook), option=orjson.OPT_INDENT_2)


def as_text(outlook: Outlook) -> str:
    """For people, a line a fact."""
    stand = f"{outlook.new:,} new, {outlook.answered:,} already answered, {outlook.failed_before:,} failed before"
    if outlook.pending:
        stand += f", {outlook.pending:,} in open batches"
    if outlook.coming.high:
        stand += f"; {_span(outlook.coming)} to come"
    basis = f" ({outlook.basis})" if outlook.basis else ""
    simulated_text = " (simulated)" if outlook.simulated else ""
    lines = [
        f"{outlook.name}: {outlook.model}, engine {outlook.engine}{simulated_text}",
        f"rows        {outlook.rows:,}" + (f" ({outlook.refused:,} cannot be asked)" if outlook.refused else ""),
        f"requests    {outlook.requests:,}: {stand}",
        f"tokens      in {_span(outlook.input_tokens)}, out {_span(outlook.output_tokens)}{basis}",
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
    cells = [
        (
            step.name,
            _asking(step),
            "cost unknown" if step.cost is None else _money(step.cost),
            f"{step.model}, {step.engine}",
        )
        for step in outlook.steps
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "step        " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _asking(step: StepOutlook) -> str:
    """The requests of a step's model in words, only what there is."""
    counts = (
        (step.new, "new"),
        (step.answered, "answered"),
        (step.failed_before, "failed before"),
        (step.pending, "in open batches"),
    )
    said = [f"{count:,} {what}" for count, what in counts if count]
    if step.coming.high:
        said.append(f"{_span(step.coming)} to come")
    return ", ".join(said) or ("only what others fail" if step.stands_in else "nothing to ask")


def _span(span: Range) -> str:
    if f"{span.low:,.0f}" == f"{span.high:,.0f}":
        return f"{span.high:,.0f}"
    return f"{span.low:,.0f}-{span.high:,.0f}"


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
        f"{name} {value if isinstance(value, str) else plainly(value)}"
        for name, value in limits.items()
        if value is not None
    ]
    return ", ".join(given) or "none"


def plainly(value: float) -> str:
    """A number without a fraction that says nothing."""
    return f"{int(value):,}" if value == int(value) else f"{value:,}"
