"""A job in parts: what each part asks and writes, and how the parts become the whole again."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import orjson
import pytest
from command_line import failures, rows, started, synth, write
from scripted_server import Asked, Say, serving

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".parquet")
COLUMNS = {"n": "{{ index }}", "text": "{{ response }}"}
SIMULATED: dict[str, Any] = {
    "model": "simulator",
    "input": {"count": 11},
    "prompt": "Say one thing.",
    "carry": False,
    "columns": COLUMNS,
}


def in_shards(path: Path, of: int, *options: object) -> None:
    for number in range(1, of + 1):
        called = synth("run", path, "--shard", f"{number}/{of}", *options)
        assert called.code == 0, called.err


def part(folder: Path, number: int, of: int, suffix: str = ".jsonl") -> Path:
    return folder / f"out/rows.shard-{number}-of-{of}{suffix}"


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
    assert rows(part(tmp_path, 2, 3)) == [{"index": n, "response": f"ROW {n}", "_shard": f"2/3:{n}"} for n in (1, 4, 7)]
    assert (called.code, called.json["rows"]["in"], called.json["job"]["name"]) == (0, 3, "job.shard-2-of-3")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_merged_parts_are_the_whole_output(tmp_path: Path, suffix: str) -> None:
    """Byte for byte what a run of all writes, also where rows become several, or none."""
    spec = {
        **SIMULATED,
        "prompt": "Say something about {{ index }}.",
        "response": {"schema": {"parts": ["str"]}},
        "each": "response.parts[:index % 4]",
        "columns": {"n": "{{ index }}", "part": "{{ item }}"},
        "keep_if": "index != 5",
    }
    assert synth("run", write(tmp_path, {**spec, "output": {"path": f"whole{suffix}"}}, "whole.yaml")).code == 0
    in_shards(write(tmp_path, {**spec, "output": {"path": f"out/rows{suffix}"}}, "parts.yaml"), 4)
    called = synth("merge", tmp_path / f"merged{suffix}", *(part(tmp_path, n, 4, suffix) for n in (3, 1, 4, 2)))
    assert called.code == 0, called.err
    assert (tmp_path / f"merged{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_parts_of_any_formats_become_any_other(tmp_path: Path) -> None:
    """Each part may be of a format of its own."""
    spec = {**SIMULATED, "columns": {"text": "{{ response }}"}}
    path = write(tmp_path, {**spec, "output": {"path": [f"out/rows{suffix}" for suffix in SUFFIXES]}})
    in_shards(path, len(SUFFIXES))
    parts = [part(tmp_path, number, len(SUFFIXES), suffix) for number, suffix in enumerate(SUFFIXES, 1)]
    assert synth("run", path).code == 0
    assert synth("merge", tmp_path / "merged.jsonl", *parts).err == f"{tmp_path}/merged.jsonl: 11 rows of 5 shards\n"
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "out/rows.jsonl").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_shards_than_rows_are_no_trouble(tmp_path: Path, suffix: str) -> None:
    """A shard without rows writes an empty output, and the merged one is valid: that of a run of all."""
    spec = {**SIMULATED, "input": {"count": 2}}
    assert synth("run", write(tmp_path, {**spec, "output": {"path": f"whole{suffix}"}}, "whole.yaml")).code == 0
    in_shards(write(tmp_path, {**spec, "output": {"path": f"out/rows{suffix}"}}, "parts.yaml"), 4)
    empty = tmp_path / f"empty{suffix}"
    part(tmp_path, 4, 4, suffix).rename(empty)
    parts = [*(part(tmp_path, number, 4, suffix) for number in (1, 2, 3)), empty]
    assert synth("merge", tmp_path / f"merged{suffix}", *parts).code == 0
    assert (tmp_path / f"merged{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_an_input_without_rows_merges_to_an_empty_output(tmp_path: Path) -> None:
    """Nothing but empty parts is an output without rows."""
    in_shards(write(tmp_path, {**SIMULATED, "input": {"count": 0}, "output": {"path": "out/rows.jsonl"}}), 2)
    assert synth("merge", tmp_path / "merged.jsonl", part(tmp_path, 1, 2), part(tmp_path, 2, 2)).code == 0
    assert (tmp_path / "merged.jsonl").read_bytes() == b""


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
    called = synth("run", path, "--shard", "3/3", "--quiet")
    assert (called.code, called.err.splitlines()[0]) == (
        1,
        "synth: not accepted: 3 rows, and accept asks for 4; the old output stays",
    )
    assert synth("run", path, "--shard", "1/3").code == 0


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


def parts_of(folder: Path, of: int) -> list[Path]:
    in_shards(write(folder, {**SIMULATED, "output": {"path": "out/rows.jsonl"}}), of)
    return [part(folder, number, of) for number in range(1, of + 1)]


def refused(*arguments: object) -> str:
    called = synth("merge", *arguments)
    assert called.code == 2, called.err
    return called.err


def test_what_is_no_whole_is_refused_and_the_old_output_stays(tmp_path: Path) -> None:
    """A missing part, one given twice, one of another split, one that is no part: exit 2, by name."""
    one, two, three = parts_of(tmp_path, 3)
    copy, plain, out = tmp_path / "copy.jsonl", tmp_path / "plain.jsonl", tmp_path / "merged.jsonl"
    copy.write_bytes(two.read_bytes())
    plain.write_text('{"text": "a"}\n')
    out.write_text("old\n")
    synth("run", tmp_path / "job.yaml", "--shard", "1/2")
    other = part(tmp_path, 1, 2)
    assert refused(out, one, three) == "synth: 1 shard missing: 2/3\n  run it first: synth run SPEC --shard 2/3\n"
    assert refused(out, one, two, copy, three).startswith(f"synth: {two} and {copy} are both shard 2/3\n")
    assert refused(out, one, two, two, three).startswith(f"synth: {two}: given twice\n")
    assert refused(out, one, two, other).startswith(f"synth: {one} is shard 1/3 and {other} is shard 1/2: parts of")
    assert refused(out, one, two, plain).startswith(
        f"synth: {plain}: row 1 has no mark of a shard in the column _shard\n"
    )
    gone = part(tmp_path, 4, 9)
    assert refused(out, one, gone) == (
        f"synth: {gone}: there is no such file\n  run it first: synth run SPEC --shard 4/9\n"
    )
    assert refused(one, one, two, three).startswith(f"synth: {one}: the output is also a part\n")
    assert refused(tmp_path / "merged.txt", one, two, three).startswith(f"synth: {tmp_path}/merged.txt: the suffix")
    assert out.read_text() == "old\n"


def test_a_part_that_was_changed_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Rows out of order or of another shard, and a line that is no JSON, are named; no half of an output is left."""
    one, two = parts_of(tmp_path, 2)
    lines = one.read_bytes().splitlines(keepends=True)
    wrong = {
        b"".join([lines[1], lines[0], *lines[2:]]): "row 2 comes from input row 0, out of its order",
        b"".join([*lines, two.read_bytes()]): "row 7 has the mark of shard 2/2, not 1/2",
        b"".join([*lines[:2], b'{"text": "x"}\n']): "row 3 has no mark of a shard",
        b"".join([*lines, b'{"text": ']): ":7:",
    }
    for data, said in wrong.items():
        one.write_bytes(data)
        assert said in refused(tmp_path / "merged.jsonl", one, two)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".synth", "job.yaml", "out"]


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


