"""`${NAME}`, `${NAME:-default}` and `$${`: the environment in the texts of a spec, put in after YAML was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import assert_never

from synth_cli.errors import Problem
from synth_cli.spec.hints import suggest
from synth_cli.spec.places import Branch, Entry, Items, Leaf, Tree, Where

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


def substituted(text: str, environ: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """The text with its variables put in, and (message, hint) of each that could not be.

    As in a shell, a default also stands in for a variable that is set and empty.
    """
    wrong: list[tuple[str, str]] = []

    def put(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, default = found["name"], found["default"]
        if name is None:
            wrong.append(("'${' begins a variable, but no ${NAME} follows", "write $${ for a literal ${"))
            return found[0]
        given = environ.get(name)
        if given or (given is not None and default is None):
            return given
        if default is None:
            near = suggest(name, environ)
            hint = f"did you mean '{near}'?" if near else f"set it, or write ${{{name}:-default}}"
            wrong.append((f"the environment variable {name} is not set", hint))
            return found[0]
        return default

    return _REFERENCE.sub(put, text), wrong


def mapped(tree: Tree, change: Callable[[Leaf, Where], Tree], where: Where = ()) -> Tree:
    """The tree with every text replaced by what `change` makes of it."""
    match tree:
        case Leaf():
            return change(tree, where) if isinstance(tree.value, str) else tree
        case Items():
            return Items(tuple(mapped(item, change, (*where, n)) for n, item in enumerate(tree.items)), tree.mark)
        case Branch():
            entries = {
                key: Entry(entry.key, mapped(entry.value, change, (*where, key)), entry.name)
                for key, entry in tree.entries.items()
            }
            return Branch(entries, tree.mark)
    assert_never(tree)


def with_environment(tree: Tree, environ: Mapping[str, str]) -> tuple[Tree, list[Problem], set[Where]]:
    """The tree with variables put in, the problems, and the places whose value is therefore not to be judged."""
    problems: list[Problem] = []
    unset: set[Where] = set()

    def change(leaf: Leaf, where: Where) -> Tree:
        text = str(leaf.value)
        if "${" not in text:
            return leaf
        filled, wrong = substituted(text, environ)
        if wrong:
            unset.add(where)
            problems.extend(leaf.mark.problem(message, hint) for message, hint in wrong)
        return Leaf(filled, leaf.mark, filled)

    return mapped(tree, change), problems, unset
