"""The tables of the language, made from the models: `python -m synth_cli.spec.reference [FILE]`.

Without a file they are printed; in a file each table is put between its markers:
`<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from synth_cli.spec import model
from synth_cli.spec.backend import BackendParams, Distributed, engines_of
from synth_cli.spec.formats import WAYS
from synth_cli.spec.keys import keys_of
from synth_cli.spec.model import Spec, Step, StepKeys

_TABLES: Mapping[str, tuple[type[BaseModel], type[BaseModel] | None]] = {
    "job keys": (Spec, StepKeys),
    "step keys": (StepKeys, None),
    "keys of a step in steps": (Step, StepKeys),
    "model keys": (model.Model, None),
    "prompt keys": (model.Prompt, None),
    "message keys": (model.ChatMessage, None),
    "response keys": (model.Response, None),
    "refine keys": (model.Refine, None),
    "turns keys": (model.Turns, None),
    "turn keys": (model.Turn, None),
    "input keys": (model.Input, None),
    "dataset keys": (model.Dataset, None),
    "sql keys": (model.Sql, None),
    "output keys": (model.Output, None),
    "push keys": (model.Push, None),
    "accept keys": (model.Accept, None),
    "target_rows keys": (model.TargetRows, None),
    "budget keys": (model.Budget, None),
    "backend_params": (BackendParams, None),
    "distributed keys": (Distributed, None),
}
"""Table → the model that it shows, and the one whose keys have a table of their own."""


def tables() -> dict[str, str]:
    """Each table's Markdown by its name."""
    made = {name: "\n".join(_rows(node, without)) for name, (node, without) in _TABLES.items()}
    return {**made, "fields of formats": "\n".join(_formats())}


def _rows(node: type[BaseModel], without: type[BaseModel] | None) -> Iterator[str]:
    backend = node is BackendParams
    yield "| key | default | engines | meaning |" if backend else "| key | default | meaning |"
    yield "| --- | --- | --- | --- |" if backend else "| --- | --- | --- |"
    for key, name in keys_of(node).items():
        if without is not None and name in without.model_fields:
            continue
        field = node.model_fields[name]
        engines = f" {', '.join(engines_of(name))} |" if backend else ""
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{key}` | {_default(field)} |{engines} {meaning} |"


def _formats() -> Iterator[str]:
    yield "| format | needs | a field of `map`: the columns it is looked for under |"
    yield "| --- | --- | --- |"
    for name, ways in WAYS.items():
        for way in ways:
            usual = "; ".join(f"`{field}`: {', '.join(columns)}" for field, columns in way.usual.items())
            needs = way.text.replace("'", "`")
            yield f"| `{name}` | {needs} | {usual} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value == {} or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{'true' if value else 'false'}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def put(text: str) -> str:
    """A document with its tables as the models have them now.

    Raises:
        KeyError: It has a marker of a table that does not exist.
    """
    made = tables()

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{made[found[2]]}\n{found[3]}"

    return re.sub(r"(<!-- table: ([^>]*?) -->)\n.*?(<!-- end -->)", table, text, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    if not arguments:
        sys.stdout.write("\n\n".join(f"## {name}\n\n{table}" for name, table in tables().items()) + "\n")
        return 0
    path = Path(arguments[0])
    path.write_text(put(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
