"""A spec as it was written: values that remember file, line and column, and how a problem finds its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

from synth_cli.errors import Problem

Where: TypeAlias = tuple[str | int, ...]
"""Keys and positions from the top of the spec down: `("steps", 0, "prompt")`."""
Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Mark:
    """Lines and columns count from 1; 0 where the value was not written in a file (`--set`)."""

    file: str
    line: int = 0
    column: int = 0

    def problem(self, message: str, hint: str = "") -> Problem:
        return Problem(message, file=self.file, line=self.line, column=self.column, hint=hint)


@dataclass(frozen=True, slots=True)
class Leaf:
    """`written` is the text as it stands in the file: a number may be wanted as text."""

    value: Scalar = field(repr=False)
    mark: Mark
    written: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` is what the key would be as a value: 5 for the key `5`, whose text is the mapping's key."""

    key: Mark
    value: Tree
    name: Scalar


@dataclass(frozen=True, slots=True)
class Branch:
    entries: Mapping[str, Entry]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Tree, ...]
    mark: Mark


Tree: TypeAlias = Leaf | Branch | Items


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that knows where in the spec it is, not yet where in which file."""

    where: Where
    message: str
    hint: str = ""
    at_key: bool = False
    lacks: str = ""
    """The key that is missing, where that is the problem."""


def plain(tree: Tree, where: Where = ()) -> Any:
    """The bare value, built anew. Keys are text; only a category sampler's values keep their type."""
    match tree:
        case Leaf():
            return tree.value
        case Items():
            return [plain(item, (*where, position)) for position, item in enumerate(tree.items)]
        case Branch():
            if where[:2] == ("input", "columns") and len(where) == 4 and where[3] == "category":
                return {entry.name: plain(entry.value, (*where, key)) for key, entry in tree.entries.items()}
            return {key: plain(entry.value, (*where, key)) for key, entry in tree.entries.items()}
    assert_never(tree)


def leaves(tree: Tree, where: Where = ()) -> Iterator[tuple[Where, Leaf]]:
    """Every scalar value with its place, in the order of the file."""
    match tree:
        case Leaf():
            yield where, tree
        case Items():
            for position, item in enumerate(tree.items):
                yield from leaves(item, (*where, position))
        case Branch():
            for key, entry in tree.entries.items():
                yield from leaves(entry.value, (*where, key))
        case _:
            assert_never(tree)


@dataclass(frozen=True, slots=True)
class Places:
    """Where each value of the effective spec was written."""

    tree: Tree = field(repr=False)

    def find(self, where: Where) -> tuple[Tree, Mark | None, bool]:
        """The value (or its nearest known parent), the mark of its key, and whether it is the value itself."""
        node, key = self.tree, None
        for part in where:
            if isinstance(node, Branch) and part in node.entries:
                entry = node.entries[str(part)]
                node, key = entry.value, entry.key
            elif isinstance(node, Items) and (position := position_of(node, part)) is not None:
                node, key = node.items[position], None
            else:
                return node, key, False
        return node, key, True

    def problem(self, where: Where, message: str, hint: str = "") -> Problem:
        """At the value; a mapping or list is pointed at by its key."""
        node, key, _ = self.find(where)
        mark = node.mark if key is None or isinstance(node, Leaf) else key
        return mark.problem(message, hint)

    def key_problem(self, where: Where, message: str, hint: str = "") -> Problem:
        node, key, _ = self.find(where)
        return (key or node.mark).problem(message, hint)

    def of(self, finding: Finding) -> Problem:
        place = self.key_problem if finding.at_key else self.problem
        return place(finding.where, finding.message, finding.hint)


def position_of(items: Items, part: str | int) -> int | None:
    """The position that an index, or the name of a step, stands for."""
    if isinstance(part, str):
        for position, item in enumerate(items.items):
            if isinstance(item, Branch) and (entry := item.entries.get("name")) is not None:
                value = entry.value
                if isinstance(value, Leaf) and str(value.value) == part:
                    return position
        if not part.isdecimal():
            return None
        part = int(part)
    return part if 0 <= part < len(items.items) else None


def dotted(where: Where) -> str:
    """`("steps", 0, "prompt")` as people write it: `steps.0.prompt`."""
    return ".".join(str(part) for part in where)
