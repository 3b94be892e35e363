"""`${NAME}` in the texts of a spec."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_files import SMALL, loaded, problems

from synth_cli.spec.environment import substituted


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "1"),
        ("x${A}y${B}z", "x1y2 bz"),
        ("$${A} $A {A} $", "${A} $A {A} $"),
        ("${NO:-x y}", "x y"),
        ("${NO:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${A:-x}", "1"),
        ("${NESTED}", "${A}"),
    ],
)
def test_forms(text: str, result: str) -> None:
    """Variables, defaults (also for an empty variable) and the literal form; what is put in is not looked at again."""
    environ = {"A": "1", "B": "2 b", "EMPTY": "", "NESTED": "${A}"}
    assert substituted(text, environ) == (result, [])


@given(st.text().filter(lambda text: "${" not in text))
def test_other_text_stays(text: str) -> None:
    """Text without a reference is left as it is, and `$${` gives any text back."""
    assert substituted(text, {}) == (text, [])
    assert substituted(f"$${{{text}", {}) == (f"${{{text}", [])


def test_missing_variables(tmp_path: Path) -> None:
    """Each missing variable is a problem at its place, and no other problem follows from it."""
    text = SMALL + "samples: ${COUNT}\ndescription: a ${NOBODY} b ${1x}\n"
    assert problems(tmp_path, text, environ={"COUNTS": "2"}) == [
        "job.yaml:3:10: the environment variable COUNT is not set; did you mean 'COUNTS'?",
        "job.yaml:4:14: the environment variable NOBODY is not set; set it, or write ${NOBODY:-default}",
        "job.yaml:4:14: '${' begins a variable, but no ${NAME} follows; write $${ for a literal ${",
    ]


def test_after_yaml(tmp_path: Path) -> None:
    """A variable cannot change the structure, and an anchor or a key is not looked into."""
    job = loaded(tmp_path, SMALL + "vars: {a: '${X}', '${X}': 1}\n", environ={"X": "b, c: {d: 1}"})
    assert job.spec.vars == {"a": "b, c: {d: 1}", "${X}": 1}


def test_numeric_keys(tmp_path: Path) -> None:
    """A key that wants a number takes one from a variable, sampling parameters and nested models included."""
    text = """
model: {name: simulator, generation_params: {top_k: "${N}"}}
prompt: hi
samples: ${N}
generation_params: {temperature: "${T}", stop: "${N}"}
backend_params: {max_retries: "${N}", request_timeout: "${T}"}
"""
    spec = loaded(tmp_path, text, environ={"N": "3", "T": "0.5"}).spec
    assert (spec.samples, spec.generation_params) == (3, {"temperature": 0.5, "stop": "3"})
    assert spec.backend_params is not None
    assert (spec.backend_params.max_retries, spec.backend_params.request_timeout) == (3, 0.5)
    assert not isinstance(spec.model, str | list | None)
    assert spec.model.generation_params == {"top_k": 3}


def test_only_what_is_used_is_needed(tmp_path: Path) -> None:
    """Variables of values that an override replaced, of profiles not chosen and of x- keys may be missing."""
    text = SMALL + "x-a: ${A}\nname: ${B}\nprofiles: {p: {name: '${C}'}}\n"
    assert loaded(tmp_path, text, sets=["name=n"]).name == "n"


def test_a_value_that_is_wrong_because_of_a_variable(tmp_path: Path) -> None:
    """The problem shows the place in the spec and what the variable gave."""
    assert problems(tmp_path, SMALL + "samples: ${N}\n", environ={"N": "many"}) == [
        "job.yaml:3:10: 'samples' must be a whole number, not the text 'many'"
    ]
