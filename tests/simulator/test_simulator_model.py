from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from synth_cli.simulator.asked import Refused, read_chat, read_completions
from synth_cli.simulator.model import Choice, Model, options_in, schema_in
from synth_cli.simulator.settings import Settings

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["score"],
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "send_email", "description": "Writes to someone", "parameters": SCHEMA}},
]


def ask(text: str = "Tell me about lemons.", settings: Settings | None = None, **more: Any) -> list[Choice]:
    body = {"model": "simulator", "messages": [{"role": "user", "content": text}], **more}
    return Model().answer(read_chat(body), settings or Settings())


def text(*args: Any, **more: Any) -> str:
    (choice,) = ask(*args, **more)
    assert choice.text is not None
    return choice.text


def test_equal_requests_get_equal_answers() -> None:
    """Messages, model, seed of the request and seed of the server make the answer; the temperature does not."""
    assert ask() == ask(temperature=1.5)
    others = [ask("Tell me about limes."), ask(model="other"), ask(seed=1), ask(settings=Settings(seed=1))]
    assert all(ask()[0].text != other[0].text for other in others)


def test_prose_is_about_the_prompt_and_as_long_as_set() -> None:
    """A text answer takes its words from the user's and has about the tokens that were set."""
    (choice,) = ask("Describe volcanoes, glaciers and rivers of Iceland.", settings=Settings(output_tokens=200))
    assert choice.text is not None
    assert choice.finish_reason == "stop"
    assert "glaciers" in choice.text
    assert 140 <= choice.tokens <= 260


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_cuts(limit: str) -> None:
    """What is longer than the limit is cut there, with finish_reason length."""
    whole = text()
    assert ask(**{limit: 5}) == [Choice(whole[:20], "length", 5)]
    assert ask(**{limit: 5000}) == ask()


def test_stop_strings_end_the_text() -> None:
    """The text ends before the first stop string, with finish_reason stop."""
    whole = text()
    assert text(stop=" ") == whole.split()[0]
    assert ask(stop=["zzz", " "])[0].finish_reason == "stop"


def test_n_gives_as_many_different_choices() -> None:
    """`n` choices differ, and the first is the one that is given alone."""
    choices = ask(n=4)
    assert len({choice.text for choice in choices}) == 4
    assert choices[0] == ask()[0]


def test_a_schema_is_answered_with_a_valid_value() -> None:
    """json_schema, and vLLM's json, give JSON that fits."""
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    for more in ({"response_format": form}, {"structured_outputs": {"json": SCHEMA}}):
        jsonschema_rs.validate(SCHEMA, json.loads(text(**more)))


def test_json_mode_finds_the_schema_in_the_prompt() -> None:
    """In JSON mode a schema that the messages carry is honoured; without one any object comes."""
    prompt = (
        f"Sizes {{like {{these}}}} vary. Answer as JSON of this schema:\n{json.dumps(SCHEMA, indent=2)}\nThanks {{}}."
    )
    form = {"type": "json_object"}
    jsonschema_rs.validate(SCHEMA, json.loads(text(prompt, response_format=form)))
    assert isinstance(json.loads(text("Any json will do.", response_format=form)), dict)
    with pytest.raises(Refused, match="must contain the word 'json'"):
        ask("Hello.", response_format=form)


def test_a_json_schema_in_the_prompt_alone_is_honoured() -> None:
    """Hosts without a field for it get the schema in the prompt."""
    prompt = f"Answer with JSON that fits this JSON Schema: {json.dumps(SCHEMA)}"
    jsonschema_rs.validate(SCHEMA, json.loads(text(prompt)))


def test_the_systems_schema_comes_first() -> None:
    """A row's own JSON does not take the place of the instructions'."""
    texts = [("user", '{"type": "dog"}'), ("system", f"Fit {json.dumps(SCHEMA)}")]
    assert schema_in(texts) == SCHEMA


