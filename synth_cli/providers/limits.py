"""Rate limits as responses state them in their headers, in each host's dialect.

OpenAI, Azure, xAI: https://platform.openai.com/docs/guides/rate-limits. Groq's request limit is per day. Anthropic:
https://docs.anthropic.com/en/api/rate-limits. Hosts whose windows are not documented are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

from synth_cli.core.ports import RateLimits

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Names of headers, empty where a host has none. `reset` says how it writes the time until they are full."""

    requests: str = ""
    tokens: str = ""
    input: str = ""
    output: str = ""
    remaining_requests: str = ""
    remaining_tokens: str = ""
    reset_requests: str = ""
    reset_tokens: str = ""
    reset: Literal["duration", "time"] = "duration"


_X = "x-ratelimit-"
_A = "anthropic-ratelimit-"
_OPENAI = Dialect(
    _X + "limit-requests",
    _X + "limit-tokens",
    remaining_requests=_X + "remaining-requests",
    remaining_tokens=_X + "remaining-tokens",
    reset_requests=_X + "reset-requests",
    reset_tokens=_X + "reset-tokens",
)
DIALECTS: Mapping[str, Dialect] = {
    "openai": _OPENAI,
    # Groq's requests are counted per day, so their limit says nothing about a minute
    "daily": Dialect(
        tokens=_OPENAI.tokens,
        remaining_requests=_OPENAI.remaining_requests,
        remaining_tokens=_OPENAI.remaining_tokens,
        reset_requests=_OPENAI.reset_requests,
        reset_tokens=_OPENAI.reset_tokens,
    ),
    "mistral": Dialect(
        _X + "limit-req-minute",
        _X + "limit-tokens-minute",
        remaining_requests=_X + "remaining-req-minute",
        remaining_tokens=_X + "remaining-tokens-minute",
    ),
    "cerebras": Dialect(
        tokens=_X + "limit-tokens-minute",
        remaining_requests=_X + "remaining-requests-day",
        remaining_tokens=_X + "remaining-tokens-minute",
        reset_requests=_X + "reset-requests-day",
        reset_tokens=_X + "reset-tokens-minute",
    ),
    "sambanova": Dialect(
        _X + "limit-requests",
        remaining_requests=_X + "remaining-requests",
        reset_requests=_X + "reset-requests",
        reset="time",
    ),
    "anthropic": Dialect(
        _A + "requests-limit",
        input=_A + "input-tokens-limit",
        output=_A + "output-tokens-limit",
        remaining_requests=_A + "requests-remaining",
        remaining_tokens=_A + "tokens-remaining",
        reset_requests=_A + "requests-reset",
        reset_tokens=_A + "tokens-reset",
        reset="time",
    ),
}


def read(headers: Mapping[str, str], dialect: Dialect | None, now: float) -> RateLimits | None:
    """What the headers say; None where they say nothing. `now` in seconds since the epoch, for times of day.

    Names are looked up in lower case.
    """
    if dialect is None:
        return None
    get = headers.get
    remaining_requests, remaining_tokens = get(dialect.remaining_requests), get(dialect.remaining_tokens)
    requests, tokens = get(dialect.requests), get(dialect.tokens)
    if remaining_requests is None and remaining_tokens is None and requests is None and tokens is None:
        return None
    reset_requests, reset_tokens = get(dialect.reset_requests), get(dialect.reset_tokens)
    by_duration = dialect.reset == "duration"
    return RateLimits(
        _number(requests),
        _number(tokens),
        _number(get(dialect.input)) if dialect.input else None,
        _number(get(dialect.output)) if dialect.output else None,
        _number(remaining_requests),
        _number(remaining_tokens),
        duration(reset_requests) if by_duration else _until(reset_requests, now),
        duration(reset_tokens) if by_duration else _until(reset_tokens, now),
    )


@lru_cache(4096)
def _number(text: str | None) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


@lru_cache(4096)
def duration(text: str | None) -> float | None:
    """Seconds of '1s', '6m0s', '20ms', '1h2m', or a plain number of seconds."""
    if not text or not text.strip():
        return None
    plain = _number(text)
    if plain is not None:
        return plain
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + millis / 1000


def _until(text: str | None, now: float) -> float | None:
    """Seconds until a time of day: RFC 3339, or seconds since the epoch."""
    if not text:
        return None
    epoch = _number(text)
    if epoch is not None:
        return max(0.0, epoch - now) if epoch > 1e9 else epoch
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, at.timestamp() - now) if at.tzinfo else None
