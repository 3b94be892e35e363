"""YAML as this language reads it, the environment, files, and overrides, all through the command."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk, serving


def row(desk: Desk, yaml: str) -> Any:
    """The row that the lines of `vars` make, as preview shows it in a prompt."""
    desk.says(f"model: simulator\nvars:\n  v: {yaml}\nprompt: '{{{{ [vars.v] }}}}'\n")
    (look,) = desk.preview()
    return look["messages"][0]["content"]


@pytest.mark.parametrize(
    ("yaml", "json"),
    [
        ("true", "[true]"),
        ("null", "[null]"),
        ("", "[null]"),
        ("yes", '["yes"]'),
        ("no", '["no"]'),
        ("on", '["on"]'),
        ("off", '["off"]'),
        ("True", '["True"]'),
        ("2026-01-31", '["2026-01-31"]'),
        ("12:30", '["12:30"]'),
        ("1e-5", "[0.00001]"),
        ("5_000_000", "[5000000]"),
        ("007", '["007"]'),
        ("~", '["~"]'),
        ("0x1F", '["0x1F"]'),
        ('"5"', '["5"]'),
    ],
)
def test_scalars(desk: Desk, yaml: str, json: str) -> None:
    """Only true, false and null are special words; dates and times are strings, 1e-5 and 5_000_000 are numbers."""
    assert row(desk, yaml) == json


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("prompt: a\nprompt: b", "3:1: duplicate key 'prompt'; it stands on line 2 already"),
        ("prompt: {{ a }}", "2:9: a template that begins a value ('{{') needs quotes; write \"{{ a }}\""),
        (
            "prompt: {{ a }} and more",
            "2:9: a template that begins a value ('{{') needs quotes; write \"{{ a }} and more\"",
        ),
        (
            "prompt: {user: What is it?}",
            "2:26: in {…} and […] a text with '?' needs quotes; write it in quotes: \"What is it?\"",
        ),
        (
            "prompt: {user: about {{ a }}}",
            "2:22: in {…} and […] a text with '{{' needs quotes; write it in quotes: \"about {{ a }}\"",
        ),
        ("prompt: {user: for ${HOME}}", "2:21: in {…} and […] a text with '${' needs quotes"),
        (
            'prompt: "\\boxed{x}"',
            "2:9: a control character (U+0008) is in this text: in double quotes '\\b' is an escape; write '\\\\boxed'",
        ),
        ("prompt: a\n  b: c", "a text that contains ': ' needs quotes, or the indentation is wrong"),
        ("prompt: @you", "2:9: a text that begins with @ needs quotes"),
        ("prompt: a\n\tb: c", "3:1: a tab is in the indentation; indent with spaces"),
    ],
)
def test_a_forgotten_quote_is_named(desk: Desk, lines: str, problem: str) -> None:
    """The error says that quotes are missing, and how to write it; all else is said as plainly."""
    problems = desk.says(f"model: simulator\n{lines}\ninput: {{rows: [{{a: x}}]}}\n").validate()
    assert (len(problems), problem in problems[0]) == (1, True), problems


def test_a_key_that_is_not_listed_names_the_nearest(desk: Desk) -> None:
    """Every problem at once, each with its line and column."""
    desk.says(
        """model: simulator
temprature: 0.5
prompt: {sytem: hi, user: you}
x-note: {anything: goes}
input: {rows: [{a: 1}], taek: 3}
backend_params: {max_retry: 2}
n_records: 5
"""
    )
    assert desk.validate() == [
        "2:1: unknown key 'temprature'; did you mean 'temperature'? It stands under 'generation_params'",
        "3:10: unknown key 'sytem'; did you mean 'system'?",
        "5:25: unknown key 'taek'; did you mean 'take'?",
        "6:18: unknown key 'max_retry'; did you mean 'max_retries'?",
        "7:1: unknown key 'n_records'; write 'input.count'",
    ]


def test_problems_of_shape_and_of_meaning_are_told_together_in_order(desk: Desk) -> None:
    """One pass mends a spec: what the shape hides is told too, by line."""
    desk.says(
        """model: simulator
