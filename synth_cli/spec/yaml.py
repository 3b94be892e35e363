"""YAML as the language reads it: a file becomes a tree of values with their places.

Of YAML 1.1 only what nobody is surprised by: the special words are `true`, `false` and `null`; numbers are decimal
and may have underscores and exponents; `yes`, dates, `12:30`, `007`, `0x1F`, `+49…` and `~` are text. Anchors,
aliases and the merge key `<<` work; duplicate keys, tags and control characters are problems.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from synth_cli.errors import Problem, SpecError
from synth_cli.spec.places import Branch, Entry, Items, Leaf, Mark, Scalar, Tree, Where
from synth_cli.spec.quotes import explain, forgotten_braces

PLAIN, TEXT = "plain", "text"
CORE = "tag:yaml.org,2002:"
WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "": None}
_DIGITS = r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
_WHOLE = re.compile(f"-?{_DIGITS}")
_DECIMAL = re.compile(rf"-?(?:{_DIGITS}?\.[0-9]+|{_DIGITS}\.?)(?:[eE][-+]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|\r(?!\n)")
_ESCAPES = {"\a": "a", "\b": "b", "\f": "f", "\v": "v", "\r": "r", "\x1b": "e", "\0": "0"}


def scalar(text: str) -> Scalar:
    """What an unquoted word means."""
    if text in WORDS:
        return WORDS[text]
    if len(text) < 64:
        if _WHOLE.fullmatch(text):
            whole = int(text)
            # beyond 64 bits it is an identifier, and JSON writers refuse it
            return whole if -(2**63) <= whole < 2**63 else text
        if _DECIMAL.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else text
    return text


def read(text: str, file: str) -> tuple[Tree, list[Problem]]:
    """The tree of one document, and the problems that did not keep it from being read.

    Raises:
        SpecError: It is not YAML, is empty, or is more than one document.
    """
    text = text.removeprefix("\ufeff")
    if (raw := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)) is not None:
        line = text.count("\n", 0, raw.start()) + 1
        column = raw.start() - text.rfind("\n", 0, raw.start())
        mark = Mark(file, line, column)
        raise SpecError([mark.problem(f"a control character (U+{ord(raw[0]):04X}) is in the file", "remove it")])
    try:
        node = _Composer(text).get_single_node()
    except ReaderError as error:
        mark = Mark(file, text.count("\n", 0, error.position) + 1)
        raise SpecError([mark.problem("a character that YAML does not allow is in the file", "remove it")]) from error
    except yaml.MarkedYAMLError as error:
        line, column, message, hint = explain(error, text)
        raise SpecError([Problem(message, file=file, line=line, column=column, hint=hint)]) from error
    except (ValueError, OverflowError, RecursionError) as error:
        # "\UFFFFFFFF" and its like; thousands of brackets
        raise SpecError([Problem(f"this is not YAML: {error}", file=file)]) from error
    if node is None:
        raise SpecError([Problem("the file is empty", file=file, hint="run 'synth init' for a spec to start from")])
    builder = _Builder(text, file)
    return builder.tree(node, ()), builder.problems


def value(text: str, file: str) -> Tree:
    """A value given on the command line: a word by the rules of YAML, or a quoted text, a list or a mapping.

    Raises:
        SpecError: It begins as a list, mapping or quoted text and does not end as one.
    """
    mark = Mark(file)
    if text[:1] in {"[", '"', "'"} or (text.startswith("{") and text[1:2] not in {"{", "%", "#"}):
        try:
            tree, problems = read(text, file)
        except SpecError as error:
            raise SpecError([mark.problem(each.message, each.hint) for each in error.problems]) from error
        if problems:
            raise SpecError([mark.problem(each.message, each.hint) for each in problems])
        return _moved(tree, mark)
    return Leaf(scalar(text) if text else "", mark, text)


def _moved(tree: Tree, mark: Mark) -> Tree:
    match tree:
        case Leaf():
            return Leaf(tree.value, mark, tree.written)
        case Items():
            return Items(tuple(_moved(item, mark) for item in tree.items), mark)
        case Branch():
            entries = {key: Entry(mark, _moved(entry.value, mark), entry.name) for key, entry in tree.entries.items()}
            return Branch(entries, mark)


class _Composer(Reader, Scanner, Parser, Composer):
    """PyYAML up to its nodes, with a resolver that only tells plain words from quoted text."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)

    def resolve(self, kind: type[yaml.Node], _value: object, implicit: object) -> str:
        if kind is yaml.ScalarNode:
            return PLAIN if isinstance(implicit, tuple) and implicit[0] else TEXT
        return PLAIN

    def descend_resolver(self, *_: object) -> None:
        """Paths do not matter to the resolver."""

    def ascend_resolver(self) -> None:
        """Paths do not matter to the resolver."""


