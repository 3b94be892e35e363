"""What a loaded spec is."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_files import SMALL, loaded, problems, write

from synth_cli.errors import SpecError
from synth_cli.spec.load import inspect, load

SECRET = """
model: {name: openai/x, api_key: sk-12345, headers: {Authorization: Bearer abcdef, X-Team: blue}}
prompt: hi
backend_params: {base_url: "https://me:pa%40ss@host/v1"}
input: {sql: {url: "postgresql://u:passw0rd@db/x", query: select 1}}
profiles: {ci: {model: {api_key: sk-other}}}
"""


def test_names_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's name is the spec's or the file's; paths are absolute, and problems show the path as it was given."""
    write(tmp_path, {"my recipes (1).yaml": SMALL, "named.yaml": SMALL + "name: other\n", "bad.yaml": SMALL + "foo: 1"})
    monkeypatch.chdir(tmp_path)
    job = load(Path("my recipes (1).yaml"), environ={})
    assert (job.name, job.path, job.folder) == ("my-recipes-1", tmp_path / "my recipes (1).yaml", tmp_path)
    assert load(Path("named.yaml"), environ={}).name == "other"
    with pytest.raises(SpecError) as caught:
        load(Path("bad.yaml"), environ={})
    assert str(caught.value) == "bad.yaml:3:1: unknown key 'foo'"


def test_secrets_are_known(tmp_path: Path) -> None:
    """Every secret text, and the passwords in addresses, are told for redaction."""
    assert loaded(tmp_path, SECRET).secrets == {
        *("sk-12345", "sk-other", "Bearer abcdef", "pa%40ss", "pa@ss"),
        *("postgresql://u:passw0rd@db/x", "passw0rd"),
    }


def test_the_effective_spec_has_no_secrets(tmp_path: Path) -> None:
    """What is kept of a spec hides them, and so do its representations."""
    job = loaded(tmp_path, SECRET)
    assert job.effective() == {
        "model": {
            "name": "openai/x",
            "api_key": "(secret)",
            "headers": {"Authorization": "(secret)", "X-Team": "blue"},
        },
        "prompt": "hi",
        "backend_params": {"base_url": "https://me:(secret)@host/v1"},
        "input": {"sql": {"url": "(secret)", "query": "select 1"}},
    }
    shown = repr(job)
    assert [secret for secret in job.secrets - {"pa%40ss"} if secret in shown] == []


def test_problems_never_show_secrets(tmp_path: Path) -> None:
    """Not even where the secret itself is wrong."""
    text = "model: {name: a/b, api_key: [sk-12345], headers: {Authorization: {a: sk-12345}}}\nprompt: hi\n"
    found = problems(tmp_path, text, sets=["backend_params.api_key={a: sk-12345}"])
    assert len(found) == 3
    assert not any("sk-12345" in each for each in found)


def test_a_spec_with_problems_can_be_inspected(tmp_path: Path) -> None:
    """Wrong values that nothing depends on are left out, so that what is left can be looked at."""
    path = write(
        tmp_path, {"job.yaml": SMALL + "tempo: 1\nbackend_params: {max_retries: many, stream: true}\nsamples: 0\n"}
    )
    job, found = inspect(path, environ={})
    assert len(found) == 3
    assert job is not None
    assert job.effective() == {"model": "simulator", "prompt": "hi", "backend_params": {"stream": True}}


def test_wrong_values_of_a_step_are_left_out_too(tmp_path: Path) -> None:
    """Nothing of what the others are, nor of what its rows are, hangs on them."""
    steps = "steps:\n- {name: a, prompt: hi, on_failure: foo, tempo: 1}\n- {name: b, prompt: ho, samples: 0}\n"
    job, found = inspect(write(tmp_path, {"job.yaml": "model: simulator\n" + steps}), environ={})
    assert len(found) == 3
    assert job is not None
    assert job.effective()["steps"] == [{"name": "a", "prompt": "hi"}, {"name": "b", "prompt": "ho"}]


@pytest.mark.parametrize("key", ["columns: 5", "colums: {x: 1}", "carry: a", "responce: {choice: [a]}", "form: a"])
def test_what_a_steps_rows_hang_on_is_not_left_out(tmp_path: Path, key: str) -> None:
    """Names that only seem to be missing are not told."""
    steps = f"steps:\n- {{name: a, prompt: hi, {key}}}\n- {{name: b, prompt: '{{{{ x }}}}'}}\n"
    job, found = inspect(write(tmp_path, {"job.yaml": "model: simulator\n" + steps}), environ={})
    assert (job, len(found)) == (None, 1)


def test_a_wrong_value_is_not_missing_too(tmp_path: Path) -> None:
    """What was left out for being wrong is told once."""
    _, found = inspect(write(tmp_path, {"job.yaml": SMALL + "target_rows: {rows: 0}"}), environ={})
    assert [each.message for each in found] == ["'target_rows.rows' must be at least 1, not 0"]


@pytest.mark.parametrize("line", ["inputs: {path: a.csv}", "input: {pth: a.csv}", "vars: 5", "response: {schma: {}}"])
def test_a_spec_that_cannot_be_inspected(tmp_path: Path, line: str) -> None:
    """Where the rest depends on the wrong value, more problems would only be echoes."""
    job, found = inspect(write(tmp_path, {"job.yaml": SMALL + line}), environ={})
    assert (job, len(found)) == (None, 1)


def test_places_of_the_loaded_spec(tmp_path: Path) -> None:
    """Later checks find the place of any value, also by a step's name; what is not there is at its nearest parent."""
    text = "model: simulator\nsteps:\n  - name: a\n    prompt: hi\n  - name: judge\n    prompt: {user: ho}\n"
    job = loaded(tmp_path, text, sets=["steps.judge.samples=2"])
    assert job.at(1) == ("steps", 1)
    places = [
        job.places.problem((*job.at(1), "prompt", "user"), "m"),
        job.places.problem(("steps", "judge", "prompt", "system"), "m"),
        job.places.problem((*job.at(1), "response", "check"), "m"),
        job.places.problem((*job.at(1), "samples"), "m"),
    ]
    found = [(Path(each.file).name, each.line, each.column) for each in places]
    assert found == [("job.yaml", 6, 20), ("job.yaml", 6, 5), ("job.yaml", 5, 5), ("--set steps.judge.samples", 0, 0)]
