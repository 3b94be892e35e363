"""What a chain asks again and what never: edits, limits, epochs, budgets, and how it ends early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chains import BROKEN, NO, chain, model, said, step
from command_line import failures, rows, synth, words, write
from scripted_server import Say, echo, serving

FIRST = step("first", "First {{ word }}", columns={"a": "{{ response }}"})
SECOND = step("second", "Second {{ a }}", columns={"b": "{{ response }}"})
ONCE = {"max_retries": 0}


def test_running_again_asks_nothing_and_writes_the_same(tmp_path: Path) -> None:
    """A second run pays for nothing, reuses the answers of all steps and publishes the same file."""
    with serving() as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND))
        assert synth("run", path).code == 0
        before = (tmp_path / "job.jsonl").read_bytes()
        again = synth("run", path, "--json")
    assert (again.code, again.json["traffic"]["requests"], again.json["rows"]["reused"]) == (0, 0, 6)
    assert ((tmp_path / "job.jsonl").read_bytes(), len(server.asked)) == (before, 6)


@pytest.mark.parametrize(
    ("edited", "asked"),
    [
        (({}, {"prompt": "Now {{ a }}"}), ["Now First one", "Now First three", "Now First two"]),
        (({}, {"keep_if": "word != 'two'"}), []),
        (({"keep_if": "word != 'two'"}, {}), []),
        (({}, {"columns": {"c": "{{ response }}", "d": "x"}}), []),
        (({"columns": {"a": "{{ response }}", "more": "{{ response | length }}"}}, {}), []),
        (
            ({"columns": {"a": "{{ response | lower }}"}}, {}),
            ["Second first one", "Second first three", "Second first two"],
        ),
        (({"name": "other"}, {"name": "names"}), []),
    ],
    ids=["later prompt", "later filter", "earlier filter", "later columns", "unused column", "used column", "names"],
)
def test_an_edited_step_asks_for_what_it_changes(tmp_path: Path, edited: Any, asked: list[str]) -> None:
    """A later step's edit asks its own again; filters, columns that no prompt uses and names ask nothing."""
    with serving() as server:
        assert synth("run", write(tmp_path, chain(server.url, FIRST, SECOND))).code == 0
        server.asked.clear()
        first, second = edited
        assert synth("run", write(tmp_path, chain(server.url, {**FIRST, **first}, {**SECOND, **second}))).code == 0
    assert words(server.asked) == asked


def test_a_filter_that_is_taken_back_asks_nothing_and_a_wider_one_only_for_more(tmp_path: Path) -> None:
    """What was once asked behind a filter is known; rows that it lets through newly are asked."""
    with serving() as server:
        for keep_if in ("word == 'two'", "word != 'one'", "word == 'two'"):
            first = {**FIRST, "keep_if": keep_if}
            assert synth("run", write(tmp_path, chain(server.url, first, SECOND))).code == 0
    assert words(server.asked[3:]) == ["Second First three", "Second First two"]
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["two"]


def test_an_item_more_asks_for_itself_alone(tmp_path: Path) -> None:
    """An edited `each` that gives more rows keeps the answers of those that were there."""
    fan = {**FIRST, "columns": {"a": "{{ item }}"}}
    with serving() as server:
        for each in ("[1, 2]", "[1, 2, 3]"):
            made = chain(server.url, {**fan, "each": each}, SECOND, input={"rows": [{"word": "one"}]})
            assert synth("run", write(tmp_path, made)).code == 0
    assert words(server.asked) == ["First one", "Second 1", "Second 2", "Second 3"]


def test_items_of_a_map_stay_who_they_are_behind_another_filter(tmp_path: Path) -> None:
    """A `keep_if` that lets more items through asks for those alone, also where their prompts are all the same."""
    fan = {"name": "fan", "type": "map", "each": "[1, 2, 3]", "columns": {"a": "{{ item }}"}}
    with serving(lambda asked: Say(str(asked.again))) as server:
        for keep_if in ("a == 3", "a > 1", "true"):
            steps = [FIRST, {**fan, "keep_if": keep_if}, step("ask", "Say")]
            made = chain(server.url, *steps, input={"rows": [{"word": "one"}]})
            assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == 1 + 3
    assert [(row["a"], row["response"]) for row in rows(tmp_path / "job.jsonl")] == [(1, "2"), (2, "1"), (3, "0")]


