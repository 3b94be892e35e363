"""What output rows valid answers become."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from synth_cli.core.events import Replied
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply, Usage
from synth_cli.core.row import Finished, Row, Sampled
from synth_cli.core.state import Invalid
from synth_cli.responses.shape import Shaper
from synth_cli.spec.model import Spec
from synth_cli.template import Templates, TemplateSyntaxError

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "steps": {"type": "array", "items": {"type": "object", "properties": {"text": {}, "minutes": {}}}},
    },
}
ROW = Row(4, b"r" * 16, {"cuisine": "thai", "level": "easy"})
VALUE = {"title": "Soup", "steps": [{"text": "Cut", "minutes": 2}, {"text": "Stir", "minutes": 9}]}
CAUSE = Invalid("schema", "not JSON")
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def answer(value: Any, sample: int = 0, **reply: Any) -> Sampled:
    return Sampled(bytes([sample]) * 16, sample, value, Reply(text=str(value), **reply), attempts=1)


def failed(sample: int = 0, cause: Fault | Invalid = CAUSE) -> Sampled:
    return Sampled(bytes([sample]) * 16, sample, cause=cause, attempts=4)


def finished(
    sampled: Sequence[Sampled] | Any,
    schema: Any = None,
    *,
    row: Row = ROW,
    parse: Callable[[dict[str, Any], Any], Any] | None = None,
    metadata: bool = False,
    simulated: bool = False,
    **keys: Any,
) -> Finished:
    step = Spec.model_validate({**keys, **({"parse": "x.py:parse"} if parse else {})}).resolved()[0]
    templates = Templates(vars={"unit": "min"}, seed=0)
    shaper = Shaper(step, templates, schema, parse=parse, metadata=metadata, simulated=simulated)
    return shaper.finish(row, sampled if isinstance(sampled, list) else [answer(sampled)])


def rows(*made: Mapping[str, Any], filtered: int = 0, failures: tuple[Any, ...] = ()) -> Finished:
    return Finished(made, filtered, failures)


def trouble(result: Finished) -> str:
    assert result.rows == ()
    ((sample, cause),) = result.failures
    assert sample == 0
    assert isinstance(cause, Fault)
    assert cause.kind is FaultKind.TEMPLATE
    return cause.message


def test_a_text_answer_is_the_column_response() -> None:
    """Beside the carried columns, in their order."""
    assert finished("hello") == rows({"cuisine": "thai", "level": "easy", "response": "hello"})


def test_the_default_column_replaces_a_carried_one() -> None:
    """An input column `response` is not in the way."""
    row = Row(0, b"", {"response": "old"})
    assert finished("new", row=row) == rows({"response": "new"})


def test_a_schemas_fields_are_columns() -> None:
    """Each top-level field of its own; one that is absent is null; one that the schema does not name stays out."""
    assert finished({"title": "Soup", "extra": 1}, SCHEMA, carry=False) == rows({"title": "Soup", "steps": None})


def test_an_answer_without_named_fields_is_the_column_response() -> None:
    """A JSON Schema of a list has no fields to spread."""
    assert finished([answer([1, 2])], {"type": "array"}, carry=False) == rows({"response": [1, 2]})


def test_carry() -> None:
    """All by default, none, or those listed; a listed one that a row lacks is null."""
    assert finished("x", carry=False) == rows({"response": "x"})
    assert finished("x", carry=["level", "nope"]) == rows({"level": "easy", "nope": None, "response": "x"})


def test_a_rows_own_parameters_are_not_carried() -> None:
    """The column `generation_params` is for the model."""
    row = Row(0, b"", {"a": 1, "generation_params": {"temperature": 0}})
    assert finished("x", row=row) == rows({"a": 1, "response": "x"})


def test_a_field_never_overwrites_a_carried_column() -> None:
    """Where columns were not known beforehand the row fails and says why."""
    row = Row(0, b"", {"title": "mine"})
    message = "the field 'title' of the answer would overwrite the carried column; use columns or carry"
    assert trouble(finished(VALUE, SCHEMA, row=row)) == message
    assert finished(VALUE, SCHEMA, row=row, carry=False).failures == ()


def test_columns_are_computed_in_order() -> None:
    """Each sees the earlier ones; they override carried ones; other response columns are gone."""
    columns = {"level": "very {{ level }}", "both": "{{ level }}, {{ response.title }}", "n": "{{ index }}", "k": [1]}
    made = {"cuisine": "thai", "level": "very easy", "both": "very easy, Soup", "n": 4, "k": [1]}
    assert finished(VALUE, SCHEMA, columns=columns) == rows(made)


def test_columns_see_the_reply() -> None:
    """All that the language lists, with the cost as recorded and the messages really sent."""
    names = ["finish_reason", "reasoning", "model", "tool_calls", "logprobs", "usage", "cost", "messages", "raw"]
    reply = Reply(
        text="x",
        finish_reason="stop",
        model="m-1",
        usage=Usage(10, 5, 4, 0, 2),
        reasoning="hm",
        tool_calls=({"id": "c"},),
        logprobs={"content": []},
        raw={"id": "chat-1"},
    )
    replied = Replied(b"q" * 16, "main", 1, Answer("openai", b"{}"), 0.0, 0.1, cost=0.25)
    sampled = Sampled(b"q" * 16, 0, "x", reply, replied, messages=({"role": "user", "content": "hi"},))
    result = finished([sampled], carry=False, columns={name: "{{ reply." + name + " }}" for name in names})
    assert result.rows == (
        {
            "finish_reason": "stop",
            "reasoning": "hm",
            "model": "m-1",
            "tool_calls": [{"id": "c"}],
            "logprobs": {"content": []},
            "usage": {"input": 10, "output": 5, "total": 15, "cached": 4, "cache_written": 0, "reasoning": 2},
            "cost": 0.25,
            "messages": [{"role": "user", "content": "hi"}],
            "raw": {"id": "chat-1"},
        },
    )


def test_an_error_in_columns_fails_the_row() -> None:
    """The fault names the column."""
    message = trouble(finished(VALUE, SCHEMA, columns={"a": "{{ response.nope }}"}))
    assert message == "columns.a: no key 'nope' (there are: title, steps)"


def test_each_makes_one_row_per_item() -> None:
    """A mapping spreads into columns, anything else is the column `item`."""
    assert finished(VALUE, SCHEMA, each="response.steps", carry=["level"]) == rows(
        {"level": "easy", "text": "Cut", "minutes": 2}, {"level": "easy", "text": "Stir", "minutes": 9}
    )
    assert finished("a,b", each="{{ response.split(',') }}", carry=False) == rows({"item": "a"}, {"item": "b"})
    assert finished(VALUE, SCHEMA, each="response.steps[:0]") == rows()


def test_each_with_columns() -> None:
    """With columns only they and what is carried, each seeing `item`."""
    columns = {"t": "{{ item.text }}", "of": "{{ response.title }}", "m": "{{ item.minutes }} {{ vars.unit }}"}
    assert finished(VALUE, SCHEMA, each="response.steps", columns=columns, carry=False) == rows(
        {"t": "Cut", "of": "Soup", "m": "2 min"}, {"t": "Stir", "of": "Soup", "m": "9 min"}
    )


@pytest.mark.parametrize(
    ("each", "message"),
    [
        ("response.title", "each: a list is wanted, not str"),
        ("response", "each: a list is wanted, not dict"),
        ("response.nope", "each: no key 'nope' (there are: title, steps)"),
    ],
)
def test_each_must_give_a_list(each: str, message: str) -> None:
    """Text and mappings are not taken apart by accident."""
    assert trouble(finished(VALUE, SCHEMA, each=each)) == message


def test_an_item_never_overwrites_a_carried_column() -> None:
    """The fields of items may be known only when they come."""
    row = Row(0, b"", {"text": "mine"})
    message = "the field 'text' of an item would overwrite the carried column; use columns or carry"
    assert trouble(finished(VALUE, SCHEMA, row=row, each="response.steps")) == message


def test_keep_if_looks_at_the_finished_row() -> None:
    """It sees its columns, `item`, `response`, `reply` and the input; what it leaves out is filtered, not failed."""
    keep = "minutes > 5 and item.minutes == minutes and response.title == 'Soup' and cuisine == 'thai' and reply.model"
    sampled = [answer(VALUE, model="m")]
    assert finished(sampled, SCHEMA, each="response.steps", keep_if=keep, carry=False) == rows(
        {"text": "Stir", "minutes": 9}, filtered=1
    )
    assert finished("x", columns={"a": 1}, keep_if="a > 1") == rows(filtered=1)
    assert finished("x", keep_if=True, carry=False) == rows({"response": "x"})


def test_keep_if_sees_computed_columns_in_place_of_carried_ones() -> None:
    """The finished row wins over the input row."""
    assert finished("x", columns={"level": "hard"}, keep_if="level == 'hard'", carry=False) == rows({"level": "hard"})


def test_an_error_in_keep_if_fails_the_whole_answer() -> None:
    """No half of its rows is delivered."""
    value = {"title": "x", "steps": [{"minutes": 1}, {"minutes": "z"}]}
    result = finished(value, SCHEMA, each="response.steps", keep_if="minutes > 0")
    assert trouble(result).startswith("keep_if: TypeError: ")


def test_parse_replaces_each_and_columns() -> None:
    """One call per answer with the row and the response; a mapping or a list of mappings; it overrides carried ones."""
    calls: list[tuple[Any, Any]] = []

    def parse(row: dict[str, Any], response: Any) -> Any:
        calls.append((dict(row), response))
        row["level"] = "spoilt"
        return [{"level": "hard", "n": n} for n in range(2)] if response == "two" else {"n": response}

    assert finished("one", parse=parse) == rows({"cuisine": "thai", "level": "easy", "n": "one"})
    assert finished("two", parse=parse) == rows(
        {"cuisine": "thai", "level": "hard", "n": 0}, {"cuisine": "thai", "level": "hard", "n": 1}
    )
    assert calls == [(ROW.values, "one"), (ROW.values, "two")]


def test_parse_then_keep_if() -> None:
    """`keep_if` filters what parse returned; an empty list is neither filtered nor failed."""
    assert finished("x", parse=lambda row, response: [{"n": 1}, {"n": 2}], keep_if="n > 1", carry=False) == rows(
        {"n": 2}, filtered=1
    )
    assert finished("x", parse=lambda row, response: []) == rows()


def test_an_error_in_parse_fails_the_row() -> None:
    """With its type, its words, and the user's own line."""

    def parse(row: dict[str, Any], response: Any) -> Any:
        raise KeyError("missing")

    line = parse.__code__.co_firstlineno + 1
    assert trouble(finished("x", parse=parse)) == f"parse: KeyError: 'missing' ({__file__}:{line})"