prompt: "{{ cusine }}"
smaples: 2
input: {matrix: {cuisine: [thai]}}
columns: {x: "{{ response | uper }}"}
on_failure: skip
"""
    )
    assert desk.validate() == [
        "2:9: nothing provides 'cusine'; did you mean 'cuisine'?",
        "3:1: unknown key 'smaples'; did you mean 'samples'?",
        "5:14: not a template: no filter named 'uper'; did you mean 'upper'?",
        "6:13: 'on_failure' must be drop, keep or stop, not the text 'skip'",
    ]


def test_environment_variables_are_put_in_after_yaml_is_parsed(desk: Desk) -> None:
    """A value with quotes and colons stays one text; `:-` gives a default, `$${` is a literal `${`."""
    desk.says(
        """model: simulator
prompt: "${ROLE}|${NONE:-fallback}|$${ROLE}|${EMPTY:-}"
generation_params: {max_tokens: "${MOST}"}
"""
    )
    env = {"ROLE": 'a: "b" {{ c', "MOST": "64"}
    told = desk.synth("preview", "--json", env={**env, "ROLE": 'a: "b"'})
    assert '"content": "a: \\"b\\"|fallback|${ROLE}|"' in told.out
    assert '"max_tokens": 64' in told.out
    assert desk.validate(env={"ROLE": "x"}) == [
        "3:33: the environment variable MOST is not set; set it, or write ${MOST:-default}"
    ]


def test_a_numeric_key_accepts_a_numeric_string(desk: Desk) -> None:
    """As the environment gives it; another text is an error."""
    desk.says("model: simulator\nprompt: hi\nsamples: '${N}'\nbackend_params: {max_retries: '${R:-2}'}\n")
    assert desk.validate(env={"N": "3"}) == []
    assert desk.validate(env={"N": "three"}) == ["3:10: 'samples' must be a whole number, not the text 'three'"]


def test_a_file_is_a_values_text(desk: Desk) -> None:
    """`file://relative` in a prompt is a template, in a schema a schema."""
    desk.write(
        ask__md="Write about {{ a }}.\n", shape__json='{"type": "object", "properties": {"t": {"type": "string"}}}'
    )
    desk.says(
        "model: simulator\ninput: {rows: [{a: x}]}\nprompt: file://ask.md\nresponse: {schema: file://shape.json}\n"
    )
    (look,) = desk.preview()
    assert look["messages"] == [{"role": "user", "content": "Write about x."}]
    desk.says("model: simulator\nprompt: file://asc.md\n")
    assert desk.validate() == [f"2:9: there is no file {desk.folder}/asc.md; did you mean 'ask.md'?"]


def test_extends_merges_mappings_and_replaces_lists(desk: Desk) -> None:
    """`null` removes; a profile and `--set` come on top."""
    desk.write(
        base__yaml="""model: simulator
prompt: {system: S, user: "{{ a }} {{ vars.t }}"}
vars: {t: calm, u: 1}
input: {matrix: {a: [x, y]}}
generation_params: {temperature: 0.5, top_p: 0.9}
"""
    )
    desk.says(
        """extends: base.yaml
prompt: {system: null}
input: {matrix: {a: [z]}}
generation_params: {temperature: 1}
profiles: {wild: {vars: {t: wild}}}
"""
    )

    def sent(*more: str) -> Any:
        (look,) = desk.preview(*more)
        return {key: value for key, value in look["body"].items() if key not in {"seed", "model"}}

    def body(text: str, **params: Any) -> Any:
        return {"temperature": 1, "top_p": 0.9, **params, "messages": [{"role": "user", "content": text}]}

    assert sent() == body("z calm")
    assert sent("--profile", "wild") == body("z wild")
    assert sent("--profile", "wild", "--set", "vars.t=dry", "--set", "generation_params.top_p=0.1") == body(
        "z dry", top_p=0.1
    )


def test_secrets_are_nowhere(desk: Desk) -> None:
    """`api_key` is in no report, log, plan, lock or failed row, even when the server repeats it."""
    secret = "sk-very-secret-0123456789"

    def answer(body: dict[str, Any]) -> Any:
        return {"status": 400, "body": {"error": {"message": f"bad key? {secret}"}}}

    with serving(answer) as server:
        desk.says({"model": server.model(api_key="${MY_KEY}", headers={"x-token": secret}), "prompt": "hi"})
        told = desk.synth("run", "--json", env={"MY_KEY": secret})
        assert server.headers[0]["Authorization"] == f"Bearer {secret}"
    assert told.code == 1
    everything = told.out + told.err
    for path in desk.folder.rglob("*"):
        if path.is_file() and path.name != "spec.yaml":
            everything += path.read_bytes().decode("utf-8", "replace")
    assert ("bad key?" in everything, secret in everything.replace(f'"x-token": "{secret}"', "")) == (True, False)
