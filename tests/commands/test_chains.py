"""Rows on their way through several steps: fan-out, filters, joins, and which rows wait for which."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from chains import BROKEN, NO, chain, model, said, step
from command_line import failures, rows, synth, words, write
from scripted_server import Asked, Say, echo, serving

LISTS = {"one": '{"items": ["a", "b"]}', "two": '{"items": []}', "three": '{"items": ["c"]}'}


def lists(asked: Asked) -> Say:
    """A list for a word, and the user turn for everything else."""
    return Say(LISTS[asked.user]) if asked.user in LISTS else echo(asked)


FAN = step(
    "list",
    "{{ word }}",
    response={"schema": {"items": ["str"]}},
    each="response['items']",
    columns={"thing": "{{ item }}"},
)


def test_each_item_of_an_answer_is_a_row_of_the_next_step(tmp_path: Path) -> None:
    """One answer becomes none, one or several rows, which carry the columns of the row that they come from."""
    with serving(lists) as server:
        made = chain(server.url, FAN, step("tell", "{{ word }}/{{ thing }}"))
        assert synth("run", write(tmp_path, made)).code == 0
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "one", "thing": "a", "response": "one/a"},
        {"word": "one", "thing": "b", "response": "one/b"},
        {"word": "three", "thing": "c", "response": "three/c"},
    ]


@pytest.mark.parametrize(
    ("carry", "columns"),
    [(True, ["word", "thing", "response"]), (False, ["response"]), (["thing"], ["thing", "response"])],
    ids=str,
)
def test_carry_says_which_columns_go_along(tmp_path: Path, carry: Any, columns: list[str]) -> None:
    """All, none, or those that are listed."""
    with serving(lists) as server:
        made = chain(server.url, FAN, step("tell", "{{ word }}/{{ thing }}", carry=carry))
        assert synth("run", write(tmp_path, made)).code == 0
    assert [list(row) for row in rows(tmp_path / "job.jsonl")] == [columns] * 3


def test_what_is_filtered_between_steps_is_not_asked_about(tmp_path: Path) -> None:
    """`keep_if` of a step leaves rows out for all later ones; they count as filtered, not as failed."""
    with serving() as server:
        made = chain(
            server.url,
            step("judge", "Rate {{ word }}", columns={"long": "{{ word | length > 3 }}"}, keep_if="long"),
            step("tell", "{{ word }}, which is long: {{ long }}"),
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert words(server.asked) == ["Rate one", "Rate three", "Rate two", "three, which is long: true"]
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "three", "long": True, "response": "three, which is long: true"},
    ]
    assert [called.json["rows"][key] for key in ("in", "out", "filtered", "failed")] == [3, 1, 2, 0]


def test_several_steps_may_take_the_rows_of_one_and_be_joined(tmp_path: Path) -> None:
    """Each asks for its own; `from: [a, b]` has all rows of the first, then all of the second."""
    with serving() as server:
        made = chain(
            server.url,
            step("base", "Base {{ word }}", columns={"base": "{{ response }}"}),
            step("left", "Left of {{ base }}", columns={"side": "{{ response }}"}, **{"from": "base"}),
            step("right", "Right of {{ base }}", columns={"side": "{{ response }}"}, **{"from": "base"}),
            step("last", "{{ side }}!", **{"from": ["right", "left"]}),
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == 3 + 3 + 3 + 6
    assert [(row["word"], row["response"]) for row in rows(tmp_path / "job.jsonl")] == [
        ("one", "Right of Base one!"),
        ("two", "Right of Base two!"),
        ("three", "Right of Base three!"),
        ("one", "Left of Base one!"),
        ("two", "Left of Base two!"),
        ("three", "Left of Base three!"),
    ]


def test_from_input_restarts(tmp_path: Path) -> None:
    """A step of the input's rows sees none of the columns of the steps before it, and may be joined with them."""
    with serving() as server:
        made = chain(
            server.url,
            step("plain", "Plain {{ word }}", columns={"text": "{{ response }}"}),
            step("loud", "Loud {{ word }}", columns={"text": "{{ response }}"}, **{"from": "input"}),
            {"name": "all", "type": "map", "from": ["plain", "loud"], "columns": {"text": "{{ text }}."}},
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert [row["text"] for row in rows(tmp_path / "job.jsonl")] == [
        "Plain one.",
        "Plain two.",
        "Plain three.",
        "Loud one.",
        "Loud two.",
        "Loud three.",
    ]
    # each row of the input counts once
    assert [called.json["rows"][key] for key in ("in", "out")] == [3, 6]


def test_a_row_that_comes_by_two_ways_is_two_rows(tmp_path: Path) -> None:
    """Joined with itself by two steps that change nothing, each row is asked about twice."""
    same = {"type": "map", "from": "base"}
    with serving(lambda asked: Say(str(asked.again))) as server:
        made = chain(
            server.url,
            {"name": "base", "type": "map"},
            {"name": "left", **same},
            {"name": "right", **same},
            step("ask", "{{ word }}", **{"from": ["left", "right"]}),
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two", "three"] * 2
    assert words(server.asked) == ["one", "one", "three", "three", "two", "two"]


def test_a_step_that_leads_nowhere_is_not_asked(tmp_path: Path) -> None:
    """The last listed step is the output: what it does not need costs nothing."""
    with serving() as server:
        made = chain(server.url, step("aside", "Aside {{ word }}"), step("main", "{{ word }}", **{"from": "input"}))
        assert synth("run", write(tmp_path, made)).code == 0
    assert words(server.asked) == ["one", "three", "two"]


def test_each_step_asks_its_own_model_with_its_own_parameters(tmp_path: Path) -> None:
    """Two servers, two models; the params mappings of the top and the step merge by key."""
    with serving() as first, serving(lambda asked: Say(asked.user.upper())) as second:
        made = chain(
            first.url,
            step("draft", "Draft {{ word }}", columns={"draft": "{{ response }}"}),
            step("judge", "Judge {{ draft }}", model="strict", generation_params={"temperature": 0}),
            models={"strict": model(second.url, "judge-1", generation_params={"top_p": 0.5})},
            generation_params={"max_tokens": 9, "temperature": 1},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    kept = ("model", "temperature", "max_tokens", "top_p")
    bodies = [{key: one.body.get(key) for key in kept} for one in (first.asked[0], second.asked[0])]
    assert bodies == [
        {"model": "m", "temperature": 1, "max_tokens": 9, "top_p": None},
        {"model": "judge-1", "temperature": 0, "max_tokens": 9, "top_p": 0.5},
    ]
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == [
        f"JUDGE DRAFT {word}" for word in ("ONE", "TWO", "THREE")
    ]


def test_a_row_goes_on_while_others_wait(tmp_path: Path) -> None:
    """The second step's request for a row is sent while the first step's for another is not answered yet."""
    arrived = threading.Event()

    def script(asked: Asked) -> Say:
        if asked.user == "Second three":
            arrived.set()
        # the first row of the first step is answered only long after the last row's second step was asked
        return Say(asked.user, after=3.0 if asked.user == "First one" else 0.0)

    with serving(script) as server:
        made = chain(server.url, step("first", "First {{ word }}"), step("second", "Second {{ word }}"))
        assert synth("run", write(tmp_path, made)).code == 0
        order = [one.user for one in server.asked]
        late = next(one.at for one in server.asked if one.user == "Second one")
        early = next(one.at for one in server.asked if one.user == "Second three")
    assert order[-1] == "Second one"
    assert late - early > 1.0
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "barrier",
    [
        {"type": "dedup", "by": "word"},
        {"type": "group", "by": "word"},
        {"type": "python", "function": "code.py:same"},
    ],
    ids=lambda barrier: str(barrier["type"]),
)
def test_rows_wait_behind_a_step_that_needs_all(tmp_path: Path, barrier: dict[str, Any]) -> None:
    """Nothing behind it is asked before everything before it is answered."""
    (tmp_path / "code.py").write_text("def same(rows):\n    yield from rows\n")
    with serving(lambda asked: Say(asked.user, after=0.3 if asked.user == "First one" else 0.0)) as server:
        made = chain(
            server.url,
            step("first", "First {{ word }}"),
            {"name": "all", **barrier},
            step("second", "Second {{ word }}"),
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert sorted(one.user.split()[0] for one in server.asked[:3]) == ["First"] * 3
    assert [one.user for one in server.asked[3:]] == ["Second one", "Second two", "Second three"]
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two", "three"]


def test_output_is_in_the_order_of_the_input_whatever_the_order_of_answers(tmp_path: Path) -> None:
    """Through two steps with several rows of each answer, the last asked may answer first."""
    count = 40

    def script(asked: Asked) -> Say:
        number = int(asked.user.split("-")[-1].split("/")[0])
        if asked.user.startswith("list"):
            items = ", ".join(f'"{number}.{place}"' for place in range(number % 3))
            return Say(f'{{"items": [{items}]}}', after=0.004 * (count - number))
        return Say(asked.user, after=0.002 * (number % 7))

    with serving(script) as server:
        made = chain(
            server.url,
            step("list", "list-{{ index }}", response={"schema": {"items": ["str"]}}, each="response['items']"),
            step("tell", "tell-{{ index }}/{{ row['item'] }}"),
            input={"count": count},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    expected = [f"tell-{n}/{n}.{place}" for n in range(count) for place in range(n % 3)]
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == expected


def test_index_stays_with_the_row(tmp_path: Path) -> None:
    """It is the position in the input in every step, behind filters, fan-outs and steps that need all rows."""
    with serving(lists) as server:
        made = chain(
            server.url,
            {"name": "some", "type": "map", "keep_if": "word != 'two'"},
            FAN,
            {"name": "once", "type": "dedup", "by": "thing"},
            step("tell", "{{ index }}: {{ thing }}"),
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == ["0: a", "0: b", "2: c"]


def refusing(*users: str, answer: Say = NO) -> Any:
    return lambda asked: answer if asked.user in users else echo(asked)


THREE = (
    step("first", "First {{ word }}", columns={"a": "{{ response }}"}),
    step("second", "Second {{ word }}", columns={"b": "{{ response }}"}),
    step("third", "Third {{ word }}, {{ b }}", columns={"c": "{{ response }}"}),
)


def test_a_row_that_fails_in_the_middle_goes_no_further(tmp_path: Path) -> None:
    """`on_failure: drop`: it is one failed row, named with its step in failed.jsonl; the others come through."""
    with serving(refusing("Second two")) as server:
        called = synth("run", write(tmp_path, chain(server.url, *THREE)), "--json")
    assert called.code == 1
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "three"]
    assert "Third two, " not in words(server.asked)
    (line,) = failures(tmp_path)
    assert (line["step"], line["index"], line["row"], line["messages"]) == (
        "second",
        1,
        {"word": "two", "a": "First two"},
        [{"role": "user", "content": "Second two"}],
    )
    assert [attempt["error"] for attempt in line["attempts"]] == ["bad request: HTTP 400: no such word"]
    assert [called.json["rows"][key] for key in ("in", "out", "failed", "kept")] == [3, 2, 1, 0]


def test_a_row_that_is_kept_in_the_middle_goes_on_with_nulls(tmp_path: Path) -> None:
    """`on_failure: keep`: the later steps see null, and the row still counts as failed."""
    first, second, third = THREE
    with serving(refusing("Second two")) as server:
        made = chain(server.url, first, {**second, "on_failure": "keep"}, third)
        called = synth("run", write(tmp_path, made), "--json")
    assert called.code == 1
    assert rows(tmp_path / "job.jsonl") == [
        {"word": word, "a": f"First {word}", "b": b, "c": f"Third {word}, {'null' if b is None else b}"}
        for word, b in (("one", "Second one"), ("two", None), ("three", "Second three"))
    ]
    assert [called.json["rows"][key] for key in ("in", "out", "failed", "kept")] == [3, 3, 1, 1]


def nothing_new(folder: Path, url: str, *steps: dict[str, Any]) -> None:
    """Runs these steps, of which nothing comes, over an output that is there."""
    (folder / "job.jsonl").write_text('{"good": 1}\n')
    called = synth("run", write(folder, chain(url, *steps)))
    assert (called.code, rows(folder / "job.jsonl")) == (1, [{"good": 1}])


def test_a_good_output_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """Where all rows that were left after a dedup failed, no row came through, though one of the input did not fail."""
    with serving(lambda _: NO) as server:
        same = {"name": "same", "type": "dedup", "by": "first"}
        first = {"name": "first", "type": "map", "columns": {"first": "{{ word[0] }}"}}
        nothing_new(tmp_path, server.url, first, same, step("ask", "{{ word }}"))


@pytest.mark.parametrize(
    "rest",
    [[], [{"name": "more", "type": "map", "columns": {"more": "{{ response }}!"}}], [{"name": "all", "type": "dedup"}]],
    ids=["last", "before a map", "before a dedup"],
)
def test_a_good_output_is_not_replaced_by_nulls(tmp_path: Path, rest: list[dict[str, Any]]) -> None:
    """Rows that are only kept are no success, however many they are for each row of the input."""
    with serving(lambda _: NO) as server:
        nothing_new(tmp_path, server.url, step("ask", "{{ word }}", samples=2, on_failure="keep"), *rest)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_stop_ends_the_run_in_whatever_step(tmp_path: Path, place: int) -> None:
    """`on_failure: stop`: the first row that failed for good ends the run with exit 1; answers stay."""
    steps = [{**each, "on_failure": "stop"} if number == place else each for number, each in enumerate(THREE)]
    user = ("First two", "Second two", "Third two, Second two")[place]
    with serving(refusing(user)) as server:
        made = chain(server.url, *steps, backend_params={"max_concurrent_requests": 1})
        path = write(tmp_path, made)
        called = synth("run", path)
        assert called.code == 1
        assert "row 1 failed, and on_failure is stop" in called.err
        assert not (tmp_path / "job.jsonl").exists()
        before = len(server.asked)
        server.script = echo
        assert synth("run", path, "--retry-failed").code == 0
    assert len(server.asked) == before + 9 - (before - 1)
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "two", "three"]


def test_a_row_that_fails_in_several_places_is_one_failed_row(tmp_path: Path) -> None:
    """Two of its samples, and what was made of the third: the input row counts once."""
    with serving(lambda asked: NO if asked.number in (0, 1) or asked.user.startswith("Second") else echo(asked)) as it:
        made = chain(
            it.url,
            step("first", "First {{ word }}", samples=3),
            step("second", "Second {{ word }}"),
            input={"rows": [{"word": "one"}]},
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert called.code == 1
    assert [line["step"] for line in failures(tmp_path)] == ["first", "first", "second"]
    assert [called.json["rows"][key] for key in ("in", "failed", "error_rate")] == [1, 1, 1.0]


def test_each_step_has_its_own_retries(tmp_path: Path) -> None:
    """`max_retries` of a step is its own; a broken answer is asked again in its step alone."""
    with serving(lambda asked: BROKEN if asked.again == 0 else echo(asked)) as server:
        made = chain(
            server.url,
            step("first", "First {{ word }}", backend_params={"max_retries": 1}),
            step("second", "Second {{ word }}", backend_params={"max_retries": 0}),
        )
        assert synth("run", write(tmp_path, made)).code == 1
    assert words(server.asked) == sorted(
        [f"First {w}" for w in ("one", "two", "three")] * 2 + [f"Second {w}" for w in ("one", "two", "three")]
    )
    assert {line["step"] for line in failures(tmp_path)} == {"second"}


def test_equal_prompts_of_different_parents_are_different_requests(tmp_path: Path) -> None:
    """A constant prompt in a later step is asked once for each row, and each keeps its own answer."""
    with serving(lambda asked: echo(asked) if asked.user != "Roll." else Say(f"roll {asked.again}")) as server:
        made = chain(
            server.url,
            step("first", "First {{ word }}"),
            step("roll", "Roll.", columns={"roll": "{{ response }}"}),
        )
        path = write(tmp_path, made)
        assert synth("run", path).code == 0
        assert sorted(row["roll"] for row in rows(tmp_path / "job.jsonl")) == ["roll 0", "roll 1", "roll 2"]
        before = (tmp_path / "job.jsonl").read_bytes()
        assert synth("run", path).code == 0
    assert (len(server.asked), (tmp_path / "job.jsonl").read_bytes()) == (6, before)


def test_steps_without_models_alone_ask_nothing(tmp_path: Path) -> None:
    """A chain may be of maps, samples and joins only."""
    made = {
        "input": {"rows": [{"word": "one"}, {"word": "two"}]},
        "steps": [
            {"name": "up", "type": "map", "columns": {"up": "{{ word | upper }}"}},
            {"name": "draw", "type": "sample", "columns": {"n": {"uniform": {"min": 1, "max": 1, "integer": True}}}},
        ],
    }
    called = synth("run", write(tmp_path, made), "--json")
    assert (called.code, called.json["traffic"]["requests"]) == (0, 0)
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "one", "up": "ONE", "n": 1},
        {"word": "two", "up": "TWO", "n": 1},
    ]


def test_metadata_is_of_the_step_that_answered_last(tmp_path: Path) -> None:
    """`_synth` tells of the last model step, and is no column that the steps between see."""
    with serving(lambda asked: Say(asked.user, usage=(3, len(asked.user)))) as server:
        made = chain(server.url, *THREE, output={"metadata": True})
        assert synth("run", write(tmp_path, made)).code == 0
    assert [list(row) for row in rows(tmp_path / "job.jsonl")] == [["word", "a", "b", "c", "_synth"]] * 3
    assert [row["_synth"]["messages"][-1]["content"] for row in rows(tmp_path / "job.jsonl")] == [
        f"Third {word}, Second {word}" for word in ("one", "two", "three")
    ]


def test_the_requests_of_both_steps_are_told_apart_by_their_models(tmp_path: Path) -> None:
    """Equal prompts in two steps of different models are two requests."""
    with serving() as server:
        made = chain(
            server.url,
            step("a", "{{ word }}", columns={"a": "{{ response }}"}),
            step("b", "{{ word }}", model=model(server.url, "other")),
            input={"rows": [{"word": "one"}]},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert said(server.asked) == [("m", "one"), ("other", "one")]
