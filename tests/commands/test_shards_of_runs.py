"""A job in parts: what each part asks, writes and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from command_line import failures, rows, started, synth, write
from scripted_server import Asked, Say, serving
from shards import CHAIN, SIMULATED, in_shards, part


def test_the_parts_of_equal_requests_are_those_of_the_whole(tmp_path: Path) -> None:
    """Rows with equal prompts get the answers in shards that they get in a run of all: their requests are the same."""
    whole = write(tmp_path, {**SIMULATED, "output": {"path": "whole.jsonl", "metadata": True}}, "whole.yaml")
    assert synth("run", whole).code == 0
    parts = write(tmp_path, {**SIMULATED, "output": {"path": "out/rows.jsonl", "metadata": True}}, "parts.yaml")
    in_shards(parts, 3)
    found = [row for number in (1, 2, 3) for row in rows(part(tmp_path, number, 3))]
    ids = {row["n"]: (row["_synth"]["request_id"], row["text"]) for row in found}
    assert ids == {row["n"]: (row["_synth"]["request_id"], row["text"]) for row in rows(tmp_path / "whole.jsonl")}
    assert len({text for _, text in ids.values()}) > 1


@pytest.mark.parametrize(("number", "failed"), [(1, [2]), (2, [])])
def test_a_row_that_a_leading_map_fails_is_a_failure_of_its_own_shard(
    tmp_path: Path, number: int, failed: list[int]
) -> None:
    """Each shard counts its own rows and failures; equal prompts behind the map are told apart as in a run of all."""
    lead = {"name": "lead", "type": "map", "columns": {"n": "{{ 6 // (index - 2) }}"}}
    spec = {"input": {"count": 4}, "output": {"path": "out/rows.jsonl"}, "steps": [lead, {"name": "a", "prompt": "Hi"}]}
    path = write(tmp_path, {"model": "simulator", "name": "job", **spec})
    called = synth("run", path, "--shard", f"{number}/2", "--json")
    said = [called.json["rows"][key] for key in ("in", "out", "failed")]
    assert (called.code, said) == (1 if failed else 0, [2, 2 - len(failed), len(failed)])
    state = f"job.shard-{number}-of-2"
    assert [one["index"] for one in (failures(tmp_path, state) if failed else [])] == failed


def test_a_shard_asks_only_its_own_rows(tmp_path: Path) -> None:
    """Shard 2 of 3 asks rows 1, 4 and 7, marks them, and says of no other row that it failed."""
    spec = {
        "input": {"count": 8},
        "prompt": "row {{ index }}",
        "carry": ["index"],
        "output": {"path": "out/rows.jsonl"},
    }
    with serving(lambda asked: Say(asked.user.upper())) as server:
        model = {"name": "m", "base_url": server.url, "backend": "openai"}
        called = synth("run", write(tmp_path, {"model": model, **spec}), "--shard", "2/3", "--json")
    assert sorted(asked.user for asked in server.asked) == ["row 1", "row 4", "row 7"]
    assert rows(part(tmp_path, 2, 3)) == [
        {"index": n, "response": f"ROW {n}", "_shard": f"2/3:{n} job"} for n in (1, 4, 7)
    ]
    assert (called.code, called.json["rows"]["in"], called.json["job"]["name"]) == (0, 3, "job.shard-2-of-3")


def test_shards_run_at_once(tmp_path: Path) -> None:
    """None of them waits for another or is refused: each has a state of its own."""
    path = write(tmp_path, {**SIMULATED, "output": {"path": "out/rows.jsonl"}})
    running = [started("run", path, "--shard", f"{number}/3", "--quiet", cwd=tmp_path) for number in (1, 2, 3)]
    ended = [(one.communicate(timeout=60), one.returncode) for one in running]
    assert ended == [(("", ""), 0)] * 3
    assert sorted(path.name for path in (tmp_path / ".synth").glob("job*")) == [
        f"job.shard-{number}-of-3" for number in (1, 2, 3)
    ]


def test_a_shard_that_ran_is_not_asked_again(tmp_path: Path) -> None:
    """Run again it uses what it has; another shard's answers are its own affair."""

    def echo(asked: Asked) -> Say:
        return Say(asked.user)

    spec = {"input": {"count": 4}, "prompt": "row {{ index }}", "output": {"path": "out/rows.jsonl"}}
    with serving(echo) as server:
        path = write(tmp_path, {"model": {"name": "m", "base_url": server.url, "backend": "openai"}, **spec})
        in_shards(path, 2)
        before = len(server.asked)
        planned = synth("plan", path, "--shard", "1/2", "--json").json
        in_shards(path, 2)
    assert (before, len(server.asked)) == (4, 4)
    assert (planned["rows"], planned["requests"], planned["answered"]) == (2, 2, 2)


def test_budget_and_rows_asked_for_are_divided(tmp_path: Path) -> None:
    """All shards together keep the spec's budget, and where each has its share of the rows, so has the whole."""
    spec = {**SIMULATED, "budget": {"max_cost_usd": 6, "max_tokens": 60_000}, "accept": {"min_rows": 10}}
    path = write(tmp_path, {**spec, "generation_params": {"max_tokens": 100}, "output": {"path": "out/rows.jsonl"}})
    limits = synth("plan", path, "--shard", "1/3", "--json").json["limits"]
    assert (limits["max_cost_usd"], limits["max_tokens"]) == (2.0, 20_000)
    in_shards(path, 3)


