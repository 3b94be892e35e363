"""`synth merge`: the outputs of shards become what a run of the whole writes, and what is no whole is refused."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import orjson
import pytest
from command_line import rows, synth, write
from shards import CHAIN, SIMULATED, SUFFIXES, in_shards, part


def parts_of(folder: Path, of: int) -> list[Path]:
    in_shards(write(folder, {**SIMULATED, "output": {"path": "out/rows.jsonl"}}), of)
    return [part(folder, number, of) for number in range(1, of + 1)]


def refused(*arguments: object) -> str:
    called = synth("merge", *arguments)
    assert called.code == 2, called.err
    return called.err


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
    """Each part may be of a format of its own: numbers stay numbers, and a CSV is as from one run."""
    path = write(tmp_path, {**SIMULATED, "output": {"path": [f"out/rows{suffix}" for suffix in SUFFIXES]}})
    in_shards(path, len(SUFFIXES))
    assert synth("run", path).code == 0
    for suffix in (".jsonl", ".csv"):
        formats = [each for each in SUFFIXES if each != ".csv" or suffix == ".csv"]
        parts = [part(tmp_path, n, len(SUFFIXES), formats[n % len(formats)]) for n in range(1, len(SUFFIXES) + 1)]
        out = tmp_path / f"merged{suffix}"
        assert synth("merge", out, *parts).err == f"{out}: 11 rows of 5 shards\n"
        assert out.read_bytes() == (tmp_path / f"out/rows{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".csv"])
def test_csv_parts_become_csv_only(tmp_path: Path, suffix: str) -> None:
    """CSV has no types: one part of it would give texts where a run of the whole writes numbers."""
    path = write(tmp_path, {**SIMULATED, "output": {"path": ["out/rows.csv", "out/rows.jsonl"]}})
    in_shards(path, 2)
    parts = part(tmp_path, 1, 2), part(tmp_path, 2, 2, ".csv")
    said = refused(tmp_path / f"merged{suffix}", *parts)
    assert said.startswith(f"synth: {parts[1]}: CSV has no types, so numbers and lists would be texts in {tmp_path}/")
    assert not (tmp_path / f"merged{suffix}").exists()


@pytest.mark.parametrize("limit", [(), ("--limit", 9)], ids=["all", "limit"])
@pytest.mark.parametrize("source", [{"count": 40}, {"count": 40, "where": "index % 5", "skip": 3, "take": 17}])
def test_a_shuffled_job_in_parts_is_the_whole(
    tmp_path: Path, source: dict[str, Any], limit: tuple[object, ...]
) -> None:
    """Rows come back in the order that the shuffle gives them, also where they become several, or none."""
    spec = {
        **CHAIN,
        "input": {**source, "shuffle": True},
        "steps": [{"name": "some", "type": "map", "carry": True, "keep_if": "index % 7"}, *CHAIN["steps"]],
    }
    assert synth("run", write(tmp_path, {**spec, "output": {"path": "whole.jsonl"}}, "whole.yaml"), *limit).code == 0
    in_shards(write(tmp_path, {**spec, "output": {"path": "out/rows.jsonl"}}, "parts.yaml"), 3, *limit)
    called = synth("merge", tmp_path / "merged.jsonl", *(part(tmp_path, n, 3) for n in (1, 2, 3)))
    assert called.code == 0, called.err
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_chain_in_parts_is_the_chain(tmp_path: Path) -> None:
    """Rows of later steps, which have no position in the input of their own, come back in their order."""
    assert synth("run", write(tmp_path, {**CHAIN, "output": {"path": "whole.jsonl"}}, "whole.yaml")).code == 0
    in_shards(write(tmp_path, {**CHAIN, "output": {"path": "out/rows.jsonl"}}, "parts.yaml"), 3)
    assert synth("merge", tmp_path / "merged.jsonl", *(part(tmp_path, n, 3) for n in (1, 2, 3))).code == 0
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(rows(tmp_path / "merged.jsonl")) > 14


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


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"name": "other"}, (), "other"),
        ({}, ("--limit", 8), "job --limit 8"),
        ({}, ("--simulate",), "job --simulate"),
        ({"input": {"count": 11, "shuffle": True}}, (), "job, shuffled"),
    ],
    ids=["name", "limit", "simulate", "shuffle"],
)
def test_parts_of_different_runs_are_no_whole(
    tmp_path: Path, change: dict[str, Any], options: tuple[object, ...], said: str
) -> None:
    """Shards of another job, or of another share of the input, are refused by name."""
    spec = {**SIMULATED, "name": "job", "output": {"path": "out/rows.jsonl"}}
    one, two = part(tmp_path, 1, 2), tmp_path / "two.shard-2-of-2.jsonl"
    assert synth("run", write(tmp_path, spec), "--shard", "1/2").code == 0
    changed = write(tmp_path, {**spec, **change})
    assert synth("run", changed, "--shard", "2/2", "--output", tmp_path / "two.jsonl", *options).code == 0
    assert refused(tmp_path / "merged.jsonl", one, two) == (
        f"synth: {one} is part of the run 'job' and {two} of '{said}'\n"
        "  run all shards of one job alike, with the same --limit or none\n"
    )


def test_a_part_that_was_changed_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Rows out of order or of another shard, and a line that is no JSON, are named; no half of an output is left."""
    one, two = parts_of(tmp_path, 2)
    lines = one.read_bytes().splitlines(keepends=True)
    wrong = {
        b"".join([lines[1], lines[0], *lines[2:]]): "row 2 comes from input row 0, out of its order",
        b"".join([*lines, two.read_bytes()]): "row 7 has the mark of shard 2/2 of 'job'",
        b"".join([*lines[:2], b'{"text": "x"}\n']): "row 3 has no mark of a shard",
        b"".join([*lines, b'{"text": ']): ":7:",
    }
    for data, said in wrong.items():
        one.write_bytes(data)
        assert said in refused(tmp_path / "merged.jsonl", one, two)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".synth", "job.yaml", "out"]


def test_many_parts_are_read_side_by_side(tmp_path: Path) -> None:
    """More files than may be open at first, in no order of their names."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    parts = [tmp_path / f"{number}.jsonl" for number in range(1, 201)]
    for number, path in enumerate(parts, 1):
        marked = [{"n": index, "_shard": f"{number}/200:{index} job"} for index in (number - 1, number + 199)]
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in marked))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, limits[1]))
        called = synth("merge", tmp_path / "out.jsonl", *reversed(parts))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert called.code == 0, called.err
    assert rows(tmp_path / "out.jsonl") == [{"n": index} for index in range(400)]
