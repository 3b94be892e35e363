from __future__ import annotations

from datetime import UTC, datetime

import pytest

from synth_cli.core.ports import RateLimits
from synth_cli.providers.hosts import HOSTS
from synth_cli.providers.limits import DIALECTS, duration, read

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
OPENAI = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-remaining-tokens": "199000",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-reset-tokens": "6m0s",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("2m", 120.0),
        ("7.66s", 7.66),
        ("12", 12.0),
        ("1m30s5ms", 90.005),
        ("", None),
        (" ", None),
        ("soon", None),
        ("nan", None),
        ("-1", None),
        (None, None),
    ],
)
def test_durations_are_read_as_servers_write_them(text: str | None, seconds: float | None) -> None:
    """Units, plain seconds, and None for what is neither."""
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("dialect", "headers", "said"),
    [
        ("openai", OPENAI, RateLimits(500, 200000, None, None, 499, 199000, 0.12, 360)),
        ("daily", OPENAI, RateLimits(None, 200000, None, None, 499, 199000, 0.12, 360)),
        ("openai", {"x-ratelimit-remaining-requests": "0"}, RateLimits(remaining_requests=0)),
        ("openai", {"x-ratelimit-limit-requests": "many", "x-ratelimit-limit-tokens": "9"}, RateLimits(None, 9)),
        ("openai", {"content-type": "application/json"}, None),
        (
            "anthropic",
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:12Z",
                "anthropic-ratelimit-input-tokens-limit": "30000",
                "anthropic-ratelimit-output-tokens-limit": "8000",
                "anthropic-ratelimit-tokens-remaining": "7",
                "anthropic-ratelimit-tokens-reset": "2025-12-31T23:59:00Z",
            },
            RateLimits(50, None, 30000, 8000, 0, 7, 12, 0),
        ),
        (
            "mistral",
            {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-tokens-minute": "5"},
            RateLimits(60, remaining_tokens=5),
        ),
        (
            "cerebras",
            {"x-ratelimit-limit-tokens-minute": "60000", "x-ratelimit-reset-tokens-minute": "11.5"},
            RateLimits(tokens_per_minute=60000, reset_tokens=11.5),
        ),
        (
            "sambanova",
            {"x-ratelimit-limit-requests": "30", "x-ratelimit-reset-requests": str(int(NOW) + 9)},
            RateLimits(30, reset_requests=9),
        ),
    ],
)
def test_headers_are_read_in_each_dialect(dialect: str, headers: dict[str, str], said: RateLimits | None) -> None:
    """What is said, in counts and seconds from now; what is not said or not a number is None."""
    assert read(headers, DIALECTS[dialect], NOW) == said


def test_a_host_without_known_headers_is_not_read() -> None:
    """Nothing is guessed from headers whose window is not documented."""
    assert read(OPENAI, DIALECTS.get("none"), NOW) is None
    assert {host.limits for host in HOSTS.values()} <= {*DIALECTS, "none"}
