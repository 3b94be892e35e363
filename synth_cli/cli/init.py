"""`synth init`: a commented starter spec."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from synth_cli.cli.files import write
from synth_cli.errors import UsageError


def init(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of the job and the file.")] = "dataset",
) -> int:
    """Write a commented starter spec.

    It runs as it is, on the simulated model.
    """
    from synth_cli.run.starter import starter
    from synth_cli.spec.model import NAME

    stem = name.removesuffix(".yaml").removesuffix(".yml")
    path = Path(f"{stem}.yaml")
    if not re.fullmatch(NAME, path.stem):
        raise UsageError(
            f"'{path.stem}' cannot be a job's name", hint="it may have only letters, digits, '_', '-' and '.'"
        )
    if os.path.exists(path):
        raise UsageError(f"{path} exists already", hint=f"choose another name: synth init {shlex.quote(stem)}-2")
    write(path, starter(path.stem))
    print(f"wrote {path}; next: synth run {shlex.quote(str(path))}", file=sys.stderr)
    return 0
