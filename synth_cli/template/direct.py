"""Plain expressions as Python closures: a tenth of what Jinja's compiled code costs, and the same values.

Whatever is not plain (loops, macros, calls, tests of definedness, chance) raises `BeyondError` and stays with Jinja.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from jinja2 import Undefined, nodes

from synth_cli.template.errors import UnknownNameError
from synth_cli.template.sandbox import Sandbox
from synth_cli.template.scope import Scope
from synth_cli.template.text import FUNCTIONS, plain, text

Evaluate: TypeAlias = Callable[[Scope], Any]
LAZY = frozenset({"default", "d"})
"""Filters that take an undefined value."""
DEFINED = frozenset({"defined", "undefined"})
COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda value, values: value in values,
    "notin": lambda value, values: value not in values,
}
BINARY: Mapping[type[nodes.BinExpr], Callable[[Any, Any], Any]] = {
    nodes.Add: operator.add,
    nodes.Sub: operator.sub,
    nodes.Div: operator.truediv,
    nodes.FloorDiv: operator.floordiv,
    nodes.Mod: operator.mod,
}


class BeyondError(Exception):
    """Needs Jinja's own compiler."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same for every row."""

    value: Any


@dataclass(frozen=True, slots=True)
class Compiler:
    """Makes closures of what it is given, or raises `BeyondError`."""

    sandbox: Sandbox
    fixed: Mapping[str, Any]
    """Names that are the same for every row: `vars`."""

    def joined(self, parts: Sequence[nodes.Expr]) -> Fixed | Evaluate:
        """Text with expressions in it."""
        pieces: list[str | Evaluate] = []
        for part in parts:
            piece = part.data if isinstance(part, nodes.TemplateData) else self.expression(part)
            if isinstance(piece, Fixed):
                piece = text(piece.value)
            if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += piece
            else:
                pieces.append(piece)
        if not pieces:
            return Fixed("")
        if len(pieces) == 1 and isinstance(pieces[0], str):
            return Fixed(pieces[0])
        return _join(tuple(pieces))

    def expression(self, node: nodes.Expr) -> Fixed | Evaluate:  # noqa: PLR0912 - one case for each kind of node
        match node:
            case nodes.Const():
                return Fixed(node.value)
            case nodes.Name():
                return self._name(node.name)
            case nodes.Getattr():
                return self._member(self.expression(node.node), node.attr, self.sandbox.getattr)
            case nodes.Getitem(arg=nodes.Const(value=key)):
                return self._member(self.expression(node.node), key, self.sandbox.getitem)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Test():
                return self._test(node)
            case nodes.Compare():
                return self._compare(node)
            case nodes.And():
                left, right = self._pair(node)
                return lambda scope: left(scope) and right(scope)
            case nodes.Or():
                left, right = self._pair(node)
                return lambda scope: left(scope) or right(scope)
            case nodes.Not():
                inner = self._evaluate(node.node)
                return lambda scope: not inner(scope)
            case nodes.CondExpr(expr2=nodes.Expr() as other):
                test, yes, no = self._evaluate(node.test), self._evaluate(node.expr1), self._evaluate(other)
                return lambda scope: yes(scope) if test(scope) else no(scope)
            case nodes.Concat():
                return self.joined(node.nodes)
            case nodes.List() | nodes.Tuple():
                items = [self._evaluate(item) for item in node.items]
                return lambda scope: [item(scope) for item in items]
            case nodes.Dict():
                pairs = [(self._evaluate(pair.key), self._evaluate(pair.value)) for pair in node.items]
                return lambda scope: {key(scope): value(scope) for key, value in pairs}
            case nodes.Add() | nodes.Sub() | nodes.Div() | nodes.FloorDiv() | nodes.Mod():
                left, right = self._pair(node)
                compute = BINARY[type(node)]
                return lambda scope: compute(left(scope), right(scope))
            case _:
                raise BeyondError

    def _evaluate(self, node: nodes.Expr) -> Evaluate:
        return evaluate(self.expression(node))

    def _pair(self, node: nodes.BinExpr) -> tuple[Evaluate, Evaluate]:
        return self._evaluate(node.left), self._evaluate(node.right)

    def _name(self, name: str) -> Fixed | Evaluate:
        if name in self.fixed:
            return Fixed(self.fixed[name])
        if name in self.sandbox.globals:
            raise BeyondError
        return READ[name] if name in READ else _column(name)

    def _member(self, owner: Fixed | Evaluate, key: Any, look_up: Callable[[Any, Any], Any]) -> Fixed | Evaluate:
        if isinstance(owner, Fixed):
            value = look_up(owner.value, key)
            if not isinstance(value, Undefined):
                return Fixed(value)
        inner = evaluate(owner)

        def member(scope: Scope) -> Any:
            value = inner(scope)
            if type(value) is dict and key in value:
                return value[key]
            value = look_up(value, key)
            if isinstance(value, Undefined):
                value._fail_with_undefined_error()
            # nothing here calls it, so a method of the value was taken for a key: `response.title` of a text
            return plain(value) if isinstance(value, FUNCTIONS) else value

        return member

    def _arguments(self, node: nodes.Filter | nodes.Test, function: Callable[..., Any]) -> tuple[Any, ...]:
        """What goes before the value, and how to compute what comes after it."""
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise BeyondError
        asked = getattr(getattr(function, "jinja_pass_arg", None), "name", None)
        before: tuple[Any, ...]
        match asked:
            case None:
                before = ()
            case "environment":
                before = (self.sandbox,)
            case "eval_context":
                before = (nodes.EvalContext(self.sandbox),)
            case _:
                raise BeyondError
        args = [self._evaluate(arg) for arg in node.args]
        named = [(pair.key, self._evaluate(pair.value)) for pair in node.kwargs]
        return before, args, named

    def _filter(self, node: nodes.Filter) -> Evaluate:
        if node.name in LAZY or node.node is None:
            raise BeyondError
        function = self.sandbox.filters[node.name]
        return self._applied(node, node.node, function)

    def _test(self, node: nodes.Test) -> Evaluate:
        if node.name in DEFINED:
            raise BeyondError
        # typed as a bare function by Jinja
        function = cast("Callable[..., Any]", self.sandbox.tests[node.name])
        return self._applied(node, node.node, function)

    def _applied(self, node: nodes.Filter | nodes.Test, subject: nodes.Expr, function: Callable[..., Any]) -> Evaluate:
        before, args, named = self._arguments(node, function)
        inner = self._evaluate(subject)
        if not before and not args and not named:
            return lambda scope: function(inner(scope))

        def applied(scope: Scope) -> Any:
            given = [arg(scope) for arg in args]
            return function(*before, inner(scope), *given, **{key: value(scope) for key, value in named})

        return applied

    def _compare(self, node: nodes.Compare) -> Evaluate:
        if len(node.ops) != 1:
            raise BeyondError
        left, right = self._evaluate(node.expr), self._evaluate(node.ops[0].expr)
        compare = COMPARE[node.ops[0].op]
        return lambda scope: compare(left(scope), right(scope))