def test_many_parts_are_read_side_by_side(tmp_path: Path) -> None:
    """More files than may be open at first, in no order of their names."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    parts = [tmp_path / f"{number}.jsonl" for number in range(1, 201)]
    for number, path in enumerate(parts, 1):
        marked = [{"n": index, "_shard": f"{number}/200:{index}"} for index in (number - 1, number + 199)]
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in marked))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, limits[1]))
        called = synth("merge", tmp_path / "out.jsonl", *reversed(parts))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert called.code == 0, called.err
    assert rows(tmp_path / "out.jsonl") == [{"n": index} for index in range(400)]


CHAIN: dict[str, Any] = {
    "input": {"count": 7},
    "model": "simulator",
    "steps": [
        {
            "name": "topics",
            "prompt": "Name topics.",
            "response": {"schema": {"topics": ["str"]}},
            "each": "response.topics",
            "columns": {"topic": "{{ item }}"},
        },
        {"name": "stories", "samples": 2, "prompt": "Of {{ topic }}.", "columns": {"story": "{{ response }}"}},
    ],
}


def test_a_chain_in_parts_is_the_chain(tmp_path: Path) -> None:
    """Rows of later steps, which have no position in the input of their own, come back in their order."""
    assert synth("run", write(tmp_path, {**CHAIN, "output": {"path": "whole.jsonl"}}, "whole.yaml")).code == 0
    in_shards(write(tmp_path, {**CHAIN, "output": {"path": "out/rows.jsonl"}}, "parts.yaml"), 3)
    assert synth("merge", tmp_path / "merged.jsonl", *(part(tmp_path, n, 3) for n in (1, 2, 3))).code == 0
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(rows(tmp_path / "merged.jsonl")) > 14


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
