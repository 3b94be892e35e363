"""A Pydantic model that the spec names: `package.module:Model`, or `file.py:Model` beside the spec."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError


class ModelImportError(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def model_schema(reference: str, folder: Path) -> dict[str, Any]:
    """The JSON Schema of the model.

    Raises:
        ModelImportError: It cannot be imported, or is no Pydantic model.
    """
    module_name, _, name = reference.rpartition(":")
    if not module_name or not name.isidentifier():
        raise ModelImportError(f"'{reference}' does not name a model", "write package.module:Model or file.py:Model")
    module = _module(module_name, folder)
    model = getattr(module, name, None)
    if model is None:
        raise ModelImportError(f"'{module_name}' has no '{name}'", "name a class of that module")
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        raise ModelImportError(f"'{reference}' is not a Pydantic model", "derive the class from pydantic.BaseModel")
    try:
        schema = model.model_json_schema()
        orjson.dumps(schema)
    except TypeError as error:
        # an integer beyond 64 bits, as a bound or a default
        raise ModelImportError(f"the JSON Schema of '{reference}' cannot be sent: {error}") from error
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ModelImportError(f"'{reference}' has no JSON Schema: {error.message}") from error
    return schema


def _module(name: str, folder: Path) -> ModuleType:
    """A module beside the spec comes before an installed one, and never takes its name."""
    relative = name if name.endswith(".py") else f"{name.replace('.', '/')}.py"
    path = folder / relative
    sys.path.insert(0, str(folder))
    try:
        if path.is_file():
            return _from_file(path)
        if name.endswith(".py"):
            raise ModelImportError(f"there is no file {path}", "the path is relative to the spec's folder")
        return importlib.import_module(name)
    except ModelImportError:
        raise
    except ModuleNotFoundError as error:
        raise ModelImportError(f"cannot import '{name}': {error}", "install it, or put it beside the spec") from error
    # the module is the user's own code: whatever it raises is a problem of the spec
    except (Exception, SystemExit) as error:
        raise ModelImportError(f"importing '{name}' failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(folder))


def _from_file(path: Path) -> ModuleType:
    unique = module_name(path, "model")
    return sys.modules[unique] if unique in sys.modules else executed(path, unique)


def module_name(path: Path, use: str) -> str:
    """Two files of one name in two folders are two modules."""
    return f"_synth_{use}_{blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()}"


def executed(path: Path, name: str) -> ModuleType:
    """The module of a file that ends in .py, under this name. Raises whatever the user's code raises."""
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    # classes look their own module up while they are made
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