def test_a_parse_that_wants_to_leave_fails_its_row() -> None:
    """The run goes on, and its exit code is its own."""

    def parse(row: dict[str, Any], response: Any) -> Any:
        sys.exit(0)

    assert trouble(finished("x", parse=parse)).startswith("parse: SystemExit: 0")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (None, "it returned NoneType"),
        ("text", "it returned str"),
        ([{"a": 1}, 2], "it returned a list with an item of type int"),
        ({1: 2}, "it returned a mapping whose keys are not all text"),
    ],
)
def test_parse_must_return_mappings(given: Any, what: str) -> None:
    """Anything else fails the row and says what came."""
    message = f"parse: {what}; a mapping or a list of mappings is wanted"
    assert trouble(finished("x", parse=lambda row, response: given)) == message


def test_samples_are_rows_of_their_own() -> None:
    """In their order; a failed one is missing, and counts."""
    sampled = [answer("a", 0), failed(1), answer("c", 2)]
    assert finished(sampled, samples=3, carry=False, columns={"r": "{{ response }}{{ sample }}"}) == rows(
        {"r": "a0"}, {"r": "c2"}, failures=((1, CAUSE),)
    )


def test_group_samples_makes_lists() -> None:
    """One row; response columns are lists, failed samples missing from all alike; carried ones stay single."""
    sampled = [answer("a", 0), failed(1), answer("c", 2)]
    keys = {"samples": 3, "group_samples": True, "carry": ["level"]}
    columns = {"r": "{{ response }}", "n": "{{ sample }}"}
    assert finished(sampled, **keys, columns=columns) == rows(
        {"level": "easy", "r": ["a", "c"], "n": [0, 2]}, failures=((1, CAUSE),)
    )
    assert finished(sampled, **keys) == rows({"level": "easy", "response": ["a", "c"]}, failures=((1, CAUSE),))


