"""Spec file → Plan: load, check, and everything wrong with it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from synth_cli.compile.check import Rooms, problems
from synth_cli.compile.plan import Limits, Plan, absolute, plan, unsupported
from synth_cli.errors import Problem, SpecError, UsageError
from synth_cli.providers.resolve import provider_of
from synth_cli.responses.columns import collisions, output_columns
from synth_cli.run.options import RunOptions
from synth_cli.spec.load import Loaded, inspect, load
from synth_cli.spec.model import Input
from synth_cli.spec.numbers import seconds

ROOMS = Rooms(provider_of, output_columns, collisions)


def problems_of(
    path: Path, *, sets: Sequence[str], profile: str | None, environ: Mapping[str, str]
) -> Iterator[Problem]:
    """Every problem of a spec file, of its shape and of its meaning."""
    loaded, found = inspect(path, sets=sets, profile=profile, environ=environ)
    yield from found
    if loaded is not None:
        yield from problems(loaded, ROOMS)


def prepare(path: Path, options: RunOptions, environ: Mapping[str, str]) -> Plan:
    """The plan of a spec that can be run; raises `SpecError` with all that is wrong, or not in this version."""
    found = tuple(problems_of(path, sets=options.sets, profile=options.profile, environ=environ))
    if found:
        raise SpecError(found)
    loaded = load(path, sets=options.sets, profile=options.profile, environ=environ)
    later = tuple(unsupported(loaded))
    if later:
        raise SpecError(later)
    return _overridden(plan(_limited(loaded, options.limit), provider_of, simulate=options.simulate), options)


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
    return replace(made, limits=limits, outputs=outputs)
