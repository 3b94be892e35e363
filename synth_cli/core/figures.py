"""What the outcomes of a run or a round amount to, as figures."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from synth_cli.core.events import Outcome, Replied
from synth_cli.core.reply import FaultKind, Usage

FIRST_TOKEN = b'"time_to_first_token":'
NUMBER = re.compile(rb"\s*\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles (nearest rank) in seconds, from sending to the complete body, of replies alone."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was sent to models and what came of it. Mappings count replies, or faults, by their key."""

    replies: int = 0
    faults: Mapping[FaultKind, int] = field(default_factory=dict)
    retries: int = 0
    """Attempts after the first one of the same request in its round, for whatever reason."""
    usage: Usage = field(default_factory=Usage)
    unmetered: int = 0
    """Replies whose usage is not known."""
    cost: float = 0.0
    """USD of the replies whose cost is known."""
    unpriced: int = 0
    """Replies whose cost is not known: with any, `cost` is a lower bound, and without others it is unknown."""
    finish_reasons: Mapping[str, int] = field(default_factory=dict)
    """The empty key counts replies that gave none."""
    models: Mapping[str, int] = field(default_factory=dict)
    """The empty key counts replies that named none."""
    latency: Latency | None = None
    first: float | None = None
    """Seconds since the epoch, when the first request was sent."""
    last: float | None = None
    """Seconds since the epoch, when the last outcome came."""
    first_token: Latency | None = None
    """From sending to the first token, of the replies that say it."""

    @property
    def requests(self) -> int:
        """Everything sent, each attempt counted."""
        return self.replies + self.faulted

    @property
    def faulted(self) -> int:
        return sum(self.faults.values())

    @property
    def known_cost(self) -> float | None:
        """USD; None where replies came and no cost of any is known."""
        return None if self.unpriced and self.unpriced == self.replies else self.cost

    @property
    def output_rate(self) -> float | None:
        """Output tokens per second, from the first request to the last outcome; None where no usage is known."""
        if self.first is None or self.last is None or self.unmetered == self.replies:
            return None
        # as exact as a report writes times, so that one that was read back says the same
        seconds = round(self.last, 6) - round(self.first, 6)
        return self.usage.output / seconds if seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Share:
    """What one model answered for one step; `model` is empty where the replies named none."""

    step: str
    model: str
    replies: int
    usage: Usage
    cost: float
    """USD of the replies whose cost is known."""
    unpriced: int
    first: float
    last: float
    """Seconds since the epoch: when its first request was sent, when its last reply came."""


def rank(share: float, count: int) -> int:
    """Position, from 0, of a percentile among `count` sorted values (nearest rank)."""
    return max(ceil(share * count) - 1, 0)


def latency_of(ordered: Iterable[float], count: int) -> Latency | None:
    """The percentiles of `count` values that come in ascending order, read once."""
    wanted = [rank(share, count) for share in (0.50, 0.95, 0.99)]
    if not count:
        return None
    found: dict[int, float] = {}
    for position, value in enumerate(ordered):
        if position in wanted:
            found[position] = value
            if position == wanted[-1]:
                break
    return Latency(*(found[position] for position in wanted))


def first_tokens(bodies: Iterable[bytes]) -> Latency | None:
    """The percentiles of what bodies say at their end: `"time_to_first_token": seconds`."""
    found = array("d", (seconds for seconds in map(_first_token, bodies) if seconds is not None))
    return latency_of(sorted(found), len(found))


def _first_token(body: bytes) -> float | None:
    # searched, not parsed: nothing else of the body is wanted, and within a text its quotes would be escaped
    _, said, rest = body.rpartition(FIRST_TOKEN)
    number = NUMBER.match(rest) if said else None
    return float(number[0]) if number else None


def traffic_of(outcomes: Sequence[Outcome]) -> Traffic:
    """The figures of outcomes that are all at hand; a ledger computes the same without reading bodies."""
    replies = [outcome for outcome in outcomes if isinstance(outcome, Replied)]
    metered = [reply.usage for reply in replies if reply.usage is not None]
    priced = [reply.cost for reply in replies if reply.cost is not None]
    return Traffic(
        replies=len(replies),
        faults=Counter(outcome.fault.kind for outcome in outcomes if not isinstance(outcome, Replied)),
        retries=sum(outcome.attempt > 1 for outcome in outcomes),
        usage=sum(metered, Usage()),
        unmetered=len(replies) - len(metered),
        cost=float(sum(priced)),
        unpriced=len(replies) - len(priced),
        finish_reasons=Counter(reply.finish_reason or "" for reply in replies),
        models=Counter(reply.model or "" for reply in replies),
        latency=latency_of(sorted(reply.latency for reply in replies), len(replies)),
        first=min((outcome.at - outcome.latency for outcome in outcomes), default=None),
        last=max((outcome.at for outcome in outcomes), default=None),
    )
