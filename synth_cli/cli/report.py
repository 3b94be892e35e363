"""`synth report`: the last run's report again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from synth_cli.cli.files import write
from synth_cli.cli.options import Json, Part, Profile, Sets, Simulate, SpecFile, StateDir
from synth_cli.errors import UsageError


def report(
    spec: SpecFile,
    sets: Sets = None,
    profile: Profile = None,
    simulate: Simulate = False,
    shard: Part = None,
    state_dir: StateDir = None,
    json: Json = False,
    md: Annotated[
        Path | None, typer.Option("--md", metavar="FILE", help="Write it as Markdown.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write it as HTML (not in this version yet).", show_default=False),
    ] = None,
) -> int:
    """Show the last run's report again."""
    if html is not None:
        raise UsageError("--html: not in this version yet")
    from synth_cli.report.markdown import markdown
    from synth_cli.run.options import RunOptions
    from synth_cli.run.sharding import parsed
    from synth_cli.run.show import last_report, show

    options = RunOptions(
        sets=tuple(sets or ()), profile=profile, simulate=simulate, state_dir=state_dir, shard=parsed(shard)
    )
    last = last_report(spec, options, environ=os.environ)
    if md is not None:
        write(md, markdown(last.report))
    if json:
        sys.stdout.buffer.write(last.json + b"\n")
    elif md is None:
        show(last.report)
    return 0
