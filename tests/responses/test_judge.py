"""What makes a reply valid, in the order in which it is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.core.reply import Reply, Usage
from synth_cli.core.row import Context, Row
from synth_cli.core.state import Invalid, Valid, Verdict
from synth_cli.errors import UsageError
from synth_cli.responses.judge import Judge, regex_problem
from synth_cli.spec.model import Spec
from synth_cli.template import Templates, TemplateSyntaxError

STEPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "minutes": {"type": "integer"}},
        "required": ["text", "minutes"],
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "steps": STEPS,
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "servings": {"type": "integer", "default": 2},
    },
    "required": ["title", "steps", "note"],
    "additionalProperties": False,
}
GOOD = '{"title": "Soup", "steps": [{"text": "Stir", "minutes": 5.0}], "note": null}'
ROW = Row(4, b"r" * 16, {"level": "easy", "options": ["yes", "no"], "words": [1, True]})


def judged(reply: Reply | str, schema: Any = None, **keys: Any) -> Verdict:
    step = Spec.model_validate(keys).resolved()[0]
    judge = Judge(step, Templates(vars={"most": 9}, seed=0), schema)
    return judge(Context(ROW, 1), Reply(text=reply, finish_reason="stop") if isinstance(reply, str) else reply)


def reason(verdict: Verdict) -> str:
    assert isinstance(verdict, Invalid)
    return verdict.reason


def test_text_is_its_own_value() -> None:
    """Without a constraint any text that is not empty is valid, as it is."""
    assert judged(" hello\n") == Valid(" hello\n")


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_empty_answer_is_invalid(text: str | None) -> None:
    """Nothing is not an answer."""
    assert judged(Reply(text=text)) == Invalid("empty", "the answer is empty")


def test_unwanted_finish_reasons() -> None:
    """By default length and content_filter; the filter would say the same again, so it is not retried."""
    cut = "the answer was cut off at the longest length allowed (finish reason 'length')"
    assert judged(Reply(text="x", finish_reason="length")) == Invalid("finish reason", cut)
    filtered = Invalid("finish reason", "the provider's content filter ended the answer", retry=False)
    assert judged(Reply(text=None, finish_reason="content_filter")) == filtered


def test_finish_reasons_can_be_chosen() -> None:
    """`invalid_finish_reasons` replaces the default."""
    keys = {"backend_params": {"invalid_finish_reasons": ["stop"]}}
    assert judged(Reply(text="x", finish_reason="length"), **keys) == Valid("x")
    wanted = Invalid("finish reason", "the answer ended with the finish reason 'stop'")
    assert judged(Reply(text="x", finish_reason="stop"), **keys) == wanted


def test_a_refusal_is_final() -> None:
    """A refusal is not asked again, whatever text came with it."""
    verdict = judged(Reply(text="x", refusal="I can't help."))
    assert verdict == Invalid("refusal", "the model refused: I can't help.", retry=False)


def test_a_valid_object_is_completed() -> None:
    """The value is the mapping; whole numbers are integers where the schema says so, defaults are put in."""
    value = {"title": "Soup", "steps": [{"text": "Stir", "minutes": 5}], "note": None, "servings": 2}
    verdict = judged(GOOD, SCHEMA)
    assert verdict == Valid(value)
    assert isinstance(verdict, Valid)
    assert type(verdict.value["steps"][0]["minutes"]) is int


def test_wrapped_json_is_repaired_then_validated() -> None:
    """Fences and trailing commas are mended, JSON within a JSON text is unpacked."""
    fenced = "```json\n" + GOOD.replace("null}", "null,}") + "\n```"
    packed = '"' + GOOD.replace('"', '\\"') + '"'
    assert judged(fenced, SCHEMA) == judged(packed, SCHEMA) == judged(GOOD, SCHEMA)


def test_an_invalid_object_says_where_and_what() -> None:
    """One line with each place and its problem, for people and for the model."""
    text = '{"title": 3, "steps": [{"text": "Stir", "minutes": "x"}], "note": null}'
    assert judged(text, SCHEMA) == Invalid(
        "schema", 'title: 3 is not of type "string"; steps[0].minutes: "x" is not of type "integer"'
    )
    assert reason(judged('{"title": "a", "steps": []}', SCHEMA)) == 'answer: "note" is a required property'


def test_long_reasons_stay_one_short_line() -> None:
    """A long wrong value is not repeated in full."""
    text = reason(judged('["' + "x\\n" * 5000 + '"]', SCHEMA))
    assert text.endswith('is not of type "object"')
    assert len(text) < 300
    assert "\n" not in text


@pytest.mark.parametrize("text", ["I'd rather not.", "Sorry, {nothing} here", "[1, 2"])
def test_prose_is_never_a_valid_object(text: str) -> None:
    """A library that mends JSON makes something of anything; that is validated too."""
    assert isinstance(judged(text, SCHEMA), Invalid)
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert isinstance(judged(text, loose), Invalid)


def test_a_wrong_schema_stops_at_once() -> None:
    """It would fail every row."""
    with pytest.raises(UsageError, match=r"response\.schema is not a JSON Schema"):
        judged("{}", {"type": "objct"})


def test_choice_is_exact_after_strip() -> None:
    """Space around the answer and the quotes of a JSON text do not matter, anything else does."""
    keys = {"response": {"choice": ["yes", "no", "not sure"]}}
    assert [judged(text, **keys) for text in ("yes", " no\n", '"not sure"')] == [
        Valid("yes"),
        Valid("no"),
        Valid("not sure"),
    ]
    assert judged("Yes.", **keys) == Invalid("choice", "'Yes.' is not one of: yes, no, not sure")


def test_choice_by_template() -> None:
    """A template yields the list of each row; one that fails is not worth asking again."""
    assert judged("no", response={"choice": "{{ options }}"}) == Valid("no")
    assert judged("true", response={"choice": "{{ words }}"}) == Valid("true")
    assert reason(judged("maybe", response={"choice": "{{ options }}"})) == "'maybe' is not one of: yes, no"
    for template in ("{{ nope }}", "{{ level }}"):
        verdict = judged("x", response={"choice": template})
        assert isinstance(verdict, Invalid)
        assert (verdict.kind, verdict.retry) == ("choice", False)


def test_regex_matches_the_whole_answer() -> None:
    """A part that matches is not enough."""
    keys = {"response": {"regex": "[0-9]+ (kg|g)"}}
    assert judged("12 kg", **keys) == Valid("12 kg")
    assert judged("12 kg\n", **keys) == Valid("12 kg")
    assert judged("about 12 kg", **keys) == Invalid("regex", "'about 12 kg' does not match [0-9]+ (kg|g)")


def test_a_wrong_regex_is_found_early() -> None:
    """`regex_problem` says what is wrong, and a judge is not made of it."""
    assert regex_problem("a+") is None
    assert regex_problem("(") == "missing ), unterminated subpattern at position 0"
    with pytest.raises(UsageError):
        judged("x", response={"regex": "("})


def test_grammar_is_of_the_whole_answer() -> None:
    """Space around it is not part of the answer, everything else is."""
    keys = {"response": {"grammar": 'root ::= "SELECT " [0-9]+'}}
    assert judged("SELECT 1", **keys) == Valid("SELECT 1")
    assert judged("SELECT 12\n", **keys) == Valid("SELECT 12")
    wrong = Invalid("grammar", "'SELECT x' does not follow the grammar from character 8 on")
    assert judged("SELECT x", **keys) == wrong
    assert judged(" ", **keys) == Invalid("empty", "the answer is empty")


def test_a_wrong_grammar_is_found_early() -> None:
    """A judge is not made of what is no grammar."""
    with pytest.raises(UsageError, match="Rule 'x' not found"):
        judged("x", response={"grammar": "root ::= x"})


def test_a_tool_call_needs_no_text() -> None:
    """With `tools`, calls are an answer; without, an empty text is not."""
    reply = Reply(text=None, finish_reason="tool_calls", tool_calls=({"id": "1"},))
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert judged(reply, tools=tools) == Valid("")
    assert judged(reply, SCHEMA, tools=tools) == Valid(None)
    assert judged(reply) == Invalid("empty", "the answer is empty")
    assert judged(Reply(text="", finish_reason="stop"), tools=tools) == Invalid("empty", "the answer is empty")


def test_checks_must_all_be_true() -> None:
    """They see the answer, the row and the reply; the first that is not true is named."""
    seen = "response.title | length < vars.most and level == 'easy' and index == 4 and sample == 1"
    assert isinstance(judged(GOOD, SCHEMA, response={"check": seen}), Valid)
    checks = ["response.servings == 2", "{{ response.steps | length > 1 }}", "false"]
    assert judged(GOOD, SCHEMA, response={"check": checks}) == Invalid(
        "check", "the check `{{ response.steps | length > 1 }}` is not true"
    )


def test_checks_see_the_reply() -> None:
    """Finish reason, usage and the rest are there."""
    reply = Reply(text="x", finish_reason="stop", model="m", usage=Usage(3, 4), reasoning="r", cost=0.5)
    check = "reply.usage.total == 7 and reply.model == 'm' and reply.reasoning == 'r' and reply.cost == 0.5"
    assert judged(reply, response={"check": check}) == Valid("x")


def test_a_check_that_fails_names_its_error() -> None:
    """An error in a check makes the answer invalid: the next answer may be better."""
    assert judged("x", response={"check": "response.name == 'a'"}) == Invalid(
        "check", "the check `response.name == 'a'` failed: no 'name' in a value of type str"
    )


def test_checks_come_after_the_constraint() -> None:
    """An answer of the wrong form is not evaluated."""
    verdict = judged("{}", SCHEMA, response={"check": "response.nope"})
    assert isinstance(verdict, Invalid)
    assert verdict.kind == "schema"


def test_a_check_with_bad_syntax_stops_at_once() -> None:
    """It is the spec's trouble, not the row's."""
    with pytest.raises(TemplateSyntaxError):
        judged("x", response={"check": "response >"})


WHOLE = {"type": "object", "properties": {"all": {"type": "array", "items": {"type": "integer"}}}}


@pytest.mark.parametrize("number", ["97807709791755313107270270947279176774", "1e18", "123456789012345678.0", "-1e300"])
@pytest.mark.parametrize("text", ['{"all": [1, %s]}', "{'all': [1, %s],}"])
def test_an_integer_of_which_digits_were_lost_is_invalid(number: str, text: str) -> None:
    """Beyond 64 bits, or beyond 2**53 as a float, nobody knows its digits any more: none are made up."""
    verdict = judged(text % number, WHOLE)
    assert reason(verdict) == (
        f"all[1]: a whole number must be written in digits and fit in 64 bits, unlike {float(number)!r}"
    )


@pytest.mark.parametrize("number", [-(2**63), 2**53 + 1, 2**64 - 1])
def test_an_integer_of_64_bits_keeps_its_digits(number: int) -> None:
    """As far as they are written in digits."""
    assert judged(f'{{"all": [{number}, -9007199254740992.0]}}', WHOLE) == Valid({"all": [number, -(2**53)]})
