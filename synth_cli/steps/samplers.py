"""Drawn columns: `{category: …}`, `{gaussian: …}` and their like.

A draw depends on seed, column and row, on nothing else: rows that are added change no others, and a column that is
added changes no other column.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from hashlib import blake2b
from itertools import accumulate
from statistics import NormalDist
from typing import Any, TypeAlias
from uuid import UUID

from synth_cli.core.plain import plain, whole
from synth_cli.core.row import Row
from synth_cli.errors import UsageError
from synth_cli.steps.people import Person
from synth_cli.template import TemplateError, Templates, TemplateSyntaxError, scope

UNIT = 2.0**-53
Draw: TypeAlias = Callable[[bytes], Any]
"""16 bytes of chance → a value."""
Place: TypeAlias = tuple[str | int, ...]


class SamplerError(ValueError):
    """Arguments that no value can be drawn from."""


def unit(chance: bytes) -> float:
    """A number in [0, 1) of full double precision."""
    return (int.from_bytes(chance[:8], "big") >> 11) * UNIT


def category(arguments: Any) -> Draw:
    """One of a list's values, or of a mapping's keys by their weights."""
    if isinstance(arguments, Mapping):
        values, weights = (
            list(arguments),
            [_number(weight, f"the weight of {key!r}") for key, weight in arguments.items()],
        )
        if any(weight < 0 for weight in weights) or not sum(weights):
            raise SamplerError("weights must not be negative, and not all 0")
        bounds = list(accumulate(weights))
        last = max(position for position, weight in enumerate(weights) if weight)
        return lambda chance: values[min(bisect_right(bounds, unit(chance) * bounds[-1]), last)]
    if not isinstance(arguments, Sequence) or isinstance(arguments, str):
        raise SamplerError("takes a list of values, or a mapping of values to weights")
    if not arguments:
        raise SamplerError("has no values to choose from")
    items, count = list(arguments), len(arguments)
    return lambda chance: items[int.from_bytes(chance, "big") % count]


def gaussian(arguments: Any) -> Draw:
    """A normal distribution; `min` and `max` cut it off (values beyond are not moved to the bound)."""
    given = _known(arguments, ("mean", "stddev", "min", "max", "integer"))
    mean = _number(given.get("mean", 0), "mean")
    stddev = _number(given.get("stddev", 1), "stddev")
    low, high = _bounds(given.get("min"), given.get("max"))
    integer = _flag(given)
    if stddev < 0:
        raise SamplerError("stddev must not be negative")
    if integer:
        low, high = _whole_bounds(low, high)
    if stddev == 0:
        fixed = min(max(mean, low), high)
        return lambda _: whole(round(fixed)) if integer else fixed
    normal = NormalDist(mean, stddev)
    # rounding reaches half beyond each whole bound
    first, last = normal.cdf(low - integer * 0.5), normal.cdf(high + integer * 0.5)

    def draw(chance: bytes) -> float:
        share = first + (unit(chance) + UNIT / 2) * (last - first)
        value = normal.inv_cdf(share) if 0 < share < 1 else (low if mean < low else high)
        if integer:
            value = round(value)
        return min(max(value, low), high)

    if integer:
        return lambda chance: whole(int(draw(chance)))
    return draw


def uniform(arguments: Any) -> Draw:
    """Evenly from `min` (0) to `max` (1); with `integer` both ends are included."""
    given = _known(arguments, ("min", "max", "integer"))
    low, high = _bounds(given.get("min", 0), given.get("max", 1))
    if _flag(given):
        first, last = _whole_bounds(low, high)
        start, count = int(first), int(last) - int(first) + 1
        return lambda chance: whole(start + int.from_bytes(chance, "big") % count)
    span = high - low
    return lambda chance: low + unit(chance) * span


def dates(arguments: Any) -> Draw:
    """A day from `start` to `end`, both included, as ISO text; a time of day where both have one."""
    given = _known(arguments, ("start", "end"))
    start, end = (_moment(given.get(name), name) for name in ("start", "end"))
    if end < start:
        raise SamplerError(f"end ({given['end']}) lies before start ({given['start']})")
    if _has_time(given["start"]) or _has_time(given["end"]):
        seconds = int((end - start).total_seconds()) + 1
        return lambda chance: (start + timedelta(seconds=int.from_bytes(chance, "big") % seconds)).isoformat()
    first, days = start.date(), (end - start).days + 1
    return lambda chance: (first + timedelta(days=int.from_bytes(chance, "big") % days)).isoformat()


def uuids(arguments: Any) -> Draw:
    """A version 4 UUID as text."""
    _known(arguments, ())
    return lambda chance: str(UUID(bytes=chance, version=4))


def person(arguments: Any) -> Draw:
    """A made-up person of a `locale` (en_US; a list draws one of them), optionally of a `sex` and an age range."""
    given = _known(arguments, ("locale", "sex", "min_age", "max_age"))
    asked = given.get("locale", "en_US")
    locales = asked if isinstance(asked, list) else [asked]
    if not locales or not all(isinstance(locale, str) for locale in locales):
        raise SamplerError("locale must be a name such as en_GB, or a list of names")
    if given.get("sex") not in (None, "female", "male"):
        raise SamplerError(f"sex must be female or male, not {given['sex']!r}")
    youngest, oldest = _bounds(given.get("min_age", 18), given.get("max_age", 90))
    try:
        return Person(tuple(locales), given.get("sex"), int(youngest), int(oldest))
    except ValueError as error:
        raise SamplerError(str(error)) from None


SAMPLERS: Mapping[str, Callable[[Any], Draw]] = {
    "category": category,
    "gaussian": gaussian,
    "uniform": uniform,
    "date": dates,
    "person": person,
    "uuid": uuids,
}


@dataclass(frozen=True, slots=True)
class Sampler:
    name: str
    arguments: Any


def sampler_of(node: Any) -> Sampler | None:
    """The sampler that a column's node asks for; None for a template or a value. Raises SamplerError if misspelt."""
    if not isinstance(node, Mapping) or len(node) != 1:
        return None
    ((name, arguments),) = node.items()
    if name in SAMPLERS:
        return Sampler(name, arguments)
    near = get_close_matches(str(name).lower(), (*SAMPLERS, *COUSINS), n=1, cutoff=0.75)
    if near:
        raise SamplerError(f"there is no sampler {name!r}; did you mean '{COUSINS.get(near[0], near[0])}'?")
    return None


