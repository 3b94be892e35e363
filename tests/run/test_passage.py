"""A pass over a job, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synth_cli.compile.plan import StepPlan
from synth_cli.core.row import Row
from synth_cli.run.finish import Passing
from synth_cli.run.passage import CHUNK, Chain
from synth_cli.run.stage import EachStage
from synth_cli.spec.model import Step
from synth_cli.steps import Each, stage
from synth_cli.stores.worksheet import Worksheet
from synth_cli.template import Templates


def fan(name: str, source: str, by: int) -> EachStage:
    """A step that makes so many rows of each."""
    keys: dict[str, Any] = {"name": name, "type": "map", "each": f"range({by}) | list", "columns": {name: "{{ item }}"}}
    step, templates = Step.model_validate(keys), Templates(vars={}, seed=0, step=name)
    each = stage(step, templates, seed=0, folder=Path("/"))
    assert isinstance(each, Each)
    return EachStage(StepPlan(step, (), (), (), None, (source,), None, templates), each)


class Noting(Passing):
    """Counts what each step has taken so far."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, int] = {}

    def each(self, stage: EachStage, row: Row, finished: Any) -> None:
        self.taken[stage.name] = self.taken.get(stage.name, 0) + 1


def test_fan_outs_behind_one_another_hold_few_rows(tmp_path: Path) -> None:
    """300 rows of a row, each of which becomes 300: rows go on long before the step before them has made all."""
    stages = {"a": fan("a", "input", 300), "b": fan("b", "a", 300), "c": fan("c", "b", 1)}
    with Worksheet(tmp_path / "worksheet.sqlite") as worksheet:
        source = [Row(0, bytes(16), {})]
        chain = Chain(stages, "c", lambda _: iter(source), worksheet, tmp_path)
        noting = Noting()
        rows = chain.first(noting).rows()
        first = next(chunk for chunk in rows if chunk)
        before = dict(noting.taken)
        sizes = [len(first), *map(len, rows)]
    assert (max(sizes), sum(sizes)) == (CHUNK, 300 * 300)
    assert before == {"a": 1, "b": 1, "c": CHUNK}
