"""What is said of a job of several steps: plan, report, status, progress."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from chains import NO, chain, model, step
from command_line import last_run, rows, spec, synth, write
from scripted_server import echo, serving

from synth_cli.report.machine import load

FAN = step("list", "List {{ word }}", each="[1, 1, 2]", columns={"thing": "{{ item }}{{ word }}"})
ONCE = {"name": "once", "type": "dedup", "by": "thing"}
TELL = step("tell", "Tell {{ thing }}", keep_if="index != 0")
PRICED = {"backend_params": {"in_mtok_cost": 1, "out_mtok_cost": 2}}


def planned(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = synth("plan", path, "--json").json
    return found


def asking(path: Path) -> list[tuple[str, int, int, int, list[float]]]:
    """(step, new, answered, failed before, requests to come) of each model."""
    return [
        (one["name"], one["new"], one["answered"], one["failed_before"], list(one["coming"].values()))
        for one in planned(path)["steps"]
    ]


def test_a_plan_counts_what_is_known_and_what_may_come(tmp_path: Path) -> None:
    """Before, in the middle and after: each step's requests by how they stand, and a range for those to come."""
    with serving() as server:
        path = write(tmp_path, chain(server.url, FAN, ONCE, TELL))
        before = asking(path)
        assert synth("run", path, "--limit", "1").code == 0
        middle = asking(path)
        assert synth("run", path).code == 0
        after = asking(path)
    assert before == [("list", 3, 0, 0, [0, 0]), ("tell", 0, 0, 0, [0, 30])]
    assert middle == [("list", 2, 1, 0, [0, 0]), ("tell", 0, 0, 0, [0, 23])]
    assert after == [("list", 0, 3, 0, [0, 0]), ("tell", 0, 6, 0, [0, 0])]


def test_a_plan_counts_all_requests_of_a_sample(tmp_path: Path) -> None:
    """Refinement and conversations take several: those that are sure, and those that an answer decides about."""
    refine = {"times": 2, "prompt": "More {{ response }}"}
    talk = {"user": {"model": "asker"}, "assistant": {"model": "helper"}, "start": "Hi", "max": 6}
    with serving() as server:
        models = {"models": {name: model(server.url, name) for name in ("asker", "helper")}}
        sure = write(tmp_path, chain(server.url, step("a", "{{ word }}", refine=refine), step("b", "{{ response }}")))
        assert asking(sure) == [("a", 3, 0, 0, [6, 6]), ("b", 0, 0, 0, [3, 3])]
        assert synth("run", sure).code == 0
        assert asking(sure) == [("a", 0, 9, 0, [0, 0]), ("b", 0, 3, 0, [0, 0])]
        perhaps = write(tmp_path, spec(server.url, refine={**refine, "until": "false"}), "perhaps.yaml")
        assert planned(perhaps)["coming"] == {"low": 0, "high": 6}
        talking = {"input": {"count": 2}, "turns": talk, **models}
        assert asking(write(tmp_path, talking, "talk.yaml")) == [("main", 0, 0, 0, [4, 4]), ("main", 2, 0, 0, [4, 4])]


def test_a_plan_in_words(tmp_path: Path) -> None:
    """A line for each step's model; a fallback costs nothing before somebody failed."""
    with serving() as server:
        made = chain(
            server.url,
            step("draft", "Draft {{ word }}", columns={"a": "{{ response }}"}, fallback=[model(server.url, "spare")]),
            step("judge", "Judge {{ a }}", model=model(server.url, "strict")),
            generation_params={"max_tokens": 10},
            **PRICED,
        )
        said = synth("plan", write(tmp_path, made)).out.splitlines()
    assert [line for line in said if line.startswith(("requests", "step", "note"))] == [
        "requests    3: 3 new, 0 already answered, 0 failed before; 3 to come",
        "step        draft  3 new                  $0.000091-$0.00014  openai/m, online",
        "step        draft  only what others fail  nothing             openai/spare, online",
        "step        judge  3 to come              $0.00021-$0.0031    openai/strict, online",
    ]