@pytest.mark.parametrize("answered", [False, True], ids=["of the input", "of a step"])
def test_two_steps_that_ask_the_same_have_answers_of_their_own(tmp_path: Path, answered: bool) -> None:
    """Each is asked, each keeps its own answer; the first one's are found again where the other one is not there."""
    source = "first" if answered else "input"
    steps = [FIRST] if answered else []
    with serving(lambda asked: Say(str(asked.again))) as server:
        one = step("one", "Rate {{ word }}", columns={"mark": "{{ response }}"}, **{"from": source})
        assert synth("run", write(tmp_path, chain(server.url, *steps, one))).code == 0
        asked = len(server.asked)
        both = {"name": "both", "type": "map", "from": ["one", "two"]}
        path = write(tmp_path, chain(server.url, *steps, one, {**one, "name": "two"}, both))
        assert [synth("run", path).code for _ in range(2)] == [0, 0]
    assert len(server.asked) == asked + 3
    assert [row["mark"] for row in rows(tmp_path / "job.jsonl")] == ["0"] * 3 + ["1"] * 3


def test_a_source_more_asks_only_for_its_own_rows(tmp_path: Path) -> None:
    """Rows that can have come by one way only stay who they are when others join them."""
    last = step("last", "Last {{ a }}")
    with serving() as server:
        assert synth("run", write(tmp_path, chain(server.url, FIRST, last))).code == 0
        other = step("other", "Other {{ word }}", columns={"a": "{{ response }}"}, **{"from": "input"})
        for sources in (["first", "other"], ["other", "first"]):
            made = chain(server.url, FIRST, other, {**last, "from": sources})
            assert synth("run", write(tmp_path, made)).code == 0
    assert words(server.asked[6:]) == [
        *(f"Last Other {word}" for word in ("one", "three", "two")),
        *(f"Other {word}" for word in ("one", "three", "two")),
    ]


def test_limit_takes_the_first_rows_of_the_input(tmp_path: Path) -> None:
    """`--limit` counts input rows, not those of later steps; the full run asks for the rest."""
    fan = {**FIRST, "each": "[1, 2]", "columns": {"a": "{{ item }}{{ word }}"}}
    with serving() as server:
        path = write(tmp_path, chain(server.url, fan, SECOND))
        assert synth("run", path, "--limit", "1").code == 0
        assert words(server.asked) == ["First one", "Second 1one", "Second 2one"]
        assert len(rows(tmp_path / "job.jsonl")) == 2
        assert synth("run", path).code == 0
    assert (len(server.asked), len(rows(tmp_path / "job.jsonl"))) == (9, 6)


def test_no_calls_publishes_the_rows_that_came_through(tmp_path: Path) -> None:
    """Rows that wait for an answer in any step are not there, and are counted as not asked yet."""
    with serving(lambda asked: NO if asked.user == "Second First two" else echo(asked)) as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND))
        assert synth("run", path, "--limit", "2").code == 1
        called = synth("run", path, "--no-calls", "--json")
    assert (called.code, len(server.asked)) == (1, 4)
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one"]
    assert [called.json["rows"][key] for key in ("in", "out", "failed", "unasked")] == [3, 1, 1, 1]


def test_no_calls_goes_on_behind_a_step_that_needs_all(tmp_path: Path) -> None:
    """With what is there: the rows that are missing before it are not waited for."""
    with serving() as server:
        made = chain(server.url, FIRST, {"name": "once", "type": "dedup"}, SECOND)
        path = write(tmp_path, made)
        assert synth("run", path, "--limit", "2").code == 0
        called = synth("run", path, "--no-calls", "--json")
    assert (called.code, len(server.asked)) == (1, 4)
    assert [row["b"] for row in rows(tmp_path / "job.jsonl")] == ["Second First one", "Second First two"]
    assert called.json["rows"]["unasked"] == 1


def test_fresh_asks_all_steps_anew(tmp_path: Path) -> None:
    """`--fresh` after a complete run: other answers, and what hangs on them."""
    with serving(lambda asked: Say(f"{asked.number}: {asked.user}")) as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND, input={"rows": [{"word": "one"}]}))
        assert synth("run", path).code == 0
        assert synth("run", path, "--fresh").code == 0
    assert words(server.asked) == ["First one", "First one", "Second 0: First one", "Second 2: First one"]
    assert [row["b"] for row in rows(tmp_path / "job.jsonl")] == ["3: Second 2: First one"]


