"""From a file to a `Spec`: read, extended, profiled, set, filled in, checked. Every problem is reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synth_cli.errors import Problem, SpecError
from synth_cli.spec import rules
from synth_cli.spec.environment import with_environment
from synth_cli.spec.explain import findings
from synth_cli.spec.files import Reading
from synth_cli.spec.hints import SAMPLING
from synth_cli.spec.keys import annotations_at, keys_of, node_at
from synth_cli.spec.model import Spec
from synth_cli.spec.numbers import as_number
from synth_cli.spec.overrides import with_profile, with_sets
from synth_cli.spec.places import Branch, Finding, Leaf, Places, Where, plain
from synth_cli.spec.secrets import redacted, secrets_of


@dataclass(frozen=True)
class Loaded:
    """A spec that is right in itself, and where each of its values was written."""

    spec: Spec
    path: Path
    folder: Path
    """Every path in the spec is relative to it."""
    name: str
    places: Places = field(repr=False)
    secrets: frozenset[str] = field(repr=False)
    """Texts that must not appear in anything that is kept or shown."""
    sources: Mapping[str, str]
    """Files that were read, relative to the folder → the key that named them."""

    def effective(self) -> dict[str, Any]:
        """What the spec says after everything was merged and filled in, without secrets."""
        said: dict[str, Any] = self.spec.model_dump(by_alias=True, exclude_unset=True, exclude={"profiles", "extends"})
        return redacted(said)

    def at(self, step: int) -> Where:
        """The place of a step's keys: the top of a spec without `steps`."""
        return () if self.spec.steps is None else ("steps", step)


def load(path: Path, *, sets: Sequence[str] = (), profile: str | None = None, environ: Mapping[str, str]) -> Loaded:
    """Reads a spec.

    Raises:
        SpecError: With every problem found, in the order of the file.
    """
    full = Path(os.path.abspath(path))
    reading = Reading(full.parent, environ)
    base = reading.spec(full, str(path))
    problems = reading.problems
    tree = with_sets(with_profile(base, profile, problems), sets, problems)
    tree = Branch({key: entry for key, entry in tree.entries.items() if not key.startswith("x-")}, tree.mark)
    profiles = tree.entries.get("profiles")
    body = Branch({key: entry for key, entry in tree.entries.items() if key not in {"profiles", "extends"}}, tree.mark)
    filled, more, unset = with_environment(body, environ)
    problems.extend(more)
    filled, failed = reading.texts(filled)
    assert isinstance(filled, Branch)
    unknown = unset | failed
    if profiles is not None:
        filled = Branch({**filled.entries, "profiles": profiles}, filled.mark)
    places = Places(filled)
    spec, found = _validated(filled, full.parent)
    problems.extend(places.of(each) for each in found if each.where not in unknown)
    if problems:
        raise SpecError(_sorted(problems, str(path)))
    assert spec is not None
    name = spec.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", full.stem).strip("-.") or "job"
    return Loaded(spec, full, full.parent, name, places, secrets_of(plain(filled)), dict(reading.sources))


def _validated(tree: Branch, folder: Path) -> tuple[Spec | None, list[Finding]]:
    data = plain(tree)
    _numbers(data)
    places = Places(tree)
    found: list[Finding] = []
    spec: Spec | None = None
    for _ in range(3):
        try:
            spec = Spec.model_validate(data)
            found = []
            break
        except ValidationError as error:
            found = list(findings(data, error.errors(include_url=False)))
            if not _amended(data, found, places):
                break
    found.extend(_aliases(data))
    found.extend(rules.check(data, folder))
    return spec, found


def _amended(data: Any, found: Sequence[Finding], places: Places) -> bool:
    """Reads a number as the text it was written as, where text is wanted, and an empty value as a missing key.

    So `revision: 1.10`, `choice: [1, 2, 3]` and a `vars:` with nothing under it are what they look like.
    """
    amended = False
    for where in dict.fromkeys(each.where for each in found if each.where and not each.at_key):
        parent = data
        for part in where[:-1]:
            parent = parent[part]
        last: Any = where[-1]
        value = parent[last]
        if value is None and _has_default(where):
            del parent[last]
            amended = True
        elif isinstance(value, int | float) and not isinstance(value, bool) and str in annotations_at(where):
            node, _, exact = places.find(where)
            if exact and isinstance(node, Leaf):
                parent[last] = node.written
                amended = True
    return amended


def _has_default(where: Where) -> bool:
    node = node_at(where[:-1])
    name = keys_of(node).get(str(where[-1])) if node is not None else None
    return node is not None and name is not None and not node.model_fields[name].is_required()


def _numbers(node: Any) -> None:
    """Numeric texts of the sampling parameters become numbers; all others are sent as they are."""
    if isinstance(node, dict):
        params = node.get("generation_params")
        if isinstance(params, dict):
            for name in SAMPLING.keys() & params.keys():
                params[name] = as_number(params[name]) if isinstance(params[name], str) else params[name]
        for key in ("model", "models", "steps", "fallback"):
            _numbers(node.get(key))
        for key, each in node.items():
            if isinstance(each, dict) and key not in {"rows", "vars", "columns", "input", "generation_params"}:
                _numbers(each)
    elif isinstance(node, list):
        for each in node:
            _numbers(each)


def _aliases(data: Mapping[str, Any]) -> list[Finding]:
    """Python's names of fields whose keys are words of the language are not keys."""
    found: list[Finding] = []
    steps = data.get("steps")
    all_steps: list[tuple[Where, Any]] = [((), data)]
    all_steps += [(("steps", n), step) for n, step in enumerate(steps)] if isinstance(steps, list) else []
    for where, step in all_steps:
        if not isinstance(step, dict):
            continue
        if where and "from_" in step:
            found.append(Finding((*where, "from_"), "unknown key 'from_'", "did you mean 'from'?", at_key=True))
        response = step.get("response")
        if isinstance(response, dict) and "schema_" in response:
            place = (*where, "response", "schema_")
            found.append(Finding(place, "unknown key 'schema_'", "did you mean 'schema'?", at_key=True))
    return found


def _sorted(problems: Sequence[Problem], first: str) -> list[Problem]:
    files = {first: 0}
    for problem in problems:
        files.setdefault(problem.file, len(files))
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (files[problem.file], problem.line, problem.column))
