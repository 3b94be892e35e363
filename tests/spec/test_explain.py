"""Wrong keys and values, in the words of the person who wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_files import SMALL, loaded, problems

JARGON = ("Input should", "union", "str]", "valid string", "pydantic", "Extra inputs", "NoneType", "dict", "BaseModel")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("temprature: 1", "unknown key 'temprature'; did you mean 'temperature'? It stands under 'generation_params'"),
        (
            "temperature: 1",
            "unknown key 'temperature'; it is a sampling parameter: write 'generation_params.temperature'",
        ),
        ("modle: x", "unknown key 'modle'; did you mean 'model'?"),
        ("batch: true", "unknown key 'batch'; write 'engine: batch'"),
        ("num_generations: 3", "unknown key 'num_generations'; write 'samples'"),
        ("response_format: {}", "unknown key 'response_format'; write 'response.schema'"),
        ("guided_json: {}", "unknown key 'guided_json'; write 'response.schema'"),
        ("num_records: 3", "unknown key 'num_records'; write 'input.count'"),
        ("max_retries: 3", "unknown key 'max_retries'; 'max_retries' stands under 'backend_params'"),
        ("take: 3", "unknown key 'take'; 'take' stands under 'input'"),
        ("type: map", "unknown key 'type'; 'type' stands in a step, under 'steps'"),
        ("xyzzy: 3", "unknown key 'xyzzy'"),
        ("schema_: 3", "unknown key 'schema_'; did you mean 'schema'? 'schema' stands under 'response'"),
        ("response: {schema_: {a: str}}", "unknown key 'schema_'; did you mean 'schema'?"),
        ("response: {title: str}", "unknown key 'title'; the fields of an answer stand under 'response.schema'"),
        ("input: {limit: 3}", "unknown key 'limit'; write 'take'"),
        ("input: {split: 3}", "unknown key 'split'; write 'dataset.split'"),
        ("backend_params: {rpm: 3}", "unknown key 'rpm'; write 'max_requests_per_minute'"),
        ("backend_params: {max_retrys: 3}", "unknown key 'max_retrys'; did you mean 'max_retries'?"),
        (
            "backend_params: {top_p: 1}",
            "unknown key 'top_p'; it is a sampling parameter: write 'generation_params.top_p'",
        ),
        ("generation_params: {temprature: 1}", "unknown key 'temprature'; did you mean 'temperature'?"),
        ("generation_params: {n: 2}", "'n' is not a sampling parameter here; write 'samples'"),
        (
            "generation_params: {guided_json: {}}",
            "'guided_json' is not a sampling parameter here; write 'response.schema'",
        ),
        ("generation_params: {logprobs: True}", "'generation_params.logprobs' is the text 'True'; write true"),
        ("accept: {min_row: 1}", "unknown key 'min_row'; did you mean 'min_rows'?"),
    ],
)
def test_unknown_keys(tmp_path: Path, line: str, message: str) -> None:
    """A wrong key is answered with the right one: its spelling, its place, or our word for another tool's."""
    (found,) = problems(tmp_path, SMALL + line)
    assert found.split(": ", 1)[1] == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("samples: x", "'samples' must be a whole number, not the text 'x'"),
        ("samples: 0", "'samples' must be at least 1, not 0"),
        ("samples: 1.5", "'samples' must be a whole number, not 1.5"),
        ("samples: true", "'samples' must be a number, not true"),
        ("samples: [1]", "'samples' must be a whole number, not a list"),
        ("engine: onlin", "'engine' must be online, batch or vllm, not the text 'onlin'; did you mean 'online'?"),
        ("group_samples: yes", "'group_samples' must be true or false, not the text 'yes'; write true, without quotes"),
        ("backend_params: {stream: 1}", "'backend_params.stream' must be true or false, not 1"),
        ("input: rows.csv", "'input' must be a mapping, not the text 'rows.csv'; write input: {path: …}"),
        ("output: [a.jsonl]", "'output' must be a mapping, not a list; write output: {path: …}"),
        (
            "steps: {a: {prompt: x}}",
            "'steps' must be a list, not a mapping; write a list: each step begins with '- name: …'",
        ),
        (
            "input: {rows: [a]}",
            "'input.rows.0' must be a mapping, not the text 'a'; each row is a mapping: - {column: value}",
        ),
        ("input: {sql: {url: x}}", "'input.sql' needs the key 'query'"),
        ("carry: column", "'carry' must be true or false or a list, not the text 'column'"),
        ("keep_if: []", "'keep_if' must be text or true or false, not a list"),
        ("tools: [a]", "'tools.0' must be a mapping, not the text 'a'"),
        ("budget: {max_time: 5x}", None),
        ("accept: {max_error_rate: 2}", "'accept.max_error_rate' must be at most 1, not 2"),
        ("version: 2", "this synth reads version 1 of the language, not 2"),
        ("name: a b", "'name' may have only letters, digits, '_', '-' and '.', not the text 'a b'; it names a folder"),
        ("response: {check: []}", "'response.check' must not be empty"),
        ("response: {check: [{}]}", "'response.check.0' must be text or true or false, not a mapping"),
        ("backend_params: {request_timeout: .inf}", None),
        ("seed: 1.5", "'seed' must be a whole number, not 1.5"),
        ("columns: [a]", "'columns' must be a mapping, not a list"),
    ],
)
def test_wrong_values(tmp_path: Path, line: str, message: str | None) -> None:
    """A wrong value gives one problem, which says what is wanted and what is there."""
    (found,) = [
        each
        for each in problems(tmp_path, SMALL + line)
        if "asks nothing" not in each and "belongs to a step" not in each
    ]
    assert not any(word in found for word in JARGON)
    if message is not None:
        assert found.split(": ", 1)[1] == message