def test_retry_failed_asks_again_what_was_refused_in_any_step(tmp_path: Path) -> None:
    """Without it a row refused for good stays failed, and nothing is asked; with it, that row goes on."""
    with serving(lambda asked: NO if asked.user == "First two" else echo(asked)) as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND))
        assert synth("run", path).code == 1
        server.script = echo
        assert (synth("run", path).code, len(server.asked)) == (1, 5)
        assert (synth("run", path, "--retry-failed").code, len(server.asked)) == (0, 7)
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two", "three"]


def test_a_passing_failure_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    """And its row goes on from there."""
    with serving(lambda asked: BROKEN if asked.user == "First two" else echo(asked)) as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND, backend_params=ONCE))
        assert synth("run", path).code == 1
        server.script = echo
        server.asked.clear()
        assert synth("run", path).code == 0
    assert words(server.asked) == ["First two", "Second First two"]


def test_a_budget_counts_over_all_steps(tmp_path: Path) -> None:
    """The run ends with 4 before a request that might be too much, in whatever step; more budget goes on."""
    with serving() as server:
        made = chain(
            server.url,
            FIRST,
            SECOND,
            generation_params={"max_tokens": 10},
            backend_params={"max_concurrent_requests": 1},
            budget={"max_tokens": 130},
        )
        path = write(tmp_path, made)
        called = synth("run", path)
        cut = len(server.asked)
        assert (called.code, 2 <= cut <= 5) == (4, True)
        assert synth("run", path).code == 4
        assert len(server.asked) == cut
        assert synth("run", path, "--set", "budget.max_tokens=5000").code == 0
    assert len(server.asked) == 6
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two", "three"]


def test_a_model_of_which_nothing_comes_ends_the_run_early(tmp_path: Path) -> None:
    """However well the other steps' models answer: what they answered stays, and the error is the broken one's."""
    with serving(lambda asked: Say(asked.user, after=0.05)) as server, serving(lambda _: BROKEN) as broken:
        made = chain(
            server.url,
            step("first", "First {{ index }}", columns={"a": "{{ response }}"}),
            step("second", "Second {{ a }}", model=model(broken.url, "other")),
            input={"count": 1000},
            backend_params={"max_concurrent_requests": 16, "max_retries": 0},
        )
        called = synth("run", write(tmp_path, made))
    assert called.code == 1
    assert "none of the first" in called.err
    assert "server error: HTTP 500: broken" in called.err
    assert 64 <= len(broken.asked) < 120
    assert len(server.asked) < 1000
    assert {line["step"] for line in failures(tmp_path)} == {"second"}


def test_a_refused_key_of_a_later_step_stops_the_run(tmp_path: Path) -> None:
    """Exit 3, with the provider's words; what was answered stays."""
    refused = Say(None, 401, {"error": {"message": "this key is not known"}})
    with serving() as server, serving(lambda _: refused) as other:
        made = chain(server.url, FIRST, {**SECOND, "model": model(other.url, "other")})
        path = write(tmp_path, made)
        called = synth("run", path)
        other.script = echo
        assert (called.code, "this key is not known" in called.err) == (3, True)
        assert synth("run", path).code == 0
    assert sorted(said(server.asked)) == [("m", f"First {word}") for word in ("one", "three", "two")]


def test_a_missing_key_of_a_later_step_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    """Exit 3 at once."""
    with serving() as server:
        made = chain(server.url, FIRST, {**SECOND, "model": "openai/gpt-5-mini"})
        called = synth("run", write(tmp_path, made))
    assert (called.code, server.asked) == (3, [])
    assert "OPENAI_API_KEY" in called.err


def test_simulate_stands_in_for_the_models_of_all_steps(tmp_path: Path) -> None:
    """No server is asked; the answers are in a ledger of their own."""
    with serving() as server:
        made = chain(server.url, FIRST, {**SECOND, "model": model(server.url, "other")})
        path = write(tmp_path, made)
        assert synth("run", path, "--simulate").code == 0
        assert server.asked == []
        assert len(rows(tmp_path / "job.jsonl")) == 3
        assert synth("run", path).code == 0
    assert len(server.asked) == 6


