"""`synth init`: a commented starter spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from synth_cli.errors import UsageError


def init(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of the job and the file.")] = "dataset",
) -> int:
    """Write a commented starter spec.

    It runs as it is, on the simulated model.
    """
    from synth_cli.run.starter import starter

    stem = name.removesuffix(".yaml").removesuffix(".yml")
    path = Path(f"{stem}.yaml")
    if path.exists():
        raise UsageError(f"{path} exists already", hint=f"choose another name: synth init {stem}-2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(starter(path.stem), encoding="utf-8")
    print(f"wrote {path}; next: synth run {path}", file=sys.stderr)
    return 0
