"""What breaks in other tools of this field, each held here: caching, exit codes, outputs, empty input, rate limits."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import failures, rows, spec, started, synth, words, write
from scripted_server import Asked, Say, echo, serving

MANY = {"rows": [{"word": f"w{n:03}"} for n in range(200)]}
LATER = Say(None, 429, {"error": {"message": "rate limit reached"}})


def test_a_429_is_recognised_and_retry_after_is_kept(tmp_path: Path) -> None:
    """Every request is refused once with a time to wait; each waits that long, none fails, none is lost."""

    def script(asked: Asked) -> Say:
        return echo(asked) if asked.again else Say(None, 429, LATER.body, {"retry-after-ms": "200"})

    with serving(script) as server:
        called = synth("run", write(tmp_path, spec(server.url)), "--json")
        waits = [
            later.at - first.at for first in server.asked[:3] for later in server.asked[3:] if later.user == first.user
        ]
    assert (called.code, called.json["traffic"]["rate_limited"], len(waits)) == (0, 3, 3)
    assert min(waits) >= 0.19


def test_retries_run_beside_first_attempts(tmp_path: Path) -> None:
    """A row that broke is asked again long before the first pass is over, not after it."""

    def script(asked: Asked) -> Say:
        broken = asked.user == "Say w000." and not asked.again
        return Say(None, 500, {"error": {"message": "once"}}) if broken else Say(asked.user, after=0.02)

    with serving(script) as server:
        made = spec(server.url, input=MANY, backend_params={"max_concurrent_requests": 2})
        assert synth("run", write(tmp_path, made)).code == 0
        places = [one.number for one in server.asked if one.user == "Say w000."]
    assert len(places) == 2
    assert places[1] < 190


def test_a_server_without_rate_headers_is_used_at_full_speed(tmp_path: Path) -> None:
    """Nothing limits: dozens of requests are under way at once."""
    with serving(lambda asked: Say("x", after=0.05)) as server:
        assert synth("run", write(tmp_path, spec(server.url, input=MANY))).code == 0
    assert server.most >= 30


def test_a_structured_row_that_fails_for_good_fails_alone(tmp_path: Path) -> None:
    """The other rows are published and the run says 1; nothing crashes."""
    with serving(lambda asked: Say("{}" if "two" in asked.user else '{"a": "x"}')) as server:
        made = spec(server.url, response={"schema": {"a": "str"}}, backend_params={"max_retries": 1})
        assert synth("run", write(tmp_path, made)).code == 1
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "three"]
    assert [one["answer"] for one in failures(tmp_path)[0]["attempts"]] == ["{}", "{}"]


def test_prose_where_json_was_asked_is_a_failure_not_an_empty_row(tmp_path: Path) -> None:
    """Text that holds no JSON is no empty list and no empty object."""
    with serving(lambda _: Say("I would rather not.")) as server:
        made = spec(server.url, response={"schema": {"items": ["str"]}}, backend_params={"max_retries": 0})
        called = synth("run", write(tmp_path, made))
    assert called.code == 1
    assert not (tmp_path / "job.jsonl").exists()
    assert failures(tmp_path)[0]["attempts"][0]["answer"] == "I would rather not."


def test_an_answer_that_was_paid_for_survives_a_parse_that_fails(tmp_path: Path) -> None:
    """A parse function that raises fails the row; mended, the same answer is parsed, once a row."""
    (tmp_path / "code.py").write_text("def rows(row, response):\n    raise KeyError('oops')\n")
    with serving() as server:
        path = write(tmp_path, spec(server.url, parse="code.py:rows"))
        broken = synth("run", path)
        (tmp_path / "code.py").write_text(
            "def rows(row, response):\n"
            "    with open(__file__ + '.calls', 'a') as calls:\n"
            "        calls.write(row['word'] + '\\n')\n"
            "    return {'said': response}\n"
        )
        mended = synth("run", path)
    assert (broken.code, mended.code, len(server.asked)) == (1, 0, 3)
    assert [row["said"] for row in rows(tmp_path / "job.jsonl")] == ["Say one.", "Say two.", "Say three."]
    assert (tmp_path / "code.py.calls").read_text().split() == ["one", "two", "three"]


def test_a_changed_system_prompt_gives_no_old_data(tmp_path: Path) -> None:
    """The system prompt is part of the cache's key."""
    with serving(lambda asked: Say(asked.body["messages"][0]["content"])) as server:
        for system in ("First.", "Second."):
            made = spec(server.url, prompt={"system": system, "user": "Hi {{ word }}."})
            assert synth("run", write(tmp_path, made)).code == 0
    assert {row["response"] for row in rows(tmp_path / "job.jsonl")} == {"Second."}


def test_changed_data_gives_no_old_answers(tmp_path: Path) -> None:
    """The cache knows the data: other rows are asked, equal ones are not."""
    with serving() as server:
        for words_of in (("one", "two"), ("two", "four")):
            made = spec(server.url, input={"rows": [{"word": word} for word in words_of]})
            assert synth("run", write(tmp_path, made)).code == 0
    assert words(server.asked) == ["Say four.", "Say one.", "Say two."]
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == ["Say two.", "Say four."]


