"""Messages in OpenAI's shape, taken apart for protocols that have another. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from synth_cli.core.depth import DEEPEST, too_deep
from synth_cli.core.request import Message
from synth_cli.providers.openai import BOUND, BodyError, shown


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image or a file is: in `data` (base64), at `url`, or at the provider under `id`."""

    mime: str = ""
    data: str | None = None
    url: str = ""
    id: str = ""
    name: str = ""

    def text(self) -> str | None:
        """The file's text, if it is one in UTF-8."""
        try:
            return base64.b64decode(self.data or "", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None


def image(part: Mapping[str, Any]) -> Source:
    """Of `{type: image_url, image_url: {url}}`, or with the URL alone."""
    held = part.get("image_url")
    return _at(str(held.get("url") or "") if isinstance(held, Mapping) else str(held or ""))


def document(part: Mapping[str, Any]) -> Source:
    """Of `{type: file, file: {file_data, filename}}`, where `file_data` is a data URL or another."""
    held = part.get("file")
    held = held if isinstance(held, Mapping) else {}
    name = str(held.get("filename") or "")
    if held.get("file_id"):
        return Source(id=str(held["file_id"]), name=name)
    return _at(str(held.get("file_data") or ""), name)


def _at(url: str, name: str = "") -> Source:
    if not url.startswith("data:"):
        return Source(url=url, name=name)
    kind, _, data = url[5:].partition(",")
    mime, *marks = kind.split(";")
    if "base64" not in marks:
        data = base64.b64encode(data.encode()).decode()
    return Source(mime or "text/plain", data, name=name)


def system_parts(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """All text that the system (or developer) says, wherever it stands."""
    parts: list[Mapping[str, Any]] = []
    for message in messages:
        if message.get("role") in ("system", "developer"):
            content = message.get("content")
            given = content if isinstance(content, list) else [{"type": "text", "text": content}]
            parts += [part for part in given if part.get("text")]
    return parts


def plain(parts: Sequence[Mapping[str, Any]]) -> Any:
    """The parts as one text, unless a part says more than its text (a mark for the cache)."""
    if any(part.keys() - {"type", "text"} for part in parts):
        return list(parts)
    return "\n\n".join(str(part["text"]) for part in parts)


def object_of(body: bytes) -> dict[str, Any]:
    """The body of an answer. Raises BodyError, also for one that is nested deeper than can be written again."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BodyError(f"the answer is not JSON: {shown(body)}" if body.strip() else "the answer is empty") from None
    if type(data) is not dict:
        raise BodyError(f"the answer is not an object: {shown(body)}")
    # texts are read from it as they are; only what stands beside them is kept as a value
    if body.count(b"{") + body.count(b"[") > DEEPEST and too_deep(data, body.decode("utf-8", "replace")):
        raise BodyError(f"the answer is nested deeper than {DEEPEST} levels")
    return data


def count(usage: Mapping[str, Any], name: str) -> int:
    """A count of tokens; 0 for what cannot be one."""
    value = usage.get(name)
    return int(value) if isinstance(value, int | float) and 0 <= value < BOUND else 0


def texts(blocks: Iterable[Mapping[str, Any]], kind: str, name: str) -> str | None:
    """The texts of all blocks of a kind, joined; None where there are none."""
    found = [str(block.get(name) or "") for block in blocks if block.get("type") == kind]
    return "".join(found) if found else None
