"""Numbers of a spec: numeric texts (from the environment) count, true and false do not."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from synth_cli.spec.hints import SAMPLING
from synth_cli.spec.yaml import scalar

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def as_number(value: Any) -> Any:
    """A numeric text as its number; anything else is left for the type to judge."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number")
    if isinstance(value, str) and isinstance(number := scalar(value.strip()), int | float):
        return value if isinstance(number, bool) else number
    return value


def seconds(value: str | float) -> float | None:
    """`90`, `90s`, `30m`, `5h`, `2d` or `1h30m` in seconds; None where it is no duration."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if value > 0 else None
    text = value.strip().replace(" ", "")
    if _DURATION.fullmatch(text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text)) or None
    number = scalar(text)
    return None if isinstance(number, str) or number is None else seconds(number)


def _seconds(value: Any) -> float:
    found = seconds(value) if isinstance(value, str | int | float) else None
    if found is None:
        raise PydanticCustomError("duration", "a time such as 90s, 30m, 5h, 2d, or seconds")
    return found


Whole: TypeAlias = Annotated[int, BeforeValidator(as_number)]
Number: TypeAlias = Annotated[float, BeforeValidator(as_number)]
Duration: TypeAlias = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str | float)]


def numeric_params(node: Any) -> None:
    """Numeric texts of the sampling parameters become numbers, in place; all other texts are sent as they are."""
    if isinstance(node, list):
        for each in node:
            numeric_params(each)
    if not isinstance(node, dict):
        return
    params = node.get("generation_params")
    if isinstance(params, dict):
        for name in SAMPLING.keys() & params.keys():
            params[name] = as_number(params[name]) if isinstance(params[name], str) else params[name]
    for key in ("model", "fallback", "steps", "turns", "user", "assistant"):
        numeric_params(node.get(key))
    models = node.get("models")
    numeric_params(list(models.values()) if isinstance(models, dict) else None)
