"""Jinja's messages in the words of someone who writes a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_TOKENS: Mapping[str, str] = {
    "end of print statement": "'}}'",
    "end of statement block": "'%}'",
    "end of template": "the end of the text",
    "name": "a name",
    "string": "a text",
    "integer": "a number",
}
_SIGNS: Mapping[str, str] = {
    "&": "write 'and'",
    "?": "write 'yes if condition else no'",
    "!": "write 'not'",
    "$": "${NAME} is for environment variables, and stands outside of '{{ }}'",
    "'": "a quote is opened and never closed",
    '"': "a quote is opened and never closed",
}


def plainly(message: str) -> str:
    """What a syntax error says, without the names of Jinja's tokens."""
    for pattern, say in _SAYINGS:
        if (found := re.match(pattern, message)) is not None:
            return say(found)
    return message


def _token(name: str) -> str:
    return _TOKENS.get(name, f"'{name}'")


def _unclosed(found: re.Match[str]) -> str:
    ends = re.findall(r"'(\w+)'", found[1])
    return f"'{{% {found[2]} %}}' is never closed; write '{{% {ends[-1]} %}}'"


def _tag(found: re.Match[str]) -> str:
    name, rest = found[1], found[2]
    if inner := re.search(r"tags: (.*)\. The innermost block that needs to be closed is '(\w+)'", rest):
        return f"'{{% {name} %}}' stands where {_unclosed(inner).partition('; write ')[2]} is expected"
    if name.startswith("end"):
        return f"'{{% {name} %}}' ends nothing that is open"
    return f"there is no tag '{{% {name} %}}'"


def _sign(found: re.Match[str]) -> str:
    sign = found[1]
    if sign in "'\"":
        return _SIGNS[sign]
    return f"'{sign}' means nothing in an expression" + (f"; {_SIGNS[sign]}" if sign in _SIGNS else "")


_SAYINGS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"unexpected end of template, expected 'end of print", lambda _: "'{{' is never closed; write '}}'"),
    (r"unexpected end of template, expected 'end of statement", lambda _: "'{%' is never closed; write '%}'"),
    (r"Unexpected end of template.*tags: (.*)\. The innermost block that needs to be closed is '(\w+)'", _unclosed),
    (r"Missing end of comment", lambda _: "'{#' is never closed; write '#}'"),
    (r"Encountered unknown tag '(\w+)'\.?(.*)", _tag),
    (r"Tag name expected", lambda _: "a tag such as if or for is expected after '{%'"),
    (r"Expected an expression, got", lambda _: "there is no expression between '{{' and '}}'"),
    (r"expected token 'end of (?:print|statement).*', got '(.*)'", lambda m: f"'{m[1]}' is not expected here"),
    (r"expected token '(.*)', got '(.*)'", lambda m: f"{_token(m[1])} is expected here, not {_token(m[2])}"),
    (r"expected name or number", lambda _: "a name is expected after '.'"),
    (r"unexpected char (?:'(.)'|\"'\") at", lambda m: _sign(m) if m[1] else _SIGNS["'"]),
    (r"unexpected '(.)', expected '(.)'", lambda m: f"'{m[2]}' is expected here, not '{m[1]}'"),
    (r"unexpected 'end of", lambda _: "the expression is not finished"),
    (r"unexpected '(.*)'$", lambda m: f"'{m[1]}' is not expected here"),
)  # fmt: skip
