"""What a valid answer is, how often it is asked for, and what becomes of rows without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from desk import Desk, Say, Server, serving

FEW = {"max_concurrent_requests": 1, "max_retries": 2}


def spec(server: Server, **more: Any) -> dict[str, Any]:
    return {
        "model": server.model(),
        "backend_params": FEW,
        "input": {"matrix": {"a": ["x"]}},
        "prompt": "{{ a }}",
        **more,
    }


def one_after_another(*answers: Say) -> Callable[[dict[str, Any]], Say]:
    """The answers in turn, then the last one for ever."""
    left: Iterator[Say] = iter(answers)
    last: list[Say] = [None]

    def answer(body: dict[str, Any]) -> Say:
        last[0] = next(left, last[0])
        return last[0]

    return answer


def notes(server: Server) -> list[str]:
    """The last user turn of each request."""
    return [body["messages"][-1]["content"] for body in server.bodies]


def test_text_is_the_column_response(desk: Desk) -> None:
    """Without `response` and `columns` a text answer is the column `response`, beside what is carried."""
    with serving(lambda body: " Hi.\n") as server:
        assert desk.says(spec(server)).rows() == [{"a": "x", "response": " Hi.\n"}]


def test_a_schemas_fields_are_columns(desk: Desk) -> None:
    """Top-level fields become columns of their own, in the schema's order."""
    with serving(lambda body: '{"n": 1, "title": "T"}') as server:
        rows = desk.says(spec(server, response={"schema": {"title": "str", "n": "int"}})).rows()
    assert [list(row.items()) for row in rows] == [[("a", "x"), ("title", "T"), ("n", 1)]]


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"title": "T"}\n```',
        'Here you are:\n\n{"title": "T"}\n\nEnjoy!',
        '{"title": "T",}',
        "{'title': 'T'}",
        '{"title": "T"',
        '<think>{"title": 1}</think>{"title": "T"}',
    ],
)
def test_a_wrapped_or_misspelt_answer_is_repaired(desk: Desk, text: str) -> None:
    """Fences, prose around it, trailing commas, single quotes and a missing end do not cost another request."""
    with serving(lambda body: text) as server:
        assert desk.says(spec(server, response={"schema": {"title": "str"}})).rows() == [{"a": "x", "title": "T"}]
        assert len(server.bodies) == 1


def test_an_invalid_answer_is_asked_again(desk: Desk) -> None:
    """Within `max_retries`, with the very same request."""
    with serving(one_after_another("no", '{"title": 1}', '{"title": "T"}')) as server:
        rows = desk.says(spec(server, response={"schema": {"title": "str"}})).rows()
        assert notes(server) == ["x", "x", "x"]
    assert rows == [{"a": "x", "title": "T"}]


def test_what_stays_invalid_fails_with_the_raw_answer_kept(desk: Desk) -> None:
    """After `max_retries` re-asks; failed.jsonl has the row, the messages, and each attempt's own error."""
    with serving(one_after_another("no", "{}", '{"title": 1}')) as server:
        desk.says(spec(server, response={"schema": {"title": "str"}}))
        told = desk.run()
        assert (told.code, len(server.bodies)) == (1, 3)
    (failed,) = desk.failed()
    assert (failed["row"], failed["index"], failed["messages"]) == ({"a": "x"}, 0, [{"role": "user", "content": "x"}])
    assert failed["error"] == 'schema: title: 1 is not of type "string"'
    assert [(one["answer"], one["error"]) for one in failed["attempts"]] == [
        ("no", "schema: not JSON: invalid literal, expected 'null': line 1 column 1 (char 0)"),
        ("{}", 'schema: answer: "title" is a required property'),
        ('{"title": 1}', 'schema: title: 1 is not of type "string"'),
    ]


def test_feedback_shows_the_model_what_was_wrong(desk: Desk) -> None:
    """`feedback: true`: the re-ask has the answer and the validation error; without it, the same is asked again."""
    with serving(one_after_another('{"n": "two"}', '{"n": 2}')) as server:
        rows = desk.says(spec(server, response={"schema": {"n": "int"}, "feedback": True})).rows()
        assert server.bodies[1]["messages"] == [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": '{"n": "two"}'},
            {
                "role": "user",
                "content": 'Your answer is not valid: n: "two" is not of type "integer"\n'
                "Answer again, in full, with this put right. Do not explain.",
            },
        ]
    assert rows == [{"a": "x", "n": 2}]


def test_choice_takes_one_of_the_list(desk: Desk) -> None:
    """Exactly one of them, space around it apart; else it is asked again."""
    with serving(one_after_another("maybe", " yes\n")) as server:
        assert desk.says(spec(server, response={"choice": ["yes", "no"]})).rows() == [{"a": "x", "response": "yes"}]
        assert len(server.bodies) == 2


def test_choice_from_a_template(desk: Desk) -> None:
    """A template yields each row's own list; it is sent and it is checked."""
    rows = {"rows": [{"a": "1", "labels": ["p", "q"]}, {"a": "2", "labels": [1, 2]}]}
    with serving(lambda body: json.dumps({"answer": {"1": "q", "2": "2"}[body["messages"][-1]["content"]]})) as server:
        desk.says(spec(server, input=rows, response={"choice": "{{ labels }}"}, carry=["a"]))
        assert desk.rows() == [{"a": "1", "response": "q"}, {"a": "2", "response": "2"}]
        enums = [
            body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] for body in server.bodies
        ]
    assert enums == [["p", "q"], ["1", "2"]]


@pytest.mark.parametrize("labels", ["p", [], None, {"p": 1}])
def test_a_choice_that_gives_no_list_fails_its_row(desk: Desk, labels: Any) -> None:
    """Nothing is sent for a row that has nothing to choose from."""
    with serving(lambda body: "p") as server:
        desk.says(spec(server, input={"rows": [{"a": "1", "labels": labels}]}, response={"choice": "{{ labels }}"}))
        assert desk.run().code == 1
        assert server.bodies == []
    assert desk.failed()[0]["error"] == "template: response.choice must give a list of texts that is not empty"


def test_regex_matches_the_whole_answer(desk: Desk) -> None:
    """A pattern that only part of the answer matches is not enough."""
    with serving(one_after_another("about 42", "42")) as server:
        assert desk.says(spec(server, response={"regex": "[0-9]+"})).rows() == [{"a": "x", "response": "42"}]
        assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("response", "field"),
    [
        ({"choice": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"regex": "[ab]"}, {"regex": "[ab]"}),
        ({"grammar": 'root ::= "a" | "b"'}, {"grammar": 'root ::= "a" | "b"'}),
    ],
)
def test_vllm_servers_are_sent_their_own_fields(desk: Desk, response: Any, field: Any) -> None:
    """`backend: vllm` with a `base_url` is a server asked online, which constrains by `structured_outputs`."""
    with serving(lambda body: "a") as server:
        desk.says(spec(server, model={"name": "tiny", "backend": "vllm", "base_url": server.url}, response=response))
        assert desk.rows() == [{"a": "x", "response": "a"}]
        assert server.bodies[0]["structured_outputs"] == field


def test_a_check_must_be_true(desk: Desk) -> None:
    """An expression or a list of them, with or without braces, over the answer, the row and the reply."""
    checks = ["response.n > 1", "{{ response.n != a | length }}", "reply.finish_reason == 'stop'"]
    with serving(one_after_another('{"n": 0}', '{"n": 1}', '{"n": 2}')) as server:
        assert desk.says(spec(server, response={"schema": {"n": "int"}, "check": checks})).rows() == [
            {"a": "x", "n": 2}
        ]
        assert len(server.bodies) == 3


def test_the_messages_really_sent_are_kept(desk: Desk) -> None:
    """`reply.messages` and `_synth.messages` are those of the attempt that was valid: the re-ask, not the prompt."""
    with serving(one_after_another("no", "yes")) as server:
        response = {"check": "response == 'yes'", "feedback": True}
        columns = {"turns": "{{ reply.messages | length }}", "sent": "{{ reply.messages }}"}
        (row,) = desk.says(spec(server, response=response, columns=columns, output={"metadata": True})).rows()
        really = server.bodies[1]["messages"]
    assert (row["turns"], row["sent"], row["_synth"]["messages"]) == (3, really, really)
    about = row["_synth"]
    assert (about["attempts"], about["model"], about["finish_reason"]) == (2, "tiny", "stop")


def test_a_call_in_place_of_an_answer(desk: Desk) -> None:
    """With `tools` and a schema, a reply that only calls a tool leaves the schema's columns null."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with serving(lambda body: {"tool_calls": [call]}) as server:
        desk.says(spec(server, tools=[{"name": "f"}], response={"schema": {"title": "str"}}))
        parsed = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
        assert desk.rows() == [{"a": "x", "title": None, "tool_calls": [parsed]}]


def test_a_group_without_any_answer_is_kept_as_nulls(desk: Desk) -> None:
    """`group_samples` with `on_failure: keep`: null in place of the lists, in its place."""
    more = {"samples": 2, "group_samples": True, "on_failure": "keep", "response": {"schema": {"t": "str"}}}
    with serving(bad) as server:
        assert desk.says(spec(server, input=THREE, **more)).rows(code=1) == [
            {"a": "one", "t": ["fine", "fine"]},
            {"a": "bad", "t": None},
            {"a": "two", "t": ["fine", "fine"]},
        ]


def test_a_failed_check_is_shown_to_the_model(desk: Desk) -> None:
    """With `feedback`, in the spec's own words."""
    with serving(one_after_another("no", "yes")) as server:
        desk.says(spec(server, response={"check": "response == 'yes'", "feedback": True}))
        assert desk.rows() == [{"a": "x", "response": "yes"}]
        assert "the check `response == 'yes'` is not true" in notes(server)[1]


def test_a_check_that_fails_to_evaluate_is_not_true(desk: Desk) -> None:
    """Its error is the row's, and it is asked again."""
    with serving(one_after_another("many", "3")) as server:
        assert desk.says(spec(server, response={"check": "(response | from_json) > 2"})).rows() == [
            {"a": "x", "response": "3"}
        ]
        assert len(server.bodies) == 2


def test_samples_are_rows_of_their_own(desk: Desk) -> None:
    """`samples: n` asks n times per row; each answer is an output row, in order; templates see `sample`."""
    with serving(lambda body: body["messages"][-1]["content"].upper()) as server:
        desk.says(spec(server, input={"matrix": {"a": ["x", "y"]}}, prompt="{{ a }}{{ sample }}", samples=2))
        assert desk.rows() == [
            {"a": "x", "response": "X0"},
            {"a": "x", "response": "X1"},
            {"a": "y", "response": "Y0"},
            {"a": "y", "response": "Y1"},
        ]


def test_a_seed_is_sent_as_seed_plus_sample(desk: Desk) -> None:
    """So samples of one row differ, and a run can be repeated."""
    with serving(lambda body: str(body["seed"])) as server:
        desk.says(spec(server, generation_params={"seed": 7}, samples=3))
        assert [row["response"] for row in desk.rows()] == ["7", "8", "9"]


def test_grouped_samples_are_lists_of_one_row(desk: Desk) -> None:
    """`group_samples` keeps one row whose response columns are lists."""
    answer = '{"n": %d, "even": %s}'
    with serving(lambda body: answer % (body["seed"], "true" if body["seed"] % 2 == 0 else "false")) as server:
        more = {"samples": 3, "group_samples": True, "response": {"schema": {"n": "int", "even": "bool"}}}
        assert desk.says(spec(server, generation_params={"seed": 0}, **more)).rows() == [
            {"a": "x", "n": [0, 1, 2], "even": [True, False, True]}
        ]


def test_failed_samples_are_missing_from_all_lists_alike(desk: Desk) -> None:
    """A sample that failed leaves no hole and no null; the row is published, and counted as failed."""
    # an answer that is no good is asked for again with another seed
    with serving(lambda body: json.dumps({"n": body["seed"], "m": 5}) if body["seed"] in (0, 2) else "no") as server:
        more = {"samples": 3, "group_samples": True, "response": {"schema": {"n": "int", "m": "int"}}}
        rows = desk.says(spec(server, generation_params={"seed": 0}, **more)).rows(code=1)
    assert rows == [{"a": "x", "n": [0, 2], "m": [5, 5]}]
    assert [failed["sample"] for failed in desk.failed()] == [1]


def test_grouped_columns_are_computed_for_each_sample(desk: Desk) -> None:
    """`columns` see one answer at a time; `keep_if` sees the finished row with its lists."""
    with serving(lambda body: "abc"[: 1 + body["seed"]]) as server:
        more = {"samples": 3, "group_samples": True, "columns": {"long": "{{ response | length }}"}}
        desk.says(spec(server, generation_params={"seed": 0}, keep_if="long[2] == 3 and long | sum == 6", **more))
        assert desk.rows() == [{"a": "x", "long": [1, 2, 3]}]


def bad(body: dict[str, Any]) -> Say:
    return "no" if "bad" in body["messages"][0]["content"] else '{"t": "fine"}'


THREE = {"matrix": {"a": ["one", "bad", "two"]}}


def test_a_failed_row_is_dropped(desk: Desk) -> None:
    """The default: only in failed.jsonl; the others are published, and the run exits 1."""
    with serving(bad) as server:
        rows = desk.says(spec(server, input=THREE, response={"schema": {"t": "str"}})).rows(code=1)
    assert rows == [{"a": "one", "t": "fine"}, {"a": "two", "t": "fine"}]
    assert [failed["row"] for failed in desk.failed()] == [{"a": "bad"}]


@pytest.mark.parametrize(
    ("more", "null"),
    [
        ({}, {"a": "bad", "t": None}),
        ({"columns": {"up": "{{ response.t | upper }}", "k": 5}}, {"a": "bad", "up": None, "k": None}),
        ({"carry": False}, {"t": None}),
    ],
)
def test_a_failed_row_is_kept_in_its_place(desk: Desk, more: Any, null: Any) -> None:
    """`on_failure: keep`: its response columns are null and not evaluated; it still counts as failed."""
    with serving(bad) as server:
        desk.says(spec(server, input=THREE, response={"schema": {"t": "str"}}, on_failure="keep", **more))
        rows = desk.rows(code=1)
    assert (len(rows), rows[1]) == (3, null)
    assert len(desk.failed()) == 1


def test_a_kept_row_of_each_stays_one_row(desk: Desk) -> None:
    """With `each`, what was kept is one row with nulls."""
    with serving(
        lambda body: "no" if "bad" in body["messages"][0]["content"] else '{"t": [{"n": 1}, {"n": 2}]}'
    ) as server:
        desk.says(
            spec(server, input=THREE, response={"schema": {"t": [{"n": "int"}]}}, each="response.t", on_failure="keep")
        )
        assert desk.rows(code=1) == [
            {"a": "one", "n": 1},
            {"a": "one", "n": 2},
            {"a": "bad", "n": None},
            {"a": "two", "n": 1},
            {"a": "two", "n": 2},
        ]


def test_a_failed_row_stops_the_run(desk: Desk) -> None:
    """`on_failure: stop` ends with exit 1 and asks nothing more; what was answered is kept."""
    with serving(bad) as server:
        desk.says(spec(server, input=THREE, response={"schema": {"t": "str"}}, on_failure="stop"))
        told = desk.run()
        assert told.code == 1
        assert server.asked == ["one", "bad", "bad", "bad"]
    assert "on_failure" in told.err


def test_a_row_that_cannot_be_asked_stops_the_run_too(desk: Desk) -> None:
    """A row without a prompt has no answer either."""
    with serving(lambda body: "fine") as server:
        rows = {"rows": [{"a": "one"}, {}, {"a": "two"}]}
        desk.says(spec(server, input=rows, on_failure="stop"))
        told = desk.run()
        assert (told.code, server.asked) == (1, ["one"])
    assert "synth: row 1 failed, and on_failure is stop: template: no column 'a'" in told.err


def test_invalid_finish_reasons_are_not_valid(desk: Desk) -> None:
    """`length` is asked again, `content_filter` is not; an own list takes their place."""
    cut = {"message": {"content": "half"}, "finish_reason": "length"}
    with serving(one_after_another(cut, "whole")) as server:
        assert desk.says(spec(server)).rows() == [{"a": "x", "response": "whole"}]
    blocked = {"message": {"content": "…"}, "finish_reason": "content_filter"}
    with serving(lambda body: blocked) as server:
        assert desk.says(spec(server)).run().code == 1
        assert len(server.bodies) == 1
    with serving(lambda body: cut) as server:
        params = {**FEW, "invalid_finish_reasons": ["content_filter"]}
        assert desk.says(spec(server, backend_params=params)).rows() == [{"a": "x", "response": "half"}]


def test_what_a_reply_says_is_there_for_templates(desk: Desk) -> None:
    """`finish_reason reasoning model tool_calls logprobs usage cost messages raw`."""
    logprobs = {"content": [{"token": "hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    full = {
        "id": "r1",
        "model": "tiny-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "reasoning_content": "hm"},
                "finish_reason": "stop",
                "logprobs": logprobs,
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }
    names = ["finish_reason", "reasoning", "model", "tool_calls", "logprobs", "usage", "cost", "messages", "raw"]
    with serving(lambda body: full) as server:
        model = server.model(backend_params={"in_mtok_cost": 100000, "out_mtok_cost": 0.5e6})
        desk.says(spec(server, model=model, columns={name: f"{{{{ reply.{name} }}}}" for name in names}, carry=False))
        (row,) = desk.rows()
    assert row == {
        "finish_reason": "stop",
        "reasoning": "hm",
        "model": "tiny-2026",
        "tool_calls": [],
        "logprobs": logprobs,
        "usage": {"input": 10, "output": 6, "total": 16, "cached": 4, "cache_written": 0, "reasoning": 5},
        "cost": 4.0,
        "messages": [{"role": "user", "content": "x"}],
        "raw": full,
    }


def test_a_check_may_look_at_the_cost(desk: Desk) -> None:
    """`reply.cost` in a check is what the prices make of the usage."""
    with serving(lambda body: "hi") as server:
        params = {**FEW, "in_mtok_cost": 1e6, "out_mtok_cost": 1e6}
        desk.says(spec(server, backend_params=params, response={"check": "reply.cost == 12"}))
        assert desk.rows() == [{"a": "x", "response": "hi"}]


def test_a_raw_completion_that_was_cut_off_says_what_to_set(desk: Desk) -> None:
    """Servers end one after 16 tokens; with a length of its own there is no such hint."""
    for params, hint in (({}, True), ({"max_tokens": 5}, False)):
        desk.says({"model": "simulator", "prompt": "hi", "prompt_format": "none", "generation_params": params})
        assert desk.run().code == 1
        (failed,) = desk.failed()
        assert ("unless generation_params.max_tokens says more" in failed["error"]) is hint


def test_a_refusal_fails_without_another_request(desk: Desk) -> None:
    """Its words are the row's error."""
    with serving(lambda body: {"content": None, "refusal": "I cannot do that."}) as server:
        assert desk.says(spec(server)).run().code == 1
        assert len(server.bodies) == 1
    assert desk.failed()[0]["error"] == "refusal: the model refused: I cannot do that."


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"response": {"choice": ["a"], "regex": "a"}}, "'choice' and 'regex' exclude each other under 'response'"),
        ({"response": {"choice": []}}, "'response.choice' must not be empty"),
        ({"response": {"choice": "yes"}}, "'choice' is a text, and not a template"),
        ({"response": {"regex": "("}}, "this is no regular expression"),
        ({"response": {"check": "reply.messages"}}, "nothing provides 'reply.messages'"),
        ({"response": {"check": []}}, "'response.check' must not be empty"),
        ({"response": {"check": "response.n >"}}, "not an expression: the expression is not finished"),
        ({"response": {"title": "str"}}, "unknown key 'title'; the fields of an answer stand under 'response.schema'"),
        ({"samples": 0}, "'samples' must be at least 1, not 0"),
        ({"samples": 2, "group_samples": True, "each": "response"}, "'each' and 'group_samples' exclude each other"),
        ({"on_failure": "skip"}, "'on_failure' must be drop, keep or stop, not the text 'skip'"),
        ({"response_format": {"type": "json_object"}}, "unknown key 'response_format'; write 'response.schema'"),
        ({"guided_json": {}}, "unknown key 'guided_json'; write 'response.schema'"),
        ({"num_generations": 2}, "unknown key 'num_generations'; write 'samples'"),
    ],
)
def test_validate_finds_what_no_answer_can_be(desk: Desk, more: dict[str, Any], problem: str) -> None:
    """Exactly one problem each."""
    desk.says({"model": "simulator", "prompt": "hi", **more})
    problems = desk.validate()
    assert len(problems) == 1
    assert problem in problems[0]
