"""An answer's text → the JSON that it means, where a model wrapped or misspelt it."""

from __future__ import annotations

import re
from typing import Any

import orjson

from synth_cli.core.plain import plain

FENCED = re.compile(r"```[A-Za-z]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
THOUGHTS = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)


class NotJsonError(ValueError):
    """The text is not JSON and could not be mended; the message says where it went wrong."""


def json_of(text: str) -> Any:
    """The JSON value of an answer. Raises NotJsonError.

    Tried in turn: the text as it is; a fenced block, or what stands between the outermost braces; the same with
    commas, quotes and ends mended. A mended value is a guess, so the caller validates it; an empty guess is none.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    if not text.strip():
        raise NotJsonError("the answer is empty")
    candidates = list(_candidates(THOUGHTS.sub("", text)))
    for candidate in candidates:
        try:
            return orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
    return _mended(candidates, reason)


def _candidates(text: str) -> list[str]:
    """Where the JSON may be, likeliest first."""
    found = [block.strip() for block in FENCED.findall(text)]
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if starts:
        start = min(starts)
        end = text.rfind("}" if text[start] == "{" else "]")
        if end > start:
            found.append(text[start : end + 1])
        # cut off before its end
        found.append(text[start:])
    return [candidate for candidate in found if candidate]


def _mended(candidates: list[str], reason: str) -> Any:
    import json_repair  # 6 to 400 µs and a megabyte of import: only for answers that need it

    for candidate in candidates:
        if candidate[0] not in "{[":
            continue
        try:
            value = json_repair.loads(candidate)
        except Exception:  # noqa: BLE001 - a guess at what was meant may fail in any way; then it is no JSON
            continue
        if value:
            # numbers as they would have been read from sound JSON
            return plain(value)
    raise NotJsonError(f"not JSON: {reason}")
