"""What a template needs, read from its syntax tree, so that a spec is checked without rendering anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jinja2 import meta, nodes

from synth_cli.template.direct import DEFINED, LAZY
from synth_cli.template.scope import RESERVED

DRAWING = frozenset({"random", "shuffle"})


@dataclass(frozen=True, slots=True)
class Needs:
    """`names` are columns, `reserved` the reserved names used, `members` what is read from these: `("vars", "tone")`.

    What is guarded by `is defined` or `default` is not needed, so it is in none of them.
    """

    names: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()
    members: frozenset[tuple[str, str]] = frozenset()
    loaded: frozenset[str] = frozenset()
    """Every name read from outside, guarded or not."""
    whole: frozenset[str] = frozenset()
    """Reserved names that are used other than for one member of theirs."""
    draws: bool = False
    """Whether it draws at random."""

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.names | other.names,
            self.reserved | other.reserved,
            self.members | other.members,
            self.loaded | other.loaded,
            self.whole | other.whole,
            self.draws or other.draws,
        )


def needs(tree: nodes.Template, known: frozenset[str]) -> Needs:
    """`known` are the names that every template has (Jinja's globals)."""
    loaded = frozenset(meta.find_undeclared_variables(tree)) if _binds(tree) else _loads(tree)
    guarded = {path(node) for node in _guards(tree)}
    paths = {path(node)[:2] for node in tree.find_all((nodes.Getattr, nodes.Getitem))} - guarded
    return Needs(
        frozenset(name for name in loaded - RESERVED - known if (name,) not in guarded),
        frozenset(name for name in loaded & RESERVED if (name,) not in guarded),
        frozenset((found[0], found[1]) for found in paths if len(found) == 2 and found[0] in loaded & RESERVED),
        loaded,
        _whole(tree) & loaded & RESERVED,
        any(node.name in DRAWING for node in tree.find_all(nodes.Filter)),
    )


def path(node: nodes.Node) -> tuple[str, ...]:
    """`a.b['c']` as ("a", "b", "c"); empty for anything but a name and its members."""
    match node:
        case nodes.Name():
            return (node.name,)
        case nodes.Getattr():
            before = path(node.node)
            return (*before, node.attr) if before else ()
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            before = path(node.node)
            return (*before, key) if before else ()
        case _:
            return ()


def _binds(tree: nodes.Template) -> bool:
    """Whether it has names of its own: only then are scopes to be worked out, which costs as much as compiling."""
    return any(not isinstance(statement, nodes.Output) for statement in tree.find_all(nodes.Stmt))


def _whole(tree: nodes.Template) -> frozenset[str]:
    used = Counter(node.name for node in tree.find_all(nodes.Name))
    members = [node for node in tree.find_all((nodes.Getattr, nodes.Getitem)) if len(path(node)) == 2]
    used.subtract(path(node)[0] for node in members)
    return frozenset(name for name, times in used.items() if times > 0)


def _loads(tree: nodes.Template) -> frozenset[str]:
    return frozenset(node.name for node in tree.find_all(nodes.Name))


def _guards(tree: nodes.Template) -> list[nodes.Node]:
    found: list[nodes.Node] = [node.node for node in tree.find_all(nodes.Test) if node.name in DEFINED]
    found += [node.node for node in tree.find_all(nodes.Filter) if node.name in LAZY and node.node is not None]
    return found