@dataclass(slots=True)
class _Builder:
    text: str
    file: str
    problems: list[Problem] = field(default_factory=list)
    open: set[int] = field(default_factory=set)

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def source(self, node: yaml.Node) -> str:
        return self.text[node.start_mark.index : node.end_mark.index]

    def tree(self, node: yaml.Node, where: Where) -> Tree:
        mark = self.mark(node)
        if id(node) in self.open:
            self.problems.append(mark.problem("an anchor that contains its own alias has no end"))
            return Leaf(None, mark)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.ScalarNode):
                return self.leaf(node, mark, where)
            if node.tag not in {PLAIN, f"{CORE}map", f"{CORE}seq"}:
                self.tag(node, mark)
            if isinstance(node, yaml.SequenceNode):
                return Items(tuple(self.tree(item, (*where, n)) for n, item in enumerate(node.value)), mark)
            return self.branch(node, mark, where)
        finally:
            self.open.discard(id(node))

    def tag(self, node: yaml.Node, mark: Mark) -> None:
        short = node.tag.removeprefix(CORE)
        self.problems.append(mark.problem(f"tags like '{short}' mean nothing here", "put a text with '!' in quotes"))

    def leaf(self, node: yaml.ScalarNode, mark: Mark, where: Where) -> Leaf:
        text: str = node.value
        if "generation_params" not in where and (control := _CONTROL.search(text)) is not None:
            self.problems.append(self.control(node, mark, control[0]))
        match node.tag.removeprefix(CORE):
            case "plain" | "int" | "float" | "bool" | "null":
                return Leaf(scalar(text), mark, text)
            case "text" | "str":
                return Leaf(text, mark, text)
        self.tag(node, mark)
        return Leaf(text, mark, text)

    def control(self, node: yaml.ScalarNode, mark: Mark, found: str) -> Problem:
        message = f"a control character (U+{ord(found):04X}) is in this text"
        letter = _ESCAPES.get(found)
        if letter is None:
            return mark.problem(message, "remove it")
        word = re.search(rf"\\{letter}\w*", self.source(node))
        written = word[0] if word else f"\\{letter}"
        return mark.problem(
            f"{message}: in double quotes '\\{letter}' is an escape",
            f"write '\\{written}', or use single quotes or a block text (|)",
        )

    def branch(self, node: yaml.Node, mark: Mark, where: Where) -> Branch | Leaf:
        if any(isinstance(key, yaml.MappingNode) for key, _ in node.value) and self.source(node).startswith("{{"):
            return self.template(node, mark)
        merged: dict[str, Entry] = {}
        own: dict[str, Entry] = {}
        for key, value in node.value:
            at = self.mark(key)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(
                    at.problem("a key must be a word or a text", "put a text with '{', '[' or '?' in quotes")
                )
                continue
            name: str = key.value
            if key.tag == PLAIN and name == "<<":
                for base in self.bases(value, where):
                    merged = {**base.entries, **merged}
                continue
            if name in own:
                first = own[name].key.line
                self.problems.append(at.problem(f"duplicate key '{name}'", f"it stands on line {first} already"))
                continue
            said = scalar(name) if key.tag == PLAIN else name
            own[name] = Entry(at, self.tree(value, (*where, name)), said)
        return Branch({**merged, **own}, mark)

    def bases(self, node: yaml.Node, where: Where) -> list[Branch]:
        """The mappings that a merge key brings in; the first one named wins."""
        tree = self.tree(node, where)
        found = tree.items if isinstance(tree, Items) else (tree,)
        wrong = [each for each in found if not isinstance(each, Branch)]
        self.problems.extend(
            each.mark.problem("'<<' merges mappings only", "give it an alias: <<: *name") for each in wrong
        )
        return [each for each in found if isinstance(each, Branch)]

    def template(self, node: yaml.Node, mark: Mark) -> Leaf:
        """A mapping whose key is a mapping is a template without its quotes; it is taken for what it was meant."""
        line = self.text.splitlines()[node.start_mark.line]
        before = line[: node.start_mark.column].rstrip()
        whole = line[node.start_mark.column :]
        message, hint = forgotten_braces(whole, flow=before.endswith(("[", "{", ",")) or "{" in before)
        self.problems.append(mark.problem(message, hint))
        return Leaf(self.source(node), mark, self.source(node))
