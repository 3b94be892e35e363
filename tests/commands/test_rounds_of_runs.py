"""What is asked again and what never: identity, rounds, epochs, and what was given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import failures, last_run, rows, spec, synth, words, write
from scripted_server import Asked, Say, echo, serving

from synth_cli.core.request import STRIDE

BAD = Say(None, 400, {"error": {"message": "no such word"}})
BROKEN = Say(None, 500, {"error": {"message": "broken"}})
ONCE = {"max_retries": 0}


def refuse(word: str, answer: Say = BAD) -> Any:
    return lambda asked: answer if word in asked.user else echo(asked)


def test_running_again_asks_nothing_and_writes_the_same(tmp_path: Path) -> None:
    """A second run pays for nothing and publishes the same file."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 0
        before = (tmp_path / "job.jsonl").read_bytes()
        again = synth("run", path, "--json")
    assert (again.code, again.json["traffic"]["requests"], again.json["rows"]["reused"]) == (0, 0, 3)
    assert (tmp_path / "job.jsonl").read_bytes() == before
    assert len(server.asked) == 3


def test_an_edited_system_prompt_asks_all_anew(tmp_path: Path) -> None:
    """The system prompt is part of what a request is."""
    with serving() as server:
        for system in ("Be brief.", "Be long.", "Be brief."):
            made = spec(server.url, prompt={"system": system, "user": "Say {{ word }}."})
            assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == 6


def test_an_edited_prompt_asks_only_for_the_rows_it_changes(tmp_path: Path) -> None:
    """A change that touches one row's text asks for that row alone."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
        edited = "Say {{ word }}.{% if word == 'two' %} Loudly.{% endif %}"
        assert synth("run", write(tmp_path, spec(server.url, prompt=edited))).code == 0
    assert [one.user for one in server.asked[3:]] == ["Say two. Loudly."]
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == ["Say one.", "Say two. Loudly.", "Say three."]


def test_a_row_added_in_front_asks_for_itself_alone(tmp_path: Path) -> None:
    """Answers belong to contents, not to positions."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
        made = spec(server.url, input={"rows": [{"word": w} for w in ("zero", "two", "one", "three")]})
        assert synth("run", write(tmp_path, made)).code == 0
    assert [one.user for one in server.asked[3:]] == ["Say zero."]
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == [
        f"Say {w}." for w in ("zero", "two", "one", "three")
    ]


def test_an_answer_that_is_no_good_is_asked_for_with_another_seed(tmp_path: Path) -> None:
    """Within a round and in the next one: none of the seeds that gave it is sent again."""
    keys = {
        "input": {"rows": [{"word": "one"}]},
        "generation_params": {"seed": 5},
        "response": {"choice": ["yes", "no"]},
        "backend_params": {"max_retries": 2},
    }
    with serving() as server:
        path = write(tmp_path, spec(server.url, **keys))
        assert (synth("run", path).code, synth("run", path).code) == (1, 1)
    assert [one.body["seed"] for one in server.asked] == [5 + n * STRIDE for n in range(6)]


@pytest.mark.parametrize(
    "change",
    [
        {"columns": {"x": "{{ response }}"}},
        {"output": {"path": "other.csv"}},
        {"output": {"metadata": True}},
        {"carry": False},
        {"keep_if": "word != 'one'"},
        {"parse": "code.py:rows"},
        {"response": {"check": "response"}},
        {"accept": {"min_rows": 1}},
        {"labels": {"a": "b"}},
        {"description": "Other words."},
        {"budget": {"max_tokens": 10_000_000}, "generation_params": {"max_tokens": 9}},
        {"backend_params": {"max_retries": 9, "max_requests_per_minute": 6000, "request_timeout": 5}},
        {"input": {"rows": [{"word": w, "more": 1} for w in ("one", "two", "three")]}},
    ],
    ids="+".join,
)
def test_what_does_not_change_a_request_asks_for_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    """Columns, parse, output, acceptance, limits and columns that no prompt uses cost nothing to change."""
    (tmp_path / "code.py").write_text("def rows(row, response):\n    return {'x': response}\n")
    with serving() as server:
        base = spec(server.url, generation_params={"max_tokens": 9})
        assert synth("run", write(tmp_path, base)).code == 0
        assert synth("run", write(tmp_path, {**base, **change})).code == 0
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"generation_params": {"temperature": 0.5}},
        {"model": "other"},
        {"response": {"choice": ["Say one.", "Say two.", "Say three."]}},
        {"tools": [{"name": "f", "parameters": {"type": "object", "properties": {}}}]},
    ],
    ids="+".join,
)
def test_what_changes_a_request_asks_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    """Model, parameters, constraint and tools are part of a request."""
    with serving() as server:
        base = spec(server.url)
        assert synth("run", write(tmp_path, base)).code == 0
        if "model" in change:
            change = {"model": {**base["model"], "name": "other"}}
        assert synth("run", write(tmp_path, {**base, **change})).code == 0
    assert len(server.asked) == 6


