"""`target_rows`: inputs are drawn until so many rows passed, and few more than are needed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from chains import BROKEN, NO, chain, step
from command_line import rows, spec, synth, words, write
from scripted_server import Asked, Say, echo, serving


def numbers(asked: Asked) -> int:
    return int(asked.user.split()[-1].strip("."))


def target(url: str, wanted: int, most: int | None = None, **more: Any) -> dict[str, Any]:
    """Every third row passes: 2, 5, 8, …"""
    said = {"rows": wanted, **({} if most is None else {"max_candidates": most})}
    return spec(
        url,
        {"prompt": "Row {{ index }}", "keep_if": "index % 3 == 2", "target_rows": said, "input": {}, **more},
    )


def test_the_first_rows_that_pass_are_published_in_input_order(tmp_path: Path) -> None:
    """Candidates are asked until enough passed; the outcome says how many were read, kept and filtered."""
    with serving(lambda asked: Say(asked.user, after=0.02 * (9 - numbers(asked) % 9))) as server:
        called = synth("run", write(tmp_path, target(server.url, 4)), "--json")
    assert called.code == 0
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [2, 5, 8, 11]
    assert called.json["rows"]["out"] == 4
    assert sorted(map(numbers, server.asked)) == list(range(len(server.asked)))
    assert 12 <= len(server.asked) <= 24


@pytest.mark.parametrize("seed", range(4))
def test_the_outcome_does_not_depend_on_timing(tmp_path: Path, seed: int) -> None:
    """However long each answer takes: the same rows and the same requests."""
    chance = random.Random(seed)
    asked = []
    for script in (echo, lambda asked: Say(asked.user, after=0.05 * chance.random())):
        with serving(script) as server:
            assert synth("run", write(tmp_path, target(server.url, 5))).code == 0
        assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [2, 5, 8, 11, 14]
        asked.append(sorted(map(numbers, server.asked)))
    assert asked[0] == asked[1] == list(range(len(asked[0])))


def test_when_all_pass_only_so_many_are_asked(tmp_path: Path) -> None:
    """Without a filter the target is the number of requests."""
    with serving() as server:
        made = target(server.url, 7, keep_if="true")
        assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == len(rows(tmp_path / "job.jsonl")) == 7


def test_exhaustion_is_exit_1_and_what_came_through_is_published(tmp_path: Path) -> None:
    """No more candidates than allowed, and it is said what was missing."""
    with serving() as server:
        called = synth("run", write(tmp_path, target(server.url, 5, 10)))
    assert (called.code, len(server.asked)) == (1, 10)
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [2, 5, 8]
    assert "3 rows came through of the 5 that target_rows asks for, from 10 inputs" in called.err


def test_a_source_that_ends_is_exhausted(tmp_path: Path) -> None:
    """`target_rows` reads on in the source, to its end."""
    source = {"rows": [{"word": f"w{n}"} for n in range(6)]}
    with serving() as server:
        made = target(server.url, 3, input=source)
        called = synth("run", write(tmp_path, made))
        assert (called.code, len(server.asked)) == (1, 6)
        assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["w2", "w5"]
        assert synth("run", write(tmp_path, target(server.url, 2, input=source))).code == 0
    assert len(server.asked) == 6


def test_failed_candidates_are_drawn_over(tmp_path: Path) -> None:
    """A candidate that failed is no failure of the target: others take its place."""
    with serving(lambda asked: NO if numbers(asked) in (2, 8) else echo(asked)) as server:
        called = synth("run", write(tmp_path, target(server.url, 3)), "--json")
    assert called.code == 0
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [5, 11, 14]
    assert called.json["rows"]["failed"] == 2


def test_running_again_changes_nothing_and_a_higher_target_goes_on(tmp_path: Path) -> None:
    """What was drawn is not drawn again; the first rows stay the first."""
    with serving() as server:
        path = write(tmp_path, target(server.url, 2))
        assert synth("run", path).code == 0
        asked, before = len(server.asked), (tmp_path / "job.jsonl").read_bytes()
        assert synth("run", path).code == 0
        assert (len(server.asked), (tmp_path / "job.jsonl").read_bytes()) == (asked, before)
        assert synth("run", write(tmp_path, target(server.url, 5))).code == 0
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [2, 5, 8, 11, 14]
    assert sorted(map(numbers, server.asked)) == list(range(len(server.asked)))


def test_it_resumes_where_a_budget_cut_it(tmp_path: Path) -> None:
    """The same rows as undisturbed, nothing asked twice."""
    with serving() as server:
        made = target(
            server.url,
            3,
            generation_params={"max_tokens": 10},
            backend_params={"max_concurrent_requests": 1},
        )
        (tmp_path / "calm").mkdir()
        assert synth("run", write(tmp_path / "calm", made)).code == 0
        calm = sorted(map(numbers, server.asked))
        server.asked.clear()
        path = write(tmp_path, made)
        assert synth("run", path, "--set", "budget.max_tokens=120").code == 4
        assert 0 < len(server.asked) < len(calm)
        assert synth("run", path).code == 0
    assert sorted(map(numbers, server.asked)) == calm
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [2, 5, 8]


def test_it_counts_the_rows_of_the_last_step(tmp_path: Path) -> None:
    """Fan-out and filters of all steps, and duplicates, count; what is too much is cut off."""
    with serving(lambda asked: Say(asked.user.upper())) as server:
        made = chain(
            server.url,
            step("list", "List {{ index }}", each="[1, 1, 2]", columns={"n": "{{ index }}-{{ item }}"}),
            {"name": "once", "type": "dedup", "by": "n"},
            step("tell", "Tell {{ n }}", keep_if="index != 1"),
            input={},
            target_rows={"rows": 5},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert [row["n"] for row in rows(tmp_path / "job.jsonl")] == ["0-1", "0-2", "2-1", "2-2", "3-1"]
    assert len([one for one in words(server.asked) if one.startswith("List")]) <= 6


def test_candidates_that_only_failed_for_now_are_not_given_up(tmp_path: Path) -> None:
    """The next round asks them again, and takes them if they pass: the first in input order win."""
    with serving(lambda asked: BROKEN if numbers(asked) == 2 else echo(asked)) as server:
        path = write(tmp_path, target(server.url, 2, backend_params={"max_retries": 0}))
        assert synth("run", path).code == 0
        assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [5, 8]
        server.script = echo
        assert synth("run", path).code == 0
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == [2, 5]
