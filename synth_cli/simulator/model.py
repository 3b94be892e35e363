"""The simulated model: what it answers to a request, a function of the request and the seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import JSONDecodeError, JSONDecoder
from typing import Any, assert_never

import orjson

from synth_cli.simulator import boxed
from synth_cli.simulator.asked import Asked, Refused, Wanted, tokens_in
from synth_cli.simulator.draw import Draw, mix, number_of, tag
from synth_cli.simulator.grammars import GrammarError, written
from synth_cli.simulator.patterns import PatternError, matching
from synth_cli.simulator.plausible import Plausible
from synth_cli.simulator.prose import prose, sentence, words_of
from synth_cli.simulator.schemas import SchemaError
from synth_cli.simulator.settings import Settings

MOST_SCHEMAS = 256
MOST_OPTIONS = 60
REASONING, TOOL = tag("reasoning"), tag("tool")


@dataclass(frozen=True, slots=True)
class Choice:
    """One generation. `tool_calls` are (id, name, arguments as JSON text)."""

    text: str | None
    finish_reason: str
    tokens: int
    tool_calls: tuple[tuple[str, str, str], ...] = ()
    reasoning: str | None = None
    reasoning_tokens: int = 0


class Model:
    """Answers requests; keeps what it made of the schemas it saw."""

    def __init__(self) -> None:
        self.schemas: dict[bytes, Plausible] = {}

    def answer(self, asked: Asked, settings: Settings, *, salt: int = 0, invalid: bool = False) -> list[Choice]:
        """The `n` choices. `salt` tells otherwise equal requests apart; `invalid` breaks what was asked for.

        Raises `Refused` where the request asks for what cannot be.
        """
        identity = orjson.dumps((asked.model, asked.identity), option=orjson.OPT_NON_STR_KEYS)
        key = mix(number_of(identity) ^ mix(settings.seed ^ (asked.seed << 20) ^ (salt << 40)))
        words = words_of(asked.user)
        return [
            self.choice(asked, settings, Draw(mix(key + index), words), invalid=invalid) for index in range(asked.n)
        ]

    def choice(self, asked: Asked, settings: Settings, draw: Draw, *, invalid: bool) -> Choice:
        reasoning, thought = None, 0
        if "reason" in asked.model:
            reasoning = prose(draw.child(REASONING), 30)
            thought = tokens_in(reasoning)
        called = None if asked.tool_choice == "none" or not asked.tools else self.called(asked, draw)
        if called is not None:
            arguments = "[]" if invalid else self.arguments(called, draw)
            call = (f"call_{draw.child(TOOL).bits():016x}", called["function"]["name"], arguments)
            # a forced function ends with 'stop', as OpenAI has it
            reason = "stop" if isinstance(asked.tool_choice, Mapping) else "tool_calls"
            tokens = tokens_in(call[1]) + tokens_in(arguments) + thought
            return Choice(None, reason, tokens, (call,), reasoning, thought)
        text = self.text(asked, settings, draw, invalid=invalid)
        return ended(asked, text, reasoning, thought)

    def text(self, asked: Asked, settings: Settings, draw: Draw, *, invalid: bool) -> str:
        wanted = asked.wanted or found_in(asked.texts)
        if wanted is None:
            options = options_in(asked.texts)
            if options:
                return "none of these" if invalid else draw.pick(options)
            spread = settings.output_tokens
            said = prose(draw, max(1, spread * 3 // 4 + draw.below(spread // 2 + 1)))
            if not invalid and boxed.asked_for(asked.texts):
                return f"{said} {boxed.result(asked.user, draw)}"
            return said
        if invalid:
            return '{"unexpected": ' + orjson.dumps(sentence(draw)).decode() + "}"
        match wanted.kind:
            case "schema":
                return self.value(wanted.value, draw, "response_format")
            case "json":
                schema = schema_in(asked.texts)
                if schema is not None:
                    return self.value(schema, draw, "messages")
                return orjson.dumps({"answer": sentence(draw), "topic": draw.word()}).decode()
            case "choice":
                choice: str = draw.pick(wanted.value)
                return choice
            case "regex":
                return of_pattern(wanted.value, draw)
            case "grammar":
                return of_grammar(wanted.value, draw)
            case _:
                assert_never(wanted.kind)

    def value(self, schema: Any, draw: Draw, param: str) -> str:
        key = orjson.dumps(schema)
        plausible = self.schemas.get(key)
        try:
            if plausible is None:
                plausible = Plausible(schema)
                if len(self.schemas) >= MOST_SCHEMAS:
                    self.schemas.pop(next(iter(self.schemas)))
                self.schemas[key] = plausible
            return orjson.dumps(plausible(draw)).decode()
        except (SchemaError, PatternError) as error:
            message = f"Invalid schema for {param}: {error}."
            raise Refused(400, message, param=param, code="invalid_json_schema") from error

    def called(self, asked: Asked, draw: Draw) -> Mapping[str, Any] | None:
        """The tool that the model decides to call."""
        if isinstance(asked.tool_choice, Mapping):
            name = asked.tool_choice["function"]["name"]
            return next(tool for tool in asked.tools if tool["function"]["name"] == name)
        if asked.tool_choice != "required" and asked.texts[-1][0] in ("tool", "function"):
            return None  # what the tool said is there to be told
        likeness = [alike(tool["function"], asked.user) for tool in asked.tools]
        best = max(likeness)
        if best == 0:
            return draw.child(TOOL).pick(asked.tools) if asked.tool_choice == "required" else None
        return asked.tools[likeness.index(best)]

    def arguments(self, tool: Mapping[str, Any], draw: Draw) -> str:
        return self.value(tool["function"].get("parameters") or {"type": "object"}, draw, "tools")


def ended(asked: Asked, text: str, reasoning: str | None, thought: int) -> Choice:
    """The text as the stop strings and the token limit leave it."""
    for stop in asked.stop:
        text = text.partition(stop)[0]
    tokens = tokens_in(text)
    if asked.max_tokens is None or tokens + thought <= asked.max_tokens:
        return Choice(text, "stop", tokens + thought, (), reasoning, thought)
    thought = min(thought, asked.max_tokens)
    room = asked.max_tokens - thought
    return Choice(cut(text, room), "length", asked.max_tokens, (), reasoning, thought)


def cut(text: str, tokens: int) -> str:
    return text.encode()[: tokens * 4].decode(errors="ignore")


def of_pattern(pattern: str, draw: Draw) -> str:
    try:
        return matching(pattern, draw, whole=True)
    except PatternError as error:
        message = f"Invalid regex '{pattern}': {error}."
        raise Refused(400, message, param="structured_outputs.regex") from error


def of_grammar(grammar: str, draw: Draw) -> str:
    try:
        return written(grammar, draw)
    except (GrammarError, PatternError) as error:
        raise Refused(400, f"Invalid grammar: {error}.", param="structured_outputs.grammar") from error


PIECES = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}|[^\W\d_]{3,}")


def alike(function: Mapping[str, Any], text: str) -> int:
    """How many of the words of a tool's name and description the text has; those of the name count thrice."""
    words = {piece.lower().rstrip("s") for piece in PIECES.findall(text)}
    name = {piece.lower().rstrip("s") for piece in PIECES.findall(function["name"])}
    about = {piece.lower().rstrip("s") for piece in PIECES.findall(function.get("description") or "") if len(piece) > 3}
    return 3 * len(name & words) + len(about & words)


