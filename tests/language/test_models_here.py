"""Models and backends, one step's own form, and what parses but is not in this version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk import Desk, serving

NO_KEY = "prompt: hi\n"


@pytest.mark.parametrize(
    ("model", "url", "sent"),
    [
        ("openai/gpt-5-mini", "https://api.openai.com/v1/chat/completions", "gpt-5-mini"),
        ("gpt-5-mini", "https://api.openai.com/v1/chat/completions", "gpt-5-mini"),
        ("groq/openai/gpt-oss-20b", "https://api.groq.com/openai/v1/chat/completions", "openai/gpt-oss-20b"),
        ("deepseek/deepseek-chat", "https://api.deepseek.com/v1/chat/completions", "deepseek-chat"),
        ({"name": "any", "base_url": "http://h:1/v1"}, "http://h:1/v1/chat/completions", "any"),
        ({"name": "org/any", "base_url": "http://h:1/v1"}, "http://h:1/v1/chat/completions", "org/any"),
        ({"name": "any", "backend": "openai", "base_url": "http://h:1/v1/"}, "http://h:1/v1/chat/completions", "any"),
        (
            {"name": "any", "backend": "vllm", "backend_params": {"base_url": "http://h:1/v1"}},
            "http://h:1/v1/chat/completions",
            "any",
        ),
    ],
)
def test_the_provider_comes_from_the_name(desk: Desk, model: Any, url: str, sent: str) -> None:
    """provider/name as LiteLLM writes it, a bare known name, a backend, or any OpenAI-compatible `base_url`."""
    (look,) = desk.says({"model": model, "prompt": "hi"}).preview()
    assert (look["url"], look["body"]["model"]) == (url, sent)


def test_a_model_that_nobody_knows_is_a_problem(desk: Desk) -> None:
    """With what to write instead; also for a backend, and for each member of a pool, fallback or conversation."""
    desk.says(
        """models: {writer: nonsense-9, judge: {name: m, backend: opnai}}
model: [writer, wirter, {name: simulator}]
fallback: [gpt-5-mini, other-9]
prompt: hi
"""
    )
    hint = "write provider/model (openai/gpt-5-mini), a backend, or a base_url of an OpenAI-compatible server"
    assert desk.validate() == [
        f"1:18: no provider is known for model 'nonsense-9'; {hint}",
        "1:56: unknown backend 'opnai'; any OpenAI-compatible server is `backend: openai` with a base_url",
        "2:17: no provider is known for model 'wirter'; did you mean 'writer', which 'models' names?",
        f"3:24: no provider is known for model 'other-9'; {hint}",
    ]


@pytest.mark.parametrize(
    ("address", "near"),
    [("localhost:8000", "http://localhost:8000"), ("h.org/v1", "http://h.org/v1"), ("//h", "http://localhost:8000/v1")],
)
def test_an_address_without_its_protocol_is_a_problem(desk: Desk, address: str, near: str) -> None:
    """Wherever `base_url` stands, before anything is asked."""
    said = f"'{address}' is no address of a server; write it like {near}"
    desk.says({"model": {"name": "m", "base_url": address}, "prompt": "hi"})
    assert desk.validate() == [f"3:13: {said}"]
    desk.says({"model": "openai/m", "backend_params": {"base_url": "${AT}"}, "prompt": "hi"})
    assert desk.validate(env={"AT": address}) == [f"3:13: {said}"]


def test_a_missing_key_names_its_variable(desk: Desk) -> None:
    """Exit 3, before anything is opened or written."""
    told = desk.says({"model": "groq/any", "prompt": "hi"}).run(env={"GROQ_API_KEY": ""})
    assert (told.code, told.err) == (3, "synth: no key for groq\n  set GROQ_API_KEY, or give an api_key\n")
    assert [path.name for path in desk.folder.iterdir()] == ["spec.yaml"]


def test_a_parameter_of_another_engine_says_whose_it_is(desk: Desk) -> None:
    """Every one of them, each at its place."""
    desk.says(
        """model: simulator
prompt: hi
backend_params:
  batch_size: 5
  tensor_parallel_size: 2
  completion_window: 24h
  max_retries: 1
