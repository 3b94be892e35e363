"""`synth init`: starters and recipes, in folders that may hold something already."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Called, rows, synth

from synth_cli.run.starter import recipes

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "specs" / "recipes"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_recipe_is_written_with_what_it_reads_and_runs(folder: Path) -> None:
    """Under its own name where none is given; the message names the files and the next command."""
    called = synth("init", "--recipe", "raft")
    assert (called.code, called.out) == (0, "")
    assert called.err == "wrote raft.yaml and data/raft.jsonl; next: synth run raft.yaml --simulate\n"
    assert (folder / "raft.yaml").read_text() == (RECIPES / "raft.yaml").read_text()
    assert (folder / "data/raft.jsonl").read_bytes() == (RECIPES / "data/raft.jsonl").read_bytes()
    assert synth("run", "raft.yaml", "--simulate", "--quiet").code == 0
    assert rows(folder / "out/raft.jsonl")


def test_a_recipe_under_another_name_is_another_job(folder: Path) -> None:
    """The job, its state and its output are called so; the data beside is shared with a copy that is there already."""
    assert [synth("init", *name, "--recipe", "raft").code for name in ((), ("mine",), ("sub/more.yaml",))] == [0, 0, 0]
    assert written(folder) == {"raft.yaml", "mine.yaml", "data/raft.jsonl", "sub/more.yaml", "sub/data/raft.jsonl"}
    mine = (folder / "mine.yaml").read_text()
    assert ("\nname: mine\n" in mine, "path: out/mine.jsonl\n" in mine, "path: data/raft.jsonl" in mine) == (True,) * 3


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_becomes_a_spec_of_another_name(folder: Path, name: str) -> None:
    """Nothing but its name and its output changes, and it is valid."""
    assert synth("init", "mine", "--recipe", name).code == 0
    assert synth("validate", "mine.yaml") == Called(0, "", "")
    text = (folder / "mine.yaml").read_text()
    back = re.sub(r"\bout/mine\b", f"out/{name}", text).replace("\nname: mine\n", f"\nname: {name}\n")
    assert (text != back, back) == (True, (RECIPES / f"{name}.yaml").read_text())


def test_init_replaces_nothing(folder: Path) -> None:
    """Neither the spec nor data of that name: exit 2 before anything is written."""
    assert synth("init", "--recipe", "raft").code == 0
    again = synth("init", "--recipe", "raft")
    assert (again.code, again.err.splitlines()) == (
        2,
        ["synth: raft.yaml exists already", "  choose another name: synth init raft-2 --recipe raft"],
    )
    (folder / "data/raft.jsonl").write_text("{}\n")
    other = synth("init", "other", "--recipe", "raft")
    assert (other.code, other.err.splitlines()[0]) == (2, "synth: data/raft.jsonl exists already")
    assert (written(folder), (folder / "data/raft.jsonl").read_text()) == ({"raft.yaml", "data/raft.jsonl"}, "{}\n")


def test_the_list_of_recipes_goes_to_stdout(folder: Path) -> None:
    """A line for each: its name and its description; those that the package has are those of the checkout."""
    called = synth("init", "--list-recipes")
    assert (called.code, called.err, written(folder)) == (0, "", set())
    listed = [line.split(maxsplit=1) for line in called.out.splitlines()]
    described = [
        (path.stem, path.read_text().split("\ndescription: ", 1)[1].split("\n", 1)[0])
        for path in sorted(RECIPES.glob("*.yaml"))
    ]
    assert [tuple(line) for line in listed] == described


def test_a_recipe_that_is_not_there_lists_those_that_are(folder: Path) -> None:
    """Exit 2, the nearest one named, and a line for each."""
    called = synth("init", "--recipe", "magpy")
    first, second, *others = called.err.splitlines()
    assert (called.code, first, second) == (
        2,
        "synth: there is no recipe 'magpy'",
        "  did you mean 'magpie'? There are:",
    )
    assert [line.split()[0] for line in others] == list(recipes())
    assert synth("init", "--recipe", "../../etc/passwd").code == 2
    assert written(folder) == set()
