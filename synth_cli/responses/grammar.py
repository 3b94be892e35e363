"""Whether an answer is a text of a grammar, in the two notations that vLLM takes.

Lark (`start: "yes" | NUMBER`, https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md) and GBNF
(`root ::= "yes" | [0-9]+`, https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md). Read by llguidance,
which is also what keeps a model to them: what it lets through while it writes is what it accepts here.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from synth_cli.errors import UsageError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

GBNF = "::="
_PIECES = re.compile(
    r"""(?P<kept>"(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\\n]|\\.)*\])
    |(?P<break>(?>(?:[ \t]*(?:\#[^\n]*)?\n[ \t]*)+)(?![\w-]+[ \t]*::=|\Z))
    |(?P<comment>\#[^\n]*)""",
    re.VERBOSE,
)
_CODE = re.compile(r"\\(?:\\|u(?P<hex>[0-9a-fA-F]{4}))")
_PLACE = re.compile(r"^(?:at )?(?P<line>\d+)\((?P<column>\d+)\):\s*")
_FROM = "Failed to convert the grammar from GBNF to Lark: "
_LIMIT = re.compile(r"row has|fuel|too (?:complex|large|many)|limit", re.IGNORECASE)


class Grammar:
    """Compiled once for a spec. Half a microsecond for each byte of an answer."""

    def __init__(self, text: str) -> None:
        """Raises UsageError for what is in neither notation."""
        self._matcher = _compiled(text)

    def wrong(self, answer: str) -> str | None:
        """What is wrong with an answer; None where the whole of it is a text of the grammar."""
        matcher = self._matcher.deep_copy()
        sent = answer.encode("utf-8", "surrogatepass")
        read = matcher.try_consume_tokens(list(sent))
        if read == len(sent) and matcher.is_accepting():
            return None
        if matcher.is_error() and _LIMIT.search(said := _first_line(matcher.get_error())):
            return f"cannot be held against the grammar, which is too ambiguous for it: {said}"
        if read == len(sent):
            return "ends before the grammar does"
        return f"does not follow the grammar from character {len(sent[:read].decode('utf-8', 'ignore')) + 1} on"


def grammar_problem(text: str) -> str | None:
    """What is wrong with a grammar of `response.grammar`; None when it is one."""
    try:
        _compiled(text)
    except UsageError as error:
        return error.message
    return None


@cache
def _bytes() -> LLTokenizer:
    """A vocabulary whose tokens are the 256 bytes: an answer is read as it is written."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


def _compiled(text: str) -> LLMatcher:
    from llguidance import LLMatcher, grammar_from

    gbnf = GBNF in text
    try:
        grammar = grammar_from("gbnf", _in_lines(text)) if gbnf else grammar_from("lark", text)
    except ValueError as error:
        raise UsageError(f"the grammar cannot be read: {str(error).removeprefix(_FROM)}") from None
    matcher = LLMatcher(_bytes(), grammar, log_level=0)
    if matcher.is_error():
        said = _first_line(matcher.get_error())
        place = _PLACE.match(said)
        what = said[place.end() :] if place else said
        if place and not gbnf:
            # of a GBNF it would be a place in what llguidance made of it
            what += f" at line {place['line']}, column {place['column']}"
        raise UsageError(f"the grammar cannot be read: {what}")
    return matcher


def _in_lines(gbnf: str) -> str:
    """A rule a line, without comments: llama.cpp and xgrammar let a rule go on in the next line, llguidance does not.

    Codes of four digits become their characters, which llguidance reads where it does not read the code.
    """

    def piece(found: re.Match[str]) -> str:
        if found["kept"] is not None:
            return _CODE.sub(_character, found["kept"])
        return " " if found["break"] is not None else ""

    return _PIECES.sub(piece, gbnf.replace("\r\n", "\n"))


def _character(found: re.Match[str]) -> str:
    code = int(found["hex"], 16) if found["hex"] else 0
    # the notation's own signs stay codes, and halves of a pair are no characters
    plain = chr(code).isalnum() or code > 0x7F
    return chr(code) if plain and not 0xD800 <= code < 0xE000 else found[0]


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "no reason given"
