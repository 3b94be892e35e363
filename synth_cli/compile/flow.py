"""Which columns the rows have on their way through the steps, as far as that can be told without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synth_cli.spec.model import OVERRIDE, Step

INPUT = "input"
"""What `from` calls the rows of the input."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Of the rows that reach a step, or leave it."""

    every: frozenset[str] | None = None
    """Those that every row has; None: only the rows can tell."""
    some: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A column that only some rows have → the steps whose rows lack it."""

    def after(self, step: Step, made: frozenset[str] | None) -> Columns:
        """What leaves the step, given the columns that it makes or carries of those in `every`."""
        if step.type == "python":
            return Columns()
        if step.type == "dedup":
            return self
        if step.type == "group":
            return self if OVERRIDE in _names(step.by) else self._without(OVERRIDE)
        if made is None:
            return Columns()
        some = {name: lacking for name, lacking in self.some.items() if name not in made}
        return Columns(made, some if step.carry is True else {})

    def _without(self, column: str) -> Columns:
        some = {name: lacking for name, lacking in self.some.items() if name != column}
        return Columns(None if self.every is None else self.every - {column}, some)


def joined(sources: Sequence[tuple[str, Columns]]) -> Columns:
    """(step, its columns) of each source, end to end. What one source is known to lack, some rows lack."""
    if len(sources) == 1:
        return sources[0][1]
    told = {name: columns for name, columns in sources if columns.every is not None}
    if not told:
        return Columns()
    every = frozenset.intersection(*(columns.every for columns in told.values() if columns.every is not None))
    others = dict.fromkeys(name for columns in told.values() for name in (*(columns.every or ()), *columns.some))
    some = {name: _lacking(name, told) for name in sorted(others) if name not in every}
    return Columns(every, some)


def _lacking(name: str, told: Mapping[str, Columns]) -> tuple[str, ...]:
    lacking: dict[str, None] = {}
    for step, columns in told.items():
        if name not in (columns.every or ()):
            lacking |= dict.fromkeys(columns.some.get(name, (step,)))
    return tuple(lacking)


def sources_of(step: Step, before: str) -> tuple[str, ...]:
    """Whose rows a step takes; `before` is the step that stands before it, or the input."""
    if step.from_ is None:
        return (before,)
    return _names(step.from_)


def _names(said: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if said is None else (said,) if isinstance(said, str) else tuple(said)
