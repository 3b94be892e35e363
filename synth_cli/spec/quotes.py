"""What a YAML error really means here: nearly always a text that needed quotes."""

from __future__ import annotations

import re
from typing import TypeAlias

import yaml

_BRACES = re.compile(r"""^[ ]*(?:-[ ]+)*(?:[^\s"'#{\[:][^#"'{:]*:[ ]+|-[ ]+)(?P<value>(?:\{\{|\{%|\{\#).*)$""")
_LIST_THEN_TEXT = re.compile(r"""^[ ]*(?:-[ ]+)*[^\s"'#][^:]*:[ ]+(?P<value>\[[^\]]*\][ ]*[^\s#,\]}].*)$""")
_QUOTED_THEN_TEXT = re.compile(r"""^[ ]*(?:-[ ]+)*[^\s"'#][^:]*:[ ]+(?P<value>(?P<q>["']).*)$""")
STARTERS = frozenset("@`%*&!|>?")


def forgotten_braces(value: str, *, flow: bool = False) -> tuple[str, str]:
    """Message and hint for a template that begins a value."""
    opening = value[:2]
    closing = {"{{": "}}", "{%": "%}", "{#": "#}"}[opening]
    end = value.rfind(closing)
    whole = value[: end + 2] if flow and end >= 0 else value.strip()
    return f"a template that begins a value ('{opening}') needs quotes", f"write {_quoted(whole)}"


def _quoted(text: str) -> str:
    if '"' not in text and "\\" not in text:
        return f'"{text}"'
    if "'" not in text:
        return f"'{text}'"
    return "it as a block text: a '|', then the text on lines of its own"


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, int, str, str]:
    """Line, column (from 1), message and hint."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return 0, 0, f"this is not YAML: {error.problem or error}", ""
    lines = text.splitlines() or [""]
    row = min(mark.line, len(lines) - 1)
    said = f"{error.context or ''} {error.problem or ''}"
    for near in range(row, max(row - 3, -1), -1):
        if (found := _BRACES.match(lines[near])) is not None:
            message, hint = forgotten_braces(found["value"])
            return near + 1, found.start("value") + 1, message, hint
    message, hint = _by_words(said, lines, row, mark.column)
    return mark.line + 1, mark.column + 1, message, hint


def _by_words(said: str, lines: list[str], row: int, column: int) -> tuple[str, str]:
    line = lines[row]
    here = line[column : column + 1]
    if "flow" in said and "<stream end>" not in said and "end of stream" not in said and "expected ',' or" in said:
        return _in_flow(line, column, here)
    if here == "\t" or "'\\t'" in said:
        return "a tab is in the indentation", "indent with spaces"
    if "cannot start any token" in said and here in STARTERS:
        return f"a text that begins with {here} needs quotes", 'write it as "…"'
    for words, message, hint in _BEFORE:
        if all(word in said for word in words):
            return message, hint
    for near in (row, row - 1):
        if near >= 0 and _LIST_THEN_TEXT.match(lines[near]):
            return "a text that begins with '[' needs quotes", 'write it as "[…] …"'
        if near >= 0 and _QUOTED_THEN_TEXT.match(lines[near]):
            return "text goes on after its closing quote", "put the whole value in quotes, or use a block text (|)"
    for words, message, hint in _AFTER:
        if all(word in said for word in words):
            return message, hint
    return f"this is not YAML: {said.strip() or 'it cannot be read'}", ""


_Rule: TypeAlias = tuple[tuple[str, ...], str, str]
_OPEN = ("a '[' or '{' is opened and never closed", "close it; a text that begins with one needs quotes")
_BEFORE: tuple[_Rule, ...] = (
    (("flow", "<stream end>"), *_OPEN),
    (("flow", "end of stream"), *_OPEN),
    (
        ("quoted scalar", "end of stream"),
        "a quote is opened and never closed",
        "close it; in single quotes an apostrophe is written ''",
    ),
    (
        ("scanning a block scalar",),
        "a text that begins with | or > needs quotes",
        "after a '|' the text begins on the next line",
    ),
    (
        ("mapping values are not allowed",),
        "a text that contains ': ' needs quotes, or the indentation is wrong",
        'write key: "text: more", or a block text (|)',
    ),
    (("expected a single document",), "a spec is one document", "remove the line '---' and what follows it"),
    (("alias",), "a '*' that begins a value is YAML's sign for an alias", "put the text in quotes"),
)
_AFTER: tuple[_Rule, ...] = (
    (
        ("could not find expected ':'",),
        "a line is neither 'key: value' nor part of a list",
        "add the colon, or indent a longer text under '|'",
    ),
    (
        ("expected <block end>",),
        "the indentation does not fit the lines above",
        "keys of one mapping begin in one column",
    ),
)
"""Words of PyYAML's message, what it means, what to do; the second table once the line itself was looked at."""


def _in_flow(line: str, column: int, here: str) -> tuple[str, str]:
    before = line[:column]
    if line[column : column + 2] == "{{":
        sign = "{{"
    elif here == "{" and before.endswith("$"):
        sign = "${"
    else:
        sign = here
    if sign in {"{{", "${", "?", "[", "{"}:
        word = re.search(r"[^,{}\[\]:]*$", before.removesuffix("$"))
        start = word[0].lstrip() if word else ""
        whole = f"{start}{_rest(line[column - (sign == '${') :])}"
        hint = f'write it in quotes: "{whole}"' if len(whole) > 1 else "put the whole text in quotes"
        return f"in {{…}} and […] a text with '{sign}' needs quotes", hint
    return "in {…} and […] values are parted by commas", "a text with , [ ] { } or ? needs quotes there"


def _rest(text: str) -> str:
    """As much of the text as belongs to the value that needed quotes."""
    depth = 0
    for position, letter in enumerate(text):
        if letter in "[{":
            depth += 1
        elif letter in "]}":
            if depth == 0:
                return text[:position].rstrip()
            depth -= 1
        elif letter == "," and depth == 0:
            return text[:position].rstrip()
    return text.rstrip()