def test_failed_calls_are_not_cached_as_results(tmp_path: Path) -> None:
    """A failure is asked again by the next run, and is no row of nulls before that."""
    with serving(lambda _: Say(None, 500, {"error": {"message": "down"}})) as server:
        path = write(tmp_path, spec(server.url, backend_params={"max_retries": 0}))
        assert synth("run", path).code == 1
        assert not (tmp_path / "job.jsonl").exists()
        server.script = echo
        assert synth("run", path).code == 0
    assert len(rows(tmp_path / "job.jsonl")) == 3


def test_one_failed_request_nulls_no_others(tmp_path: Path) -> None:
    """Each row's fate is its own; with `on_failure: keep` only the failed one has nulls, in its place."""
    with serving(
        lambda asked: Say(None, 400, {"error": {"message": "no"}}) if "two" in asked.user else echo(asked)
    ) as server:
        assert synth("run", write(tmp_path, spec(server.url, on_failure="keep"))).code == 1
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "one", "response": "Say one."},
        {"word": "two", "response": None},
        {"word": "three", "response": "Say three."},
    ]


def test_undefined_names_render_as_errors_not_as_nothing(tmp_path: Path) -> None:
    """A name that nothing provides is found by validate; one that only some rows lack fails those rows."""
    path = write(tmp_path, spec("http://127.0.0.1:9/v1", prompt="Say {{ wrod }}."))
    called = synth("validate", path)
    assert called.code == 2
    assert "did you mean 'word'" in called.err


def test_filters_in_prompts_are_fine(tmp_path: Path) -> None:
    """`{{ col | upper }}` is a template like any other."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url, prompt="Say {{ word | upper }}."))).code == 0
    assert words(server.asked) == ["Say ONE.", "Say THREE.", "Say TWO."]


@pytest.mark.parametrize("share", [3, 1])
def test_failed_rows_are_never_exit_0(tmp_path: Path, share: int) -> None:
    """Whether all or some rows failed, the exit code says so."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if asked.number % share == 0 else echo(asked)

    with serving(script) as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 1


@pytest.mark.parametrize(
    "source", [{"rows": []}, {"count": 0}, {"matrix": {"word": []}}, {"path": "none.csv"}], ids=str
)
def test_an_empty_input_does_not_crash(tmp_path: Path, source: Any) -> None:
    """No rows are no failure: exit 0, an empty file, a report, and a plan and a preview that say so."""
    (tmp_path / "none.csv").write_text("word\n")
    path = write(tmp_path, spec("http://127.0.0.1:9/v1", input=source, prompt="Hi."))
    codes = [synth(command, path).code for command in ("validate", "plan", "preview", "run", "status", "report")]
    assert codes == [0, 0, 0, 0, 0, 0]
    assert (tmp_path / "job.jsonl").read_bytes() == b""


def test_a_kill_loses_at_most_what_was_in_flight(tmp_path: Path) -> None:
    """SIGKILL in the middle: what was answered is kept, from the first row on, and only the rest is asked."""
    with serving(lambda asked: Say(asked.user, after=0.01)) as server:
        path = write(tmp_path, spec(server.url, input=MANY, backend_params={"max_concurrent_requests": 4}))
        process = started("run", path, cwd=tmp_path)
        while len(server.asked) < 60:
            assert process.poll() is None
            server.reached.wait(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed_at = len(server.asked)
        assert synth("run", path).code == 0
    assert killed_at < 200
    assert len(server.asked) <= 200 + 2 * 4
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == [row["word"] for row in MANY["rows"]]
    assert max(Counter(one.user for one in server.asked).values()) <= 2


def test_a_fault_mix_delivers_every_row(tmp_path: Path) -> None:
    """10% 429, 5% 500, 1% malformed bodies: every row arrives, in order, with few requests more than rows."""

    def script(asked: Asked) -> Say:
        if asked.again == 0 and asked.number % 10 == 3:
            return Say(None, 429, LATER.body, {"retry-after-ms": "20"})
        if asked.again == 0 and asked.number % 20 == 5:
            return Say(None, 500, {"error": {"message": "once"}})
        if asked.number == 77:
            return Say(None, 200, b'{"choices": [')
        return echo(asked)

    with serving(script) as server:
        called = synth("run", write(tmp_path, spec(server.url, input=MANY)))
    assert called.code == 0
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == [f"Say {row['word']}." for row in MANY["rows"]]
    assert len(server.asked) <= 250


def test_answers_belong_to_their_rows_whatever_the_order(tmp_path: Path) -> None:
    """The last asked may answer first: rows are joined by identity, never by position."""
    with serving(lambda asked: Say(asked.user, after=0.2 - 0.001 * int(asked.user[5:8]))) as server:
        assert synth("run", write(tmp_path, spec(server.url, input=MANY))).code == 0
    assert all(row["response"] == f"Say {row['word']}." for row in rows(tmp_path / "job.jsonl"))


def test_prompt_tokens_are_counted_once_per_answer(tmp_path: Path) -> None:
    """The report's tokens are the sums of what the provider said."""
    with serving(lambda asked: Say("x", usage=(100, 7))) as server:
        called = synth("run", write(tmp_path, spec(server.url, samples=2)), "--json")
    assert (called.json["traffic"]["tokens"]["input"], called.json["traffic"]["tokens"]["output"]) == (600, 42)