def test_a_group_loses_a_sample_whose_columns_fail() -> None:
    """It is missing from all lists, not only from the one."""
    fault = Fault(FaultKind.TEMPLATE, "columns.n: ValueError: no")
    result = finished(
        [answer("1", 0), answer("x", 1)],
        group_samples=True,
        carry=False,
        columns={"r": "{{ response }}", "n": "{{ response | from_json }}"},
    )
    assert result.rows == ({"r": ["1"], "n": [1]},)
    assert [(sample, cause.kind) for sample, cause in result.failures] == [(1, fault.kind)]


def test_keep_if_sees_the_grouped_row() -> None:
    """The finished row of a group has lists, and so has `response`."""
    sampled = [answer("a", 0), answer("b", 1)]
    keys: dict[str, Any] = {"group_samples": True, "carry": False, "columns": {"r": "{{ response }}"}}
    assert finished(sampled, **keys, keep_if="r | length == 2 and response == ['a', 'b']") == rows({"r": ["a", "b"]})
    assert finished(sampled, **keys, keep_if="'z' in r") == rows(filtered=1)


def test_a_group_with_parse_wants_one_mapping() -> None:
    """Keys that one answer lacks are null, so that the lists stay aligned."""
    sampled = [answer("a", 0), answer("b", 1)]
    keys: dict[str, Any] = {"group_samples": True, "carry": False}
    assert finished(sampled, **keys, parse=lambda row, r: {"v": r, **({"w": 1} if r == "b" else {})}) == rows(
        {"v": ["a", "b"], "w": [None, 1]}
    )
    result = finished(sampled, **keys, parse=lambda row, r: [{"v": 1}, {"v": 2}])
    message = "group_samples: parse returned 2 rows for one answer"
    assert result == rows(failures=tuple((n, Fault(FaultKind.TEMPLATE, message)) for n in (0, 1)))