def test_the_ids_of_a_jobs_requests_stay(tmp_path: Path) -> None:
    """What a request is called does not change from version to version: else old answers would be bought again."""
    job: dict[str, Any] = {
        "model": {"name": "openai/m", "base_url": "http://127.0.0.1:9/v1", "api_key": "k"},
        "generation_params": {"temperature": 0.5, "seed": 3},
        "input": {"rows": [{"word": "one"}, {"word": "two"}, {"word": "one"}]},
        "prompt": {"system": "Be brief.", "user": "Say {{ word }}."},
        "samples": 2,
    }
    count = {**job, "input": {"count": 2}, "prompt": "Hi.", "response": {"schema": {"a": "str", "b": ["int"]}}}
    del count["generation_params"], count["samples"]
    shown = [synth("preview", write(tmp_path, each), "-n", "3", "--json").json for each in (job, count)]
    assert [[one["request_id"] for one in each] for each in shown] == [
        ["98c10d27ad4db91558c87d3765e89867", "0089616f52c1105f096383cde901502e", "550dca5d506488228399260588c6a51e"],
        ["a607e0ab5eb823b746fc00ecde045495", "07bc81bf3b7d0d29d8e33fca171b4487"],
    ]


def test_a_preview_shows_each_step_as_far_as_it_is_known(tmp_path: Path) -> None:
    """Before a run the first step's requests; with --run all steps' and the rows."""
    with serving() as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND))
        before = synth("preview", path, "-n", "1", "--json").json
        after = synth("preview", path, "-n", "1", "--run", "--json").json
        assert synth("run", path).code == 0
    assert [(one["step"], one["messages"][-1]["content"]) for one in before] == [("first", "First one")]
    assert [(one["step"], one["messages"][-1]["content"], one["output"]) for one in after] == [
        ("first", "First one", None),
        ("second", "Second First one", [{"word": "one", "a": "First one", "b": "Second First one"}]),
    ]
    assert len(server.asked) == 6


def test_a_preview_of_one_row_asks_about_that_row_alone(tmp_path: Path) -> None:
    """Also in a step that takes the input's rows beside those of another step."""
    with serving() as server:
        last = step("last", "Last {{ word }}", **{"from": ["first", "input"]})
        path = write(tmp_path, chain(server.url, FIRST, last))
        shown = synth("preview", path, "--row", "2", "--run", "--json").json
    assert words(server.asked) == ["First three", "Last three", "Last three"]
    assert [one["index"] for one in shown] == [2, 2]


LOTS = """
import random
from pathlib import Path
CALLS = Path(__file__).with_name("calls.txt")
def drawn(rows):
    CALLS.write_text(CALLS.read_text() + "called\\n")
    for row in rows:
        yield {**row, "lot": random.random()}
"""


def lots(folder: Path, url: str) -> Path:
    """A chain with a function that gives other rows each time, and passes that come by it again."""
    (folder / "lots.py").write_text(LOTS)
    (folder / "calls.txt").write_text("")
    draw = {"name": "draw", "type": "python", "function": "lots.py:drawn"}
    told = step("told", "Told {{ lot }}", columns={"lot": "{{ lot }}"})
    by = {"name": "all", "type": "group", "by": "word"}
    limits = {"generation_params": {"max_tokens": 10}, "backend_params": {"max_concurrent_requests": 1}}
    return write(folder, chain(url, FIRST, draw, told, by, step("last", "Last {{ lot }}"), **limits))


def calls(folder: Path) -> int:
    return len((folder / "calls.txt").read_text().splitlines())


def test_a_function_that_draws_lots_is_called_once(tmp_path: Path) -> None:
    """Whatever passes come by it: its rows are kept, and nothing is paid for twice."""
    with serving() as server:
        path = lots(tmp_path, server.url)
        assert synth("run", path).code == 0
    assert (len(server.asked), calls(tmp_path)) == (9, 1)


def test_a_round_that_goes_on_keeps_what_a_function_gave(tmp_path: Path) -> None:
    """A run that was cut is gone on with over the same rows, and a plan in between shows those."""
    with serving() as server:
        path = lots(tmp_path, server.url)
        assert synth("run", path, "--set", "budget.max_tokens=140").code == 4
        cut = len(server.asked)
        assert (4 <= cut <= 5, calls(tmp_path)) == (True, 1)
        assert synth("plan", path, "--json").json["new"] == 6 - cut
        assert synth("run", path).code == 0
        assert (len(server.asked), calls(tmp_path)) == (9, 1)
