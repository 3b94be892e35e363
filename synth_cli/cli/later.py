"""Commands whose names are fixed and whose work comes with a later version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synth_cli.errors import UsageError


def _later(what: str) -> int:
    raise UsageError(f"{what}: not in this version yet")


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="An output file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
) -> int:
    """Compare two outputs (not yet)."""
    return _later(f"diff {a} {b}")
