"""YAML as the language reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_cli.errors import SpecError
from synth_cli.spec import yaml
from synth_cli.spec.places import Places, plain


def read(text: str) -> object:
    tree, problems = yaml.read(text, "f")
    assert problems == []
    return plain(tree)


def errors(text: str) -> list[str]:
    try:
        _, problems = yaml.read(text, "f")
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in problems]


def test_special_words() -> None:
    """Only true, false, null and nothing at all are special."""
    text = "[true, false, null, yes, no, on, off, True, ~, 2024-05-01, '12:30', 12:30, .inf]\n"
    assert read(text) == [
        *(True, False, None, "yes", "no", "on", "off", "True", "~", "2024-05-01", "12:30", "12:30", ".inf")
    ]
    assert read("a:\nb: x\n") == {"a": None, "b": "x"}


def test_numbers() -> None:
    """Decimals, exponents and underscores are numbers; codes, phone numbers and long identifiers are texts."""
    assert read("[1e-5, 5_000_000, -3, .5, 1., 1_0.5, 2E+3]") == [1e-5, 5_000_000, -3, 0.5, 1.0, 10.5, 2000.0]
    codes = ["007", "+4930", "0x1F", "0o17", "1__0", "_1", "1e999", "9" * 30]
    assert read(f"[{', '.join(codes)}]") == codes


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_json_numbers(number: float) -> None:
    """Every number that JSON writers write is read as the same number."""
    assert read(f"n: {json.dumps(number)}") == {"n": number}


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]), max_size=40))
def test_quoted_text(text: str) -> None:
    """What stands in quotes is text, whatever it looks like."""
    assert read("t: '" + text.replace("'", "''") + "'") == {"t": text.replace("\ufeff", "\ufeff")}


def test_anchors_and_merge_keys() -> None:
    """Aliases and `<<` work; the own keys win, then the first mapping named."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 9}\nd: *a\n"
    assert read(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"y": 2, "z": 2},
        "c": {"y": 1, "z": 2, "x": 9},
        "d": {"x": 1, "y": 1},
    }


def test_category_values_keep_their_type() -> None:
    """Keys are texts, but the values of a category sampler are what they look like."""
    text = "input: {columns: {stars: {category: {1: 3, 5: 1}}}}\nvars: {1: x}"
    assert read(text) == {"input": {"columns": {"stars": {"category": {1: 3, 5: 1}}}}, "vars": {"1": "x"}}


def test_places() -> None:
    """Each value and each key knows its line and column."""
    places = Places(yaml.read("a: 1\nb:\n  - c:  x\n", "f")[0])
    found = [places.problem(("b", 0, "c"), "m"), places.key_problem(("b", 0, "c"), "m"), places.problem(("b",), "m")]
    assert [(each.line, each.column) for each in found] == [(3, 9), (3, 5), (2, 1)]
    assert str(places.problem(("b", 0, "nowhere", 3), "m", "h")) == "f:3:5: m; h"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user: {{ q }}", "f:1:7: a template that begins a value ('{{') needs quotes; write \"{{ q }}\""),
        (
            "- a: b\n  user: {{ q }} and {{ b }}",
            "f:2:9: a template that begins a value ('{{') needs quotes; write \"{{ q }} and {{ b }}\"",
        ),
        ("p: {% if x %}a{% endif %}", None),
        ("a: [{{ x }}]", "f:1:5: a template that begins a value ('{{') needs quotes; write \"{{ x }}\""),
        ("a: {t: str?}", "f:1:11: in {…} and […] a text with '?' needs quotes; write it in quotes: \"str?\""),
        (
            "a: {t: enum[a, b]}",
            "f:1:12: in {…} and […] a text with '[' needs quotes; write it in quotes: \"enum[a, b]\"",
        ),
        ("a: {k: ${X}}", "f:1:9: in {…} and […] a text with '${' needs quotes; write it in quotes: \"${X}\""),
        (
            "a: {k: hi {{ x }}}",
            "f:1:11: in {…} and […] a text with '{{' needs quotes; write it in quotes: \"hi {{ x }}\"",
        ),
        ("p: [INST] {{ x }} [/INST]", "f:1:11: a text that begins with '[' needs quotes; write it as \"[…] …\""),
        ("p: @x", 'f:1:4: a text that begins with @ needs quotes; write it as "…"'),
        ("p: *Bold* x", None),
        ("p: **Bold** x", None),
        ("p: !x y", "f:1:4: tags like '!x' mean nothing here; put a text with '!' in quotes"),
        ("p: > x", None),
    ],
)
def test_forgotten_quotes(text: str, message: str | None) -> None:
    """The error for a forgotten quote speaks of quotes, at the place."""
    found = errors(text)
    assert len(found) == 1
    assert "quotes" in found[0]
    if message is not None:
        assert found == [message]


