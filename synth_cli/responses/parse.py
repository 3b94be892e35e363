"""`parse`: the user's own function from a row and its answer to output rows."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.errors import UsageError
from synth_cli.spec.imported import executed, module_name

Parse: TypeAlias = Callable[[dict[str, Any], Any], Any]
PYTHON = os.path.dirname(os.__file__)
"""Where Python's own modules are."""
OURS = str(Path(__file__).parents[1])
FORM = "path.py:function or package.module:function"


def load_parse(reference: str, folder: Path) -> Parse:
    """The function that a spec in `folder` names; its module is imported. Raises UsageError."""
    where, _, name = reference.rpartition(":")
    if not where or not name.isidentifier():
        raise UsageError(f"parse: {reference!r} names no function", hint=f"write {FORM}")
    module = _from_file(folder / where) if where.endswith(".py") else _from_package(where, folder)
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"parse: there is no function '{name}' in {where}", hint=f"write {FORM}")
    return function  # type: ignore[no-any-return]


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"parse: there is no file {path}", hint="the path is relative to the spec's folder")
    _reach(path.parent)
    try:
        return executed(path, module_name(path, "parse"))
    except Exception as error:
        # the user's module may raise anything while it is imported
        raise UsageError(f"parse: {path} cannot be imported: {told(error)}") from error


def _from_package(name: str, folder: Path) -> ModuleType:
    # a module beside the spec comes before an installed one, for this import only
    sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module(name)
    except Exception as error:
        # the user's module may raise anything while it is imported
        raise UsageError(f"parse: the module {name} cannot be imported: {told(error)}") from error
    finally:
        sys.path.remove(str(folder.resolve()))
        _reach(folder)


def _reach(folder: Path) -> None:
    """Modules beside the function can be imported by it later; those installed come first."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.append(place)


def told(error: BaseException) -> str:
    """Its type and words, and the line of the user's code that it came from."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _users(frame.filename)]
    return f"{words} ({frames[-1].filename}:{frames[-1].lineno})" if frames else words


def _users(filename: str) -> bool:
    return not (filename.startswith(("<", PYTHON, OURS)) or "site-packages" in filename)


def parsed(parse: Parse, row: Mapping[str, Any], response: Any) -> list[dict[str, Any]] | Fault:
    """What the function makes of one answer: the mappings that it returned, or why there are none."""
    try:
        given = parse(dict(row), response)
        if isinstance(given, Mapping):
            given = [given]
        elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
            given = list(given)
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything: it is that row's trouble
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
