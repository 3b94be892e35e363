"""What the `guidance` backend of vLLM takes, as llguidance, which it is, says itself. Pure.

Keywords: https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are no schemas."""


def guided(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema that guidance takes and everything valid is valid against; the same one where it is taken as it is.

    What no widening helps, such as a reference to another host, stays as it is.
    """
    return _widened(_text(schema)) or schema


def schema_refused(schema: Mapping[str, Any]) -> str | None:
    """Why guidance does not take a schema even when it is widened; None where it does."""
    return _error(_text(guided(schema)))


@lru_cache(maxsize=1024)
def regex_refused(regex: str) -> str | None:
    """Why guidance does not take a regular expression; None where it does."""
    from llguidance import LLMatcher, grammar_from

    return _reason(LLMatcher.validate_grammar(grammar_from("regex", regex)))


@lru_cache(maxsize=64)
def _widened(text: bytes) -> Mapping[str, Any] | None:
    """None where there is nothing to widen."""
    if _error(text) is None:
        return None
    schema = _readable(orjson.loads(text))
    own = schema.get("x-guidance")
    # with it keywords that guidance does not know are passed over, and oneOf is read as anyOf; others pass it over
    return {**schema, "x-guidance": {**(own if isinstance(own, Mapping) else {}), "lenient": True}}


def _readable(node: Any) -> Any:
    """The schema without the patterns that guidance cannot read: being lenient does not help them."""
    if isinstance(node, list):
        return [_readable(part) for part in node]
    if not isinstance(node, Mapping):
        return node
    out = {key: value if key in DATA else _readable(value) for key, value in node.items()}
    if isinstance(pattern := out.get("pattern"), str) and _error(_text({"type": "string", "pattern": pattern})):
        del out["pattern"]
    names = out.get("patternProperties")
    if isinstance(names, Mapping) and _error(
        _text({"type": "object", "patternProperties": {name: {} for name in names}})
    ):
        # what the patterns allow must not be forbidden now
        return {key: part for key, part in out.items() if key not in ("patternProperties", "additionalProperties")}
    return out


def _error(schema: bytes) -> str | None:
    from llguidance import LLMatcher

    return _reason(LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema.decode())))


def _reason(said: str) -> str | None:
    """Of a message in several lines that draws the place, the sentence."""
    if not said:
        return None
    lines = said.strip().splitlines()
    sentence = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    return sentence.rpartition("(in regex): ")[2]


def _text(schema: Mapping[str, Any]) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_NON_STR_KEYS)
