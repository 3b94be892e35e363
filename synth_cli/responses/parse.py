"""`parse`: the user's own function from a row and its answer to output rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.spec.functions import load_function, told

Parse: TypeAlias = Callable[[dict[str, Any], Any], Any]


class RememberedError(Exception):
    """What a function raised when it was called for this answer before, in words."""


def load_parse(reference: str, folder: Path) -> Parse:
    """The function that a spec in `folder` names; its module is imported. Raises UsageError."""
    return load_function(reference, folder, "parse")


def parsed(parse: Parse, row: Mapping[str, Any], response: Any) -> list[dict[str, Any]] | Fault:
    """What the function makes of one answer: the mappings that it returned, or why there are none."""
    try:
        given = parse(dict(row), response)
        if isinstance(given, Mapping):
            given = [given]
        elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
            given = list(given)
    except RememberedError as error:
        return Fault(FaultKind.TEMPLATE, f"parse: {error}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is that row's trouble
        return Fault(FaultKind.TEMPLATE, f"parse: {told(error)}")
    if not isinstance(given, list):
        return _wrong(f"it returned {type(given).__name__}")
    for one in given:
        if not isinstance(one, Mapping):
            return _wrong(f"it returned a list with an item of type {type(one).__name__}")
        if not all(isinstance(name, str) for name in one):
            return _wrong("it returned a mapping whose keys are not all text")
    return [dict(one) for one in given]


def _wrong(what: str) -> Fault:
    return Fault(FaultKind.TEMPLATE, f"parse: {what}; a mapping or a list of mappings is wanted")