DECODER = JSONDecoder()
MOST_BRACES = 60


def found_in(texts: Sequence[tuple[str, str]]) -> Wanted | None:
    """A schema in the prompt of a host that has no field for it: taken when the text speaks of a JSON schema."""
    for _, text in texts:
        if "{" in text and spoken_of(text):
            schema = schema_in(((_, text),))
            if schema is not None:
                return Wanted("schema", schema)
    return None


@lru_cache(64)
def spoken_of(text: str) -> bool:
    return "json schema" in text.lower()


def schema_in(texts: Sequence[tuple[str, str]]) -> Any:
    """The first JSON object in the prompt that looks like a schema; the system's text before the user's."""
    for system in (True, False):
        for role, text in texts:
            if (role in ("system", "developer")) is system and "{" in text:
                schema = schema_of(text)
                if schema is not None:
                    return schema
    return None


@lru_cache(64)
def schema_of(text: str) -> Any:
    place = -1
    for _ in range(MOST_BRACES):
        place = text.find("{", place + 1)
        if place < 0:
            return None
        try:
            found, _ = DECODER.raw_decode(text, place)
        except (JSONDecodeError, RecursionError):
            continue
        if found.keys() & {"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "$schema"}:
            return found
    return None


LISTED = re.compile(r"\bone of(?:\s+[\w']+){0,4}\s*:[ \t]*(.*)", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+(.+)")
MARKS = " \t\"'`*.!?()[]{}<>"
BETWEEN: Sequence[Callable[[str], list[str]]] = (
    lambda line: line.split("|"),
    lambda line: line.split(";"),
    lambda line: re.split(r"\s*,\s*(?:or\s+|and\s+)?|\s+or\s+", line),
    lambda line: line.split("/"),
)


def options_in(texts: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What `one of: a, b, c` in a prompt lists, on that line or as bullets below it; the latest such list."""
    for _, text in reversed(texts):
        if "one of" in text or "One of" in text:
            options = listed(text)
            if options:
                return options
    return ()


@lru_cache(1024)
def listed(text: str) -> tuple[str, ...]:
    lines = text.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        match = LISTED.search(lines[number])
        if match is None:
            continue
        line = SENTENCE_END.split(match.group(1), maxsplit=1)[0]
        if not line.strip():
            below = [BULLET.match(other) for other in lines[number + 1 : number + 1 + MOST_OPTIONS]]
            options = [bullet.group(1) for bullet in below if bullet]
        else:
            options = next((parts for split in BETWEEN if len(parts := split(line)) > 1), [line])
        cleaned = tuple(dict.fromkeys(option.strip(MARKS) for option in options if option.strip(MARKS)))
        if 1 < len(cleaned) <= MOST_OPTIONS and all(len(option) <= 80 for option in cleaned):
            return cleaned
    return ()
