"""JSON Schema → a plausible value that is valid against it, a function of the key alone.

A schema is turned into closures once; each answer then only draws. Every value is checked with a validator before it
is given out; a value that does not fit (a `not`, a `oneOf` that matches twice) is drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema_rs
import orjson

from synth_cli.simulator.draw import Draw, tag
from synth_cli.simulator.leaves import Make, always, chosen, impossible, integer, number, string
from synth_cli.simulator.patterns import PatternError, found_by, matching
from synth_cli.simulator.schemas import IDLE, Schema, SchemaError, gather, resolve, subschemas, types_of
from synth_cli.simulator.strings import singular, text_for

TRIES = 40
LOOSE_FROM = 8
MOST_DEPTH = 24
MOST_ITEMS = 100_000
KEYWORDS = (
    (
        "object",
        ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "propertyNames"),
    ),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")),
    ("string", ("pattern", "minLength", "maxLength", "format")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)
NOTHING = object()
"""What an optional property that cannot be had is: left out."""


class Plausible:
    """One schema, ready to be answered. Raises `SchemaError` if it is no schema or refers to what is not there."""

    def __init__(self, schema: Any) -> None:
        try:
            # without fetching anything: a reference to another document is an error
            self.validator = jsonschema_rs.validator_for(schema, offline=True)
        except (ValueError, TypeError) as error:
            raise SchemaError(str(error).splitlines()[0]) from error
        self.root = schema
        self.references: dict[tuple[bytes, str], Make] = {}
        self.make = self.compile(schema, "answer")

    def __call__(self, draw: Draw) -> Any:
        """A valid value, the same for equal draws. Raises `SchemaError` when none was found."""
        why = "no value was found that fits it"
        for attempt in range(TRIES):
            own = draw.child(attempt)
            own.loose = attempt >= LOOSE_FROM
            try:
                value = self.make(own)
            except (SchemaError, PatternError) as error:
                why = str(error)
                continue
            if self.validator.is_valid(value):
                return value
        raise SchemaError(why)

    def compile(self, schema: Any, name: str) -> Make:
        if isinstance(schema, Mapping) and ("$ref" in schema or ("allOf" in schema and refers(schema["allOf"]))):
            return self.reference(schema, name)
        return self.plain(gather(schema, self.root), name)

    def plain(self, schema: Schema | bool, name: str) -> Make:
        make = self.unchecked(schema, name)
        if not isinstance(schema, Mapping) or not schema.keys() & LUCK:
            return make
        # checked where it is drawn: a list of many such values would hardly ever be right as a whole
        fits = self.check(schema)
        return make if fits is None else again(make, fits)

    def check(self, schema: Schema) -> Callable[[Any], bool] | None:
        """Whether a value fits this part of the schema; None where that cannot be said apart from the whole."""
        shared = {key: self.root[key] for key in ("$schema", "$defs", "definitions") if key in self.root}
        if not all(reference.startswith(("#/$defs/", "#/definitions/")) for reference in references(schema)):
            return None
        return jsonschema_rs.validator_for({**schema, **shared}, offline=True).is_valid

    def unchecked(self, schema: Schema | bool, name: str) -> Make:
        if schema is True:
            return text_for(name)
        if not isinstance(schema, Mapping):
            return impossible
        if "const" in schema:
            return always(schema["const"])
        if "enum" in schema:
            return chosen(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                base = {other: value for other, value in schema.items() if other != key}
                return self.branches(base, schema[key], name)
        if isinstance(schema.get("if"), Mapping):
            return self.conditional(schema, name)
        return self.typed(schema, name)

    def reference(self, schema: Schema, name: str) -> Make:
        """What refers to elsewhere is compiled once and found again by itself, so that recursion ends."""
        mark = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
        key = (mark, name)
        makes = self.references
        if key not in makes:
            makes[key] = impossible  # until it is compiled
            lone = not schema.keys() - IDLE - {"$ref"}
            target = resolve(self.root, schema["$ref"]) if lone else gather(schema, self.root)
            makes[key] = self.compile(target, name) if lone else self.plain(target, name)

        def make(draw: Draw) -> Any:
            if len(draw.trail) > MOST_DEPTH:
                raise SchemaError("it nests without an end")
            own = draw.child(1)
            own.trail = (*draw.trail, mark)
            return makes[key](own)

        return make

    def branches(self, base: Schema, parts: Sequence[Any], name: str) -> Make:
        told = base.keys() - IDLE
        makes = [self.compile({"allOf": [base, part]} if told else part, name) for part in parts]
        solid = [make for make, part in zip(makes, parts, strict=True) if not null(part)]
        ends = [make for make, part in zip(makes, parts, strict=True) if not refers(part)]

        def make(draw: Draw) -> Any:
            among = makes
            if deep(draw) and ends:
                among = ends
            elif solid and not draw.loose and draw.below(10):
                among = solid  # what may be null mostly is not
            return draw.pick(among)(draw.child(2))

        return make

    def conditional(self, schema: Schema, name: str) -> Make:
        base = {key: value for key, value in schema.items() if key not in ("if", "then", "else")}
        met = {"allOf": [base, schema["if"], schema.get("then", True)]}
        makes = (self.compile(met, name), self.compile({"allOf": [base, schema.get("else", True)]}, name))
        return lambda draw: draw.pick(makes)(draw.child(3))

    def typed(self, schema: Schema, name: str) -> Make:
        kinds = types_of(schema["type"]) if "type" in schema else implied(schema)
        makes = [self.of_kind(kind, schema, name) for kind in kinds if kind != "null"]
        if not kinds:
            return impossible
        if not makes:
            return always(None)
        nullable = "null" in kinds
        if len(makes) == 1 and not nullable:
            return makes[0]
        nothing = always(None)

        def make(draw: Draw) -> Any:
            if nullable and (deep(draw) or not draw.below(10)):
                return nothing(draw)
            return draw.pick(makes)(draw)

        return make

    def of_kind(self, kind: str, schema: Schema, name: str) -> Make:
        match kind:
            case "string":
                return string(schema, name)
            case "integer":
                return integer(schema, name)
            case "number":
                return number(schema, name)
            case "boolean":
                return lambda draw: bool(draw.bits() & 1)
            case "array":
                return self.array(schema, name)
            case "object":
                return self.object(schema, name)
            case _:
                return impossible

    def array(self, schema: Schema, name: str) -> Make:
        items = schema.get("items", True)
        first = schema.get("prefixItems", items if isinstance(items, list) else [])
        rest = schema.get("additionalItems", True) if isinstance(items, list) else items
        single = singular(name)
        starts = [self.compile(part, single) for part in first]
        if rest is False:
            more: Make = impossible
        elif rest is True:
            more = self.compile(schema.get("contains", {"type": "string"}), single)
        else:
            more = self.compile(rest, single)
        wanted = schema.get("contains")
        contained = None if wanted is None or rest is True else self.compile(both_of(rest, wanted), single)
        low = max(int(schema.get("minItems", 0)), len(starts) if rest is False else 0)
        high = schema.get("maxItems")
        most = max(low, len(starts)) if rest is False else max(low, len(starts), 2) + 2
        least = low or min(len(starts) or 2, most)
        if high is not None:
            most = min(most, int(high))
            least = min(least, most)
        if low > MOST_ITEMS:
            raise SchemaError(f"it wants {low} items")
        unique = bool(schema.get("uniqueItems"))
        needed = int(schema.get("minContains", 1)) if contained else 0

        def make(draw: Draw) -> list[Any]:
            size = low if deep(draw) else draw.between(max(least, min(needed, most)), most)
            values: list[Any] = []
            seen: set[bytes] = set()
            tries = 0
            while len(values) < size:
                place = len(values)
                own = draw.child((place << 16) + tries + 0x100)
                if place < len(starts):
                    value = starts[place](own)
                elif contained and place - len(starts) < needed:
                    value = contained(own)
                else:
                    value = more(own)
                tries += 1
                if unique:
                    mark = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
                    if mark in seen:
                        if tries > 40 + 4 * size:
                            if len(values) >= low:
                                break
                            raise SchemaError(f"'{name}' wants more different items than there are")
                        continue
                    seen.add(mark)
                values.append(value)
            return values

        return make

    def object(self, schema: Schema, name: str) -> Make:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = list(dict.fromkeys(schema.get("required") or ()))
        patterns: Mapping[str, Any] = schema.get("patternProperties") or {}
        others = schema.get("additionalProperties", True)
        makes: list[tuple[str, int, Make, bool]] = []
        for key in dict.fromkeys((*properties, *required)):
            part = properties[key] if key in properties else self.other(key, patterns, others)
            if part is False and key not in required:
                continue
            makes.append((key, tag(key), self.compile(part, key), key in required))
        low = int(schema.get("minProperties", 0))
        high = schema.get("maxProperties")
        free = self.free(patterns, others, schema.get("propertyNames"), name)
        extra = 0 if makes or others is True or free is None else 2

        def make(draw: Draw) -> dict[str, Any]:
            small = deep(draw)
            room = math.inf if high is None else int(high) - len(required)
            value: dict[str, Any] = {}
            for key, place, write, needed in makes:
                own = draw.child(place)
                if not needed:
                    if small or room <= 0 or (draw.loose and own.below(2)):
                        continue
                    room -= 1
                    try:
                        value[key] = write(own)
                    except (SchemaError, PatternError):
                        room += 1
                    continue
                value[key] = write(own)
            wanted = max(low, 0 if small else len(value) + min(extra, room))
            tries = 0
            while len(value) < wanted and free is not None and tries < 8 * wanted + 64:
                key, part = free(draw.child(0x10000 + tries))
                value.setdefault(key, part)
                tries += 1
            return value

        return make

    def other(self, key: str, patterns: Mapping[str, Any], others: Any) -> Any:
        """The schema of a property that is required and not listed."""
        for pattern, part in patterns.items():
            if found_by(pattern, key):
                return part
        return others

    def free(
        self, patterns: Mapping[str, Any], others: Any, names: Any, name: str
    ) -> Callable[[Draw], tuple[str, Any]] | None:
        """Writes a property that no list names, where such are allowed."""
        if patterns:
            pattern, part = next(iter(patterns.items()))
            write = self.compile(part, singular(name))
            return lambda draw: (matching(pattern, draw.child(1), whole=False), write(draw.child(2)))
        if others is False:
            return None
        value = self.compile(others if others is not True else {"type": "string"}, singular(name))
        key = self.compile({"type": "string", **names}, "tag") if isinstance(names, Mapping) else free_name
        return lambda draw: (key(draw.child(1)), value(draw.child(2)))


LUCK = frozenset({"oneOf", "not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies"})


def again(make: Make, fits: Callable[[Any], bool]) -> Make:
    def checked(draw: Draw) -> Any:
        value = make(draw)
        for attempt in range(TRIES):
            if fits(value):
                break
            own = draw.child(-attempt - 1)
            own.loose = attempt >= LOOSE_FROM
            value = make(own)
        return value

    return checked


def references(schema: Any) -> list[str]:
    return [part["$ref"] for part in subschemas(schema) if isinstance(part.get("$ref"), str)]


def both_of(one: Any, other: Any) -> Any:
    return {"allOf": [one, other]}


def free_name(draw: Draw) -> str:
    word = draw.word()
    return word if draw.below(4) else f"{word}_{draw.below(1000)}"


def deep(draw: Draw) -> bool:
    """Whether a recursive schema went round often enough: from here on as little as is allowed."""
    trail = draw.trail
    return len(trail) > 1 and (trail.count(trail[-1]) > 1 or len(trail) > 10)


def null(schema: Schema | bool) -> bool:
    return isinstance(schema, Mapping) and (schema.get("type") == "null" or schema.get("const", NOTHING) is None)


def refers(schema: Any) -> bool:
    return b'"$ref"' in orjson.dumps(schema, option=orjson.OPT_NON_STR_KEYS)


def implied(schema: Schema) -> list[str]:
    """The type that a schema without one speaks about; any value fits its silence, a text best."""
    for kind, keywords in KEYWORDS:
        if any(keyword in schema for keyword in keywords):
            return [kind]
    return ["string"]
