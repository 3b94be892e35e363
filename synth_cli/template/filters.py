"""Filters beside Jinja's own, and those of Jinja's that assume HTML or a running source of chance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from random import Random
from typing import Any

import orjson
from jinja2 import Environment, pass_context, pass_environment
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context

from synth_cli.template.errors import TemplateError
from synth_cli.template.text import plain, text, to_json

DRAWS = "\0draws"
"""Where a rendering's `Draws` stand in Jinja's context: a name that no template can write."""
CONCAT = "\0concat"
"""The filter that `~` becomes: Jinja's own would print Python's True and None."""


class Draws:
    """Chance for one rendering: each draw depends on the seed, the row and the expression drawn from.

    So the same expression draws the same in the prompt and in a column, and different ones are independent.
    """

    __slots__ = ("_count", "_seed")

    def __init__(self, seed: bytes, row: bytes) -> None:
        self._seed = seed + row
        self._count: dict[str, int] = {}

    def source(self, expression: str) -> Random:
        """For the next draw from this expression; a loop draws anew each time."""
        count = self._count.get(expression, 0)
        self._count[expression] = count + 1
        drawn = blake2b(self._seed + count.to_bytes(8, "big") + expression.encode("utf-8", "replace"), digest_size=16)
        return Random(int.from_bytes(drawn.digest(), "big"))


@pass_context
def random(context: Context, values: Any, expression: str) -> Any:
    items = _items(values, "random")
    if not items:
        raise TemplateError("'random' needs at least one item; the list is empty")
    return context.parent[DRAWS].source(expression).choice(items)


@pass_context
def shuffle(context: Context, values: Any, expression: str) -> Any:
    items = _items(values, "shuffle")
    context.parent[DRAWS].source(expression).shuffle(items)
    return items


def _items(values: Any, name: str) -> list[Any]:
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise TemplateError(f"'{name}' needs a list, not {type(values).__name__}")
    return list(values)


def from_json(value: Any) -> Any:
    if not isinstance(value, str | bytes):
        raise TemplateError(f"'from_json' needs text, not {type(value).__name__}")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise TemplateError(f"'from_json' got text that is not JSON: {error}") from None


def _flags(ignorecase: bool, multiline: bool, dotall: bool) -> re.RegexFlag:
    flags = re.RegexFlag(0)
    flags |= re.IGNORECASE if ignorecase else flags
    flags |= re.MULTILINE if multiline else flags
    return flags | (re.DOTALL if dotall else flags)


def regex_search(
    value: Any,
    pattern: str,
    group: int | str | None = None,
    *,
    ignorecase: bool = False,
    multiline: bool = False,
    dotall: bool = False,
) -> Any:
    """The first match: its text, or that of its group, or a list where the pattern has several groups; else null."""
    found = re.search(pattern, text(value), _flags(ignorecase, multiline, dotall))
    if found is None:
        return None
    if group is not None:
        return found[group]
    groups = found.groups()
    if len(groups) > 1:
        return list(groups)
    return groups[0] if groups else found[0]


def regex_findall(
    value: Any, pattern: str, *, ignorecase: bool = False, multiline: bool = False, dotall: bool = False
) -> list[Any]:
    found = re.findall(pattern, text(value), _flags(ignorecase, multiline, dotall))
    return [plain(match) for match in found]


def regex_replace(
    value: Any,
    pattern: str,
    replacement: str = "",
    *,
    count: int = 0,
    ignorecase: bool = False,
    multiline: bool = False,
    dotall: bool = False,
) -> str:
    flags = _flags(ignorecase, multiline, dotall)
    return re.sub(pattern, replacement, text(value), count=count, flags=flags)


def tojson(value: Any, indent: int | None = None) -> str:
    """Jinja's own escapes `<`, `>` and `&` for HTML, which a model would read as they stand."""
    return to_json(plain(value), indent=indent or 0)


@pass_environment
def join(environment: Environment, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    return text(d).join([text(value) for value in values])


def concat(parts: list[Any]) -> str:
    return "".join([text(part) for part in parts])


FILTERS: Mapping[str, Callable[..., Any]] = {
    "random": random,
    "shuffle": shuffle,
    "from_json": from_json,
    "regex_search": regex_search,
    "regex_findall": regex_findall,
    "regex_replace": regex_replace,
    "tojson": tojson,
    "string": text,
    "join": join,
    CONCAT: concat,
}