def test_the_report_tells_of_each_step(tmp_path: Path) -> None:
    """Rows in and out, filtered and failed, requests, tokens and cost, in JSON, Markdown and on the terminal."""
    with serving(lambda asked: NO if asked.user == "List two" else echo(asked)) as server:
        path = write(tmp_path, chain(server.url, FAN, ONCE, TELL, **PRICED))
        called = synth("run", path, "--json")
    steps = {one["name"]: one for one in called.json["steps"]}
    assert {name: one["rows"] for name, one in steps.items()} == {
        "list": {"in": 3, "out": 6, "filtered": 0, "failed": 1, "unasked": 0},
        "once": {"in": 6, "out": 4, "filtered": 2, "failed": 0, "unasked": 0},
        "tell": {"in": 4, "out": 2, "filtered": 2, "failed": 0, "unasked": 0},
    }
    assert {name: (one["traffic"]["requests"], one["traffic"]["replies"]) for name, one in steps.items()} == {
        "list": (3, 2),
        "once": (0, 0),
        "tell": (4, 4),
    }
    assert steps["tell"]["traffic"]["tokens"]["input"] == 40
    assert steps["tell"]["traffic"]["cost"]["usd"] == pytest.approx(4 * (10 + 2 * 5) / 1e6)
    assert [called.json["rows"][key] for key in ("in", "out", "filtered", "failed")] == [3, 2, 4, 1]
    assert len(rows(tmp_path / "job.jsonl")) == 2
    stored = (last_run(tmp_path) / "report.json").read_bytes()
    assert [one.name for one in load(stored).steps] == ["list", "once", "tell"]
    shown = synth("report", path).err
    assert "Step  In  Out  Filtered  Failed  Sent" in shown
    assert "tell   4    2         2       0     4" in shown


def test_the_report_of_a_run_that_was_cut_short_says_how_far_rows_came(tmp_path: Path) -> None:
    """What the steps took and gave until then."""
    with serving() as server:
        made = chain(
            server.url,
            step("first", "First {{ word }}", columns={"a": "{{ response }}"}),
            step("second", "Second {{ a }}"),
            generation_params={"max_tokens": 10},
            backend_params={"max_concurrent_requests": 1},
            budget={"max_tokens": 130},
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert called.code == 4
    told: Mapping[str, Any] = {one["name"]: one["traffic"]["replies"] for one in called.json["steps"]}
    assert sum(told.values()) == len(server.asked)
    assert called.json["steps"][0]["rows"]["in"] >= told["first"]


def test_the_report_shows_steps_that_no_row_came_to(tmp_path: Path) -> None:
    """They stand in their places, with zeros."""
    with serving() as server:
        filtered = step("first", "First {{ word }}", keep_if="false")
        made = chain(server.url, filtered, {"name": "once", "type": "dedup"}, step("last", "{{ response }}"))
        called = synth("run", write(tmp_path, made), "--json")
    told = [(one["name"], one["rows"]["in"], one["rows"]["out"]) for one in called.json["steps"]]
    assert told == [("first", 3, 0), ("once", 0, 0), ("last", 0, 0)]


def test_a_plan_shows_whole_numbers(tmp_path: Path) -> None:
    """Of limits: no exponent, and no fraction that says nothing; the same for one model and for several."""
    fast = {"backend_params": {"max_tokens_per_minute": 2_000_000, "max_requests_per_minute": 0.5}}
    url = "http://127.0.0.1:9/v1"
    one = synth("plan", write(tmp_path, spec(url, **fast))).out
    assert "max_requests_per_minute 0.5, max_tokens_per_minute 2,000,000" in one
    slower = step("b", "x", backend_params={"max_tokens_per_minute": 1000})
    several = synth("plan", write(tmp_path, chain(url, step("a", "y"), slower, **fast), "several.yaml")).out
    assert "max_tokens_per_minute 2,000,000 or 1,000" in several


def test_a_job_of_one_step_has_no_table_of_steps(tmp_path: Path) -> None:
    """Its figures are those of the job."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        called = synth("run", path, "--json")
        assert called.json["steps"] == []
        assert "Step" not in synth("report", path).err


def test_status_and_report_of_a_chain(tmp_path: Path) -> None:
    """`status` counts the answers of all steps."""
    with serving() as server:
        path = write(tmp_path, chain(server.url, FAN, ONCE, TELL))
        assert synth("run", path).code == 0
        found = synth("status", path, "--json").json
        assert (found["answers"], found["faults"], found["round_open"]) == (9, 0, False)
        assert synth("report", path, "--md", tmp_path / "report.md").code == 0
    assert "## Steps" in (tmp_path / "report.md").read_text()
