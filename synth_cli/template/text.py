"""How values look inside text, and which values an expression may give."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import json
import pathlib
import types
import uuid
from collections.abc import Iterator, Mapping, Set, ValuesView
from typing import Any

import orjson
from jinja2 import Undefined
from markupsafe import Markup

from synth_cli.template.errors import TemplateError

PLAIN = frozenset({str, int, float, bool, types.NoneType, dict, list})
PRINTED = (
    int,
    float,
    complex,
    decimal.Decimal,
    fractions.Fraction,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    pathlib.PurePath,
)
FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    type,
)


def text(value: Any) -> str:
    """The value as it stands in text: lists, mappings, booleans and null as JSON, the rest as Python prints it.

    Raises TemplateError for what has no sensible text (bytes, images, functions).
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return str(value)
    if value is None:
        return "null"
    if kind is dict or kind is list:
        return to_json(value)
    return _rare_text(value)


def _rare_text(value: Any) -> str:
    if isinstance(value, Undefined | str):
        return str.__str__(str(value))
    if isinstance(value, enum.Enum):
        return text(value.value)
    if isinstance(value, PRINTED):
        return str(value)
    settled = plain(value)
    if type(settled) in PLAIN:
        return text(settled)
    if isinstance(value, Mapping):
        return to_json(value)
    raise TemplateError(f"a value of type {type(value).__name__} cannot stand inside text")


def plain(value: Any) -> Any:
    """An expression's value as data: iterators, tuples, sets and views become lists, the rest stays as it is."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises: strict
    if isinstance(value, Markup):
        return str.__str__(value)
    if isinstance(value, Set) and not isinstance(value, Mapping):
        return sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    if isinstance(value, tuple | range | Iterator | ValuesView):
        return list(value)
    if isinstance(value, FUNCTIONS):
        name = getattr(value, "__name__", "?")
        raise TemplateError(f"'{name}' is a function here; write {name}() to call it")
    return value


def to_json(value: Any, *, indent: int = 0) -> str:
    """Compact JSON without escapes of letters; raises TemplateError for what JSON cannot say."""
    if indent not in (0, 2):
        return json.dumps(json.loads(to_json(value)), indent=indent, ensure_ascii=False)
    option = orjson.OPT_INDENT_2 if indent else 0
    try:
        return orjson.dumps(value, default=_as_json, option=option).decode()
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, TemplateError):
            raise error.__cause__ from None
    # integers beyond 64 bits, keys that are not text, lone surrogates: rare, and what orjson refuses
    try:
        separators = None if indent else (",", ":")
        return json.dumps(value, default=_as_json, ensure_ascii=False, separators=separators, indent=indent or None)
    except (TypeError, ValueError) as error:
        raise TemplateError(f"not a JSON value: {error}") from None


def _as_json(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, pathlib.PurePath | datetime.timedelta | fractions.Fraction | datetime.date | datetime.time):
        return str(value)
    settled = plain(value)
    if type(settled) in PLAIN:
        return settled
    raise TemplateError(f"a value of type {type(value).__name__} cannot be written as JSON")
