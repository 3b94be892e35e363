"""How much one batch holds, and when no further one may be opened now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from synth_cli.core.ports import BatchLimits

Fit: TypeAlias = Literal["in", "full", "never"]
"""Whether a request went in, belongs into the next batch, or is too large for any."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the next batch may hold at most. `tokens` None: nobody counts them."""

    requests: int
    bytes: int
    tokens: float | None = None
    alone: bool = True
    """Nothing else is queued: then even a request that seems to have too many tokens is tried, we only estimate."""


def room(
    limits: BatchLimits, *, batch_size: int | None = None, open_batches: int = 0, queued_tokens: float = 0
) -> Room | None:
    """What the next batch may hold beside those that are open; None if it cannot be opened before one of them ends.

    `batch_size` is the user's bound on requests. `queued_tokens` are held by the open batches.
    """
    if limits.open_batches is not None and open_batches >= limits.open_batches:
        return None
    requests = limits.requests if batch_size is None else min(limits.requests, batch_size)
    tokens = None if limits.queued_tokens is None else limits.queued_tokens - queued_tokens
    if tokens is not None and tokens <= 0 and open_batches:
        return None
    return Room(max(1, requests), limits.bytes, tokens, not open_batches)


class Pack:
    """One batch while it is filled: counts only, the lines themselves are on their way to the disk."""

    __slots__ = ("bytes", "requests", "room", "tokens")

    def __init__(self, room: Room) -> None:
        self.room: Final = room
        self.requests = 0
        self.bytes = 0
        self.tokens = 0.0

    @property
    def left(self) -> int:
        """Requests that may still fit, if they are small."""
        return self.room.requests - self.requests

    def add(self, size: int, tokens: float = 0.0) -> Fit:
        """Takes a request of so many bytes and about so many input tokens, if it fits."""
        room = self.room
        filled = self.bytes + size
        if filled > room.bytes or self.requests >= room.requests:
            return "never" if size > room.bytes else "full"
        if room.tokens is not None:
            if self.tokens + tokens > room.tokens and (self.requests or not room.alone):
                return "full"
            self.tokens += tokens
        self.requests += 1
        self.bytes = filled
        return "in"
