"""The commands that messages tell people to give next."""

from __future__ import annotations

import shlex
from pathlib import Path

from synth_cli.compile.plan import Plan
from synth_cli.run.options import RunOptions
from synth_cli.spec.secrets import hidden


def again(plan: Plan, options: RunOptions) -> str:
    """What to do next when a run did not come to its end."""
    return f"run again to go on: {command('run', plan, options)}"


def command(verb: str, plan: Plan, options: RunOptions) -> str:
    """`synth VERB SPEC` for the same job; `run` with all that this one was told."""
    said: list[str] = []
    for text in options.sets:
        said += ["--set", hidden(text, plan.loaded.secrets)]
    said += _given("--profile", options.profile)
    said += ["--simulate"] if options.simulate else []
    said += _given("--state-dir", options.state_dir)
    said += _given("--shard", options.shard)
    if verb == "run":
        said += _given("--limit", options.limit) + _given("--output", options.output)
        said += _given("--max-cost", options.max_cost) + _given("--max-time", options.max_time)
        flags = ("no_wait", "fresh", "retry_failed")
        said += [f"--{flag.replace('_', '-')}" for flag in flags if getattr(options, flag)]
    return shlex.join(["synth", verb, _place(plan.loaded.path), *said])


def _given(option: str, value: object) -> list[str]:
    return [] if value is None else [option, f"{value:g}" if isinstance(value, float) else str(value)]


def _place(path: Path) -> str:
    """As short as it is found from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)
