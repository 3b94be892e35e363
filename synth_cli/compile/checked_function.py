"""What is wrong with a function of the user's own: its file is read, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from synth_cli.errors import Problem
from synth_cli.spec.hints import suggest
from synth_cli.spec.load import Loaded
from synth_cli.spec.places import Where


def problems(reference: str, where: Where, loaded: Loaded, *, packages: bool) -> Iterator[Problem]:
    """Of `path.py:function`, or where `packages` are allowed `package.module:function`."""
    module, _, function = reference.rpartition(":")
    path = Path(loaded.folder, module)
    if not module or not function.isidentifier() or not (packages or module.endswith(".py")):
        form = "path.py:function or package.module:function" if packages else "path.py:function"
        yield loaded.places.problem(where, f"'{reference}' is not {form}")
    elif module.endswith(".py") and not path.is_file():
        yield loaded.places.problem(where, f"there is no file {module} in {loaded.folder}")
    elif module.endswith(".py"):
        yield from _function(path, module, function, where, loaded)


def _function(path: Path, module: str, function: str, where: Where, loaded: Loaded) -> Iterator[Problem]:
    """Whether the file is Python and has the function."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        yield loaded.places.problem(where, f"{module}{line} is not Python: {said}")
        return
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    # whatever else binds a name may bind this one
    others = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.Expr)]
    if function in names or any(function in ast.dump(node) or "'*'" in ast.dump(node) for node in others):
        return
    near = suggest(function, names)
    hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(sorted(names)) or 'none'}"
    yield loaded.places.problem(where, f"there is no function '{function}' in {module}", hint)
