"""`type: sample`."""

from __future__ import annotations

from pathlib import Path

import pytest
from through_steps import finished, made, row

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.row import Finished
from synth_cli.errors import UsageError
from synth_cli.spec.model import Step
from synth_cli.steps import Each, stage
from synth_cli.template import Templates

AGE = {"age": {"uniform": {"min": 1, "max": 10**12, "integer": True}}}


def drawn(name: str, seed: int, position: int) -> int:
    step = Step.model_validate({"name": name, "type": "sample", "columns": AGE})
    each = stage(step, Templates(vars={}, seed=seed, step=name), seed=seed, folder=Path("/"))
    assert isinstance(each, Each)
    (values,) = each.finish(row(position)).rows
    age = values["age"]
    assert isinstance(age, int)
    return age


def test_a_draw_depends_on_seed_step_and_row() -> None:
    """The same again each time; another seed, step or row draws anew."""
    draws = [(name, seed, position) for name in ("a", "b") for seed in (0, 1) for position in (0, 1)]
    first, again = ([drawn(*one) for one in draws] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(draws)


def test_columns_see_earlier_ones_and_what_came_in() -> None:
    """Templates, values and samplers, in order; `carry` says what else goes along."""
    columns = {"who": {"category": ["{{ name }}"]}, "hello": "Hi {{ who }}", "n": 3}
    keys = {"type": "sample", "columns": columns}
    assert finished(keys, name="Jo", x=1) == Finished(({"name": "Jo", "x": 1, "who": "Jo", "hello": "Hi Jo", "n": 3},))
    assert finished({**keys, "carry": ["x"]}, name="Jo", x=1) == Finished(
        ({"x": 1, "who": "Jo", "hello": "Hi Jo", "n": 3},)
    )


def test_a_row_that_cannot_be_drawn_for_fails_alone() -> None:
    """Its trouble is a value; kept rows have nulls."""
    keys = {"type": "sample", "columns": {"a": "{{ n }}", "b": {"uniform": {"min": "{{ n }}", "max": 1}}}}
    fault = Fault(FaultKind.TEMPLATE, "columns.b: min (7) is greater than max (1)")
    assert finished(keys, n=7) == Finished(failures=((0, fault),))
    kept = Finished(({"n": 7, "a": None, "b": None},), failures=((0, fault),))
    assert finished({**keys, "on_failure": "keep"}, n=7) == kept


def test_a_sampler_that_no_row_could_use_is_told_at_once() -> None:
    """With the step that it stands in."""
    with pytest.raises(UsageError) as raised:
        made({"type": "sample", "columns": {"a": {"uniform": {"min": 2, "max": 1}}}})
    assert str(raised.value) == "steps.own.columns.a: min (2) is greater than max (1)"
