"""Joins the rooms: the one place that knows which codec, judge, shaper and store a plan needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from synth_cli.compile.inputs import Tally, count_rows, known_columns, volatile
from synth_cli.compile.inputs import read as read_input
from synth_cli.compile.plan import Limits, Plan, StepPlan, backend_of, model_of
from synth_cli.compile.requests import Drafter
from synth_cli.core.budget import Worst
from synth_cli.core.cost import Price, worst_case
from synth_cli.core.request import Request
from synth_cli.core.row import Row
from synth_cli.errors import UsageError
from synth_cli.providers.batches import unsupported
from synth_cli.providers.batches.discounts import batch_price
from synth_cli.providers.clients import read
from synth_cli.providers.prices import max_output_tokens, price, stated
from synth_cli.providers.resolve import Endpoint, resolve
from synth_cli.responses.columns import output_columns
from synth_cli.responses.feedback import feedback
from synth_cli.responses.judge import Judge
from synth_cli.responses.parse import load_parse
from synth_cli.responses.shape import Shaper
from synth_cli.run.feed import Feed, Passed, Policy
from synth_cli.run.finish import Second
from synth_cli.run.local import ready
from synth_cli.run.options import RunOptions
from synth_cli.run.running import Running
from synth_cli.stores.worksheet import Worksheet

LENGTH_PARAMS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass
class Wired:
    """The rooms of one step, joined. Not frozen: it remembers how far its latest feed has come."""

    plan: StepPlan
    policy: Policy
    feeds: Callable[[], Feed]
    second: Second
    price: Price | None
    worst: Worst | None
    columns: tuple[str, ...]
    """Columns that the output has even without a row, as far as they can be told."""
    total: int | None
    """Requests that the input makes, where counting its rows is cheap."""
    passed: Passed = field(default_factory=Passed)

    def feed(self) -> Feed:
        """A pass over the input from its beginning, on a worksheet that is empty again."""
        feed = self.feeds()
        self.passed = feed.passed
        return feed


def simulated(plan: StepPlan, options: RunOptions) -> bool:
    """Whether the simulated model answers, because the spec or the command line says so."""
    return options.simulate or plan.terms.backend == "simulator"


def place_of(plan: StepPlan, options: RunOptions) -> str:
    """Where batches go, without secrets: those of another provider or address are not looked for here."""
    if simulated(plan, options):
        return "simulator"
    return " ".join(filter(None, (plan.terms.backend, plan.terms.endpoint)))


def endpoint(plan: StepPlan, environ: Mapping[str, str], simulator_url: str | None = None) -> Endpoint:
    """Where the step's requests go. Raises AuthError when a key is missing."""
    model, settings = model_of(plan.step), plan.settings
    return resolve(
        model.name,
        backend=backend_of(plan.step, model),
        base_url=settings.base_url,
        api_key=settings.api_key,
        headers=settings.headers,
        timeout=settings.request_timeout,
        stream=settings.stream,
        environ=environ,
        simulated_url=simulator_url,
    )


def reachable(plan: Plan, options: RunOptions, environ: Mapping[str, str]) -> None:
    """Finds a missing key, package or GPU before anything is opened or written."""
    for step in plan.steps:
        if step.engine == "batch" and unsupported(step.terms.backend):
            raise UsageError(unsupported(step.terms.backend), hint="engine: online asks the same model")
        if simulated(step, options):
            continue
        ready(step, environ)
        if step.engine != "vllm":
            endpoint(step, environ)


@contextmanager
def wire(running: Running) -> Iterator[Wired]:
    """The rooms of the plan's step, over a worksheet that lives as long as the run."""
    plan, step = running.plan, running.plan.steps[0]
    with Worksheet(running.folder.worksheet_path) as worksheet:
        policy = policy_of(step, running.epoch, running.options)
        drafter = Drafter(step, plan.folder)
        paid = price_of(step, running.options)

        def feed() -> Feed:
            worksheet.clear()
            return Feed(
                step.name,
                rows_of(running, worksheet.tally),
                drafter=drafter,
                worksheet=worksheet,
                ledger=running.ledger,
                policy=policy,
                only=running.options.part,
            )

        yield Wired(
            plan=step,
            policy=policy,
            feeds=feed,
            second=second_of(running, step, drafter, policy, worksheet),
            price=paid,
            worst=worst_of(step, paid, plan.limits),
            columns=columns_of(step, plan),
            total=total_of(step, running),
        )


def columns_of(step: StepPlan, plan: Plan) -> tuple[str, ...]:
    found = output_columns(step.step, step.schema, known_columns(plan.source, folder=plan.folder))
    return tuple(sorted(found or ()))


