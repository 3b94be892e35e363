"""Any YAML value whose texts are templates → something that renders for each row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.utils import missing

from synth_cli.template.direct import BeyondError, Compiler, Evaluate, Fixed, evaluate
from synth_cli.template.errors import TemplateError, TemplateSyntaxError, UnknownNameError
from synth_cli.template.filters import DRAWS, Draws
from synth_cli.template.names import Needs, needs, path
from synth_cli.template.sandbox import Sandbox, listed
from synth_cli.template.scope import AFTER, Scope
from synth_cli.template.source import Adapted, is_template, literal, only, parse, parse_expression, pieces
from synth_cli.template.text import PLAIN, plain
from synth_cli.template.words import plainly

Path = tuple[str | int, ...]
EVALUATION = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
    NotImplementedError,
    re.error,
)
"""What an expression over foreign data may raise; each is the row's trouble."""


@dataclass(frozen=True, slots=True)
class Template:
    """Compiled once, rendered for each row."""

    names: frozenset[str]
    """Columns that it needs."""
    reserved: frozenset[str]
    """Reserved names that it uses."""
    vars: frozenset[str]
    """Members of `vars` that it needs."""
    members: frozenset[tuple[str, str]]
    """What it reads from reserved names: ("response", "title")."""
    whole: frozenset[str]
    """Reserved names that it uses other than for one member of theirs."""
    draws: bool
    """Whether `random` or `shuffle` is in it."""
    constant: bool
    """The same for every row; `render` then gives the very same object."""
    path: tuple[str, ...]
    """`response.steps` as ("response", "steps"), when it is nothing but such a path; else empty."""
    _evaluate: Evaluate = field(repr=False)

    def render(self, scope: Scope) -> Any:
        """The value for this row. Raises TemplateError."""
        try:
            return self._evaluate(scope)
        except UnknownNameError as error:
            raise TemplateError(_unknown(error.message or "", scope)) from None
        except EVALUATION as error:
            raise TemplateError(_said(error)) from None


