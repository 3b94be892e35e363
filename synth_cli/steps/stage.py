"""A step without a model as something that rows go through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, assert_never, runtime_checkable

from synth_cli.core.row import Finished, Row
from synth_cli.spec.model import Step
from synth_cli.steps.dedup import Exact
from synth_cli.steps.group import Group
from synth_cli.steps.mapping import Map
from synth_cli.steps.minhash import Near
from synth_cli.steps.python import Python
from synth_cli.steps.sampling import Sample
from synth_cli.template import Templates


@runtime_checkable
class Each(Protocol):
    """`map` and `sample`: one row at a time."""

    def finish(self, row: Row) -> Finished:
        """What the row becomes; an error in `columns`, `each` or `keep_if` is a failure of its sample 0."""
        ...


@runtime_checkable
class Whole(Protocol):
    """`dedup`, `group` and `python`: they need the rows of the step before in their order.

    `dedup` and `python` give rows while they take them, `group` only once it has taken all.
    """

    def rows(self, rows: Iterator[Row], scratch: Path) -> Iterator[Row]:
        """One pass. `scratch` is an empty folder of its own, for what does not fit into memory."""
        ...

    @property
    def left_out(self) -> int:
        """Rows that the latest pass dropped; final once it is exhausted."""
        ...


def stage(step: Step, templates: Templates, *, seed: int, folder: Path) -> Each | Whole:
    """The step, ready for rows. `folder` is the spec's; the function of a python step is imported here.

    Raises UsageError for a function that cannot be had, TemplateSyntaxError for a wrong template.
    """
    match step.type:
        case "map":
            return Map(step, templates)
        case "sample":
            return Sample(step, templates, seed)
        case "dedup" if step.method == "minhash":
            return Near(step, seed)
        case "dedup":
            return Exact(step)
        case "group":
            return Group(step)
        case "python":
            return Python(step, folder)
        case "llm":
            raise ValueError(f"step '{step.name}' asks a model")
    assert_never(step.type)