def test_a_template_without_quotes_does_not_hide_the_rest() -> None:
    """A value that is one unquoted template is taken for it, and the other problems are found too."""
    tree, problems = yaml.read("user: {{ q }}\na: 1\na: 2\n", "f")
    assert plain(tree) == {"user": "{{ q }}", "a": 1}
    assert [problem.line for problem in problems] == [1, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: duplicate key 'a'; it stands on line 1 already"),
        ("a:\n\tb: 1\n", "f:2:1: a tab is in the indentation; indent with spaces"),
        ("a: b: c\n", "a text that contains ': ' needs quotes"),
        ('a: "x\n', "a quote is opened and never closed"),
        ("a: [1, 2\n", "a '[' or '{' is opened and never closed"),
        ("a: 1\n---\nb: 2\n", "a spec is one document"),
        ("", "the file is empty"),
        ("a: &x [*x]", "an anchor that contains its own alias has no end"),
        ("a: \x07\n", "f:1:4: a control character (U+0007) is in the file; remove it"),
        ("a: 1\n  b: 2\n", "f:2:4: "),
        ("[a]: 1\n", "f:1:1: a key must be a word or a text"),
        ("a: *nobody\n", "alias"),
        ("a: {<<: 3}\n", "'<<' merges mappings only"),
    ],
)
def test_what_is_not_read(text: str, words: str) -> None:
    """Each mistake has words of its own."""
    (found,) = errors(text)
    assert words in found


@pytest.mark.parametrize("escape", ["boxed", "frac", "vec", "alpha", "rho"])
def test_control_characters(escape: str) -> None:
    """A backslash that became a control character in double quotes is an error that shows the right spelling."""
    (found,) = errors(f'p: "$\\{escape}{{1}}$"')
    assert f"write '\\\\{escape}'" in found
    assert errors(f"p: '$\\{escape}{{1}}$'") == []


def test_deliberate_control_characters() -> None:
    """Sampling parameters such as `stop` may hold any character; a line end is none."""
    assert read('generation_params: {stop: ["\\x03"]}\nvars: {a: "x\\r\\n"}') == {
        "generation_params": {"stop": ["\x03"]},
        "vars": {"a": "x\r\n"},
    }


@given(st.one_of(st.text(max_size=60), st.text("a:-? []{}#&*!|>'\"%@`\n\t,\\x0U<$", max_size=40)))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever a file holds, it is read or refused with words and a place within the file."""
    try:
        _, problems = yaml.read(text, "f")
    except SpecError as error:
        problems = list(error.problems)
        assert problems
    assert all(problem.message and problem.line <= len(text) + 1 for problem in problems)


def test_values_of_set() -> None:
    """A value on the command line is a word, or what begins like a list, a mapping or a quoted text."""
    given_values = ["5", "true", "null", "a: b {{ x }}", "{{ x }} [y]", "[a, 2]", "{a: 1}", '"5"', "", "yes"]
    assert [plain(yaml.value(text, "--set k")) for text in given_values] == [
        *(5, True, None, "a: b {{ x }}", "{{ x }} [y]", ["a", 2], {"a": 1}, "5", "", "yes")
    ]
