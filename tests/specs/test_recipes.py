"""Every recipe runs as it is, on the simulated model, and gives rows of the shape that its method is known for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema_rs
import orjson
import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "specs" / "recipes"
SYNTH = Path(sys.executable).with_name("synth")
ROWS = {
    "back-translation": (4, ["language", "text", "translation", "back", "grade"]),
    "doctor-patient": (9, ["messages"]),
    "evol-instruct": (5, ["messages"]),
    "evol-quality": (4, ["messages"]),
    "function-calling": (9, ["messages", "tools"]),
    "magpie": (11, ["messages"]),
    "persona-hub": (24, ["persona", "prompt", "response"]),
    "preference-pairs": (8, ["prompt", "chosen", "rejected"]),
    "prometheus": (3, ["question", "answer", "reference", "feedback", "grade", "mean"]),
    "raft": (11, ["number", "context", "question", "reasoning", "answer", "cited"]),
    "reasoning-traces": (9, ["question", "answer", "found", "reasoning", "solution", "_synth"]),
    "self-instruct": (16, ["instruction", "input", "output"]),
    "sentence-pairs": (8, ["anchor", "positive", "negative"]),
    "text-classification": (4, ["text", "label"]),
    "ultrafeedback": (6, ["instruction", "principle", "answers", "models", "ratings"]),
    "ungrounded-qa": (15, ["subject", "sub_subject", "question", "level", "answer", "certain"]),
}
"""How many rows the simulated model's answers leave, always the same ones, and their columns."""
BEFORE_LONG = ("gpt-4o", "gpt-4.1", "gpt-3.5", "claude-3", "gemini-1", "gemini-2.0")
"""Models that are gone, or will be before long."""

Rows: TypeAlias = Sequence[dict[str, Any]]
Run: TypeAlias = Callable[[str], tuple[tuple[int, str, str], Rows]]
"""A recipe's name → its exit code, stdout and stderr, and its rows."""