"""
    )
    assert desk.validate() == [
        "4:15: 'batch_size' belongs to the engines batch and vllm; this step's is online",
        "5:25: 'tensor_parallel_size' belongs to the engine vllm; this step's is online",
        "6:22: 'completion_window' belongs to the engine batch; this step's is online",
    ]


def test_the_simulator_needs_nothing(desk: Desk) -> None:
    """`model: simulator` is `backend: simulator`: no key, no network; the same seed gives the same rows."""
    spec = {"input": {"count": 3}, "prompt": "Tell {{ index }}.", "carry": False}
    first = desk.says({"model": "simulator", **spec}).rows()
    again = desk.says({"model": {"name": "simulator", "backend": "simulator"}, **spec}).rows("--fresh")
    assert first == again
    assert len({row["response"] for row in first}) == 3


def test_simulate_takes_the_place_of_whatever_the_spec_names(desk: Desk) -> None:
    """No key is needed and nothing is sent to the spec's own address; its answers live in a ledger of their own."""
    with serving(lambda body: "real") as server:
        desk.says({"model": server.model(api_key="${NONE:-}"), "input": {"rows": [{"a": 1}]}, "prompt": "hi"})
        simulated = desk.run("--simulate", "--output", "sim.jsonl")
        assert (simulated.code, server.bodies) == (0, [])
        assert desk.rows() == [{"a": 1, "response": "real"}]
    assert desk.lines("sim.jsonl")[0]["response"] != "real"


def test_metadata_says_that_it_is_simulated(desk: Desk) -> None:
    """In `_synth`, not in the rows' own columns."""
    desk.says({"model": "simulator", "input": {"rows": [{"a": 1}]}, "prompt": "hi", "output": {"metadata": True}})
    (row,) = desk.rows()
    assert set(row) == {"a", "response", "_synth"}
    assert row["_synth"]["simulated"] is True


def test_the_name_is_the_files_stem(desk: Desk) -> None:
    """It names the state folder and the output."""
    assert desk.says({"model": "simulator", "prompt": "hi"}).run().code == 0
    assert ((desk.folder / ".synth" / "spec").is_dir(), (desk.folder / "spec.jsonl").is_file()) == (True, True)
    assert desk.says({"name": "other", "model": "simulator", "prompt": "hi"}).run().code in (0, 2)


def test_vars_are_constants_that_set_can_change(desk: Desk) -> None:
    """`--set vars.tone=dry`; what that changes is asked anew."""
    with serving(lambda body: body["messages"][0]["content"]) as server:
        desk.says({"model": server.model(), "vars": {"tone": "friendly"}, "prompt": "{{ vars.tone }}"})
        assert desk.rows() == [{"response": "friendly"}]
        assert desk.rows("--set", "vars.tone=dry") == [{"response": "dry"}]
        assert server.asked == ["friendly", "dry"]


def test_the_documents_first_spec_runs(desk: Desk) -> None:
    """The spec that the language's document begins with, simulated."""
    desk.write(cuisines__csv="cuisine,level\nthai,easy\ngreek,hard\n")
    desk.says(
        """version: 1
name: recipes
description: Recipes for each cuisine
vars: {tone: friendly}

model: openai/gpt-5-mini
engine: online
generation_params: {temperature: 0.8, max_tokens: 600}
backend_params: {max_retries: 5, max_requests_per_minute: 2000}

input:
  path: cuisines.csv

prompt:
  system: You are a {{ vars.tone }} chef.
  user: Write a {{ level }} recipe of {{ cuisine }} cuisine.

response:
  schema:
    title: str
    ingredients: [str]
    steps: [{text: str, minutes: int}]
    difficulty: enum[easy, hard]

output:
  path: out/recipes.jsonl
"""
    )
    assert desk.validate() == []
    assert desk.run("--simulate").code == 0
    rows = desk.lines("out/recipes.jsonl")
    assert [list(row) for row in rows] == [["cuisine", "level", "title", "ingredients", "steps", "difficulty"]] * 2
    assert [(row["cuisine"], row["level"]) for row in rows] == [("thai", "easy"), ("greek", "hard")]