def test_another_key_is_not_another_request(tmp_path: Path) -> None:
    """Secrets are no part of a request's identity."""
    with serving() as server:
        made = spec(server.url)
        assert synth("run", write(tmp_path, made)).code == 0
        made["model"]["api_key"] = "sk-changed-key"
        assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == 3


def test_equal_rows_are_separate_requests(tmp_path: Path) -> None:
    """`count: 5` with one constant prompt is five requests and five rows, and five more are asked for ten."""
    with serving(lambda asked: Say(f"answer {asked.number}")) as server:
        assert synth("run", write(tmp_path, spec(server.url, input={"count": 5}, prompt="Hi."))).code == 0
        five = [row["response"] for row in rows(tmp_path / "job.jsonl")]
        assert synth("run", write(tmp_path, spec(server.url, input={"count": 10}, prompt="Hi."))).code == 0
    ten = [row["response"] for row in rows(tmp_path / "job.jsonl")]
    assert (len(set(five)), len(set(ten)), ten[:5]) == (5, 10, five)
    assert len(server.asked) == 10


def test_a_seed_counts_up_with_sample_and_draw(tmp_path: Path) -> None:
    """A `seed` in the parameters is sent as seed + sample + draw, so that equal requests differ."""
    with serving() as server:
        made = spec(server.url, input={"count": 2}, prompt="Hi.", samples=2, generation_params={"seed": 40})
        assert synth("run", write(tmp_path, made)).code == 0
    assert sorted(one.body["seed"] for one in server.asked) == [40, 41, 41, 42]


def test_more_samples_ask_only_for_the_new_ones(tmp_path: Path) -> None:
    """Raising `samples` keeps the samples that are there."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
        assert synth("run", write(tmp_path, spec(server.url, samples=2))).code == 0
    assert len(server.asked) == 6


def test_the_next_run_asks_again_what_may_come_now(tmp_path: Path) -> None:
    """A round ends with exit 1; the next one gives retryable failures new attempts, and only them."""
    with serving(refuse("two", BROKEN)) as server:
        path = write(tmp_path, spec(server.url, backend_params={"max_retries": 1}))
        assert synth("run", path).code == 1
        assert [one["error"] for one in failures(tmp_path)] == ["server error: HTTP 500: broken"]
        server.script = echo
        assert synth("run", path).code == 0
    assert [one.user for one in server.asked[4:]] == ["Say two."]
    assert len(rows(tmp_path / "job.jsonl")) == 3


def test_failed_for_good_is_asked_again_only_when_asked_for(tmp_path: Path) -> None:
    """A 400 is not asked again by the next run, but by `--retry-failed`; until then it stays in failed.jsonl."""
    with serving(refuse("two")) as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 1
        server.script = echo
        second = synth("run", path)
        assert (second.code, len(server.asked)) == (1, 3)
        assert [one["error"] for one in failures(tmp_path)] == ["bad request: HTTP 400: no such word"]
        assert synth("run", path, "--retry-failed").code == 0
    assert [one.user for one in server.asked[3:]] == ["Say two."]


def test_failed_for_good_is_asked_when_it_changed(tmp_path: Path) -> None:
    """An edited prompt is another request, which did not fail."""
    with serving(refuse("two.")) as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 1
        assert synth("run", write(tmp_path, spec(server.url, prompt="Say {{ word }}!"))).code == 0
    assert len(server.asked) == 6


def test_a_content_filter_is_not_asked_again_by_itself(tmp_path: Path) -> None:
    """An answer withheld by the provider is asked for again within its retries, then only when asked for."""
    with serving(refuse("two", Say("", finish="content_filter"))) as server:
        path = write(tmp_path, spec(server.url, backend_params=ONCE))
        assert synth("run", path).code == 1
        before = len(server.asked)
        assert synth("run", path).code == 1
        assert len(server.asked) == before
        server.script = echo
        assert synth("run", path, "--retry-failed").code == 0
    assert len(server.asked) == before + 1


def test_fresh_starts_a_new_epoch_after_a_complete_one(tmp_path: Path) -> None:
    """`--fresh` asks everything anew; plain runs after it go on with the new answers."""
    with serving(lambda asked: Say(f"answer {asked.number}")) as server:
        path = write(tmp_path, spec(server.url, backend_params={"max_concurrent_requests": 1}))
        assert synth("run", path).code == 0
        assert synth("run", path, "--fresh").code == 0
        assert synth("run", path).code == 0
    assert len(server.asked) == 6
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == ["answer 3", "answer 4", "answer 5"]


def test_fresh_goes_on_with_an_epoch_that_is_not_complete(tmp_path: Path) -> None:
    """A fresh run that was cut short by its budget is continued by `--fresh`, not begun once more."""
    made = {"generation_params": {"max_tokens": 10}, "backend_params": {"max_concurrent_requests": 1}}
    with serving() as server:
        path = write(tmp_path, spec(server.url, made))
        assert synth("run", path).code == 0
        assert synth("run", path, "--fresh", "--set", "budget.max_tokens=70").code == 4
        cut = len(server.asked)
        assert 3 < cut < 6
        assert synth("run", path, "--fresh").code == 0
    assert len(server.asked) == 6


def test_a_first_run_with_fresh_is_a_first_run(tmp_path: Path) -> None:
    """`--fresh` before there is anything changes nothing."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path, "--fresh").code == 0
        assert synth("run", path).code == 0
    assert len(server.asked) == 3


