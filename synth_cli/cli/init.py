"""`synth init`: a commented starter spec, or a recipe to start from."""

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
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Of the job and the file; default: dataset, or the recipe's name."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="Start from this recipe, with the data it reads.")
    ] = None,
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", help="Print the recipes, one a line, and write nothing.")
    ] = False,
) -> int:
    """Write a commented starter spec, or a copy of a recipe.

    The starter runs as it is, on the simulated model; so does a recipe with `synth run --simulate`.
    """
    from synth_cli.run.starter import listing, recipes, starter
    from synth_cli.run.starter import recipe as recipe_of

    if list_recipes:
        print(*listing(recipes()), sep="\n")
        return 0
    chosen = None if recipe is None else recipe_of(recipe)
    path = _path(name or recipe or "dataset")
    spec = starter(path.stem) if chosen is None else chosen.named(path.stem)
    _refuse_to_replace(path, "" if chosen is None else f" --recipe {chosen.name}")
    beside = {} if chosen is None else {path.parent / place: content for place, content in chosen.files.items()}
    for place, content in beside.items():
        # it may be there from another job of the same recipe
        if place.exists() and not (place.is_file() and place.read_bytes() == content):
            raise UsageError(
                f"{place} exists already", hint="move it, or choose another folder: synth init folder/name"
            )
    for place, content in beside.items():
        write(place, content.decode())
    write(path, spec)
    wrote = " and ".join(map(str, (path, *beside)))
    simulate = "" if chosen is None else " --simulate"
    print(f"wrote {wrote}; next: synth run {shlex.quote(str(path))}{simulate}", file=sys.stderr)
    return 0


def _refuse_to_replace(path: Path, options: str) -> None:
    # a name that is too long for a file is for the writing to say
    if os.path.exists(path):
        name = shlex.quote(f"{path.with_suffix('')}-2")
        raise UsageError(f"{path} exists already", hint=f"choose another name: synth init {name}{options}")


def _path(name: str) -> Path:
    from synth_cli.spec.model import NAME

    path = Path(f"{name.removesuffix('.yaml').removesuffix('.yml')}.yaml")
    if not re.fullmatch(NAME, path.stem):
        raise UsageError(
            f"'{path.stem}' cannot be a job's name", hint="it may have only letters, digits, '_', '-' and '.'"
        )
    return path
