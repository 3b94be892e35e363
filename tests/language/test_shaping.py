"""From a valid answer to output rows: each, columns, carry, keep_if, parse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk import Desk, Server, serving

PARSE = """
from pathlib import Path

def parse(row, response):
    with Path(__file__).with_name("calls.txt").open("a") as calls:
        calls.write(f"{row['a']} {response}\\n")
    return {"up": response.upper(), "n": len(row)}

def several(row, response):
    return [{"letter": letter} for letter in response]

def nothing(row, response):
    return []

def stream(row, response):
    yield {"letter": response[0]}

def wrong(row, response):
    return 5

def broken(row, response):
    raise ValueError(f"cannot read {response!r}")
"""
STEPS = {"steps": [{"text": "cut", "minutes": 2}, {"text": "cook", "minutes": 30}]}
LIST = {"schema": {"steps": [{"text": "str", "minutes": "int"}]}}


def spec(server: Server, **more: Any) -> dict[str, Any]:
    return {"model": server.model(), "input": {"rows": [{"a": "x", "b": 1}]}, "prompt": "{{ a }}", **more}


def made(desk: Desk, answer: Any, **more: Any) -> list[Any]:
    """The output rows of one answer."""
    with serving(lambda body: answer if isinstance(answer, str) else json.dumps(answer)) as server:
        return desk.says(spec(server, **more)).rows()


@pytest.mark.parametrize("each", ["response.steps", "{{ response.steps }}", "response['steps'] | list"])
def test_each_makes_a_row_of_every_item(desk: Desk, each: str) -> None:
    """An item that is a mapping spreads into columns; braces or not."""
    assert made(desk, STEPS, response=LIST, each=each) == [
        {"a": "x", "b": 1, "text": "cut", "minutes": 2},
        {"a": "x", "b": 1, "text": "cook", "minutes": 30},
    ]


def test_an_item_that_is_no_mapping_is_the_column_item(desk: Desk) -> None:
    """Texts, numbers and lists are kept as they are."""
    assert made(desk, {"t": ["p", "q"]}, response={"schema": {"t": ["str"]}}, each="response.t", carry=False) == [
        {"item": "p"},
        {"item": "q"},
    ]


def test_columns_of_each_item(desk: Desk) -> None:
    """With `columns`, only they and what is carried; `item`, `response` and `index` are there."""
    columns = {"line": "{{ index }}: {{ item.text }} of {{ response.steps | length }}", "min": "{{ item.minutes }}"}
    assert made(desk, STEPS, response=LIST, each="response.steps", columns=columns, carry=["a"]) == [
        {"a": "x", "line": "0: cut of 2", "min": 2},
        {"a": "x", "line": "0: cook of 2", "min": 30},
    ]


def test_each_over_an_empty_list_makes_no_row(desk: Desk) -> None:
    """It is no failure."""
    assert made(desk, {"steps": []}, response=LIST, each="response.steps") == []


@pytest.mark.parametrize(
    ("each", "error"),
    [
        ("response.steps[0]", "template: each: a list is wanted, not dict"),
        ("response.steps[7]", "template: each: no item 7 in a list of 2"),
        ("response.steps[0].minutes / 0", "template: each: ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_in_each_fails_the_row_and_keeps_its_answer(desk: Desk, each: str, error: str) -> None:
    """The answer stays and is never bought twice: mended, the run asks nothing."""
    with serving(lambda body: json.dumps(STEPS)) as server:
        told = desk.says(spec(server, response=LIST, each=each)).run()
        assert told.code == 1
        (failed,) = desk.failed()
        assert (failed["error"], failed["attempts"][0]["answer"]) == (error, json.dumps(STEPS))
        rows = desk.says(spec(server, response=LIST, each="response.steps", columns={"t": "{{ item.text }}"})).rows()
        assert len(server.bodies) == 1
    assert [row["t"] for row in rows] == ["cut", "cook"]


def test_columns_are_computed_in_order(desk: Desk) -> None:
    """Each sees the earlier ones, the input's columns and the answer; values keep their type."""
    columns = {
        "up": "{{ response | upper }}",
        "twice": "{{ up }}{{ up }}",
        "b": "{{ b + 1 }}",
        "after_b": "{{ b }}",
        "made": {"list": ["{{ response }}", 1, None], "yes": True},
        "fixed": 1.5,
        "none": None,
    }
    assert made(desk, "hi", columns=columns) == [
        {
            "a": "x",
            "b": 2,
            "up": "HI",
            "twice": "HIHI",
            "after_b": 2,
            "made": {"list": ["hi", 1, None], "yes": True},
            "fixed": 1.5,
            "none": None,
        }
    ]


def test_a_column_named_response_is_the_output_not_the_answer(desk: Desk) -> None:
    """After the answer `response` means the answer, also once a column of that name is made."""
    assert made(desk, "hi", columns={"response": "{{ response }}!", "again": "{{ response }}"}, carry=False) == [
        {"response": "hi!", "again": "hi"}
    ]


