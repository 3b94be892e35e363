"""What lies over a spec: base, profile, --set."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_files import SMALL, loaded, problems

from synth_cli.spec.model import INHERITED

BASE = """
model: {name: a/b, generation_params: {temperature: 1, top_p: 0.5}}
input: {path: rows.csv, take: 3}
vars: {tags: [x, y], tone: dry}
prompt: hi
"""
CHAIN = """
model: simulator
steps:
  - {name: draft, prompt: write}
  - {name: judge, prompt: judge, samples: 2}
"""


def test_merging(tmp_path: Path) -> None:
    """Mappings merge, lists and values replace, null removes, and the order of what was there stays."""
    over = """
extends: base.yaml
model: {generation_params: {temperature: 0, seed: 1}}
input: {path: null, count: 5}
vars: {tags: [z], more: {a: null, b: 1}}
"""
    job = loaded(tmp_path, over, base_yaml=BASE)
    assert job.effective() == {
        "model": {"name": "a/b", "generation_params": {"temperature": 0, "top_p": 0.5, "seed": 1}},
        "input": {"count": 5, "take": 3},
        "vars": {"tags": ["z"], "tone": "dry", "more": {"b": 1}},
        "prompt": "hi",
    }
    assert job.sources == {"job.yaml": "spec", "base.yaml": "extends"}


def test_chain_of_bases(tmp_path: Path) -> None:
    """A base may extend another; paths count from the file that names them."""
    job = loaded(
        tmp_path,
        "extends: sub/middle.yaml\nname: top\n",
        sub__middle_yaml="extends: ../base.yaml\nname: middle\nvars: {tone: file://tone.md}\n",
        sub__tone_md="warm",
        base_yaml=BASE,
    )
    assert (job.name, job.spec.vars["tone"], job.spec.prompt) == ("top", "warm", "hi")


def test_circle(tmp_path: Path) -> None:
    """A circle of bases is a problem that shows it."""
    assert problems(tmp_path, SMALL + "extends: b.yaml\n", b_yaml="extends: job.yaml\n") == [
        "b.yaml:1:10: 'extends' goes in a circle: job.yaml → b.yaml → job.yaml"
    ]


def test_missing_base(tmp_path: Path) -> None:
    """A base that is not there is a problem at `extends`."""
    assert problems(tmp_path, SMALL + "extends: bas.yaml\n", base_yaml="x-a: 1") == [
        "job.yaml:3:10: there is no spec 'bas.yaml'; did you mean 'base.yaml'?"
    ]


def test_places_in_bases(tmp_path: Path) -> None:
    """A problem that came with the base is shown in the base."""
    found = problems(tmp_path, "extends: base.yaml\nsamples: 0\n", base_yaml=SMALL + "tempo: 3\n")
    assert found == [
        "job.yaml:2:10: 'samples' must be at least 1, not 0",
        "base.yaml:3:1: unknown key 'tempo'",
    ]


def test_profiles(tmp_path: Path) -> None:
    """A profile lies over the spec; profiles of base and spec merge, and null in them removes when chosen."""
    base = BASE + "profiles: {ci: {input: {take: 1}, vars: null}}\n"
    text = "extends: base.yaml\nprofiles: {ci: {model: simulator}, big: {input: {take: 99}}}\n"
    assert loaded(tmp_path, text, base_yaml=base, profile="ci").effective() == {
        "model": "simulator",
        "input": {"path": "rows.csv", "take": 1},
        "prompt": "hi",
    }
    assert loaded(tmp_path, text, base_yaml=base, profile="big").spec.vars == {"tags": ["x", "y"], "tone": "dry"}


def test_wrong_profiles(tmp_path: Path) -> None:
    """An unknown profile is answered with the right one; a profile has no profiles of its own."""
    text = SMALL + "profiles:\n  ci: {seed: 1}\n  odd: {extends: a.yaml}\n"
    assert problems(tmp_path, text, profile="cii") == [
        "job.yaml:1:1: there is no profile 'cii'; did you mean 'ci'?",
    ]
    assert problems(tmp_path, text, profile="odd") == [
        "job.yaml:5:9: a profile cannot have 'extends'; put it at the top"
    ]


def test_profiles_that_were_not_chosen(tmp_path: Path) -> None:
    """Their problems are found too, each at its place, and without their variables."""
    text = SMALL + "profiles:\n  ci: {sed: 1, samples: '${N}'}\n  big: {samples: 0}\n"
    assert problems(tmp_path, text) == [
        "job.yaml:4:8: unknown key 'sed'; did you mean 'seed'?",
        "job.yaml:5:18: 'samples' must be at least 1, not 0",
    ]


def test_steps_by_name(tmp_path: Path) -> None:
    """Overrides address steps by name, or replace the list; null takes one away."""
    over = "extends: base.yaml\nsteps: {judge: {samples: 5, model: x/y}, draft: null}\n"
    assert loaded(tmp_path, over, base_yaml=CHAIN).effective()["steps"] == [
        {"name": "judge", "prompt": "judge", "samples": 5, "model": "x/y"}
    ]
    whole = "extends: base.yaml\nsteps: [{name: only, prompt: p}]\n"
    assert loaded(tmp_path, whole, base_yaml=CHAIN).effective()["steps"] == [{"name": "only", "prompt": "p"}]
    wrong = "extends: base.yaml\nsteps: {jugde: {samples: 5}}\n"
    assert problems(tmp_path, wrong, base_yaml=CHAIN) == [
        "job.yaml:2:9: there is no step 'jugde'; did you mean 'judge'?"
    ]


def test_the_only_step_is_main(tmp_path: Path) -> None:
    """A spec without `steps` is one step named main, for overrides too."""
    text = SMALL + "profiles: {ci: {steps: {main: {samples: 2}}}}\n"
    assert loaded(tmp_path, text, profile="ci").spec.samples == 2
    assert loaded(tmp_path, text, sets=["steps.main.samples=3"]).spec.samples == 3


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("seed=5", "seed", 5),
        ("vars.tone=warm", "vars", {"tags": ["x", "y"], "tone": "warm"}),
        ("vars.tags.1=z", "vars", {"tags": ["x", "z"], "tone": "dry"}),
        ("vars.new.deep=true", "vars", {"tags": ["x", "y"], "tone": "dry", "new": {"deep": True}}),
        ("vars.a\\.b=1", "vars", {"tags": ["x", "y"], "tone": "dry", "a.b": 1}),
        ("vars=null", "vars", None),
        ("vars.tags=[q]", "vars", {"tags": ["q"], "tone": "dry"}),
        ("input={take: null, skip: 2}", "input", {"path": "rows.csv", "skip": 2}),
        ("prompt=a=b {{ c }}", "prompt", "a=b {{ c }}"),
        ("vars.tone=", "vars", {"tags": ["x", "y"], "tone": ""}),
        ("name='5'", "name", "5"),
    ],
)
def test_set(tmp_path: Path, setting: str, key: str, value: object) -> None:
    """`--set` puts one value anywhere, read as YAML reads a value."""
    assert loaded(tmp_path, BASE, sets=[setting]).effective().get(key) == value


def test_set_steps_by_name(tmp_path: Path) -> None:
    """A step is addressed by its name or its position; later settings see earlier ones."""
    sets = ["steps.judge.samples=4", "steps.0.samples=3", "steps.judge.samples=5"]
    steps = loaded(tmp_path, CHAIN, sets=sets).spec.steps
    assert steps is not None
    assert [step.samples for step in steps] == [3, 5]


def test_set_wins_over_profile(tmp_path: Path) -> None:
    """The command line has the last word."""
    text = SMALL + "seed: 1\nprofiles: {ci: {seed: 2}}\n"
    assert loaded(tmp_path, text, profile="ci", sets=["seed=3"]).spec.seed == 3


def test_wrong_sets(tmp_path: Path) -> None:
    """Each problem names the setting, and never shows its value."""
    sets = ["nothing", "prompt.user=x", "steps.jugde.samples=1", "seed=x", "temprature=secret", "vars=[a", "extends=b"]
    found = problems(tmp_path, CHAIN + "prompt: x\n", sets=sets)
    only = f"put it under a step; only these may stand at the top as defaults: {', '.join(INHERITED)}"
    mapping = "'user' can be set only where 'prompt' is written as a mapping"
    assert found == [
        f"job.yaml:6:1: with 'steps', 'prompt' belongs to a step; {only}",
        "--set nothing: it must be key=value; e.g. --set input.take=10",
        f"--set prompt.user: 'prompt' is one value, not a mapping; {mapping}",
        "--set steps.jugde.samples: there is no step 'jugde'; did you mean 'judge'?",
        "--set vars: a '[' or '{' is opened and never closed; close it; a text that begins with one needs quotes",
        "--set extends: 'extends' cannot be set; choose a profile with --profile",
        "--set seed: 'seed' must be a whole number, not the text 'x'",
        "--set temprature: unknown key 'temprature'; did you mean 'temperature'? It stands under 'generation_params'",
    ]