def test_drop_leaves_a_failed_row_out() -> None:
    """The default, and `stop` alike: no row, a failure."""
    assert finished([failed()]) == finished([failed()], on_failure="stop") == rows(failures=((0, CAUSE),))


@pytest.mark.parametrize(
    ("keys", "schema", "columns"),
    [
        ({}, None, {"response": None}),
        ({}, SCHEMA, {"title": None, "steps": None}),
        ({"columns": {"a": "{{ 1 / 0 }}", "level": "x"}}, None, {"a": None, "level": None}),
        ({"each": "response.steps"}, SCHEMA, {"text": None, "minutes": None}),
        ({"each": "response.steps", "columns": {"a": "{{ item }}"}}, SCHEMA, {"a": None}),
        ({"tools": TOOLS}, None, {"response": None, "tool_calls": None}),
        ({"group_samples": True}, None, {"response": None}),
        ({"keep_if": "1 / 0"}, None, {"response": None}),
    ],
)
def test_keep_leaves_a_row_with_nulls(keys: dict[str, Any], schema: Any, columns: dict[str, None]) -> None:
    """In its place: one row, its response columns null and nothing evaluated, still counted as failed."""
    result = finished([failed()], schema, on_failure="keep", **keys)
    assert result == rows({**ROW.values, **columns}, failures=((0, CAUSE),))


