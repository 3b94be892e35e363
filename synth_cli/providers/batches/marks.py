"""Ids of requests in batches that are not in OpenAI's protocol: whose they are, and how their answers are read.

An answer is kept by the name of its protocol and read without its request, so that a custom id must say how. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from synth_cli.core.ports import BatchResult, Exchange
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.batches import lines
from synth_cli.providers.codecs import exchange

_CUSTOM = re.compile(r"(?:(?P<tag>.*)-)?(?P<id>[0-9a-f]{32})(?:-(?P<mark>[a-z]+))?")


def mark(protocol: str) -> str:
    """What stands behind the id: nothing, or a dash and the reading (`anthropic.choice` → `-choice`)."""
    reading = protocol.partition(".")[2]
    return f"-{reading}" if reading else ""


def parted(custom: str, protocol: str) -> tuple[str, str, str]:
    """(tag, id in hex, protocol) of a custom id; one of somebody else's is returned as it is."""
    match = _CUSTOM.fullmatch(custom)
    if match is None:
        return "", custom, protocol
    reading = match["mark"]
    return match["tag"] or "", match["id"], f"{protocol}.{reading}" if reading else protocol


def answered(id: str, protocol: str, body: Any, *, now: float, secrets: tuple[str, ...]) -> BatchResult:
    """The result of a request that has an answer."""
    try:
        written = orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        # more levels than can be written
        return BatchResult(id, Exchange(fault=Fault(FaultKind.MALFORMED, f"the answer cannot be kept: {error}")))
    return BatchResult(id, exchange(protocol, written, now=now, secrets=secrets))


def object_of(line: bytes) -> Mapping[str, Any] | None:
    """The object that a line is, or None."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def broken(line: bytes, name: str) -> BatchResult:
    """A fault of the id that can still be seen in a broken line, in the field `name`."""
    match = re.search(rb'"%b"\s*:\s*"([^"\\]{1,128})"' % name.encode(), line)
    id = parted(match[1].decode("utf-8", "replace"), "")[1] if match else ""
    return BatchResult(id, Exchange(fault=lines.broken(line)))
