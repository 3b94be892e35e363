"""Spec file → Plan: load, check, and everything wrong with it at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from synth_cli.compile.check import Rooms, problems
from synth_cli.compile.inputs.files import reads
from synth_cli.compile.local import Local
from synth_cli.compile.plan import Limits, Plan, absolute, plan
from synth_cli.engines.vllm.params import problems as local_params
from synth_cli.errors import Problem, SpecError, UsageError
from synth_cli.outputs.places import local_path
from synth_cli.outputs.sinks import suffix_of
from synth_cli.providers.resolve import provider_of
from synth_cli.responses.columns import collisions, output_columns
from synth_cli.responses.grammar import grammar_problem
from synth_cli.run.local import attention_heads, longest_context
from synth_cli.run.options import RunOptions
from synth_cli.run.sharding import sharded
from synth_cli.run.wire import price_of, voices_of, worst_of
from synth_cli.spec.backend import BackendParams
from synth_cli.spec.load import Loaded, in_order, inspect
from synth_cli.spec.model import SUFFIXES, Input
from synth_cli.spec.numbers import seconds


def rooms(environ: Mapping[str, str]) -> Rooms:
    """What the checks ask of others; `environ` says where models are kept."""

    def context(model: str, settings: BackendParams, folder: Path) -> int | None:
        return longest_context(model, settings, folder, environ)

    def heads(model: str, settings: BackendParams, folder: Path) -> int | None:
        return attention_heads(model, settings, folder, environ)

    return Rooms(provider_of, output_columns, collisions, grammar_problem, Local(local_params, context, heads))


def problems_of(
    path: Path, *, sets: Sequence[str], profile: str | None, environ: Mapping[str, str]
) -> Iterator[Problem]:
    """Every problem of a spec file: of its shape, of its meaning, and of what it would do."""
    loaded, found = _found(path, sets=sets, profile=profile, environ=environ)
    yield from found
    if not found and loaded is not None:
        made = plan(loaded, provider_of)
        yield from _overwriting(made)
        try:
            _budgeted(made, RunOptions())
        except UsageError as error:
            yield loaded.places.problem(("budget",), error.message, error.hint)


def _found(
    path: Path, *, sets: Sequence[str], profile: str | None, environ: Mapping[str, str]
) -> tuple[Loaded | None, tuple[Problem, ...]]:
    loaded, found = inspect(path, sets=sets, profile=profile, environ=environ)
    return loaded, found if loaded is None else in_order((*found, *problems(loaded, rooms(environ))), str(path))


def prepare(path: Path, options: RunOptions, environ: Mapping[str, str]) -> Plan:
    """The plan of a spec that can be run; raises `SpecError` with all that is wrong, or not in this version."""
    loaded, found = _found(path, sets=options.sets, profile=options.profile, environ=environ)
    if found or loaded is None:
        raise SpecError(found)
    made = _overridden(plan(_limited(loaded, options.limit), provider_of, simulate=options.simulate), options)
    made = sharded(made, options.shard, own_cost=options.max_cost is not None)
    overwriting = tuple(_overwriting(made))
    if overwriting:
        raise SpecError(overwriting)
    _budgeted(made, options)
    return made


def _overwriting(made: Plan) -> Iterator[Problem]:
    """An output in the place of the input would be the end of it; in a glob, the next run would read it."""
    if made.source is None or made.source.path is None:
        return
    for target in made.outputs:
        at = local_path(target, made.folder)
        if at is not None and reads(made.source.path, made.folder, at):
            yield made.loaded.places.problem(
                ("output", "path"),
                f"the output {os.path.relpath(at, made.folder)} is also what 'input.path' reads",
                "give the output another name",
            )


def _budgeted(made: Plan, options: RunOptions) -> None:
    """Raises UsageError for a budget that cannot be kept, because a price or a length is not known."""
    for voice in voices_of(made):
        worst_of(voice, price_of(voice, options), made.limits)


def _limited(loaded: Loaded, limit: int | None) -> Loaded:
    """`--limit` is one more `take`, behind the spec's own."""
    if limit is None:
        return loaded
    source = loaded.spec.input or Input()
    take = limit if source.take is None else min(limit, source.take)
    spec = loaded.spec.model_copy(update={"input": source.model_copy(update={"take": take})})
    return replace(loaded, spec=spec)


def _overridden(made: Plan, options: RunOptions) -> Plan:
    limits = made.limits
    if options.max_cost is not None:
        limits = Limits(options.max_cost, limits.tokens, limits.seconds)
    if options.max_time is not None:
        time = seconds(options.max_time)
        if time is None:
            raise UsageError(f"--max-time: '{options.max_time}' is no time", hint="write it like 90s, 30m, 5h or 1h30m")
        limits = Limits(limits.cost, limits.tokens, time)
    outputs = made.outputs
    if options.output is not None:
        # unlike a path in the spec, one on the command line is relative to where the user stands
        outputs = (absolute(options.output, Path.cwd()),)
        if suffix_of(options.output) is None:
            raise UsageError(
                f"--output {options.output}: the suffix says the format, and this is none",
                hint=f"end it with one of {', '.join(SUFFIXES)}",
            )
    return replace(made, limits=limits, outputs=outputs)
