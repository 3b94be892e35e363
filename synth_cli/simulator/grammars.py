"""Grammar → a text of its language, for the two notations that vLLM takes.

GBNF (`root ::= "yes" | [0-9]+`, https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md) and Lark
(`start: "yes" | NUMBER`, https://lark-parser.readthedocs.io/en/stable/grammar.html). What Lark would ignore is not
written; Lark's templates are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, assert_never

from synth_cli.simulator.draw import Draw
from synth_cli.simulator.patterns import matching

ENDLESS = 1_000_000
DEEP = 12
MOST_REPEATS = 3
MOST_PARTS = 20_000
COMMON: Mapping[str, str] = {
    "DIGIT": r"[0-9]",
    "INT": r"[0-9]{1,3}",
    "SIGNED_INT": r"-?[0-9]{1,3}",
    "NUMBER": r"[0-9]{1,3}(\.[0-9]{1,2})?",
    "SIGNED_NUMBER": r"-?[0-9]{1,3}(\.[0-9]{1,2})?",
    "DECIMAL": r"[0-9]{1,3}\.[0-9]{1,2}",
    "FLOAT": r"[0-9]{1,3}\.[0-9]{1,2}",
    "HEXDIGIT": r"[0-9a-f]",
    "LETTER": r"[a-z]",
    "LCASE_LETTER": r"[a-z]",
    "UCASE_LETTER": r"[A-Z]",
    "WORD": r"[a-z]{3,8}",
    "CNAME": r"[a-z]{3,8}",
    "ESCAPED_STRING": r'"[a-z]{3,8}"',
    "WS": " ",
    "WS_INLINE": " ",
    "NEWLINE": r"\n",
}


class GrammarError(ValueError):
    """The grammar cannot be read, or has no finite text; the message says why."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Pattern:
    regex: str


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    part: Node
    low: int
    high: int | None


Node: TypeAlias = Literal | Pattern | Name | Chain | Either | Repeat

TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\n]*|//[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"i?)
    |(?P<set>\[(?:[^\]\\]|\\.)*\])
    |(?P<regex>/(?!/)(?:[^/\\\n]|\\.)+/[imslux]*)
    |(?P<count>\{\s*\d*\s*,?\s*\d*\s*\}|~\s*\d+(?:\s*\.\.\s*\d+)?)
    |(?P<alias>->\s*\w+)
    |(?P<defines>::=|:)
    |(?P<name>[?!]?[A-Za-z_][\w-]*(?:\.-?\d+(?=\s*:))?)
    |(?P<mark>\.\.|[|()*+?\[\].])""",
    re.VERBOSE,
)
Token: TypeAlias = tuple[str, str]


def written(grammar: str, draw: Draw) -> str:
    """A text of the grammar's language. Raises `GrammarError`, or `PatternError` for a terminal."""
    return Writer(*read(grammar)).text(draw)


@lru_cache(64)
def read(grammar: str) -> tuple[Mapping[str, Node], Mapping[str, int], str]:
    """(rules, the depth of each rule's shallowest text, the first rule)."""
    rules = Reader(grammar).rules()
    start = "root" if "::=" in grammar else "start"
    if start not in rules:
        raise GrammarError(f"it has no rule '{start}'")
    depths = depths_of(rules)
    if depths[start] >= ENDLESS:
        raise GrammarError("its texts never end")
    return rules, depths, start


