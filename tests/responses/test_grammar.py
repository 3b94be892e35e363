"""Grammars in both notations, and whole answers held against them."""

from __future__ import annotations

import pytest

from synth_cli.responses.grammar import Grammar, grammar_problem
from synth_cli.simulator.draw import Draw
from synth_cli.simulator.grammars import written

SUM = 'start: NUMBER (" + " NUMBER)*\nNUMBER: /[0-9]+/'
JSON = r"""
root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.mark.parametrize(
    ("grammar", "answer", "wrong"),
    [
        (SUM, "1 + 22", None),
        (SUM, "1 + ", "ends before the grammar does"),
        (SUM, "1 + x", "does not follow the grammar from character 5 on"),
        (SUM, "1 + 2 and more", "does not follow the grammar from character 7 on"),
        ('root ::= "é" [0-9]', "é1", None),
        ('root ::= "é" [0-9]', "éé", "does not follow the grammar from character 2 on"),
        ('root ::= "é" [0-9]', "\ud800", "does not follow the grammar from character 1 on"),
        ('start: "yes" | SIGNED\n%import common.SIGNED_NUMBER -> SIGNED', "-1.5", None),
        (JSON, '{"a": [1, {"b": "c d"}], "e": null}', None),
        (JSON, '{"a": [1, {"b": "c d"}, "e": null}', "does not follow the grammar from character 28 on"),
    ],
)
def test_the_whole_answer_is_a_text_of_the_grammar(grammar: str, answer: str, wrong: str | None) -> None:
    """What does not follow is said with the place in the answer."""
    assert Grammar(grammar).wrong(answer) == wrong


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a"\n  | "b"',
        'root ::= "a" # one\n# two\n  | "b" # "c"\n\nother ::= [#"] # last',
        'root ::= (\r\n  "a" |\r\n  "b"\r\n)\r\n',
        'root ::= one |\n  "b"\none ::= "a"',
        'root ::= [\\u0061\\u00e9] | "\\u0062"',
    ],
)
def test_a_rule_may_take_several_lines(grammar: str) -> None:
    """As llama.cpp and xgrammar read it, with comments and codes of characters."""
    assert [answer for answer in ("a", "b", "c", "") if Grammar(grammar).wrong(answer) is None] == ["a", "b"]


@pytest.mark.parametrize(
    ("grammar", "problem"),
    [
        ("root ::= more", "Rule 'more' not found"),
        ('more ::= "a"', "No 'root' rule found"),
        ('root ::= "a', "Unexpected end of input at line 1, 'root ::= \"a' ^ ''"),
        ("start: more", 'unknown name: "more" at line 1, column 8'),
        ('start: "a"\nmore: |', None),
        ("SELECT *", "Expected token ':', found '+' or '*' or '?' (at \"*\" ('+' or '*' or '?')) at line 1, column 8"),
    ],
)
def test_what_is_no_grammar_says_why(grammar: str, problem: str | None) -> None:
    """With the place in the grammar, where there is one."""
    assert grammar_problem(grammar) == (problem and f"the grammar cannot be read: {problem}")


def test_what_the_simulated_model_writes_is_accepted() -> None:
    """Its texts of a grammar are texts of the grammar here too."""
    for grammar in (SUM, JSON, 'start: WORD ("," WORD)~1..3\n%import common.WORD'):
        kept = Grammar(grammar)
        assert [kept.wrong(written(grammar, Draw(key))) for key in range(20)] == [None] * 20


def test_too_ambiguous_is_not_called_wrong() -> None:
    """Where llguidance gives up, the message says so."""
    many = [f"r{n}" for n in range(2100)]
    rules = "\n".join(f'{name}: start "b" | "c"' for name in many)
    wrong = Grammar(f'start: "a" ({" | ".join(many)})\n{rules}').wrong("ac")
    assert wrong is not None
    assert wrong.startswith("cannot be held against the grammar, which is too ambiguous for it: ")
