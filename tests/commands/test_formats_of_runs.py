"""Runs whose output is in a shape that trainers read."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from command_line import rows, spec, synth, write
from scripted_server import Asked, Say, echo, serving

from synth_cli.report import machine
from synth_cli.report.causes import Cause

QUESTIONS = {"rows": [{"question": "Why one?"}, {"question": "Why two?"}]}


def asking(url: str, **more: Any) -> dict[str, Any]:
    return spec(url, input=QUESTIONS, prompt="Answer: {{ question }}", **more)


def test_a_question_and_its_answer_become_a_conversation(tmp_path: Path) -> None:
    """`format: chat` takes the columns by their usual names, and leaves the others out."""
    with serving() as server:
        called = synth("run", write(tmp_path, asking(server.url, output={"format": "chat"})))
    assert called.code == 0
    assert rows(tmp_path / "job.jsonl") == [
        {
            "messages": [
                {"role": "user", "content": f"Why {number}?"},
                {"role": "assistant", "content": f"Answer: Why {number}?"},
            ]
        }
        for number in ("one", "two")
    ]


def test_the_messages_really_sent_can_be_the_conversation(tmp_path: Path) -> None:
    """A column of `reply.messages` and the answer: system prompt and rendered template as the model saw them."""
    with serving() as server:
        made = asking(
            server.url,
            columns={"messages": "{{ reply.messages }}", "response": "{{ response }}"},
            output={"format": "sharegpt", "path": ["job.jsonl", "job.parquet"]},
        )
        made["prompt"] = {"system": "Be brief.", "user": "Answer: {{ question }}"}
        assert synth("run", write(tmp_path, made)).code == 0
    first, _ = rows(tmp_path / "job.jsonl")
    assert first == {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Answer: Why one?"},
            {"from": "gpt", "value": "Answer: Why one?"},
        ]
    }
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "job.parquet").to_pylist()[0] == first


def test_map_and_metadata(tmp_path: Path) -> None:
    """`map` names the columns; `_synth` stays beside the format's own."""
    with serving() as server:
        output = {"format": "alpaca", "metadata": True, "map": {"instruction": "question", "output": "text"}}
        made = asking(server.url, columns={"text": "{{ response | upper }}"}, output=output)
        assert synth("run", write(tmp_path, made)).code == 0
    first, _ = rows(tmp_path / "job.jsonl")
    assert first.pop("_synth")["finish_reason"] == "stop"
    assert first == {"instruction": "Why one?", "input": "", "output": "ANSWER: WHY ONE?"}


def test_ties_and_nulls_are_dropped_and_counted(tmp_path: Path) -> None:
    """Pairs of which nothing is to be learnt are not failures: exit 0, and the report says how many and why."""

    def script(asked: Asked) -> Say:
        return Say("same|same" if "two" in asked.user else "good|bad")

    with serving(script) as server:
        made = asking(
            server.url,
            columns={
                "chosen": "{{ response.split('|')[0] }}",
                "rejected": "{{ none if 'three' in question else response.split('|')[1] }}",
            },
            output={"format": "dpo"},
        )
        made["input"] = {"rows": [{"question": f"Why {word}?"} for word in ("one", "two", "three")]}
        called = synth("run", write(tmp_path, made), "--json")
    assert called.code == 0
    (pair,) = rows(tmp_path / "job.jsonl")
    assert pair == {"prompt": "Why one?", "chosen": "good", "rejected": "bad"}
    assert {key: called.json["rows"][key] for key in ("in", "out", "dropped", "failed", "filtered")} == {
        "in": 3,
        "out": 1,
        "dropped": 2,
        "failed": 0,
        "filtered": 0,
    }
    assert machine.load(called.out.encode()).rows.drops == (
        Cause("chosen and rejected are the same", 1, "", "row 1"),
        Cause("rejected is null", 1, "", "row 2"),
    )
    assert "3 in, 1 out, 2 dropped" in called.err


