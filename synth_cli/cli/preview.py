"""`synth preview`: the rendered messages and the request body of some rows."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from synth_cli.cli.options import Json, Profile, Sets, Simulate, SpecFile, StateDir


def preview(
    spec: SpecFile,
    rows: Annotated[int, typer.Option("-n", "--rows", metavar="N", min=1, help="How many rows.")] = 3,
    row: Annotated[
        int | None, typer.Option("--row", metavar="N", min=0, help="Only the row with this index.", show_default=False)
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Also ask the model and show the output rows.")] = False,
    sets: Sets = None,
    profile: Profile = None,
    simulate: Simulate = False,
    state_dir: StateDir = None,
    json: Json = False,
) -> int:
    """Show the requests of the first rows.

    The rendered messages and the body as it is sent. With --run the model is asked and the answers are kept.
    """
    from synth_cli.run.options import RunOptions
    from synth_cli.run.preview import as_json, as_text, look
    from synth_cli.run.show import display

    options = RunOptions(sets=tuple(sets or ()), profile=profile, simulate=simulate, state_dir=state_dir)
    shown = display(options, quiet=json)
    looks = look(spec, options, rows=rows, only=row, ask=run, environ=os.environ, display=shown)
    if json:
        sys.stdout.buffer.write(as_json(looks) + b"\n")
    else:
        sys.stdout.write(as_text(looks))
    return 1 if any(one.fault for one in looks) else 0