def test_keep_holds_the_place_of_a_sample() -> None:
    """Between those that succeeded; a group keeps one row, with those that succeeded."""
    sampled = [answer("a", 0), failed(1), answer("c", 2)]
    kept = [{"response": "a"}, {"response": None}, {"response": "c"}]
    assert finished(sampled, on_failure="keep", carry=False) == rows(*kept, failures=((1, CAUSE),))
    assert finished(sampled, on_failure="keep", carry=False, group_samples=True) == rows(
        {"response": ["a", "c"]}, failures=((1, CAUSE),)
    )


def test_keep_covers_errors_in_columns_too() -> None:
    """The row stays in its place with nulls, and counts as failed."""
    result = finished("x", on_failure="keep", carry=False, columns={"a": "{{ response.b }}"})
    assert result.rows == ({"a": None},)
    assert len(result.failures) == 1


def test_tool_calls_are_a_column() -> None:
    """With `tools`, also beside a schema's fields and spread items; with `columns` only when asked for."""
    calls = ({"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},)
    text, structured = [answer("", tool_calls=calls)], [answer(VALUE, tool_calls=calls)]
    assert finished(text, tools=TOOLS, carry=False) == rows({"response": "", "tool_calls": list(calls)})
    assert finished("plain", tools=TOOLS, carry=False) == rows({"response": "plain", "tool_calls": []})
    assert finished(structured, SCHEMA, tools=TOOLS, carry=False) == rows({**VALUE, "tool_calls": list(calls)})
    assert finished(structured, SCHEMA, tools=TOOLS, carry=False, columns={"a": 1}) == rows({"a": 1})
    assert finished([answer(None, tool_calls=calls)], SCHEMA, tools=TOOLS, carry=False) == rows(
        {"title": None, "steps": None, "tool_calls": list(calls)}
    )


def test_metadata() -> None:
    """`_synth` says where a row comes from; a simulated run marks it; a kept failure has its error."""
    reply = Reply(text="x", finish_reason="stop", model="m", usage=Usage(1, 2), cost=0.5, raw={"id": 1})
    sampled = Sampled(b"q" * 16, 0, "x", reply, attempts=2, messages=({"role": "user", "content": "hi"},))
    about = {
        "row_id": "72" * 16,
        "request_id": "71" * 16,
        "model": "m",
        "finish_reason": "stop",
        "usage": {"input": 1, "output": 2, "total": 3, "cached": 0, "cache_written": 0, "reasoning": 0},
        "cost": 0.5,
        "attempts": 2,
        "messages": [{"role": "user", "content": "hi"}],
        "raw": {"id": 1},
    }
    assert finished([sampled], metadata=True, carry=False) == rows({"response": "x", "_synth": about})
    marked = {**about, "simulated": True}
    assert finished([sampled], metadata=True, simulated=True, carry=False) == rows({"response": "x", "_synth": marked})
    assert finished([sampled], metadata=True, carry=False, group_samples=True) == rows(
        {"response": ["x"], "_synth": [about]}
    )
    (kept,) = finished([failed()], metadata=True, carry=False, on_failure="keep").rows
    assert (kept["_synth"]["error"], kept["_synth"]["attempts"]) == ("schema: not JSON", 4)


def test_metadata_does_not_change_the_carried_row() -> None:
    """Input rows are shared and stay as they are."""
    before = dict(ROW.values)
    finished("x", metadata=True)
    assert ROW.values == before


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({}, False),
        ({"metadata": True}, True),
        ({"columns": {"m": "{{ reply.messages }}"}}, True),
        ({"columns": {"m": "{{ reply }}"}}, True),
        ({"columns": {"m": "{{ reply.model }}"}}, False),
        ({"keep_if": "reply.messages"}, True),
    ],
)
def test_messages_are_asked_for_only_where_they_are_read(keys: dict[str, Any], needed: bool) -> None:
    """Making them again costs a rendering of the prompt."""
    metadata = keys.pop("metadata", False)
    step = Spec.model_validate(keys).resolved()[0]
    assert Shaper(step, Templates(vars={}, seed=0), None, metadata=metadata).needs_messages is needed


def test_bad_syntax_stops_at_once() -> None:
    """It is the spec's trouble, not the row's."""
    with pytest.raises(TemplateSyntaxError):
        finished("x", columns={"a": "{{ x"})
