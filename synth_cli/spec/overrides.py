"""What lies over a spec: the base it extends, a profile, `--set`. Mappings merge, lists replace, null removes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from synth_cli.errors import Problem, SpecError
from synth_cli.spec import yaml
from synth_cli.spec.hints import did_you_mean
from synth_cli.spec.places import Branch, Entry, Items, Leaf, Mark, Tree, Where, position_of

NOT_IN_PROFILES = frozenset({"profiles", "extends", "version"})


def merged(base: Tree, over: Tree, problems: list[Problem], where: Where = ()) -> Tree:
    """`over` on top of `base`. Steps are a list that an override may also address by name."""
    if not isinstance(over, Branch):
        return over
    if isinstance(base, Items) and where == ("steps",):
        return _merged_steps(base, over, problems)
    if where == () and (main := _main_step(base, over)) is not None:
        over = main
    entries = dict(base.entries) if isinstance(base, Branch) else {}
    for name, entry in over.entries.items():
        # in a profile null is still to remove something, once the profile is chosen
        if _is_null(entry.value) and where[:1] != ("profiles",):
            entries.pop(name, None)
            continue
        under = entries[name].value if name in entries else Leaf(None, entry.key)
        entries[name] = Entry(entry.key, merged(under, entry.value, problems, (*where, name)), entry.name)
    return Branch(entries, over.mark if not isinstance(base, Branch) else base.mark)


def _is_null(tree: Tree) -> bool:
    return isinstance(tree, Leaf) and tree.value is None


def _main_step(base: Tree, over: Branch) -> Branch | None:
    """A spec without `steps` is one step named main, and may be addressed so."""
    steps = over.entries.get("steps")
    if steps is None or not isinstance(steps.value, Branch) or set(steps.value.entries) != {"main"}:
        return None
    main = steps.value.entries["main"].value
    if not isinstance(base, Branch) or "steps" in base.entries or not isinstance(main, Branch):
        return None
    rest = {name: entry for name, entry in over.entries.items() if name != "steps"}
    return Branch({**rest, **main.entries}, over.mark)


def _merged_steps(base: Items, over: Branch, problems: list[Problem]) -> Items:
    items: list[Tree | None] = list(base.items)
    for name, entry in over.entries.items():
        position = position_of(base, name)
        if position is None:
            problems.append(entry.key.problem(f"there is no step '{name}'", did_you_mean(name, _names(base))))
            continue
        step = items[position]
        assert step is not None
        items[position] = None if _is_null(entry.value) else merged(step, entry.value, problems, ("steps", position))
    return Items(tuple(item for item in items if item is not None), base.mark)


def _names(steps: Items) -> list[str]:
    named = (item.entries.get("name") for item in steps.items if isinstance(item, Branch))
    return [str(entry.value.value) for entry in named if entry is not None and isinstance(entry.value, Leaf)]


def with_profile(tree: Branch, profile: str | None, problems: list[Problem]) -> Branch:
    """The spec with a profile's overrides; `profiles` itself is kept, as it was written."""
    if profile is None:
        return tree
    entry = tree.entries.get("profiles")
    known = entry.value.entries if entry is not None and isinstance(entry.value, Branch) else {}
    if profile not in known:
        hint = did_you_mean(profile, known) if known else "the spec has no 'profiles'"
        problems.append(tree.mark.problem(f"there is no profile '{profile}'", hint))
        return tree
    chosen = known[profile].value
    if not isinstance(chosen, Branch):
        return tree
    problems.extend(
        entry.key.problem(f"a profile cannot have '{name}'", "put it at the top")
        for name, entry in chosen.entries.items()
        if name in NOT_IN_PROFILES
    )
    over = {name: entry for name, entry in chosen.entries.items() if name not in NOT_IN_PROFILES}
    result = merged(tree, Branch(over, chosen.mark), problems)
    assert isinstance(result, Branch)
    return result


@dataclass(slots=True)
class _Setting:
    """One `--set key=value` on its way down the spec. The value is never part of a message: it may be a secret."""

    mark: Mark
    value: Tree
    problems: list[Problem] = field(default_factory=list)

    def put(self, node: Tree, parts: Sequence[str], where: Where) -> Tree:
        if not parts:
            return merged(node, self.value, self.problems, where) if isinstance(node, Branch) else self.value
        part, rest = parts[0], parts[1:]
        if isinstance(node, Items):
            return self._in_list(node, part, rest, where)
        if isinstance(node, Leaf) and node.value is not None:
            hint = f"'{part}' can be set only where '{'.'.join(map(str, where))}' is written as a mapping"
            self.problems.append(self.mark.problem(f"'{'.'.join(map(str, where))}' is one value, not a mapping", hint))
            return node
        entries = dict(node.entries) if isinstance(node, Branch) else {}
        if not rest and _is_null(self.value):
            entries.pop(part, None)
        else:
            old = entries.get(part)
            under = old.value if old is not None else Leaf(None, self.mark)
            value = self.put(under, rest, (*where, part))
            if value is not under or old is None:
                entries[part] = Entry(old.key if old is not None and rest else self.mark, value, part)
        return Branch(entries, node.mark)

    def _in_list(self, node: Items, part: str, rest: Sequence[str], where: Where) -> Tree:
        position = position_of(node, part)
        if position is None:
            what = f"there is no step '{part}'" if where == ("steps",) else f"there is no item '{part}' in the list"
            hint = did_you_mean(part, _names(node)) or f"positions go from 0 to {len(node.items) - 1}"
            self.problems.append(self.mark.problem(what, hint))
            return node
        items = list(node.items)
        if not rest and _is_null(self.value):
            del items[position]
        else:
            items[position] = self.put(items[position], rest, (*where, position))
        return Items(tuple(items), node.mark)


def with_sets(tree: Branch, sets: Sequence[str], problems: list[Problem]) -> Branch:
    """The spec with each `key=value` put in, in order. A dot in a key is written `\\.`."""
    for text in sets:
        key, sign, said = text.partition("=")
        if not sign or not key.strip():
            shown = key.strip() if not sign else ""
            problems.append(Mark(f"--set {shown}".strip()).problem("it must be key=value", "e.g. --set input.take=10"))
            continue
        parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", key.strip())]
        mark = Mark(f"--set {key.strip()}")
        if parts[0] in {"extends", "profiles"}:
            problems.append(mark.problem(f"'{parts[0]}' cannot be set", "choose a profile with --profile"))
            continue
        try:
            setting = _Setting(mark, yaml.value(said, mark.file))
        except SpecError as error:
            problems.extend(error.problems)
            continue
        if parts[:2] == ["steps", "main"] and "steps" not in tree.entries and len(parts) > 2:
            parts = parts[2:]
        result = setting.put(tree, parts, ())
        problems.extend(setting.problems)
        assert isinstance(result, Branch)
        tree = result
    return tree