def test_shards_owe_together_what_the_whole_owes(tmp_path: Path) -> None:
    """Where the whole has just the rows asked for, so has each shard; one that filters a row is told so, not failed."""
    spec = {**SIMULATED, "input": {"count": 10}, "accept": {"min_rows": 10}, "output": {"path": "out/rows.jsonl"}}
    in_shards(write(tmp_path, spec), 4)
    called = synth("run", write(tmp_path, {**spec, "keep_if": "index != 9"}), "--shard", "2/4", "--quiet")
    assert (called.code, called.err.splitlines()[:2]) == (
        1,
        [
            "synth: not accepted: 2 rows, and accept asks for 3; the old output stays",
            "  no row failed: give more input, filter less, or lower accept.min_rows",
        ],
    )


@pytest.mark.parametrize(
    ("text", "said"), [("0/4", "0/4"), ("5/4", "5/4"), ("1", "1"), ("1/0", "1/0"), ("a/b", "a/b"), ("-1/2", "-1/2")]
)
def test_what_is_no_part_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Parts count from 1 to n."""
    called = synth("run", write(tmp_path, SIMULATED), f"--shard={text}")
    assert (called.code, called.err) == (
        2,
        f"synth: --shard: '{said}' is no part of a whole\n  write it like 1/4: the first of four; the last is 4/4\n",
    )


def test_a_message_names_the_shard_in_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to run again is the same shard."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, {**SIMULATED, "generation_params": {"max_tokens": 9}})
    called = synth("run", path, "--shard", "2/3", "--max-time", "0.000001s")
    assert called.code == 75
    assert "synth run job.yaml --shard 2/3 --max-time" in called.err


@pytest.mark.parametrize(
    "change",
    [
        {"input": {"rows": [{"_shard": "mine"}]}},
        {"columns": {"_shard": "{{ response }}"}},
        {"response": {"schema": {"_shard": "str"}}},
        {"steps": [{"name": "a", "prompt": "Hi", "columns": {"_shard": "x"}}, {"name": "b", "prompt": "Ho"}]},
    ],
    ids=["input", "columns", "answer", "chain"],
)
def test_the_column_of_the_marks_is_not_the_users(tmp_path: Path, change: dict[str, Any]) -> None:
    """Where the spec tells that there is one, nothing is asked; a run of the whole may have it."""
    spec = {"model": "simulator", "input": {"count": 2}, **change}
    path = write(tmp_path, spec if "steps" in spec else {**spec, "prompt": "Hi"})
    for command in ("plan", "run"):
        called = synth(command, path, "--shard", "1/2")
        assert (called.code, called.err.splitlines()[0]) == (
            2,
            "synth: --shard: the output has a column _shard of its own, where the mark of each row goes",
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]
    assert synth("run", path).code == 0


def test_a_column_of_the_marks_that_only_a_row_tells_ends_the_run(tmp_path: Path) -> None:
    """It is not written over; what left behind does not come into the output is no trouble."""
    (tmp_path / "in.jsonl").write_text(
        "".join(f'{{"n": {n}, "{"_shard" if n == 150 else "x"}": 1}}\n' for n in range(160))
    )
    spec = {"model": "simulator", "input": {"path": "in.jsonl"}, "prompt": "Hi", "output": {"path": "out/rows.jsonl"}}
    called = synth("run", write(tmp_path, spec), "--shard", "1/2", "--quiet")
    assert (called.code, "the output has a column _shard of its own" in called.err) == (2, True)
    assert not part(tmp_path, 1, 2).exists()
    assert synth("run", write(tmp_path, {**spec, "carry": ["n"]}), "--shard", "1/2", "--quiet").code == 0


def test_a_shard_keeps_its_rows_when_the_input_grows(tmp_path: Path) -> None:
    """More rows at the end move none to another shard: only the new ones are asked."""
    table = tmp_path / "in.csv"
    table.write_text("word\n" + "".join(f"w{n}\n" for n in range(5)))
    spec = {"input": {"path": "in.csv"}, "prompt": "{{ word }}", "output": {"path": "out/rows.jsonl"}}
    with serving(lambda asked: Say(asked.user)) as server:
        path = write(tmp_path, {"model": {"name": "m", "base_url": server.url, "backend": "openai"}, **spec})
        in_shards(path, 2)
        asked = len(server.asked)
        table.write_text(table.read_text() + "w5\nw6\n")
        in_shards(path, 2)
        new = [one.user for one in server.asked[asked:]]
    assert sorted(new) == ["w5", "w6"]
    assert synth("merge", tmp_path / "merged.jsonl", part(tmp_path, 1, 2), part(tmp_path, 2, 2)).code == 0
    found = [orjson.loads(line)["word"] for line in (tmp_path / "merged.jsonl").read_bytes().splitlines()]
    assert found == [f"w{n}" for n in range(7)]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"name": "once", "type": "dedup", "by": "topic", "method": "exact"}, "the step once compares all rows"),
        ({"name": "kinds", "type": "group", "by": "topic"}, "the step kinds brings rows together"),
        ({"name": "both", "type": "map", "from": ["topics", "stories"]}, "the step both joins rows end to end"),
    ],
    ids=["dedup", "group", "join"],
)
def test_what_is_of_all_rows_is_not_done_in_parts(tmp_path: Path, step: dict[str, Any], said: str) -> None:
    """A step whose rows depend on other rows than its own is refused before anything is asked."""
    called = synth("run", write(tmp_path, {**CHAIN, "steps": [*CHAIN["steps"], step]}), "--shard", "1/2")
    assert (called.code, called.err.splitlines()[0]) == (2, f"synth: --shard: {said}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]


def test_target_rows_are_not_made_in_parts(tmp_path: Path) -> None:
    """How many inputs are drawn depends on all that passed."""
    spec = {key: value for key, value in SIMULATED.items() if key != "input"}
    called = synth("run", write(tmp_path, {**spec, "target_rows": {"rows": 3}}), "--shard", "1/2")
    assert called.code == 2
    assert called.err.startswith("synth: --shard: target_rows counts the rows that pass in the whole input\n")
