"""A function of the user's own that the spec names: `path.py:function`, or `package.module:function`."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from synth_cli.errors import UsageError
from synth_cli.spec.imported import executed, module_name

PYTHON = os.path.dirname(os.__file__)
"""Where Python's own modules are."""
OURS = str(Path(__file__).parents[1])
FORM = "path.py:function or package.module:function"


def load_function(reference: str, folder: Path, key: str) -> Callable[..., Any]:
    """The function that a spec in `folder` names under `key`; its module is imported. Raises UsageError."""
    where, _, name = reference.rpartition(":")
    if not where or not name.isidentifier():
        raise UsageError(f"{key}: {reference!r} names no function", hint=f"write {FORM}")
    module = _from_file(folder / where, key) if where.endswith(".py") else _from_package(where, folder, key)
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{key}: there is no function '{name}' in {where}", hint=f"write {FORM}")
    return function  # type: ignore[no-any-return]


def _from_file(path: Path, key: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{key}: there is no file {path}", hint="the path is relative to the spec's folder")
    _reach(path.parent)
    try:
        return executed(path, module_name(path, key.rpartition(".")[2]))
    except (Exception, SystemExit) as error:
        # the user's module may raise anything while it is imported
        raise UsageError(f"{key}: {path} cannot be imported: {told(error)}") from error


def _from_package(name: str, folder: Path, key: str) -> ModuleType:
    # a module beside the spec comes before an installed one, for this import only
    sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # the user's module may raise anything while it is imported
        raise UsageError(f"{key}: the module {name} cannot be imported: {told(error)}") from error
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