class Reader:
    """Recursive descent over the tokens of one grammar."""

    def __init__(self, grammar: str) -> None:
        self.gbnf = "::=" in grammar
        self.known: dict[str, Node] = {}
        self.tokens = self.split(grammar)
        self.at = 0

    def split(self, grammar: str) -> list[Token]:
        lines = []
        for line in grammar.splitlines():
            if line.lstrip().startswith("%"):
                self.directive(line.strip())
                lines.append("")
            else:
                lines.append(line)
        text = "\n".join(lines)
        found: list[Token] = []
        place = 0
        while place < len(text):
            # in Lark a bracket opens what may be left out, in GBNF a set of characters
            match = None if not self.gbnf and text[place] == "[" else TOKEN.match(text, place)
            if match is None:
                if text[place] not in "[]":
                    raise GrammarError(f"'{text[place : place + 20]}' cannot be read")
                found.append(("mark", text[place]))
                place += 1
                continue
            kind = match.lastgroup or ""
            if kind not in ("space", "alias"):
                found.append((kind, match.group()))
            place = match.end()
        return found

    def directive(self, line: str) -> None:
        match = re.match(r"%import\s+common\s*\.\s*(\w+)(?:\s*->\s*(\w+))?", line)
        listed = re.match(r"%import\s+common\s*\(([^)]*)\)", line)
        names = [(match.group(1), match.group(2) or match.group(1))] if match else []
        if listed:
            names = [(name.strip(), name.strip()) for name in listed.group(1).split(",")]
        for name, own in names:
            if name not in COMMON:
                raise GrammarError(f"common.{name} is not known here")
            self.known[own] = Pattern(COMMON[name])

    def rules(self) -> dict[str, Node]:
        rules = dict(self.known)
        while self.at < len(self.tokens):
            kind, text = self.tokens[self.at]
            if kind != "name" or not self.next_is("defines", 1):
                raise GrammarError(f"a rule was expected at '{text}'")
            self.at += 2
            rules[bare(text)] = self.either()
        return rules

    def next_is(self, kind: str, ahead: int = 0, text: str | None = None) -> bool:
        if self.at + ahead >= len(self.tokens):
            return False
        found, given = self.tokens[self.at + ahead]
        return found == kind and (text is None or given == text)

    def either(self) -> Node:
        options = [self.chain()]
        while self.next_is("mark", text="|"):
            self.at += 1
            options.append(self.chain())
        return options[0] if len(options) == 1 else Either(tuple(options))

    def chain(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.tokens):
            if self.next_is("name") and self.next_is("defines", 1):
                break
            if self.tokens[self.at] in (("mark", "|"), ("mark", ")"), ("mark", "]")):
                break
            parts.append(self.repeated(self.part()))
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def repeated(self, part: Node) -> Node:
        while self.at < len(self.tokens):
            kind, text = self.tokens[self.at]
            if kind == "mark" and text in "*+?":
                part = Repeat(part, int(text == "+"), 1 if text == "?" else None)
            elif kind == "count":
                numbers = [int(number) for number in re.findall(r"\d+", text)]
                low = numbers[0] if numbers and not text.replace(" ", "").startswith("{,") else 0
                open_ended = "," in text and len(numbers) < 2 and low == (numbers or [0])[0]
                part = Repeat(part, low, None if open_ended else (numbers or [0])[-1])
            else:
                break
            self.at += 1
        return part

    def part(self) -> Node:
        kind, text = self.tokens[self.at]
        self.at += 1
        match kind:
            case "text":
                literal = unescaped(text.removesuffix("i")[1:-1])
                if self.next_is("mark", text=".."):
                    last = unescaped(self.tokens[self.at + 1][1][1:-1])
                    self.at += 2
                    return Pattern(f"[{re.escape(literal)}-{re.escape(last)}]")
                return Literal(literal)
            case "set":
                return Pattern(text)
            case "regex":
                body, _, flags = text[1:].rpartition("/")
                used = "".join(flag for flag in flags if flag in "imsx")
                return Pattern(f"(?{used}:{body})" if used else body)
            case "name":
                return Name(bare(text))
            case "mark" if text == ".":
                return Pattern("[a-z]")
            case "mark" if text in "([":
                inner = self.either()
                if not self.next_is("mark", text=")" if text == "(" else "]"):
                    raise GrammarError(f"a '{text}' is never closed")
                self.at += 1
                return inner if text == "(" else Repeat(inner, 0, 1)
            case _:
                raise GrammarError(f"'{text}' is not expected there")


ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def unescaped(text: str) -> str:
    def char(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code[1:], 16)) if len(code) > 1 else ESCAPES.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", char, text)


def bare(name: str) -> str:
    return name.lstrip("?!").partition(".")[0]


def depths_of(rules: Mapping[str, Node]) -> dict[str, int]:
    """How deep each rule must nest at least; `ENDLESS` where it has no finite text."""
    depths = dict.fromkeys(rules, ENDLESS)
    for _ in range(len(rules) + 1):
        changed = False
        for name, node in rules.items():
            depth = depth_of(node, depths) + 1
            if depth < depths[name]:
                depths[name] = depth
                changed = True
        if not changed:
            break
    return depths


def depth_of(node: Node, depths: Mapping[str, int]) -> int:
    match node:
        case Literal() | Pattern():
            return 0
        case Name(name):
            if name not in depths:
                raise GrammarError(f"the rule '{name}' is not defined")
            return depths[name]
        case Chain(parts):
            return max((depth_of(part, depths) for part in parts), default=0)
        case Either(options):
            return min(depth_of(option, depths) for option in options)
        case Repeat(part, low, _):
            depth = depth_of(part, depths)
            return depth if low else 0
        case _:
            assert_never(node)


class Writer:
    """Writes one text; below `DEEP` nested rules it takes the shallowest way out."""

    def __init__(self, rules: Mapping[str, Node], depths: Mapping[str, int], start: str) -> None:
        self.rules = rules
        self.depths = depths
        self.start = start
        self.parts = 0

    def text(self, draw: Draw) -> str:
        return self.write(Name(self.start), draw, 0)

    def write(self, node: Node, draw: Draw, depth: int) -> str:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise GrammarError("its texts are too long")
        match node:
            case Literal(text):
                return text
            case Pattern(regex):
                return matching(regex, draw.child(draw.bits()), whole=True, shortest=0)
            case Name(name):
                return self.write(self.rules[name], draw, depth + 1)
            case Chain(parts):
                return "".join([self.write(part, draw, depth) for part in parts])
            case Either(options):
                return self.write(self.way_out(options) if depth > DEEP else self.likely(options, draw), draw, depth)
            case Repeat(part, low, high):
                most = low if depth > DEEP or self.endless(part) else low + MOST_REPEATS
                count = draw.between(low, most if high is None else max(low, min(high, most)))
                return "".join([self.write(part, draw, depth) for _ in range(count)])
            case _:
                assert_never(node)

    def endless(self, part: Node) -> bool:
        return depth_of(part, self.depths) >= ENDLESS

    def likely(self, options: Sequence[Node], draw: Draw) -> Node:
        return draw.pick([option for option in options if not self.endless(option)])

    def way_out(self, options: Sequence[Node]) -> Node:
        return min(options, key=lambda option: depth_of(option, self.depths))
