"""Which keys stand where: the models read as a map of the language."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from synth_cli.spec.model import Spec, Step
from synth_cli.spec.places import Where


def keys_of(node: type[BaseModel]) -> dict[str, str]:
    """The keys as users write them → the field's name."""
    return {field.alias or name: name for name, field in node.model_fields.items()}


def _parts(annotation: Any) -> Iterator[Any]:
    """The members of a union, without their annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in {Union, types.UnionType}:
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _below(annotation: Any, part: str | int) -> Iterator[Any]:
    for each in _parts(annotation):
        origin, inner = get_origin(each), get_args(each)
        if isinstance(each, type) and issubclass(each, BaseModel):
            name = keys_of(each).get(str(part))
            if name is not None:
                yield each.model_fields[name].annotation
        elif origin is list and isinstance(part, int):
            yield inner[0]
        elif origin is dict and isinstance(part, str):
            yield inner[1]


def annotations_at(where: Where) -> list[Any]:
    """What may stand at a place, union members apart; empty where anything may."""
    found: list[Any] = [Spec]
    for part in where:
        found = [below for each in found for below in _below(each, part)]
    return [part for each in found for part in _parts(each)]


def node_at(where: Where) -> type[BaseModel] | None:
    """The mapping with known keys that may stand at a place."""
    for each in annotations_at(where):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


@cache
def homes() -> Mapping[str, tuple[str, ...]]:
    """Key → the dotted places where it is known, the shallowest first; steps count as the top."""
    found: dict[str, list[str]] = {}
    level: Sequence[tuple[str, type[BaseModel]]] = [("", Spec), ("steps[].", Step)]
    seen: set[tuple[str, type[BaseModel]]] = set()
    while level:
        deeper: list[tuple[str, type[BaseModel]]] = []
        for prefix, node in level:
            if (prefix, node) in seen or prefix.count(".") > 2:
                continue
            seen.add((prefix, node))
            for key, name in keys_of(node).items():
                if prefix == "steps[]." and key in keys_of(Spec):
                    continue
                found.setdefault(key, []).append(prefix + key)
                deeper.extend(
                    (f"{prefix}{key}.", each)
                    for each in _parts(node.model_fields[name].annotation)
                    if isinstance(each, type) and issubclass(each, BaseModel) and each is not Step
                )
        level = deeper
    return {key: tuple(places) for key, places in found.items()}
