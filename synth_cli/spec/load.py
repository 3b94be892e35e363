"""From a file to a `Spec`: read, extended, profiled, set, filled in, checked. Every problem is reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synth_cli.errors import Problem, SpecError
from synth_cli.spec import rules
from synth_cli.spec.environment import with_environment
from synth_cli.spec.explain import findings
from synth_cli.spec.files import SCHEME, Reading
from synth_cli.spec.keys import annotations_at, keys_of, node_at
from synth_cli.spec.model import Spec
from synth_cli.spec.numbers import numeric_params
from synth_cli.spec.overrides import with_profile, with_sets
from synth_cli.spec.places import Branch, Finding, Items, Leaf, Mark, Places, Tree, Where, leaves, plain
from synth_cli.spec.secrets import redacted, secrets_of

ROUNDS = 5
DISPENSABLE = frozenset(
    {"engine", "generation_params", "backend_params", "samples", "on_failure", "version", "name", "description"}
    | {"labels", "seed", "output", "accept", "target_rows", "budget"}
)
"""Top-level keys without which the rest of a spec means what it means with them."""
NEEDED = ("input", "vars", "prompt", "messages", "response", "columns", "steps", "model", "each", "extends", "turns")
OF_A_STEP = frozenset(
    {"engine", "generation_params", "backend_params", "samples", "on_failure", "tool_choice", "method", "threshold"}
)
"""The same of a step's keys."""
NEEDED_IN_A_STEP = (*NEEDED, "name", "type", "from", "by", "function", "carry", "parse", "tools")


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
    loaded, problems = inspect(path, sets=sets, profile=profile, environ=environ)
    if problems or loaded is None:
        raise SpecError(problems)
    return loaded


def inspect(
    path: Path, *, sets: Sequence[str] = (), profile: str | None = None, environ: Mapping[str, str]
) -> tuple[Loaded | None, tuple[Problem, ...]]:
    """Every problem of a spec, and the spec itself even so, if it can be read without its wrong values.

    It is then good for finding more problems, and for nothing else.
    """
    full = Path(os.path.abspath(path))
    reading = Reading(full.parent, environ)
    problems = reading.problems
    try:
        base = reading.spec(full, str(path))
    except SpecError as error:
        return None, in_order([*problems, *error.problems], str(path))
    tree = with_sets(with_profile(base, profile, problems), sets, problems)
    filled, unknown = _filled(tree, reading)
    places = Places(filled)
    spec, found = _validated(filled, full.parent)
    problems.extend(places.of(each) for each in found if each.where not in unknown)
    if profile is None:
        problems.extend(_of_profiles(base, full.parent, frozenset(problems)))
    sorted_problems = in_order(problems, str(path))
    if spec is None:
        return None, sorted_problems
    name = spec.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", full.stem).strip("-.") or "job"
    secrets = secrets_of(plain(filled))
    return Loaded(spec, full, full.parent, name, places, secrets, dict(reading.sources)), sorted_problems


def _filled(tree: Branch, reading: Reading) -> tuple[Branch, set[Where]]:
    """The spec with environment and texts put in, and the places where that failed: they are not judged further.

    Profiles stay as they are: only the chosen one needs its variables.
    """
    own = {key: entry for key, entry in tree.entries.items() if not key.startswith("x-")}
    body = Branch({key: entry for key, entry in own.items() if key not in {"profiles", "extends"}}, tree.mark)
    filled, problems, unset = with_environment(body, reading.environ)
    reading.problems.extend(problems)
    filled, failed = reading.texts(filled)
    assert isinstance(filled, Branch)
    kept = {key: entry for key, entry in own.items() if key in {"profiles", "extends"}}
    return Branch({**filled.entries, **kept}, tree.mark), unset | failed


def _of_profiles(base: Branch, folder: Path, known: frozenset[Problem]) -> Iterator[Problem]:
    """What is wrong in profiles that were not chosen: only what stands in them, and needs no environment."""
    entry = base.entries.get("profiles")
    if entry is None or not isinstance(entry.value, Branch):
        return
    for name, profile in entry.value.entries.items():
        problems: list[Problem] = []
        tree = with_profile(base, name, problems)
        own = {leaf.mark for _, leaf in leaves(profile.value)} | set(_key_marks(profile.value))
        places = Places(tree)
        _, found = _validated(tree, folder)
        problems.extend(places.of(each) for each in found if not _is_open(tree, each.where))
        for problem in problems:
            if problem not in known and Mark(problem.file, problem.line, problem.column) in own:
                yield problem


