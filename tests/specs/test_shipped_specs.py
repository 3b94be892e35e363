"""Every spec that we ship runs as it is, on the simulated model."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).parents[2]
SYNTH = Path(sys.executable).with_name("synth")
ROWS = {
    "specs/quickstart.yaml": (
        "out/quickstart.jsonl",
        10,
        {"cuisine", "level", "title", "ingredients", "steps", "difficulty"},
    ),
    "specs/personas.yaml": ("out/personas.jsonl", 24, {"name", "field", "tone", "message"}),
    "specs/recipes.yaml": (
        "out/recipes.jsonl",
        15,
        {"cuisine", "region", "minutes", "title", "vegetarian", "ingredients", "steps"},
    ),
    "specs/reannotate.yaml": ("out/reannotated.jsonl", 3, {"id", "before", "after", "conversation"}),
    "specs/classify.yaml": ("out/tickets.csv", 6, {"id", "text", "label"}),
    "specs/images.yaml": ("out/captions.jsonl", 2, {"path", "name", "file", "caption", "colours"}),
    "specs/tools.yaml": ("out/calls.jsonl", 3, {"request", "tools", "call", "arguments"}),
    "specs/batch.yaml": ("out/batch.jsonl", 30, {"subject", "reader", "question", "answer"}),
    "specs/vllm.yaml": ("out/problems.jsonl", 12, {"topic", "level", "problem", "steps", "answer"}),
    "specs/judge.yaml": ("out/judged.jsonl", 4, {"question", "answer", "reasons", "score", "_synth"}),
    "examples/parse/questions.yaml": ("out/questions.jsonl", 2, {"name", "question", "answer"}),
    "examples/endpoints/local.yaml": ("out/twisters.jsonl", 20, {"index", "response"}),
    "examples/endpoints/anthropic.yaml": ("out/haiku.jsonl", 8, {"season", "place", "response"}),
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SYNTH, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin"},
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def copied(spec: str, folder: Path) -> Path:
    source = ROOT / spec
    shutil.copytree(source.parent, folder / "here", ignore=shutil.ignore_patterns(".synth", "out"))
    return folder / "here" / source.name


def test_every_shipped_spec_is_in_this_test() -> None:
    """One that is added is run here; recipes are run by tests of their own."""
    shipped = {str(path.relative_to(ROOT)) for room in ("specs", "examples") for path in (ROOT / room).rglob("*.yaml")}
    assert {path for path in shipped if not path.startswith("specs/recipes/")} == set(ROWS)


@pytest.mark.parametrize("spec", ROWS)
def test_a_shipped_spec_runs_on_the_simulated_model(spec: str, tmp_path: Path) -> None:
    """Without a key, a GPU or a network; all its rows are there, with the columns that it promises."""
    path = copied(spec, tmp_path)
    ended = run(path.parent, "run", path.name, "--simulate", "--quiet")
    output, count, columns = ROWS[spec]
    found = rows_of(path.parent / output)
    assert (ended.returncode, ended.stdout, ended.stderr, len(found)) == (0, "", "", count)
    assert {frozenset(row) for row in found} == {frozenset(columns)}


def test_what_the_simulated_model_calls_is_what_the_row_offers(tmp_path: Path) -> None:
    """Each row's own tools reach the model, and its arguments fit their schema."""
    path = copied("specs/tools.yaml", tmp_path)
    run(path.parent, "run", path.name, "--simulate", "--quiet")
    for row in rows_of(path.parent / "out/calls.jsonl"):
        offered = {tool["name"]: tool["parameters"] for tool in row["tools"]}
        assert set(row["arguments"]) == set(offered[row["call"]]["required"])


def test_a_judge_gives_its_opinions_as_lists(tmp_path: Path) -> None:
    """Three samples a row, whose reasons differ and whose scores are means of two."""
    path = copied("specs/judge.yaml", tmp_path)
    run(path.parent, "run", path.name, "--simulate", "--quiet")
    rows = rows_of(path.parent / "out/judged.jsonl")
    assert [(len(row["score"]), len(row["reasons"])) for row in rows] == [(3, 3)] * 4
    assert all(1 <= score <= 5 for row in rows for score in row["score"])
    assert any(len(set(row["reasons"])) > 1 for row in rows)


def test_the_readmes_spec_is_valid(tmp_path: Path) -> None:
    """What a newcomer copies from the README is understood."""
    text = (ROOT / "README.md").read_text()
    block = text.split("## A spec", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    (tmp_path / "readme.yaml").write_text(block)
    (tmp_path / "cuisines.csv").write_text("cuisine,level\nthai,easy\n")
    ended = run(tmp_path, "validate", "readme.yaml")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_starter_runs_as_it_is_written(tmp_path: Path) -> None:
    """`synth init` and then `synth run`, and there is a dataset."""
    run(tmp_path, "init", "mine")
    ended = run(tmp_path, "run", "mine.yaml", "--quiet")
    assert (ended.returncode, ended.stderr, len(rows_of(tmp_path / "mine.jsonl"))) == (0, "", 6)