def test_a_failed_row_that_is_kept_has_no_place_in_a_conversation(tmp_path: Path) -> None:
    """`on_failure: keep` gives null; it is counted as failed and as dropped, and is no empty turn."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if "two" in asked.user else echo(asked)

    with serving(script) as server:
        called = synth(
            "run", write(tmp_path, asking(server.url, on_failure="keep", output={"format": "chat"})), "--json"
        )
    counts = {key: called.json["rows"][key] for key in ("out", "failed", "kept", "dropped")}
    assert (called.code, counts) == (1, {"out": 1, "failed": 1, "kept": 1, "dropped": 1})
    assert len(rows(tmp_path / "job.jsonl")) == 1


def test_an_output_of_which_nothing_is_left_replaces_none(tmp_path: Path) -> None:
    """Every row dropped: exit 1 with the reason, the old file stays, and nothing is asked again after mending."""
    (tmp_path / "job.jsonl").write_text("old\n")
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]
    with serving() as server:
        made = asking(
            server.url, columns={"talk": "{{ row.talk }}"}, output={"format": "chat", "map": {"messages": "talk"}}
        )
        made["input"] = {"rows": [{"question": "Why?", "talk": talk}]}
        called = synth("run", write(tmp_path, made))
        assert (called.code, (tmp_path / "job.jsonl").read_text()) == (1, "old\n")
        assert "no row makes the format chat: a turn has no content (1); the old output stays" in called.err
        made["output"] = {"format": "chat", "map": {"prompt": "question", "response": "response"}}
        made["columns"] = {"question": "{{ question }}", "response": "{{ response }}"}
        assert synth("run", write(tmp_path, made)).code == 0
    assert (len(server.asked), len(rows(tmp_path / "job.jsonl"))) == (1, 1)


def test_an_empty_output_has_the_formats_columns(tmp_path: Path) -> None:
    """Without a row, the header of a CSV file is the format's, not that of the columns it is made of."""
    with serving() as server:
        output = {"format": "alpaca", "path": "job.csv"}
        made = asking(server.url, output=output, keep_if="false")
        assert synth("run", write(tmp_path, made)).code == 0
    with (tmp_path / "job.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["instruction", "input", "output"]]


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (
            {"format": "chat", "map": {"prompt": "questoin"}},
            "no column 'questoin' in the output; did you mean 'question'?",
        ),
        (
            {"format": "alpaca", "map": {"instructoin": "question"}},
            "format alpaca has no field 'instructoin'; did you mean",
        ),
        ({"format": "dpo"}, "format dpo needs 'chosen' and 'rejected', or 'prompt' and 'responses' and 'scores'"),
        ({"map": {"prompt": "question"}}, "'map' names the columns of a format; write format: chat, alpaca,"),
    ],
)
def test_what_cannot_be_shaped_is_found_before_anything_is_asked(
    tmp_path: Path, output: dict[str, Any], problem: str
) -> None:
    """`validate` and `run` name the place, and what is there."""
    with serving() as server:
        path = write(tmp_path, asking(server.url, output=output))
        told = [synth("validate", path), synth("run", path)]
    assert [(one.code, problem in one.out + one.err) for one in told] == [(2, True), (2, True)]
    assert server.asked == []


def test_a_preview_shows_rows_as_they_will_be_written(tmp_path: Path) -> None:
    """`preview --run` in the format, and why a row would be dropped, which is worth an exit code there."""
    with serving() as server:
        made = asking(server.url, output={"format": "alpaca"}, columns={"question": "{{ question }}"})
        made["columns"]["answer"] = "{{ response[:3] if 'one' in question else none }}"
        called = synth("preview", write(tmp_path, made), "-n", "2", "--run", "--json")
    assert called.code == 1
    assert [(one["output"], one["error"]) for one in called.json] == [
        ([{"instruction": "Why one?", "input": "", "output": "Ans"}], None),
        ([], "dropped by the format: output is null"),
    ]


def test_a_chain_of_answers_and_judgements_ends_in_pairs(tmp_path: Path) -> None:
    """Several answers to a question, a score for each, grouped: the best against the worst, ties dropped."""

    def script(asked: Asked) -> Say:
        if asked.user.startswith("Rate"):
            return Say(f'{{"score": {0 if "two" in asked.user else asked.user.count("!")}}}')
        return Say(asked.user + "!" * (asked.number % 3))

    with serving(script) as server:
        model = {"name": "m", "base_url": server.url, "api_key": "k"}
        params = {"max_concurrent_requests": 1}
        chain = {
            "model": model,
            "backend_params": params,
            "input": QUESTIONS,
            "steps": [
                {"name": "answer", "prompt": "{{ question }}", "samples": 3},
                {
                    "name": "judge",
                    "prompt": "Rate {{ row.response }}",
                    "response": {"schema": {"score": "int"}},
                },
                {"name": "together", "type": "group", "by": "question"},
            ],
            "output": {"format": "dpo"},
        }
        assert synth("validate", write(tmp_path, chain)).code == 0
        called = synth("run", write(tmp_path, chain), "--json")
    assert called.code == 0, called.err
    assert rows(tmp_path / "job.jsonl") == [
        {"prompt": "Why one?", "chosen": "Why one?!!", "rejected": "Why one?"},
    ]
    assert [one["cause"] for one in called.json["rows"]["drops"]] == ["a tie: all scores are equal"]


def test_a_conversation_of_two_models_is_a_chat(tmp_path: Path) -> None:
    """`turns` gives `messages`: the format takes them as they are."""
    with serving() as server:
        model = {"name": "m", "base_url": server.url, "api_key": "k"}
        made = {
            "model": model,
            "input": QUESTIONS,
            "turns": {
                "user": {"system": "Ask."},
                "assistant": {"system": "Be brief."},
                "start": "{{ question }}",
                "max": 4,
            },
            "output": {"format": "chat"},
        }
        called = synth("run", write(tmp_path, made))
    assert called.code == 0, called.err
    (first, _) = rows(tmp_path / "job.jsonl")
    assert [turn["role"] for turn in first["messages"]][-4:] == ["user", "assistant", "user", "assistant"]
