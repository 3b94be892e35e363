"""Rows on their way from the input to the output. They are joined by identity, never by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from synth_cli.core.events import Replied
from synth_cli.core.reply import Fault, Reply
from synth_cli.core.request import Message
from synth_cli.core.state import Invalid


@dataclass(frozen=True, slots=True)
class Row:
    """`index` is its position in the input and stays with it through all steps; `id` is 16 bytes of what it is."""

    index: int
    id: bytes
    values: Mapping[str, Any]


def derived(parent: bytes, ordinal: int) -> bytes:
    """The id of the row that is the `ordinal`-th made of its parent: a row, or the request that was answered."""
    return blake2b(parent + ordinal.to_bytes(8, "big"), digest_size=len(parent)).digest()


@dataclass(frozen=True, slots=True)
class Context:
    """A row and which of its samples: all that judging and shaping an answer needs."""

    row: Row
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Sampled:
    """What became of one sample of a row: a valid `value` with its reply, or the `cause` why there is none."""

    request_id: bytes
    sample: int
    value: Any = None
    reply: Reply | None = None
    replied: Replied | None = None
    cause: Fault | Invalid | None = None
    attempts: int = 0
    messages: tuple[Message, ...] = ()
    """What was really sent; filled only where somebody reads it (`reply.messages`, `_synth`)."""
    asked: tuple[tuple[int, bool], ...] = ()
    """Of a sample that takes several requests: which of the step's models each asked, and whether it was answered."""
    requests: tuple[bytes, ...] = ()
    """The ids of those requests."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a row became: output rows (none when filtered or failed) and what failed."""

    rows: tuple[Mapping[str, Any], ...] = ()
    filtered: int = 0
    """Output rows that `keep_if` left out."""
    failures: tuple[tuple[int, Fault | Invalid], ...] = ()
    """(sample, cause); one or more make the input row a failed one."""
    ids: tuple[bytes, ...] = field(default=(), compare=False)
    """Of the rows, where they were made of answers: a row's stays the same when others beside it are left out."""
    nulls: frozenset[int] = field(default=frozenset(), compare=False)
    """The places of rows that `on_failure` kept though nothing came."""
