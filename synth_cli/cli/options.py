"""Arguments and options that several commands take, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

SpecFile: TypeAlias = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.", show_default=False)]
Sets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec, dotted.", show_default=False),
]
Profile: TypeAlias = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Use one of the spec's profiles.", show_default=False)
]
StateDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state-dir", metavar="DIR", help="Where state lives, instead of .synth/ beside the spec.", show_default=False
    ),
]
Simulate: TypeAlias = Annotated[
    bool, typer.Option("--simulate", help="Put the simulated model in the place of whatever the spec names.")
]
Part: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Only the i-th of n parts, which has a state of its own.", show_default=False
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Limit: TypeAlias = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=0, help="Only the first N input rows.", show_default=False)
]
