"""`synth validate`: every problem of the specs, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from synth_cli.cli.options import Profile, Sets


def validate(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="The specs, YAML files.")],
    sets: Sets = None,
    profile: Profile = None,
) -> int:
    """Name every problem of the specs.

    Each with file, line and column. Nothing is asked, no network is used.
    """
    from synth_cli.run.prepare import problems_of

    found = [
        problem for path in specs for problem in problems_of(path, sets=sets or (), profile=profile, environ=os.environ)
    ]
    for problem in found:
        print(problem, file=sys.stderr)
    return 2 if found else 0