SIMULATED: list[dict[str, Any]] = [
    {"model": ["simulator", "gpt-5-mini"]},
    {"models": {"w": "simulator"}, "model": "w"},
    {"models": {"w": "simulator"}},
    {"fallback": ["gpt-5-mini"]},
    {"refine": {"times": 1, "prompt": "Better than {{ response }}"}},
    {"input": {"rows": [{"a": 1}] * 5}, "target_rows": {"rows": 5}},
    {"engine": "vllm"},
    {"model": {"name": "org/m", "backend": "vllm"}},
    {"backend_params": {"distributed": {"workers": 2}}},
]


@pytest.mark.parametrize("keys", SIMULATED)
def test_what_models_a_spec_names_makes_no_difference_to_a_simulated_run(desk: Desk, keys: dict[str, Any]) -> None:
    """Pools, named models, fallbacks, refinement and engines of this machine: without a key, a GPU or Ray."""
    desk.says({"model": "simulator", "prompt": "hi", **keys})
    assert desk.validate() == []
    rows = {"model": 2 if isinstance(keys.get("model"), list) else 1, "input": 5}.get(next(iter(keys)), 1)
    assert len(desk.rows("--simulate")) == rows


CHAIN = """models: {writer: simulator}
model: writer
input: {matrix: {a: [x]}}
steps:
  - {name: draw, type: sample, columns: {age: {uniform: {min: 1, max: 6, integer: true}}}}
  - name: write
    prompt: "{{ a }} {{ age }}"
    response: {schema: {title: str, score: int}}
  - {name: good, type: map, keep_if: "score > 1"}
  - {name: once, type: dedup, by: title, method: minhash, threshold: 0.8}
  - {name: together, type: group, by: [a], from: once}
  - {name: own, type: python, function: "own.py:rows", from: [good, once]}
  - {name: talk, turns: {user: {model: simulator, system: Ask.}, assistant: {}, start: "{{ a }}"}}
"""


def test_every_type_of_step_runs_in_one_chain(desk: Desk) -> None:
    """Chains, every type of step, `from`, conversations and named models."""
    desk.says(CHAIN).write(own__py="def rows(rows):\n    yield from rows\n")
    assert desk.validate() == []
    assert desk.run().code == 0
    assert [list(row)[-1] for row in desk.rows()] == ["messages"] * len(desk.rows())


def test_names_are_checked_along_a_chain(desk: Desk) -> None:
    """A name that no earlier step provides is found; one that a step makes is not a problem."""
    desk.says(
        """model: simulator
input: {matrix: {a: [x]}}
steps:
  - name: write
    prompt: "{{ a }}"
    response: {schema: {title: str}}
  - name: judge
    prompt: "{{ title }} {{ titel }} {{ response }}"
"""
    )
    assert desk.validate() == [
        "8:13: nothing provides 'titel'; did you mean 'title'?",
        "8:13: 'response' is not there before the answer; use it in check, columns or keep_if",
    ]


def test_a_command_that_is_not_in_this_version(desk: Desk) -> None:
    """Exit 2."""
    told = desk.says({"model": "simulator", "prompt": "hi"}).synth("diff", str(desk.spec))
    assert (told.code, "not in this version yet" in told.err) == (2, True)


def test_a_report_as_html_is_not_in_this_version(desk: Desk) -> None:
    """`report --html` exits 2."""
    desk.says({"model": "simulator", "prompt": "hi"}).run()
    told = desk.synth("report", "--html", "x.html")
    assert (told.code, "not in this version yet" in told.err) == (2, True)


def test_the_editors_schema_accepts_the_specs_here(desk: Desk) -> None:
    """`synth schema` prints a JSON Schema that takes what validate takes."""
    import jsonschema_rs
    import yaml
    from typer.testing import CliRunner

    from synth_cli.cli.app import app

    printed = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    check = jsonschema_rs.validator_for(printed)
    base = {"model": "simulator", "prompt": "hi"}
    for keys in (*SIMULATED, yaml.safe_load(CHAIN)):
        spec = {**base, **keys} if "steps" not in keys else keys
        assert [error.message for error in check.iter_errors(spec)] == []
