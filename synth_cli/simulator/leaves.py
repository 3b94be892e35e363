"""The values without parts: texts and numbers within a schema's limits, by what their field is called."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from synth_cli.simulator.draw import Draw
from synth_cli.simulator.patterns import matching
from synth_cli.simulator.prose import fit
from synth_cli.simulator.schemas import Schema, SchemaError
from synth_cli.simulator.strings import FORMATS, range_for, text_for

Make: TypeAlias = Callable[[Draw], Any]
"""Writes one value. Raises `SchemaError` where there is none."""


def impossible(_draw: Draw) -> Any:
    raise SchemaError("a part of it allows no value")


def always(value: Any) -> Make:
    return lambda _draw: value


def chosen(values: Sequence[Any]) -> Make:
    if not values:
        return impossible
    options = tuple(values)
    return lambda draw: draw.pick(options)


def string(schema: Schema, name: str) -> Make:
    low = int(schema.get("minLength", 0))
    high = None if schema.get("maxLength") is None else int(schema["maxLength"])
    if high is not None and low > high:
        return impossible
    pattern = schema.get("pattern")
    if pattern is not None:
        return lambda draw: matching(pattern, draw, whole=False, shortest=low, longest=high)
    write = FORMATS.get(schema.get("format", "")) or text_for(name)
    if not low and high is None:
        return write
    return lambda draw: fit(write(draw), draw, low, high)


def integer(schema: Schema, name: str) -> Make:
    low, high = bounds(schema, name)
    step = schema.get("multipleOf", 1)
    step = int(step) if float(step).is_integer() else 1
    least, most = math.ceil(low / step), math.floor(high / step)
    if least > most:
        return impossible
    return lambda draw: draw.between(least, most) * step


def number(schema: Schema, name: str) -> Make:
    step = schema.get("multipleOf")
    if step is not None and float(step).is_integer():
        return integer(schema, name)
    low, high = bounds(schema, name, whole=False)
    if low > high:
        return impossible
    if step is not None:
        least, most = math.ceil(low / step), math.floor(high / step)
        digits = max(0, len(f"{step:.12f}".rstrip("0").partition(".")[2]))
        return lambda draw: round(draw.between(least, most) * step, digits) if least <= most else impossible(draw)
    span = high - low
    digits = 2 if span >= 1 else 2 - math.floor(math.log10(span)) if span > 0 else 17
    shut = {schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")}

    def make(draw: Draw) -> float:
        exact = low + span * draw.unit()
        value: float = round(exact, digits)
        return value if low <= value <= high and value not in shut else exact

    return make


def bounds(schema: Schema, name: str, *, whole: bool = True) -> tuple[Any, Any]:
    """The usual range of a field of this name, moved into what the schema allows."""
    low = schema.get("minimum", -math.inf)
    high = schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, bool):  # draft 4: a flag beside the limit
        above, low = (low, -math.inf) if above else (None, low)
    if isinstance(below, bool):
        below, high = (high, math.inf) if below else (None, high)
    if above is not None:
        low = max(low, math.floor(above) + 1 if whole else above)
    if below is not None:
        high = min(high, math.ceil(below) - 1 if whole else below)
    if whole:
        low = low if low == -math.inf else math.ceil(low)
        high = high if high == math.inf else math.floor(high)
    usual_low, usual_high = range_for(name)
    if low == -math.inf and high == math.inf:
        return usual_low, usual_high
    if low == -math.inf:
        return (usual_low, high) if usual_low < high else (high - (usual_high - usual_low), high)
    if high == math.inf:
        return (low, usual_high) if usual_high > low else (low, low + (usual_high - usual_low))
    return low, high