COUSINS = {
    "normal": "gaussian",
    "datetime": "date",
    "choice": "category",
    "subcategory": "category",
    "randint": "uniform",
}
"""What users of other tools write."""


class Columns:
    """Draws columns in their order, each seeing the earlier ones: those of the input, or of the `step` so named."""

    def __init__(self, columns: Mapping[str, Any], templates: Templates, seed: int, *, step: str | None = None) -> None:
        """Raises UsageError with every column that cannot be drawn."""
        owner = "input" if step is None else f"steps.{step}"
        wrong = [f"{owner}.{'.'.join(map(str, place))}: {message}" for place, message in problems(columns, templates)]
        if wrong:
            raise UsageError("\n".join(wrong))
        space = "column" if step is None else f"step\0{step}\0column"
        self._steps = [(name, _step(name, node, templates, f"{seed}\0{space}")) for name, node in columns.items()]

    def draw(self, row: Row, values: dict[str, Any]) -> None:
        """Adds the input's columns to `values`, which is what `row.values` is. Raises UsageError that names the row."""
        undrawn = self.undrawn(row, values)
        if undrawn is not None:
            name, why = undrawn
            raise UsageError(f"input.columns.{name}: row {row.index} cannot be drawn: {why}", hint=HINT)

    def undrawn(self, row: Row, values: dict[str, Any]) -> tuple[str, str] | None:
        """The same, but a column that cannot be drawn is returned, with the reason why."""
        for name, step in self._steps:
            try:
                values[name] = step(row)
            except (TemplateError, SamplerError) as error:
                return name, str(error)
        return None


HINT = "a column that only some rows have: {{ row.get('name') }} or {{ name | default('…') }}"


def problems(columns: Mapping[str, Any], templates: Templates) -> Iterator[tuple[Place, str]]:
    """(place within `input`, message) of each column that cannot be drawn, without drawing any."""
    for name, node in columns.items():
        place: Place = ("columns", name)
        try:
            sampler = sampler_of(node)
            template = templates.value(node if sampler is None else sampler.arguments)
            if sampler is not None and template.constant:
                SAMPLERS[sampler.name](template.render(EMPTY))
        except TemplateSyntaxError as error:
            inner = () if sampler is None else (sampler.name,)
            yield (*place, *inner, *error.path), error.message
        except SamplerError as error:
            yield place, str(error)


EMPTY = scope(Row(0, b"", {}))


def _step(name: str, node: Any, templates: Templates, space: str) -> Callable[[Row], Any]:
    """Row → the column's value. What is drawn depends on `space`, name and row."""
    sampler = sampler_of(node)
    template = templates.value(node if sampler is None else sampler.arguments)
    if sampler is None:
        if template.constant:
            fixed = plain(template.render(EMPTY))
            return lambda _: fixed
        return lambda row: plain(template.render(scope(row)))
    make = SAMPLERS[sampler.name]
    base = blake2b(f"{space}\0{name}\0".encode(), digest_size=16)

    def chance(row: Row) -> bytes:
        digest = base.copy()
        digest.update(row.id)
        return digest.digest()

    if template.constant:
        drawn = make(template.render(EMPTY))
        return lambda row: drawn(chance(row))
    return lambda row: make(template.render(scope(row)))(chance(row))


def _known(arguments: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise SamplerError(f"takes a mapping of {', '.join(names) or 'nothing'}, not {arguments!r}")
    for key in arguments:
        if key not in names:
            near = get_close_matches(str(key), names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"
            raise SamplerError(f"unknown argument {key!r}; {hint}")
    return arguments


def _number(value: Any, what: str) -> float:
    if isinstance(value, str):
        # a CSV's cells are texts, and a template may hand one on
        try:
            value = float(value)
        except ValueError:
            raise SamplerError(f"{what} must be a number, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SamplerError(f"{what} must be a number, not {value!r}")
    return value


def _bounds(low: Any, high: Any) -> tuple[float, float]:
    first = -math.inf if low is None else _number(low, "min")
    last = math.inf if high is None else _number(high, "max")
    if first > last:
        raise SamplerError(f"min ({first}) is greater than max ({last})")
    return first, last


def _whole_bounds(low: float, high: float) -> tuple[float, float]:
    first = low if math.isinf(low) else math.ceil(low)
    last = high if math.isinf(high) else math.floor(high)
    if first > last:
        raise SamplerError(f"there is no integer from {low} to {high}")
    return first, last


def _flag(given: Mapping[str, Any]) -> bool:
    value = given.get("integer", False)
    if not isinstance(value, bool):
        raise SamplerError(f"integer must be true or false, not {value!r}")
    return value


def _moment(value: Any, what: str) -> datetime:
    if isinstance(value, date):
        return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        missing = "is missing" if value is None else f"must be a date like 1990-12-31, not {value!r}"
        raise SamplerError(f"{what} {missing}") from None


def _has_time(value: Any) -> bool:
    return isinstance(value, datetime) or (isinstance(value, str) and len(value.strip()) > len("1990-12-31"))
