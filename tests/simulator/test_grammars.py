from __future__ import annotations

import re

import pytest

from synth_cli.simulator.draw import Draw
from synth_cli.simulator.grammars import GrammarError, written

GRAMMARS = {
    "a choice in GBNF": ('root ::= "yes" | "no"', "yes|no"),
    "rules, sets and repeats in GBNF": (
        'root ::= name ": " number ("," number)*  # a list\nname ::= [a-z]+\nnumber ::= [0-9]{1,3}',
        r"[a-z]+: \d{1,3}(,\d{1,3})*",
    ),
    "recursion in GBNF": ('root ::= term\nterm ::= "x" | "(" term "+" term ")"', r"[x()+]+"),
    "an escape in GBNF": (r'root ::= "a\"b\n" "\u0041"', 'a"b\nA'),
    "a rule over several lines": ('root ::=\n  "a"\n  | "b"\n', "a|b"),
    "a query in Lark": (
        '?start: "SELECT " column ("," column)* [" LIMIT " INT]\ncolumn: /col_[a-d]/\n%import common.INT\n%ignore " "',
        r"SELECT col_[a-d](,col_[a-d])*( LIMIT \d+)?",
    ),
    "terminals in Lark": (
        'start: SIGN~1 DIGITS -> number\n     | "none"i\nSIGN.2: "+" | "-"\nDIGITS: "0".."9"+ // some',
        r"[+-]\d+|none",
    ),
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_text_is_of_the_language(name: str) -> None:
    """Whatever the key, the text is one that the grammar describes."""
    grammar, language = GRAMMARS[name]
    for key in range(60):
        assert re.fullmatch(language, written(grammar, Draw(key)))


def test_equal_keys_give_equal_texts() -> None:
    """The text is a function of grammar and key, and keys differ."""
    grammar = "root ::= [a-z]{8}"
    assert written(grammar, Draw(1)) == written(grammar, Draw(1)) != written(grammar, Draw(2))


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ('answer ::= "x"', "no rule 'root'"),
        ("root ::= other", "'other' is not defined"),
        ('root ::= "a" root', "never end"),
        ('root ::= ("a"', "never closed"),
        ("start: @", "cannot be read"),
        ("just words", "no rule|a rule was expected"),
        ("%import common.NOTHING\nstart: NOTHING", "not known"),
    ],
)
def test_what_cannot_be_read_is_said(grammar: str, words: str) -> None:
    """A grammar without a finite text is an error that says why."""
    with pytest.raises(GrammarError, match=words):
        written(grammar, Draw(1))
