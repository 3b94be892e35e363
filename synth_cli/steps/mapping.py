"""`type: map`: a row → rows by `each`, `columns`, `carry` and `keep_if` alone."""

from __future__ import annotations

from synth_cli.core.row import Finished, Row, derived
from synth_cli.spec.model import Step
from synth_cli.steps.outline import Outline, ShapeError
from synth_cli.template import Templates


class Map:
    """Where a failed row is kept by `on_failure`, its columns are null."""

    def __init__(self, step: Step, templates: Templates) -> None:
        self._outline = Outline(step, templates)
        self._keep_failed = step.on_failure == "keep"
        self._nulls = dict.fromkeys(step.columns or ())

    def finish(self, row: Row) -> Finished:
        carried = self._outline.carry(row.values)
        try:
            if self._outline.makes_items:
                made = self._outline.by_item(row, 0, {}, carried)
            else:
                made = [(self._outline.computed(row, 0, {}), {})]
            kept = self._outline.kept(row, 0, carried, made)
        except ShapeError as error:
            rows = ({**carried, **self._nulls},) if self._keep_failed else ()
            return Finished(rows, 0, ((0, error.fault),), ids=(self._id(row, 0),) * len(rows), nulls=frozenset((0,)))
        # whoever is left out, the others stay who they are
        places = {id(columns): place for place, (columns, _) in enumerate(made)}
        return Finished(
            tuple([{**carried, **columns} for columns, _ in kept]),
            len(made) - len(kept),
            ids=tuple([self._id(row, places[id(columns)]) for columns, _ in kept]),
        )

    def _id(self, row: Row, place: int) -> bytes:
        """A row that only gets other columns is still the same: what it asks later is not asked again."""
        return derived(row.id, place) if self._outline.makes_items else row.id