def total_of(step: StepPlan, running: Running) -> int | None:
    plan = running.plan
    rows = None if running.options.only is not None else count_rows(plan.source, folder=plan.folder)
    if rows is not None and running.options.shard is not None:
        rows = running.options.shard.share(rows)
    return None if rows is None else rows * step.step.samples


def policy_of(step: StepPlan, epoch: int, options: RunOptions) -> Policy:
    response = step.step.response
    return Policy(
        max_retries=step.settings.max_retries,
        retry_failed=options.retry_failed,
        epoch=epoch,
        judge=Judge(step.step, step.templates, step.schema, price=price_of(step, options)),
        read=read,
        reask=feedback if response is not None and response.feedback else None,
        stop_on_failure=step.step.on_failure == "stop",
        batches=step.engine == "batch",
    )


def second_of(running: Running, step: StepPlan, drafter: Drafter, policy: Policy, worksheet: Worksheet) -> Second:
    plan = running.plan
    metadata = plan.loaded.spec.output.metadata
    parse = load_parse(step.step.parse, plan.folder) if step.step.parse is not None else None
    shaper = Shaper(
        step.step,
        step.templates,
        step.schema,
        parse=parse,
        metadata=metadata,
        simulated=simulated(step, running.options),
    )
    return Second(step.name, drafter, shaper, policy, worksheet, running.ledger, shaper.needs_messages, running.started)


def input_rows(plan: Plan, tally: Tally) -> Iterator[Row]:
    """The input's rows as they are now."""
    return read_input(plan.source, folder=plan.folder, seed=plan.seed, templates=plan.templates, tally=tally)


def rows_of(running: Running, tally: Tally) -> Iterator[Row]:
    """The input's rows; of a source that may change between two readings, those that the round began with."""
    rows = input_rows(running.plan, tally)
    if volatile(running.plan.source):
        spool = running.state.spool(running.round, running.source_key)
        if not spool.complete:
            spool.write(rows)
        rows = spool.rows()
    return rows if running.options.only is None else until(rows, running.options.only)


def until(rows: Iterator[Row], index: int) -> Iterator[Row]:
    """Rows up to and with the one of this index: those before it decide which of its equals it is."""
    for row in rows:
        yield row
        if row.index == index:
            return


def price_of(step: StepPlan, options: RunOptions) -> Price | None:
    """USD per token on the step's own engine; what the simulated model answers costs nothing."""
    return price_in(step, step.engine, options)


def price_in(step: StepPlan, engine: str, options: RunOptions) -> Price | None:
    """The same on another engine: batches have prices of their own."""
    if simulated(step, options):
        return Price(0.0, 0.0)
    settings, terms = step.settings, step.terms
    if engine == "vllm":
        # one's own machines send no bill
        return stated(Price(0.0, 0.0), settings.in_mtok_cost, settings.out_mtok_cost)
    tokens = batch_price if engine == "batch" else price
    return tokens(terms.backend, terms.model, in_mtok=settings.in_mtok_cost, out_mtok=settings.out_mtok_cost)


def available(step: StepPlan, engine: str) -> bool:
    """Whether the step's provider can be asked on this engine."""
    return engine != "batch" or not unsupported(step.terms.backend)


def most_output(step: StepPlan) -> int | None:
    """Most tokens of one answer: the spec's own limit, or the model's."""
    return given_length(step) or max_output_tokens(step.terms.backend, step.terms.model)


def given_length(step: StepPlan) -> int | None:
    """Most tokens of one answer as the spec says it."""
    return length_in(step.terms.params) or step.settings.max_tokens


def length_in(params: Mapping[str, Any]) -> int | None:
    """The length among sampling parameters; a fraction of a token is none."""
    given = (params.get(name) for name in LENGTH_PARAMS)
    return next((int(length) for length in given if isinstance(length, int | float) and length >= 1), None)


def worst_of(step: StepPlan, paid: Price | None, limits: Limits) -> Worst | None:
    """The worst case of a request, where there is a budget to hold it against. Raises UsageError if it is unknown."""
    if limits.cost is None and limits.tokens is None:
        return None
    model = f"{step.terms.backend}/{step.terms.model}"
    if limits.cost is not None and paid is None:
        raise UsageError(
            f"the price of {model} is not known, so a cost budget cannot be kept",
            hint="give backend_params.in_mtok_cost and out_mtok_cost, in USD per million tokens",
        )
    most = most_output(step)
    if most is None and limits.tokens is None and paid == Price(0.0, 0.0):
        # however long, it costs nothing
        most = 0
    if most is None:
        raise UsageError(
            f"nobody knows how long an answer of {model} may be, so a budget cannot be kept",
            hint="give generation_params.max_tokens",
        )

    def worst(request: Request) -> tuple[float, int]:
        return worst_case(request.input_bytes, length_in(request.terms.params) or most, paid)

    return worst
