"""`synth merge`: the outputs of shards become one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def merge(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The file to write; its suffix says the format.")],
    parts: Annotated[list[str], typer.Argument(metavar="PART...", help="The outputs of all shards, in any order.")],
) -> int:
    """Join the outputs of sharded runs, in input order.

    The file appears whole, or not at all where a shard is missing or there twice.
    """
    from synth_cli.report.words import counted
    from synth_cli.run.merging import merge as join

    merged = join(out, parts)
    print(f"{out}: {counted(merged.rows, 'row')} of {counted(merged.shards, 'shard')}", file=sys.stderr)
    return 0