def test_before_the_answer_response_is_the_input_column(desk: Desk) -> None:
    """A column `response` of the input is what the prompt sees; the default column `response` replaces it."""
    with serving(lambda body: body["messages"][-1]["content"] + "!") as server:
        rows = {"rows": [{"response": "old"}]}
        desk.says(
            {
                "model": server.model(),
                "input": rows,
                "prompt": "{{ response }}",
                "response": {"check": "response == row['response'] ~ '!'"},
            }
        )
        assert desk.rows() == [{"response": "old!"}]


@pytest.mark.parametrize(
    ("carry", "row"),
    [
        (True, {"a": "x", "b": 1, "response": "hi"}),
        (False, {"response": "hi"}),
        (["b"], {"b": 1, "response": "hi"}),
        ([], {"response": "hi"}),
    ],
)
def test_carry_says_which_input_columns_go_along(desk: Desk, carry: Any, row: Any) -> None:
    """`true`, `false`, or a list of names."""
    assert made(desk, "hi", carry=carry) == [row]


def test_keep_if_leaves_rows_out(desk: Desk) -> None:
    """Where it is false the row is filtered, not failed: exit 0."""
    with serving(lambda body: json.dumps(STEPS)) as server:
        told = desk.says(spec(server, response=LIST, each="response.steps", keep_if="minutes > 5")).run("--json")
        report = json.loads(told.out)
    assert desk.lines("spec.jsonl") == [{"a": "x", "b": 1, "text": "cook", "minutes": 30}]
    assert (told.code, report["rows"]["filtered"], report["rows"]["failed"]) == (0, 1, 0)


def test_keep_if_sees_the_finished_row(desk: Desk) -> None:
    """Its columns, those left behind, and the answer."""
    more = {
        "columns": {"n": "{{ response | length }}"},
        "carry": False,
        "keep_if": "{{ n == 2 and a == 'x' and response == 'hi' }}",
    }
    assert made(desk, "hi", **more) == [{"n": 2}]
    assert made(desk, "hi", columns={"n": 1}, keep_if=False) == []


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"columns": {"n": "{{ response.n }}"}}, "template: columns.n: no 'n' in a value of type str"),
        (
            {"keep_if": "response > 5"},
            "template: keep_if: TypeError: '>' not supported between instances of 'str' and 'int'",
        ),
        ({"parse": "how.py:broken"}, "template: parse: ValueError: cannot read 'hi' (how.py:22)"),
        ({"parse": "how.py:wrong"}, "template: parse: it returned int; a mapping or a list of mappings is wanted"),
    ],
)
def test_an_error_while_shaping_fails_the_row(desk: Desk, more: Any, error: str) -> None:
    """Its answer stays, and is not asked for again."""
    desk.write(how__py=PARSE)
    with serving(lambda body: "hi") as server:
        assert desk.says(spec(server, **more)).run().code == 1
        assert desk.failed()[0]["error"].replace(f"{desk.folder}/", "") == error
        assert desk.says(spec(server, columns={"fine": True})).run().code == 0
        assert len(server.bodies) == 1


def test_a_row_that_cannot_be_shaped_is_kept_in_its_place(desk: Desk) -> None:
    """`on_failure: keep` holds for errors in `columns` too; the run still exits 1."""
    with serving(lambda body: "hi") as server:
        columns = {"n": "{{ 6 // b }}", "m": 1}
        rows = {"rows": [{"b": 2}, {"b": 0}, {"b": 3}]}
        desk.says({"model": server.model(), "input": rows, "prompt": "hi", "columns": columns, "on_failure": "keep"})
        assert desk.rows(code=1) == [{"b": 2, "n": 3, "m": 1}, {"b": 0, "n": None, "m": None}, {"b": 3, "n": 2, "m": 1}]


def test_a_change_of_columns_asks_for_nothing(desk: Desk) -> None:
    """What is answered is shaped anew."""
    with serving(lambda body: "hi") as server:
        assert desk.says(spec(server, columns={"c": "{{ response }}"})).rows()[0]["c"] == "hi"
        assert desk.says(spec(server, columns={"d": "{{ response | upper }}"})).rows()[0]["d"] == "HI"
        assert len(server.bodies) == 1


def test_parse_makes_the_rows(desk: Desk) -> None:
    """Called once per answer as `function(row, response)`; a mapping is one row, beside what is carried."""
    desk.write(how__py=PARSE)
    assert made(desk, "hi", parse="how.py:parse", samples=2, prompt="{{ a }}{{ sample }}", carry=["a"]) == [
        {"a": "x", "up": "HI", "n": 2},
        {"a": "x", "up": "HI", "n": 2},
    ]
    assert (desk.folder / "calls.txt").read_text() == "x hi\nx hi\n"


