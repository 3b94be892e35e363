"""Keys that exclude one another, and values with a meaning of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_files import SMALL, problems


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("prompt: hi\n", "1:1", "the spec has no 'model'"),
        ("model: simulator\n", "1:1", "the spec asks nothing"),
        (SMALL + "messages: [{role: user, content: x}]", "3:1", "'prompt' and 'messages' exclude each other"),
        (SMALL + "turns: {user: {}, assistant: {}}", "2:1", "'turns' and 'prompt' exclude each other"),
        (SMALL + "each: response\nparse: a.py:b", "3:1", "'parse' and 'each' exclude each other"),
        (SMALL + "parse: a.py:b\ncolumns: {a: b}", "4:1", "'parse' and 'columns' exclude each other"),
        (SMALL + "each: response\ngroup_samples: true", "4:1", "'each' and 'group_samples' exclude each other"),
        (SMALL + "response: {regex: a, choice: [b]}", "3:12", "'choice' and 'regex' exclude each other"),
        (SMALL + "response: {choice: positive}", "3:20", "'choice' is a text, and not a template"),
        (SMALL + "response: {choice: []}", "3:12", "'response.choice' must not be empty"),
        (SMALL + "response: {choice: [a, b, a]}", "3:27", "'a' is there twice"),
        (SMALL + "response: {regex: '['}", "3:19", "this is no regular expression"),
        (SMALL + "input: {count: 3, matrix: {a: [1]}}", "3:19", "'count' and 'matrix' exclude each other"),
        (
            SMALL + "input: {count: 3}\ntarget_rows: {rows: 5}",
            "3:9",
            "'target_rows' and 'input.count' exclude each other",
        ),
        (SMALL + "target_rows: {rows: 5, max_candidates: 3}", "3:40", "'target_rows.max_candidates' (3) is less than"),
        (SMALL + "output: {path: a.json}", "3:16", "write a.jsonl"),
        (SMALL + "output: {path: [a.csv, b, a.csv]}", "3:24", "an output's suffix says its format, and 'b' is none"),
        (SMALL + "prompt_format: llama3", "3:16", "'llama3' is no prompt format; did you mean 'llama2'?"),
        (
            SMALL + "prompt_format: chatml\ntools: [{type: function}]",
            "3:1",
            "'prompt_format' and 'tools' exclude each other",
        ),
        (SMALL + "tools: my tools", "3:8", "'tools' is a text, and not a template"),
        ("model: simulator\nmessages: hello", "2:11", "'messages' is a text, and not a template"),
        ("model: simulator\nmessages: [{role: usr, content: x}]", "2:19", "'usr' is no role; did you mean 'user'?"),
        ("model: simulator\nmessages: [{role: user}]", "2:12", "message 1 has no 'content'"),
        (
            "model: simulator\nmessages: [{role: user, content: [{type: image_url}]}]",
            "2:35",
            "write {type: image, source: …}",
        ),
        (
            "model: simulator\nmessages: [{role: user, content: [{type: image}]}]",
            "2:35",
            "a part of type image needs 'source'",
        ),
        (
            "model: {name: a/b, api_key: k1, backend_params: {api_key: k2}}\nprompt: x",
            "1:50",
            "'api_key' is given twice",
        ),
        (SMALL + "steps: [{name: a, prompt: x}]", "2:1", "with 'steps', 'prompt' belongs to a step"),
        ("model: m\nsteps: [{prompt: x}]", "2:9", "step 1 has no 'name'"),
        ("model: m\nsteps: [{name: a, prompt: x}, {name: a, prompt: x}]", "2:38", "two steps are named 'a'"),
        ("model: m\nsteps: [{name: input, prompt: x}]", "2:16", "a step cannot be named 'input'"),
        (
            "model: m\nsteps: [{name: a, prompt: x}, {name: b, from: c, prompt: x}]",
            "2:47",
            "no earlier step is named 'c'",
        ),
        (
            "model: m\nsteps: [{name: a, type: map, prompt: x}]",
            "2:30",
            "'prompt' means nothing in a step with type: map",
        ),
        ("model: m\nsteps: [{name: a, type: group}]", "2:9", "step 'a' with type: group needs 'by'"),
        (
            "model: m\nsteps: [{name: a, type: dedup, by: x, threshold: 0.5}]",
            "2:39",
            "'threshold' is for method: minhash",
        ),
        ("model: m\nsteps: [{name: a, prompt: x, by: x}]", "2:30", "'by' means nothing in a step that asks a model"),
        ("model: []\nprompt: hi", "1:1", "no 'model'"),
        (
            "model: m\nsteps:\n- {name: a, prompt: x, from: b}\n- {name: b, prompt: x}",
            "3:30",
            "no earlier step is named 'b'; it comes later: a step stands behind its sources",
        ),
        (
            "model: m\nsteps: [{name: a, prompt: x, from: a}]",
            "2:36",
            "no earlier step is named 'a'; a step cannot take its own rows",
        ),
        (
            "model: m\nsteps: [{name: write, prompt: x}, {name: b, from: [write, wrote], prompt: x}]",
            "2:59",
            "no earlier step is named 'wrote'; did you mean 'write'?",
        ),
        ("model: m\nsteps: [{name: a, prompt: x, from: [input, input]}]", "2:44", "'input' is there twice"),
        (
            SMALL + "target_rows: {rows: 5}\naccept: {min_rows: 6}",
            "4:20",
            "'accept.min_rows' (6) is more than 'target_rows.rows' (5), and no more come",
        ),
        ("model: m\nsteps: [{name: a, prompt: x, from: []}]", "2:30", "'from' names no step"),
        ("steps: [{name: a, type: dedup, by: []}]", "1:32", "'by' names no column; write one, or remove it"),
        ("steps: [{name: a, type: group, by: []}]", "1:32", "'by' names no column"),
        (
            "model: m\nturns: {user: {}, assistant: {}}\nrefine: {prompt: x}",
            "3:1",
            "'turns' and 'refine' exclude each other",
        ),
    ],
)
def test_rules(tmp_path: Path, text: str, place: str, words: str) -> None:
    """Each rule speaks at its place and says what to do."""
    found = problems(tmp_path, text)
    assert [each for each in found if each.startswith(f"job.yaml:{place}: ") and words in each], found


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "prompt_format: '{{ system }}|{{ user }}'",
        SMALL + "response: {choice: '{{ labels }}', check: response != ''}",
        SMALL + "response: {check: [a, b], feedback: true}",
        SMALL + "input: {count: null, matrix: {a: [1]}}",
        SMALL + "output: {path: [a.jsonl, b.jsonl.gz, c.jsonl.zst, d.parquet, s3://x/e.csv]}",
        "model: simulator\nmessages: '{{ chat }}'",
        "model: m\nmessages:\n- {role: '{{ r }}', content: [{type: image, source: a.png, detail: low}, plain]}",
        "model: m\nmessages:\n- {role: user, content: [{type: input_audio, input_audio: {data: '{{ a }}'}}]}",
        "model: m\nmessages: [{role: assistant, tool_calls: '{{ calls }}'}, {role: user, content: x}]",
        "turns: {user: {model: a}, assistant: {model: b}, start: hi}",
        "steps: [{name: a, type: map, columns: {x: 1}}, {name: b, type: python, function: a.py:f, from: [a, input]}]",
        "steps: [{name: a, type: dedup}, {name: b, type: dedup, by: [x], method: minhash, threshold: 0.5}]",
        SMALL + "generation_params: {my_own_parameter: 1, max_completion_tokens: 5, repetition_penalty: 1.1}",
    ],
)
def test_what_is_right(tmp_path: Path, text: str) -> None:
    """Nothing is said of what the language allows."""
    assert problems(tmp_path, text) == []


def test_an_inherited_source_is_removed_with_null(tmp_path: Path) -> None:
    """Where a base brings the other key, the problem says how to be rid of it."""
    (found,) = problems(tmp_path, "extends: base.yaml\ninput: {count: 3}", base_yaml=SMALL + "input: {path: a.csv}")
    assert found.endswith(
        "'path' and 'count' exclude each other under 'input'; keep one; null removes an inherited one: path: null"
    )


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL.GZ", "a.Parquet"])
def test_a_suffix_counts_in_any_case_of_letters(tmp_path: Path, name: str) -> None:
    """As where the file is written."""
    assert problems(tmp_path, f"{SMALL}output: {{path: {name}}}") == []
