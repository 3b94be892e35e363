"""`type: sample`: a row and columns that are drawn for it."""

from __future__ import annotations

from synth_cli.core.row import Finished, Row
from synth_cli.spec.model import Step
from synth_cli.steps.outline import Outline, fault
from synth_cli.steps.samplers import Columns
from synth_cli.template import Templates


class Sample:
    """Draws depend on seed, step, column and the row's id. A failed row that is kept has null columns."""

    def __init__(self, step: Step, templates: Templates, seed: int) -> None:
        self._names = tuple(step.columns or ())
        self._columns = Columns(step.columns or {}, templates, seed, step=step.name)
        self._carry = Outline(step.model_copy(update={"columns": None}), templates).carry
        self._keep_failed = step.on_failure == "keep"

    def finish(self, row: Row) -> Finished:
        values = dict(row.values)
        undrawn = self._columns.undrawn(Row(row.index, row.id, values), values)
        carried = self._carry(row.values)
        if undrawn is not None:
            name, why = undrawn
            rows = ({**carried, **dict.fromkeys(self._names)},) if self._keep_failed else ()
            nulls, ids = frozenset((0,)), (row.id,) * len(rows)
            return Finished(rows, 0, ((0, fault(f"columns.{name}", why)),), ids=ids, nulls=nulls)
        # with more columns it is still the same row
        return Finished(({**carried, **{name: values[name] for name in self._names}},), ids=(row.id,))
