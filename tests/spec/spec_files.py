"""Specs written to a folder for one test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from synth_cli.errors import SpecError
from synth_cli.spec.load import Loaded, load

SMALL = "model: simulator\nprompt: hi\n"


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes the files and gives the first one's path."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / next(iter(files))


def loaded(
    folder: Path,
    text: str,
    *,
    sets: Sequence[str] = (),
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    **others: str,
) -> Loaded:
    """Loads `text` as job.yaml; `others` are files beside it, `base_yaml` is base.yaml."""
    files = {"job.yaml": text, **{name.replace("__", "/").replace("_", "."): body for name, body in others.items()}}
    return load(write(folder, files), sets=sets, profile=profile, environ=environ or {})


def problems(
    folder: Path,
    text: str,
    *,
    sets: Sequence[str] = (),
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    **others: str,
) -> list[str]:
    """The problems as they are printed, without the folder's name."""
    try:
        loaded(folder, text, sets=sets, profile=profile, environ=environ, **others)
    except SpecError as error:
        return [str(problem).replace(f"{folder}/", "") for problem in error.problems]
    return []
