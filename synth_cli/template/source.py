"""Template text → syntax tree, with everything refused that would only fail while rows are made."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import jinja2
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from synth_cli.template.errors import TemplateSyntaxError
from synth_cli.template.filters import CONCAT
from synth_cli.template.names import DRAWING
from synth_cli.template.sandbox import Sandbox
from synth_cli.template.words import plainly

MARKS = ("{{", "{%", "{#")
BRACES = "an expression is one whole {{ … }}, or has no braces at all"
FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


def is_template(text: str) -> bool:
    """Whether anything in it is to be rendered."""
    return any(mark in text for mark in MARKS)


def literal(text: str) -> str:
    """Text without marks as Jinja gives it: one final newline dropped, line ends as \\n."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n")


def parse(sandbox: Sandbox, text: str) -> nodes.Template:
    """Raises TemplateSyntaxError."""
    try:
        tree = sandbox.parse(text)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateSyntaxError(plainly(error.message or "not a template"), line=error.lineno) from None
    return _checked(sandbox, tree)


def parse_expression(sandbox: Sandbox, text: str) -> nodes.Template:
    """The expression as a template of nothing but it; `text` may have the braces around it."""
    if text.lstrip().startswith("{{"):
        tree = parse(sandbox, text.strip())
        if only(tree) is None:
            raise TemplateSyntaxError(BRACES)
        return tree
    if not text.strip():
        raise TemplateSyntaxError("the expression is empty")
    try:
        parser = Parser(sandbox, text, state="variable")
        expression = parser.parse_expression()
        rest = parser.stream.current
    except jinja2.TemplateSyntaxError as error:
        message = BRACES if is_template(text) else plainly(error.message or "not an expression")
        raise TemplateSyntaxError(message, line=error.lineno) from None
    if rest.type != "eof":
        raise TemplateSyntaxError(f"the expression ends before '{rest.value}'")
    tree = nodes.Template([nodes.Output([expression], lineno=1)], lineno=1)
    tree.set_environment(sandbox)
    return _checked(sandbox, tree)


def only(tree: nodes.Template) -> nodes.Expr | None:
    """The expression, when the template is exactly one."""
    match tree.body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
            return expression
        case _:
            return None


def pieces(tree: nodes.Template) -> list[nodes.Expr] | None:
    """Text and expressions in turn; None where there are statements."""
    found: list[nodes.Expr] = []
    for node in tree.body:
        if not isinstance(node, nodes.Output):
            return None
        found += node.nodes
    return found


def _checked(sandbox: Sandbox, tree: nodes.Template) -> nodes.Template:
    for node in tree.find_all(FILES):
        raise TemplateSyntaxError("a template cannot take in files; use file:// for its text", line=node.lineno)
    for called in tree.find_all(nodes.Filter):
        if called.name not in sandbox.filters:
            raise TemplateSyntaxError(_unknown("filter", called.name, sandbox.filters), line=called.lineno)
        if called.name in DRAWING and (called.args or called.kwargs):
            raise TemplateSyntaxError(f"'{called.name}' takes no arguments", line=called.lineno)
    for test in tree.find_all(nodes.Test):
        if test.name not in sandbox.tests:
            raise TemplateSyntaxError(_unknown("test", test.name, sandbox.tests), line=test.lineno)
    return tree


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [other for other in known if other.isidentifier()], n=1)
    return f"no {what} named '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")


class Adapted(NodeTransformer):
    """The tree as Jinja compiles it: `~` joins as text does, each draw knows the expression that it draws from."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's visitor calls it so
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        made = nodes.Filter(parts, CONCAT, [], [], None, None, lineno=node.lineno)
        made.set_environment(self.sandbox)
        return made

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        drawn = repr(node.node)
        self.generic_visit(node)
        if node.name in DRAWING:
            expression = nodes.Const(drawn, lineno=node.lineno)
            expression.set_environment(self.sandbox)
            node.args = [expression]
        return node
