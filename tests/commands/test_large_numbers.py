"""Integers beyond 64 bits, in answers and computed ones: no digits are made up, and no run ends by them."""

from __future__ import annotations

from pathlib import Path

from chains import chain, step
from command_line import last_run, rows, synth, write
from scripted_server import Asked, Say, serving


def test_an_integer_beyond_64_bits_is_a_fault_of_its_answer_alone(tmp_path: Path) -> None:
    """It is asked for again with the reason, and the digits of a good answer are those that were said."""
    answers = {"one": '{"n": 10000000000000000000000000000000000001}', "two": '{"n": 18446744073709551615}'}

    def script(asked: Asked) -> Say:
        return Say(answers.get(asked.user, '{"n": 3}'))

    with serving(script) as server:
        ask = step("ask", "{{ word }}", response={"schema": {"n": "int"}, "feedback": True})
        more = {"name": "more", "type": "map", "columns": {"m": "{{ n - 1 }}"}}
        assert synth("run", write(tmp_path, chain(server.url, ask, more))).code == 0
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "one", "n": 3, "m": 2},
        {"word": "two", "n": 2**64 - 1, "m": 2**64 - 2},
        {"word": "three", "n": 3, "m": 2},
    ]
    assert [one.user for one in server.asked if "fit in 64 bits, unlike 1e+37" in one.user]


def test_a_failed_row_may_hold_any_integer(tmp_path: Path) -> None:
    """Computed ones keep their digits in failed.jsonl, in a prompt and in `preview`, and the other rows are written."""
    big = {"name": "big", "type": "map", "columns": {"n": "{{ 10 ** 30 + 1 }}", "all": "{{ [10 ** 30] }}"}}
    late = {"name": "late", "type": "map", "columns": {"m": "{{ 1 // (word != 'two') }}"}}
    with serving() as server:
        path = write(tmp_path, chain(server.url, big, step("tell", "{{ n }}"), late))
        assert synth("run", path).code == 1
        assert f"{10**30 + 1}" in synth("preview", path, "--json").out
    assert [(row["word"], row["response"]) for row in rows(tmp_path / "job.jsonl")] == [
        ("one", str(10**30 + 1)),
        ("three", str(10**30 + 1)),
    ]
    written = (last_run(tmp_path) / "failed.jsonl").read_text()
    assert f'"n":{10**30 + 1},"all":[{10**30}]' in written