def test_unions_give_one_message(tmp_path: Path) -> None:
    """Where several shapes are possible, only the one that was meant speaks."""
    text = """
model: [simulator, {nme: x}, 5.5, [a]]
prompt: {usr: hi, system: x}
messages: {role: user}
response: {choice: {a: 1}}
"""
    assert problems(tmp_path, text) == [
        "job.yaml:2:21: unknown key 'nme'; did you mean 'name'?",
        "job.yaml:2:35: 'model.3' must be text or a mapping, not a list",
        "job.yaml:3:10: unknown key 'usr'; did you mean 'user'?",
        "job.yaml:4:1: 'messages' must be text or a list, not a mapping",
        "job.yaml:4:1: 'prompt' and 'messages' exclude each other; a system and a user turn, or a list of messages",
        "job.yaml:5:12: 'response.choice' must be a list or text, not a mapping",
    ]


def test_a_missing_key_under_a_wrong_name_is_said_once(tmp_path: Path) -> None:
    """Where a key stands under a wrong name, nothing is said of its absence."""
    assert problems(tmp_path, "modle: simulator\npromt: hi\n") == [
        "job.yaml:1:1: unknown key 'modle'; did you mean 'model'?",
        "job.yaml:2:1: unknown key 'promt'; did you mean 'prompt'?",
    ]


def test_text_and_numbers(tmp_path: Path) -> None:
    """Where text is wanted a number is the text as written, where a number is wanted a numeric text will do."""
    text = """
model: simulator
prompt: 5
response: {choice: [1, 2.50, 3_0, true]}
labels: {run: 007, version: 1.10}
backend_params: {max_retries: "5"}
budget: {max_time: 1h30m}
vars:
"""
    assert loaded(tmp_path, text).effective() == {
        "model": "simulator",
        "prompt": "5",
        "response": {"choice": ["1", "2.50", "3_0", "true"]},
        "labels": {"run": "007", "version": "1.10"},
        "backend_params": {"max_retries": 5},
        "budget": {"max_time": 5400.0},
    }


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Problems of YAML, environment, files, keys, values and rules come together, in the file's order."""
    text = """
version: 1
modle: x
prompt: hi
prompt: ho
messages: "{{ m }}"
samples: ${N}
description: file://nope.txt
backend_params: {max_retries: many}
response: {schema: {a: strng}, regex: "("}
"""
    found = problems(tmp_path, text)
    assert [int(each.split(":")[1]) for each in found] == [3, 5, 6, 7, 8, 9, 10, 10, 10]
