"""Rows through one step without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synth_cli.core.row import Finished, Row
from synth_cli.spec.model import Step
from synth_cli.steps import Each, Whole, stage
from synth_cli.template import Templates


def row(position: int, **values: Any) -> Row:
    """A row whose id tells its position."""
    return Row(position, position.to_bytes(16, "big"), values)


def numbered(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [row(position, **values) for position, values in enumerate(rows)]


def made(keys: Mapping[str, Any], *, folder: Path = Path("/"), seed: int = 0) -> Each | Whole:
    """The step with these keys."""
    step = Step.model_validate({"name": "own", **keys})
    return stage(step, Templates(vars={"limit": 2}, seed=seed, step=step.name), seed=seed, folder=folder)


def whole(keys: Mapping[str, Any], *, folder: Path = Path("/"), seed: int = 0) -> Whole:
    step = made(keys, folder=folder, seed=seed)
    assert isinstance(step, Whole)
    assert not isinstance(step, Each)
    return step


def finished(keys: Mapping[str, Any], **values: Any) -> Finished:
    """What one row becomes in a step that takes one at a time."""
    step = made(keys)
    assert isinstance(step, Each)
    assert not isinstance(step, Whole)
    return step.finish(row(5, **values))