class Templates:
    """Compiles a job's templates. `seed` and `step` go into everything that they draw at random."""

    def __init__(self, *, vars: Mapping[str, Any], seed: int, step: str = "main") -> None:
        self._sandbox = Sandbox()
        self._compiler = Compiler(self._sandbox, {"vars": vars})
        self._seed = blake2b(f"{seed}\0{step}\0".encode(), digest_size=16).digest()
        self._known = frozenset(self._sandbox.globals)

    def value(self, node: Any) -> Template:
        """Text, or any YAML value whose texts are templates. Raises TemplateSyntaxError at the first bad text."""
        compiled, needed = self._node(node, ())
        return _template(compiled, needed, self._path(node) if isinstance(node, str) else ())

    def expression(self, text: str | bool) -> Template:
        """An expression with or without the braces; renders to the object. Raises TemplateSyntaxError."""
        if isinstance(text, bool):
            return _template(Fixed(text), Needs(), ())
        tree = parse_expression(self._sandbox, text)
        expression = only(tree)
        assert expression is not None
        return _template(self._object(tree, expression), needs(tree, self._known), path(expression))

    def texts(self, node: Any) -> Iterator[tuple[Path, Template | TemplateSyntaxError]]:
        """Every text of a YAML value with its place in it: compiled by itself, or why it cannot be."""
        for where, text in _texts(node, ()):
            try:
                yield where, self.value(text)
            except TemplateSyntaxError as error:
                yield where, TemplateSyntaxError(error.message, where, error.line)

    def _node(self, node: Any, where: Path) -> tuple[Fixed | Evaluate, Needs]:
        if isinstance(node, str):
            try:
                return self._text(node)
            except TemplateSyntaxError as error:
                raise TemplateSyntaxError(error.message, where, error.line) from None
        if isinstance(node, Mapping):
            made = {key: self._node(value, (*where, key)) for key, value in node.items()}
            needed = _union([needs for _, needs in made.values()])
            if all(isinstance(part, Fixed) for part, _ in made.values()):
                return Fixed({key: part.value for key, (part, _) in made.items() if isinstance(part, Fixed)}), needed
            return _mapping([(key, evaluate(part)) for key, (part, _) in made.items()]), needed
        if isinstance(node, list | tuple):
            items = [self._node(item, (*where, position)) for position, item in enumerate(node)]
            needed = _union([needs for _, needs in items])
            if all(isinstance(part, Fixed) for part, _ in items):
                return Fixed([part.value for part, _ in items if isinstance(part, Fixed)]), needed
            return _list([evaluate(part) for part, _ in items]), needed
        return Fixed(node), Needs()

    def _text(self, text: str) -> tuple[Fixed | Evaluate, Needs]:
        if not is_template(text):
            return Fixed(literal(text)), Needs()
        tree = parse(self._sandbox, text)
        needed = needs(tree, self._known)
        expression = only(tree)
        if expression is not None:
            return self._object(tree, expression), needed
        parts = pieces(tree)
        if parts is not None:
            try:
                return self._compiler.joined(parts), needed
            except (BeyondError, TemplateError):
                pass
        return self._by_jinja(tree, needed.loaded, native=False), needed

    def _object(self, tree: nodes.Template, expression: nodes.Expr) -> Fixed | Evaluate:
        try:
            direct = self._compiler.expression(expression)
        except BeyondError:
            return self._by_jinja(tree, needs(tree, self._known).loaded, native=True)
        if isinstance(direct, Fixed):
            return Fixed(plain(direct.value)) if type(direct.value) in PLAIN else _plain(evaluate(direct))
        return _plain(direct)

    def _by_jinja(self, tree: nodes.Template, loaded: frozenset[str], *, native: bool) -> Evaluate:
        """Compiled by Jinja itself. `native`: the tree is one expression, and its object is wanted."""
        Adapted(self._sandbox).visit(tree)
        if native:
            expression = only(tree)
            assert expression is not None
            tree = nodes.Template([nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)], lineno=1)
            tree.set_environment(self._sandbox)
        try:
            code = self._sandbox.compile(tree, filename="<template>")
        except jinja2.TemplateSyntaxError as error:
            raise TemplateSyntaxError(plainly(error.message or "not a template"), line=error.lineno) from None
        template = jinja2.Template.from_code(self._sandbox, code, self._sandbox.globals)
        context = partial(self._context, template, tuple(loaded))
        root = template.root_render_func

        def whole(scope: Scope) -> Any:
            inner = context(scope)
            for _ in root(inner):
                pass
            return plain(inner.vars["result"])

        return whole if native else lambda scope: "".join(root(context(scope)))

    def _context(self, template: jinja2.Template, loaded: tuple[str, ...], scope: Scope) -> Any:
        seen: dict[str, Any] = {DRAWS: Draws(self._seed, scope.id)}
        for name in loaded:
            value = self._compiler.fixed[name] if name in self._compiler.fixed else scope.get(name, missing)
            if value is not missing:
                seen[name] = value
        return template.new_context(seen)

    def _path(self, text: str) -> tuple[str, ...]:
        expression = only(parse(self._sandbox, text)) if is_template(text) else None
        return () if expression is None else path(expression)


def _template(compiled: Fixed | Evaluate, needed: Needs, whole: tuple[str, ...]) -> Template:
    return Template(
        needed.names,
        needed.reserved,
        frozenset(name for owner, name in needed.members if owner == "vars"),
        needed.members,
        needed.whole,
        needed.draws,
        isinstance(compiled, Fixed),
        whole,
        evaluate(compiled),
    )


def _union(all_needs: list[Needs]) -> Needs:
    union = Needs()
    for one in all_needs:
        union |= one
    return union


def _mapping(parts: list[tuple[Any, Evaluate]]) -> Evaluate:
    return lambda scope: {key: part(scope) for key, part in parts}


def _list(parts: list[Evaluate]) -> Evaluate:
    return lambda scope: [part(scope) for part in parts]


def _plain(inner: Evaluate) -> Evaluate:
    def whole(scope: Scope) -> Any:
        value = inner(scope)
        return value if type(value) in PLAIN else plain(value)

    return whole


def _texts(node: Any, where: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, str):
        yield where, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, (*where, key))
    elif isinstance(node, list | tuple):
        for position, item in enumerate(node):
            yield from _texts(item, (*where, position))


def _unknown(name: str, scope: Scope) -> str:
    if name in AFTER:
        there = f"; the column is row['{name}']" if name in scope.values else ""
        needs = "where `each` gives one" if name == "item" else "after the answer"
        return f"'{name}' is there only {needs}{there}"
    columns = f"the row has: {listed(scope.values)}" if scope.values else "the row has no columns"
    return f"no column '{name}'; {columns}"


def _said(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, jinja2.TemplateError):
        return error.message or name
    if isinstance(error, re.error):
        return f"not a regular expression: {error}"
    if isinstance(error, RecursionError | MemoryError):
        return f"{name}: the template uses too much"
    return f"{name}: {error}"