def evaluate(value: Fixed | Evaluate) -> Evaluate:
    if isinstance(value, Fixed):
        fixed = value.value
        return lambda _: fixed
    return value


def _join(pieces: tuple[str | Evaluate, ...]) -> Evaluate:
    def join(scope: Scope) -> str:
        parts = []
        for piece in pieces:
            if type(piece) is str:
                parts.append(piece)
            else:
                value = piece(scope)  # type: ignore[operator]
                parts.append(value if type(value) is str else text(value))
        return "".join(parts)

    return join


def _column(name: str) -> Evaluate:
    def column(scope: Scope) -> Any:
        try:
            return scope.values[name]
        except KeyError:
            raise UnknownNameError(name) from None

    return column


def _after(name: str) -> Evaluate:
    def after(scope: Scope) -> Any:
        try:
            return scope.after[name]
        except KeyError:
            raise UnknownNameError(name) from None

    return after


def _response(scope: Scope) -> Any:
    known = scope.after if "response" in scope.after else scope.values
    try:
        return known["response"]
    except KeyError:
        raise UnknownNameError("response") from None


READ: Mapping[str, Evaluate] = {
    "row": lambda scope: scope.values,
    "index": lambda scope: scope.index,
    "sample": lambda scope: scope.sample,
    "response": _response,
    "item": _after("item"),
    "reply": _after("reply"),
}
