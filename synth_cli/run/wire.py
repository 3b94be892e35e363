"""Joins the rooms: the one place that knows which codec, judge, shaper and store a plan needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

from synth_cli.compile.inputs import Tally, count_rows, known_columns, volatile
from synth_cli.compile.inputs import read as read_input
from synth_cli.compile.lineage import Lineage
from synth_cli.compile.plan import Limits, Plan, StepPlan, Voice, leading_to
from synth_cli.compile.script import script
from synth_cli.core.budget import Worst
from synth_cli.core.cost import Price, worst_case
from synth_cli.core.ports import Task
from synth_cli.core.reply import Reply
from synth_cli.core.request import Message, Request
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Row
from synth_cli.core.state import Invalid
from synth_cli.core.work import HOPELESS, Rules
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
from synth_cli.run.local import ready
from synth_cli.run.once import Once
from synth_cli.run.options import RunOptions
from synth_cli.run.passage import Chain
from synth_cli.run.policy import Policy
from synth_cli.run.running import Running
from synth_cli.run.stage import EachStage, ModelStage, Stage, WholeStage
from synth_cli.steps import Each, Python
from synth_cli.steps import stage as step_stage
from synth_cli.stores.spool import Spool
from synth_cli.stores.worksheet import Worksheet

LENGTH_PARAMS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True)
class Wired:
    """The rooms of a job, joined."""

    chain: Chain
    columns: tuple[str, ...]
    """Columns that the output has even without a row, as far as they can be told."""
    total: int | None
    """Requests that the input makes, where counting its rows is cheap and one step asks them."""
    simple: bool
    """Whether all requests are known once the input has been read."""


def simulated(voice: Voice, options: RunOptions) -> bool:
    """Whether the simulated model answers, because the spec or the command line says so."""
    return options.simulate or voice.terms.backend == "simulator"


def all_simulated(plan: Plan, options: RunOptions) -> bool:
    """Whether no other model than the simulated one is asked."""
    voices = voices_of(plan)
    return options.simulate or (bool(voices) and all(simulated(voice, options) for voice in voices))


def voices_of(plan: Plan) -> tuple[Voice, ...]:
    """All models of a job, step by step."""
    return tuple(voice for step in plan.steps for voice in step.voices)


def place_of(step: StepPlan, voice: Voice, options: RunOptions) -> str:
    """Where batches go, without secrets: those of another provider or address are not looked for here.

    Where a step asks several models in batches, each has batches of its own.
    """
    own = voice.terms.model if sum(other.engine == "batch" for other in step.voices) > 1 else ""
    if simulated(voice, options):
        return " ".join(filter(None, ("simulator", own)))
    return " ".join(filter(None, (voice.terms.backend, voice.terms.endpoint, own)))


def endpoint(voice: Voice, environ: Mapping[str, str], simulator_url: str | None = None) -> Endpoint:
    """Where a model's requests go. Raises AuthError when a key is missing."""
    settings = voice.settings
    return resolve(
        voice.name,
        backend=voice.backend,
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
        for voice in step.voices:
            if voice.engine == "batch" and unsupported(voice.terms.backend):
                raise UsageError(unsupported(voice.terms.backend), hint="engine: online asks the same model")
            if simulated(voice, options):
                continue
            ready(step.name, voice, environ)
            if voice.engine != "vllm":
                endpoint(voice, environ)


@contextmanager
def wire(running: Running) -> Iterator[Wired]:
    """The rooms of the plan's steps, over a worksheet that lives as long as the run."""
    plan = running.plan
    with Worksheet(running.folder.worksheet_path) as worksheet:
        chain = chain_of(
            plan,
            running.options,
            running.ledger,
            worksheet,
            epoch=running.epoch,
            rows=lambda tally: rows_of(running, tally),
            spool=partial(running.state.spool, running.round),
        )
        yield Wired(chain, columns_of(plan), total_of(running), simple_of(plan))


def chain_of(
    plan: Plan,
    options: RunOptions,
    ledger: Any,
    worksheet: Worksheet,
    *,
    epoch: int,
    rows: Callable[[Tally], Iterator[Row]],
    spool: Callable[[bytes], Spool],
) -> Chain:
    """The steps that lead to the output. `rows` reads the input, given what counts its equal rows; `spool` says where
    a round's rows of this key are kept."""
    steps = {step.name: step for step in plan.steps}
    last = plan.steps[-1].name
    needed = leading_to(last, steps)
    final = frozenset(step.name for step in plan.steps if step.voices and not _asked_later(step.name, steps, needed))
    stages: dict[str, Stage] = {}
    lineage = Lineage(plan.steps)
    for name, step in steps.items():
        if not step.voices:
            stages[name] = own_stage(step, plan, lineage.ways(name), spool)
            continue
        stages[name] = ModelStage(
            plan=step,
            script=script(step, plan.folder),
            policies=tuple(policy_of(step, voice, options) for voice in step.voices),
            rules=tuple(rules_of(step, voice, plan, options) for voice in step.voices),
            shaper=shaper_of(
                step,
                plan,
                options,
                metadata=name in final and plan.loaded.spec.output.metadata,
                # rows of the last step are made once, others in each pass that comes by them
                kept_in=None if name == last and plan.target is None and step.step.on_failure != "stop" else worksheet,
            ),
            ledger=ledger,
            worksheet=worksheet,
            epoch=epoch,
            tallied=lineage.tallied(name),
            batches=any(voice.engine == "batch" for voice in voices_of(plan)),
            wanted=options.part,
            salt=lineage.salt(name),
            ways=lineage.ways(name),
        )
    return Chain(
        stages,
        last,
        source=lambda key: rows(partial(worksheet.tally, space=key)),
        worksheet=worksheet,
        scratch=worksheet.path.parent,
        wanted=options.part,
    )


def led_nowhere(plan: Plan) -> tuple[str, ...]:
    """What is said of steps that are not run."""
    return tuple(f"step '{name}' is not run: no step that leads to the output takes its rows" for name in plan.idle)


def _asked_later(name: str, steps: Mapping[str, StepPlan], needed: frozenset[str]) -> bool:
    """Whether another model sees the rows of this step."""
    return any(steps[other].voices and name in leading_to(other, steps) - {other} for other in needed)


def own_stage(
    step: StepPlan, plan: Plan, ways: frozenset[str], spool: Callable[[bytes], Spool]
) -> EachStage | WholeStage:
    """A step without a model."""
    made = step_stage(step.step, step.templates, seed=plan.seed, folder=plan.folder)
    if isinstance(made, Each):
        return EachStage(step, made, ways)
    if not isinstance(made, Python):
        return WholeStage(step, made, ways)
    function = step.name.encode() + b"\0" + made.digest
    return WholeStage(step, made, ways, lambda rows: spool(blake2b(function + rows, digest_size=8).digest()))


def columns_of(plan: Plan) -> tuple[str, ...]:
    """The columns of the output, as far as the spec says them."""
    if len(plan.steps) > 1:
        return ()
    step = plan.steps[0]
    found = output_columns(step.step, step.schema, known_columns(plan.source, folder=plan.folder))
    return tuple(sorted(found or ()))


def simple_of(plan: Plan) -> bool:
    return len(plan.steps) == 1 and not plan.steps[0].several and plan.target is None


def total_of(running: Running) -> int | None:
    plan = running.plan
    if not simple_of(plan) or running.options.only is not None:
        return None
    rows = count_rows(plan.source, folder=plan.folder)
    if rows is not None and running.options.shard is not None:
        rows = running.options.shard.share(rows)
    return None if rows is None else rows * plan.steps[0].samples


def policy_of(step: StepPlan, voice: Voice, options: RunOptions) -> Policy:
    response = step.step.response
    return Policy(
        max_retries=voice.settings.max_retries,
        retry_failed=options.retry_failed,
        judge=judge_of(step, voice, options),
        read=read,
        reask=feedback if response is not None and response.feedback else None,
    )


def judge_of(step: StepPlan, voice: Voice, options: RunOptions) -> Judge:
    own = step.step.model_copy(update={"backend_params": voice.settings})
    return Judge(own, step.templates, step.schema, price=price_of(voice, options))


def rules_of(step: StepPlan, voice: Voice, plan: Plan, options: RunOptions) -> Rules:
    """How requests to a model of a step are treated."""
    policy, settings = policy_of(step, voice, options), voice.settings
    paid, reask = price_of(voice, options), policy.reask

    def again(task: Task, reply: Reply, invalid: Invalid) -> tuple[Message, ...]:
        assert reask is not None
        return reask(task.request.messages, reply, invalid)

    return Rules(
        step=step.name,
        retry=RetryPolicy(settings.max_retries),
        judge=policy.judge,
        reask=None if reask is None else again,
        price=paid,
        worst=worst_of(voice, paid, plan.limits),
        stop_on_failure=step.step.on_failure == "stop",
        # batches are not asked so often that the first answers could tell, and whoever has a fallback may fail always
        hopeless_after=sys.maxsize
        if voice.engine == "batch" or (step.fallbacks and voice is not step.voices[step.fallbacks[-1]])
        else max(HOPELESS, 2 * (settings.max_concurrent_requests or 0)),
    )


def shaper_of(step: StepPlan, plan: Plan, options: RunOptions, *, metadata: bool, kept_in: Worksheet | None) -> Shaper:
    parse = load_parse(step.step.parse, plan.folder) if step.step.parse is not None else None
    if parse is not None and kept_in is not None:
        parse = Once(step.name, parse, kept_in)
    return Shaper(
        step.step,
        step.templates,
        step.schema,
        parse=parse,
        metadata=metadata,
        simulated=all_simulated(plan, options),
    )


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


def price_of(voice: Voice, options: RunOptions) -> Price | None:
    """USD per token on the model's own engine; what the simulated model answers costs nothing."""
    return price_in(voice, voice.engine, options)


def price_in(voice: Voice, engine: str, options: RunOptions) -> Price | None:
    """The same on another engine: batches have prices of their own."""
    if simulated(voice, options):
        return Price(0.0, 0.0)
    settings, terms = voice.settings, voice.terms
    if engine == "vllm":
        # one's own machines send no bill
        return stated(Price(0.0, 0.0), settings.in_mtok_cost, settings.out_mtok_cost)
    tokens = batch_price if engine == "batch" else price
    return tokens(terms.backend, terms.model, in_mtok=settings.in_mtok_cost, out_mtok=settings.out_mtok_cost)


def available(voice: Voice, engine: str) -> bool:
    """Whether the model's provider can be asked on this engine."""
    return engine != "batch" or not unsupported(voice.terms.backend)


def most_output(voice: Voice) -> int | None:
    """Most tokens of one answer: the spec's own limit, or the model's."""
    return given_length(voice) or max_output_tokens(voice.terms.backend, voice.terms.model)


def given_length(voice: Voice) -> int | None:
    """Most tokens of one answer as the spec says it."""
    return length_in(voice.terms.params) or voice.settings.max_tokens


def length_in(params: Mapping[str, Any]) -> int | None:
    """The length among sampling parameters; a fraction of a token is none."""
    given = (params.get(name) for name in LENGTH_PARAMS)
    return next((int(length) for length in given if isinstance(length, int | float) and length >= 1), None)


def worst_of(voice: Voice, paid: Price | None, limits: Limits) -> Worst | None:
    """The worst case of a request, where there is a budget to hold it against. Raises UsageError if it is unknown."""
    if limits.cost is None and limits.tokens is None:
        return None
    if limits.cost is not None and paid is None:
        raise UsageError(
            f"the price of {voice.title} is not known, so a cost budget cannot be kept",
            hint="give backend_params.in_mtok_cost and out_mtok_cost, in USD per million tokens",
        )
    most = most_output(voice)
    if most is None and limits.tokens is None and paid == Price(0.0, 0.0):
        # however long, it costs nothing
        most = 0
    if most is None:
        raise UsageError(
            f"nobody knows how long an answer of {voice.title} may be, so a budget cannot be kept",
            hint="give generation_params.max_tokens",
        )

    def worst(request: Request) -> tuple[float, int]:
        return worst_case(request.input_bytes, length_in(request.terms.params) or most, paid)

    return worst
