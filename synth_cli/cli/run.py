"""`synth run`: advances a job as far as it can."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from synth_cli.cli.boundary import say
from synth_cli.cli.options import Json, Limit, Part, Profile, Sets, Simulate, SpecFile, StateDir


def run(
    spec: SpecFile,
    sets: Sets = None,
    profile: Profile = None,
    limit: Limit = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="PATH", help="Write here instead.", show_default=False)
    ] = None,
    simulate: Simulate = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Advance once; with batches still open, exit 75 instead of waiting.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask everything anew, once the last epoch is complete.")
    ] = False,
    no_calls: Annotated[bool, typer.Option("--no-calls", help="Publish what is answered, ask nothing.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again also what failed for good (400, content filter).")
    ] = False,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost", metavar="USD", min=0, help="Budget of the round, over the spec's.", show_default=False
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option("--max-time", metavar="TIME", help="For this run: 90s, 30m, 5h.", show_default=False),
    ] = None,
    shard: Part = None,
    state_dir: StateDir = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
) -> int:
    """Advance the job as far as it can.

    Running it again continues where it stopped, and never pays twice.
    """
    from synth_cli.run.job import run_job
    from synth_cli.run.options import RunOptions
    from synth_cli.run.sharding import parsed
    from synth_cli.run.show import display, show

    options = RunOptions(
        sets=tuple(sets or ()),
        profile=profile,
        limit=limit,
        output=output,
        simulate=simulate,
        fresh=fresh,
        no_calls=no_calls,
        no_wait=no_wait,
        retry_failed=retry_failed,
        max_cost=max_cost,
        max_time=max_time,
        state_dir=state_dir,
        shard=parsed(shard),
    )
    ended = run_job(spec, options, environ=os.environ, display=display(options, quiet=quiet))
    if json:
        sys.stdout.buffer.write(ended.json + b"\n")
    if not quiet:
        show(ended.report)
    elif ended.error is not None:
        # else the report has said it
        say(ended.error)
    return 0 if ended.error is None else ended.error.exit_code