def test_vllm_constraints() -> None:
    """choice, regex and grammar are kept; one of them, no more."""
    assert text(structured_outputs={"choice": ["yes", "no"]}) in ("yes", "no")
    assert text(structured_outputs={"regex": r"[A-Z]{3}-\d{2}"})[3] == "-"
    assert text(structured_outputs={"grammar": 'root ::= "left" | "right"'}) in ("left", "right")
    with pytest.raises(Refused, match="exactly one"):
        ask(structured_outputs={"choice": ["a"], "regex": "a"})


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("Answer with one of: positive, negative, neutral.", ("positive", "negative", "neutral")),
        ("Reply with exactly one of: a | b | c\nText: one of: x", ("a", "b", "c")),
        ("Choose one of the following labels: 'spam' or 'ham'. Text: buy, now, please", ("spam", "ham")),
        ("One of these options:\n- red wine\n- white wine\n\nText", ("red wine", "white wine")),
        ('Answer with one of: ["true", "false"]', ("true", "false")),
        ("This is one of the best films, I think: great.", ()),
        ("one of: single", ()),
    ],
)
def test_options_in_a_prompt(prompt: str, options: tuple[str, ...]) -> None:
    """`one of: …` in a prompt lists what may be answered."""
    assert options_in([("user", prompt)]) == options
    if options:
        assert text(prompt) in options


def test_a_box_that_is_asked_for_holds_a_number_made_of_those_in_the_question() -> None:
    """The system's wish or the user's; an answer that is to be invalid has none, and nobody else gets one."""
    question = "A tray holds 12 rolls. How many are on 8 trays? Put the result in \\boxed{}."
    boxes = {text(question, seed=seed).rpartition("\\boxed")[2] for seed in range(40)}
    assert boxes == {"{20}.", "{4}.", "{96}.", "{1.5}."}
    assert "\\boxed" not in text("A tray holds 12 rolls. How many are on 8 trays?")
    asked = read_chat({"model": "simulator", "messages": [{"role": "user", "content": question}]})
    (broken,) = Model().answer(asked, Settings(), invalid=True)
    assert "\\boxed" not in (broken.text or "")


def test_tools() -> None:
    """A forced tool is called; by itself the model calls the one that the text speaks of, or none."""
    (call,) = ask("What is the weather in Oslo?", tools=TOOLS)[0].tool_calls
    assert call[1] == "get_weather"
    jsonschema_rs.validate(SCHEMA, json.loads(call[2]))
    forced = {"type": "function", "function": {"name": "send_email"}}
    (choice,) = ask(tools=TOOLS, tool_choice=forced)
    assert (choice.tool_calls[0][1], choice.finish_reason, choice.text) == ("send_email", "stop", None)
    assert ask(tools=TOOLS, tool_choice="required")[0].finish_reason == "tool_calls"
    assert ask(tools=TOOLS)[0].tool_calls == ()
    assert ask("What is the weather?", tools=TOOLS, tool_choice="none")[0].tool_calls == ()


def test_after_a_tools_answer_comes_text() -> None:
    """The model does not call the same tool for ever."""
    messages = [
        {"role": "user", "content": "The weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
        {"role": "tool", "tool_call_id": "a", "content": "Sunny"},
    ]
    (choice,) = ask(messages=messages, tools=TOOLS)
    assert (choice.tool_calls, choice.finish_reason) == ((), "stop")


def test_a_reasoning_model_thinks_aloud() -> None:
    """Where the model's name says so, reasoning comes beside the text and is counted."""
    (choice,) = ask(model="simulator-reason")
    assert choice.reasoning
    assert choice.text
    assert 0 < choice.reasoning_tokens < choice.tokens


def test_prompts_of_completions_are_answered_each() -> None:
    """A list of prompts is as many questions; the default limit is OpenAI's 16 tokens."""
    first, second = read_completions({"model": "m", "prompt": ["One thing", "Another thing"], "n": 2})
    answers = Model().answer(first, Settings()) + Model().answer(second, Settings())
    assert [(choice.finish_reason, choice.tokens) for choice in answers] == [("length", 16)] * 4
    assert len({choice.text for choice in answers}) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": None}, "Missing required parameter: 'messages'"),
        ({"messages": []}, "'messages'"),
        ({"messages": [{"role": "king", "content": "x"}]}, r"messages\[0\].role"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\].content"),
        ({"messages": [{"role": "user", "content": [{"type": "imag"}]}]}, r"messages\[0\].content\[0\].type"),
        ({"model": None}, "model"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"n": 0}, "'n'"),
        ({"stop": 3}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [{"name": "x"}]}, r"tools\[0\]"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}, "json_schema.name"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strin"}}}},
            "schema",
        ),
        ({"structured_outputs": {"regex": "("}}, "Invalid regex"),
        ({"structured_outputs": {"choice": []}}, "choice"),
    ],
)
def test_a_bad_request_is_named(change: dict[str, Any], words: str) -> None:
    """What OpenAI refuses with 400 is refused, with the parameter's name."""
    with pytest.raises(Refused, match=words) as caught:
        ask(**change)
    assert caught.value.status == 400
