"""The Jinja that templates run in: no clock, no files, no private attributes, strict names, keys before attributes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from synth_cli.template.errors import UnknownNameError
from synth_cli.template.filters import FILTERS
from synth_cli.template.text import text

MOST_ITEMS = 10_000_000
"""Longest text or list that `*` may make."""
MOST_BITS = 14_000
"""Of a number that `*` and `**` may make: Python writes no more than 4300 digits."""
SHOWN = 12
DATA = frozenset(
    {"builtins", "collections", "datetime", "decimal", "fractions", "uuid", "zoneinfo", "jinja2", "markupsafe"}
)
"""Where types come from whose methods only compute; an image's `save` or a path's `unlink` is none of these."""
CLOCKS = frozenset({"now", "today", "utcnow"})


def listed(names: Any) -> str:
    """Some names for a message."""
    known = [str(name) for name in names]
    return ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")


class Missing(StrictUndefined):
    """Says what there is instead. (Jinja takes a class here, so this inherits.)"""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
    ) -> None:
        unknown = hint is None and obj is missing and name is not None
        super().__init__(hint, obj, name, UnknownNameError if unknown else exc)

    @property
    def _undefined_message(self) -> str:
        owner: Any = self._undefined_obj
        name: Any = self._undefined_name
        if self._undefined_hint:
            return self._undefined_hint
        if owner is missing:
            return str(name)
        if isinstance(owner, Mapping):
            return f"no key '{name}' (there are: {listed(owner)})" if owner else f"no key '{name}' in an empty mapping"
        if isinstance(owner, list | tuple) and isinstance(name, int):
            return f"no item {name} in a list of {len(owner)}"
        if owner is None:
            return f"no '{name}' in null"
        return f"no '{name}' in a value of type {type(owner).__name__}"


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja asks for a subclass to change what a dot means."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, undefined=Missing, finalize=text)
        self.filters.update(FILTERS)
        # its text is drawn from a running stream of chance
        del self.globals["lipsum"]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The mapping's key first, then the attribute."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Only keys of a mapping, never its methods."""
        if isinstance(obj, Mapping):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                return self.undefined(obj=obj, name=argument)
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if attr in CLOCKS and (
            isinstance(obj, datetime.date) or (isinstance(obj, type) and issubclass(obj, datetime.date))
        ):
            return False
        if callable(value) and type(obj).__module__.partition(".")[0] not in DATA:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if (
                    isinstance(many, str | bytes | list | tuple)
                    and isinstance(times, int)
                    and len(many) * times > MOST_ITEMS
                ):
                    raise SecurityError(f"repeating {len(many)} items {times} times makes too many")
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MOST_BITS:
                raise SecurityError(f"the {'power' if operator == '**' else 'product'} is too large a number")
        return super().call_binop(context, operator, left, right)