@pytest.mark.parametrize(("function", "letters"), [("several", ["h", "i"]), ("nothing", []), ("stream", ["h"])])
def test_parse_returns_a_list(desk: Desk, function: str, letters: list[str]) -> None:
    """One output row for each mapping, none for an empty list; a generator is a list too."""
    desk.write(how__py=PARSE)
    assert made(desk, "hi", parse=f"how.py:{function}", carry=False) == [{"letter": letter} for letter in letters]


def test_parse_from_a_package(desk: Desk) -> None:
    """`package.module:function`, installed or beside the spec."""
    (desk.folder / "shapes").mkdir()
    (desk.folder / "shapes" / "letters.py").write_text("def first(row, response):\n    return {'first': response[0]}\n")
    assert made(desk, "hi", parse="shapes.letters:first", carry=False) == [{"first": "h"}]


def test_parse_sees_a_schemas_value(desk: Desk) -> None:
    """`response` is the valid value, as it is in templates."""
    desk.write(
        how__py="def total(row, response):\n    return {'total': sum(s['minutes'] for s in response['steps'])}\n"
    )
    assert made(desk, STEPS, response=LIST, parse="how.py:total") == [{"a": "x", "b": 1, "total": 32}]


def test_the_order_is_the_inputs(desk: Desk) -> None:
    """Whatever order answers come in."""
    with serving(lambda body: body["messages"][-1]["content"]) as server:
        desk.says({"model": server.model(), "input": {"count": 200}, "prompt": "{{ index }}", "carry": False})
        assert [row["response"] for row in desk.rows()] == [str(index) for index in range(200)]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            {"response": {"schema": {"a": "str"}}},
            (
                "the answer's column 'a' would overwrite the carried column 'a'; "
                "rename it with columns:, or leave it behind with carry:"
            ),
        ),
        (
            {"response": {"schema": {"t": [{"a": "str"}]}}, "each": "response.t"},
            "the answer's column 'a' would overwrite the carried column 'a'",
        ),
        ({"carry": ["c"]}, "nothing provides 'c'; there are: a, b"),
        ({"columns": {"n": "{{ item }}"}}, "'item' is there only with 'each'; write each: …"),
        ({"columns": {"n": "{{ later }}", "later": 1}}, "nothing provides 'later'; it is made further down"),
        (
            {"response": {"schema": {"title": "str"}}, "columns": {"n": "{{ title }}"}},
            "nothing provides 'title'; did you mean 'response.title'?",
        ),
        (
            {"response": {"schema": {"title": "str"}}, "columns": {"n": "{{ response.titel }}"}},
            "nothing provides 'response.titel'; did you mean 'response.title'?",
        ),
        (
            {"columns": {"n": "{{ reply.finish }}"}},
            "nothing provides 'reply.finish'; did you mean 'reply.finish_reason'?",
        ),
        ({"keep_if": "response.score >"}, "not an expression: the expression is not finished"),
        ({"keep_if": "scor > 1"}, "nothing provides 'scor'; there are: a, b, response"),
        ({"each": "{{ a }} {{ b }}"}, "not an expression: an expression is one whole {{ … }}, or has no braces at all"),
        ({"each": "5"}, "'each' gives no list; write each: response.field, a list of the answer"),
        ({"parse": "how.py"}, "'how.py' is not path.py:function or package.module:function"),
        ({"parse": "who.py:parse"}, "there is no file who.py in "),
        ({"parse": "how.py:pares"}, "there is no function 'pares' in how.py; did you mean 'parse'?"),
        ({"parse": "bad.py:parse"}, "bad.py:2 is not Python: "),
        ({"parse": "how.py:parse", "columns": {"c": 1}}, "'parse' and 'columns' exclude each other"),
        ({"parse": "how.py:parse", "each": "response"}, "'parse' and 'each' exclude each other"),
    ],
)
def test_validate_finds_what_cannot_be_shaped(desk: Desk, more: dict[str, Any], problem: str) -> None:
    """Exactly one problem each, without calling anything."""
    desk.write(how__py=PARSE, bad__py="def parse(row, response):\nreturn 5\n")
    desk.says({"model": "simulator", "input": {"rows": [{"a": "x", "b": 1}]}, "prompt": "{{ a }}", **more})
    problems = desk.validate()
    assert len(problems) == 1, problems
    assert problem in problems[0]


def test_a_collision_is_none_where_the_column_is_left_behind(desk: Desk) -> None:
    """The same field is fine with `carry` or `columns`."""
    more: list[dict[str, Any]] = [{"carry": ["b"]}, {"columns": {"a": "{{ response.a }}"}}]
    for keys in more:
        desk.says(
            {
                "model": "simulator",
                "input": {"rows": [{"a": "x", "b": 1}]},
                "prompt": "hi",
                "response": {"schema": {"a": "str"}},
                **keys,
            }
        )
        assert desk.validate() == []