def test_a_preview_leaves_a_finished_job_finished(tmp_path: Path) -> None:
    """`preview --run` of an answered row asks nothing, and `--fresh` after it starts a new epoch all the same."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 0
        assert synth("preview", path, "--run", "-n", "1").code == 0
        assert len(server.asked) == 3
        assert synth("status", path, "--json").json["round_open"] is False
        assert synth("run", path, "--fresh").code == 0
    assert len(server.asked) == 6


def test_what_a_preview_asked_is_not_paid_for_again(tmp_path: Path) -> None:
    """The answers of `preview --run` are in the ledger for the run that follows."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        shown = synth("preview", path, "--run", "--row", "1", "--json")
        assert [one["output"] for one in shown.json] == [[{"word": "two", "response": "Say two."}]]
        assert synth("run", path).code == 0
    assert words(server.asked) == ["Say one.", "Say three.", "Say two."]


def test_no_calls_publishes_what_is_answered(tmp_path: Path) -> None:
    """`--no-calls` asks nothing, publishes the rows there are and exits 1 for those that are not."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path, "--limit", "2", "--output", tmp_path / "few.jsonl").code == 0
        called = synth("run", path, "--no-calls", "--json")
    assert (called.code, len(server.asked)) == (1, 2)
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two"]
    assert {key: called.json["rows"][key] for key in ("in", "out", "failed", "unasked")} == {
        "in": 3,
        "out": 2,
        "failed": 0,
        "unasked": 1,
    }
    told = (called.json["run"]["exit_reason"], called.json["run"]["hint"])
    assert told == ("1 of 3 rows are not asked yet", "run again without --no-calls to ask for them")


def test_no_calls_needs_no_key(tmp_path: Path) -> None:
    """Publishing what is answered works without credentials."""
    with serving() as server:
        made = {"model": "openai/gpt-5-mini", "input": {"count": 1}, "prompt": "Hi."}
        path = write(tmp_path, made)
        assert synth("run", path, env={"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": server.url}).code == 0
        (tmp_path / "job.jsonl").unlink()
        assert synth("run", path, "--no-calls").code == 0
    assert len(rows(tmp_path / "job.jsonl")) == 1


def test_attempts_count_over_the_runs_of_a_round(tmp_path: Path) -> None:
    """A run that a fault of the account ended goes on in the same round with the attempts that are left."""

    def script(asked: Asked) -> Say:
        return Say(None, 401, {"error": {"message": "expired"}}) if asked.number == 1 else BROKEN

    with serving(script) as server:
        made = spec(server.url, input={"count": 1}, prompt="Hi.", backend_params={"max_retries": 1})
        path = write(tmp_path, made)
        assert synth("run", path).code == 3
        assert synth("run", path).code == 1
    # a broken one, the refused key (not the row's fault), and the one that is left of two
    assert len(server.asked) == 3


def test_an_invalid_answer_is_judged_by_todays_spec(tmp_path: Path) -> None:
    """Answers that a check refused are taken without asking when the check goes."""
    with serving() as server:
        strict = spec(server.url, response={"check": "response == 'x'"}, backend_params=ONCE)
        assert synth("run", write(tmp_path, strict)).code == 1
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
    assert len(server.asked) == 3


def test_nothing_succeeds_so_it_stops_early_and_says_why(tmp_path: Path) -> None:
    """No success in the first attempts ends the run with exit 1 and the commonest error, and keeps the rest unasked."""
    with serving(lambda _: BROKEN) as server:
        made = spec(
            server.url, input={"count": 2000}, prompt="Hi {{ index }}.", backend_params={"max_concurrent_requests": 16}
        )
        called = synth("run", write(tmp_path, made))
    assert called.code == 1
    assert 64 <= len(server.asked) < 100
    assert "none of the first" in called.err
    assert "server error: HTTP 500: broken" in called.err
    first = rows(last_run(tmp_path) / "failed.jsonl")[0]
    assert first["attempts"][0]["error"] == "server error: HTTP 500: broken"


def test_on_failure_stop_ends_the_run(tmp_path: Path) -> None:
    """The first row that failed for good ends the run with exit 1; what is answered stays answered."""
    with serving(refuse("two")) as server:
        made = spec(server.url, on_failure="stop", backend_params={"max_concurrent_requests": 1})
        called = synth("run", write(tmp_path, made))
    assert called.code == 1
    assert words(server.asked) == ["Say one.", "Say two."]
    assert "no such word" in called.err
    assert not (tmp_path / "job.jsonl").exists()
    assert [one["row"] for one in failures(tmp_path)] == [{"word": "two"}]


def test_limit_zero_asks_nothing(tmp_path: Path) -> None:
    """`--limit 0` is no rows at all."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url)), "--limit", "0").code == 0
    assert server.asked == []