def synth(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in a copy of the recipes' folder."""
    shutil.copytree(RECIPES, folder, ignore=shutil.ignore_patterns(".synth", "out"))
    return subprocess.run(
        [SYNTH, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin"},
    )


def rows_in(folder: Path) -> Rows:
    lines = [line for path in (folder / "out").rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    return [orjson.loads(line) for line in lines]


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a recipe, once."""

    @cache
    def run(name: str) -> tuple[tuple[int, str, str], Rows]:
        folder = tmp_path_factory.mktemp(name) / "recipes"
        done = synth(folder, "run", f"{name}.yaml", "--simulate", "--quiet")
        return (done.returncode, done.stdout, done.stderr), rows_in(folder)

    return run


def test_every_recipe_is_in_this_test() -> None:
    """One that is added is run here."""
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_runs_on_the_simulated_model(name: str, ran: Run) -> None:
    """Without a key, a GPU or a network; its rows are there, with the columns that it promises."""
    (ended, rows), (count, columns) = ran(name), ROWS[name]
    assert (ended, len(rows)) == ((0, "", ""), count)
    assert {tuple(row) for row in rows} == {tuple(columns)}


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_names_itself_and_models_that_last(name: str) -> None:
    """Its name is its file's, its output's too; it tells in one line what it makes, and fits on a screen or two."""
    text = (RECIPES / f"{name}.yaml").read_text()
    lines = text.splitlines()
    described = [line for line in lines if line.startswith("description: ")]
    assert (f"name: {name}" in lines, len(described), f"path: out/{name}" in text) == (True, 1, True)
    assert [model for model in BEFORE_LONG if model in text] == []
    assert (lines[0][:2], max(map(len, lines)) <= 120, len(lines) <= 90) == ("# ", True, True)


@pytest.mark.parametrize("name", ["doctor-patient", "evol-instruct", "evol-quality", "function-calling", "magpie"])
def test_conversations_alternate_and_end_with_the_assistant(name: str, ran: Run) -> None:
    """As trainers want them; a system prompt comes first, and no turn is empty but for a call."""
    for row in ran(name)[1]:
        turns = [turn for turn in row["messages"] if turn["role"] != "system"]
        assert {turn["role"] for turn in row["messages"][len(row["messages"]) - len(turns) :]} == {"user", "assistant"}
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert all(turn["content"] or turn.get("tool_calls") for turn in turns)


def test_a_patient_and_a_doctor_talk_for_ten_messages(ran: Run) -> None:
    """The doctor's prompt is the system's, the patient's is nowhere; the first message is the spec's."""
    for row in ran("doctor-patient")[1]:
        system, first, *others = row["messages"]
        assert (system["role"], "family doctor" in system["content"], "patient, never" in str(row)) == (
            "system",
            True,
            False,
        )
        assert (first["content"], len(others)) == ("Good morning, doctor. I hope you can help me.", 9)


def test_preference_pairs_differ(ran: Run) -> None:
    """Chosen and rejected are never the same text."""
    assert all(row["chosen"] != row["rejected"] for row in ran("preference-pairs")[1])


def test_what_is_called_is_among_the_tools_and_its_arguments_fit(ran: Run) -> None:
    """Each call is validated against the schema of the function that it names."""
    for row in ran("function-calling")[1]:
        (call,) = row["messages"][-1]["tool_calls"]
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        jsonschema_rs.validate(schemas[call["function"]["name"]], call["function"]["arguments"])


def test_a_trace_ends_in_the_known_answer(ran: Run) -> None:
    """Several tries a question; only those in whose last box the answer stands stay."""
    rows = ran("reasoning-traces")[1]
    assert all(f"\\boxed{{{row['answer']}}}" in row["solution"] for row in rows)
    assert max(Counter(row["question"] for row in rows).values()) > 1


def test_a_context_has_the_cited_document_among_distractors(ran: Run) -> None:
    """Four documents of one collection, the right one at the place that is cited."""
    for row in ran("raft")[1]:
        assert [line[:3] for line in row["context"].splitlines()] == ["[1]", "[2]", "[3]", "[4]"]
        assert row["number"] in row["cited"]


def test_each_model_of_a_pool_is_rated(ran: Run) -> None:
    """Three answers of three models, three ratings of four aspects from 1 to 5."""
    for row in ran("ultrafeedback")[1]:
        assert (len(set(row["models"])), len(set(row["answers"])), len(row["ratings"])) == (3, 3, 3)
        aspects = [rating[aspect] for rating in row["ratings"] for aspect in ("following", "truth", "honesty", "help")]
        assert all(1 <= aspect <= 5 for aspect in aspects)


def test_a_rubric_judges_mean_is_that_of_its_opinions(ran: Run) -> None:
    """Three grades and three feedbacks a row."""
    for row in ran("prometheus")[1]:
        assert (len(row["feedback"]), row["mean"]) == (3, round(sum(row["grade"]) / 3, 2))


def test_what_a_filter_lets_through_is_what_it_promises(ran: Run) -> None:
    """Back-translations of grade 4 and 5, triplets of three texts."""
    assert {row["grade"] for row in ran("back-translation")[1]} <= {4, 5}
    triplets = ran("sentence-pairs")[1]
    assert all(len(set(row.values())) == 3 for row in triplets)


def test_a_model_that_writes_the_users_turn_is_given_nothing_of_it(tmp_path: Path) -> None:
    """The raw prompt ends where the user's first word would stand, the newline before it included."""
    shown = synth(tmp_path / "recipes", "preview", "magpie.yaml", "-n", "1", "--simulate", "--json")
    prompt = next(value for value in texts(orjson.loads(shown.stdout)) if "<|im_start|>" in value)
    assert prompt.startswith("<|im_start|>system\nYou are a helpful assistant.")
    assert prompt.endswith("<|im_end|>\n<|im_start|>user\n")


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


@pytest.mark.parametrize("name", ["evol-instruct", "preference-pairs"])
def test_in_batches_a_recipe_gives_the_same_rows(name: str, ran: Run, tmp_path: Path) -> None:
    """Refinement, joined steps, pools and groups, with one word changed in the spec."""
    folder = tmp_path / "recipes"
    batches = ("--set", "engine=batch", "--set", "backend_params.batch_check_interval=0.1")
    done = synth(folder, "run", f"{name}.yaml", "--simulate", "--quiet", *batches)
    assert (done.returncode, done.stderr, rows_in(folder)) == (0, "", ran(name)[1])