def _key_marks(tree: Tree) -> Iterator[Mark]:
    if isinstance(tree, Branch):
        for entry in tree.entries.values():
            yield entry.key
            yield from _key_marks(entry.value)
    elif isinstance(tree, Items):
        for item in tree.items:
            yield from _key_marks(item)


def _is_open(tree: Tree, where: Where) -> bool:
    """Whether a value waits for the environment or a file."""
    node, _, _ = Places(tree).find(where)
    return isinstance(node, Leaf) and isinstance(node.value, str) and ("${" in node.value or node.value[:7] == SCHEME)


def _validated(tree: Branch, folder: Path) -> tuple[Spec | None, list[Finding]]:
    """The spec, without what is wrong in it where that can be left out, and the findings."""
    data = plain(tree)
    numeric_params(data)
    places = Places(tree)
    shape: list[Finding] = []
    spec: Spec | None = None
    for _ in range(ROUNDS):
        try:
            spec = Spec.model_validate(data)
            break
        except ValidationError as error:
            found = list(findings(data, error.errors(include_url=False)))
            if _amended(data, found, places):
                continue
            # a key that was left out is not missing
            wrong = {each.where for each in shape}
            shape.extend(each for each in found if each not in shape and (*each.where, each.lacks) not in wrong)
            if not _left_out(data, found):
                break
    shape.extend(_aliases(data))
    meant = [(each.where[:-1], each.hint) for each in shape if each.at_key and not each.lacks]
    both = [*shape, *rules.check(plain(tree), folder)]
    return spec, [each for each in both if not each.lacks or not _is_meant(each, meant)]


def _is_meant(finding: Finding, meant: Sequence[tuple[Where, str]]) -> bool:
    """Whether a missing key is there under a wrong name, which has been said."""
    return any(where == finding.where and f"'{finding.lacks}" in hint for where, hint in meant)


def _left_out(data: Any, found: Sequence[Finding]) -> bool:
    """Takes wrong values out of the data, if all of them are such that nothing else depends on them."""
    if not all(_is_dispensable(each) for each in found):
        return False
    for each in found:
        parent = data
        for part in each.where[:-1]:
            parent = parent[part] if isinstance(part, int) else parent.get(part, {})
        parent.pop(each.where[-1], None)
    return True


def _is_dispensable(finding: Finding) -> bool:
    where, keys = finding.where, DISPENSABLE
    needed: Sequence[str] = NEEDED
    if len(where) > 2 and where[0] == "steps" and isinstance(where[1], int):
        where, keys, needed = where[2:], OF_A_STEP, NEEDED_IN_A_STEP
    if finding.lacks or not where or any(isinstance(part, int) for part in where):
        return False
    if where[0] in keys:
        return True
    return len(where) == 1 and finding.at_key and not any(f"'{word}" in finding.hint for word in needed)


def _amended(data: Any, found: Sequence[Finding], places: Places) -> bool:
    """Reads a number as the text it was written as, where text is wanted, and an empty value as a missing key.

    So `revision: 1.10`, `choice: [1, 2, true]` and a `vars:` with nothing under it are what they look like.
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
        elif isinstance(value, int | float) and _may_be_text(value, where):
            node, _, exact = places.find(where)
            if exact and isinstance(node, Leaf):
                parent[last] = node.written
                amended = True
    return amended


def _may_be_text(value: float, where: Where) -> bool:
    # of true and false only those that a model is to choose from are words
    return str in annotations_at(where) and (not isinstance(value, bool) or where[-2:-1] == ("choice",))


def _has_default(where: Where) -> bool:
    node = node_at(where[:-1])
    name = keys_of(node).get(str(where[-1])) if node is not None else None
    return node is not None and name is not None and not node.model_fields[name].is_required()


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


def in_order(problems: Sequence[Problem], first: str) -> tuple[Problem, ...]:
    """Each problem once, by file (the first one first), line and column."""
    files = {first: 0}
    for problem in problems:
        files.setdefault(problem.file, len(files))
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda problem: (files[problem.file], problem.line, problem.column)))
