"""How the simulated model behaves; each field's description is also its command line option's help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

HEADER = "x-simulator-"


def _setting(default: Any, about: str) -> Any:
    return field(default=default, metadata={"description": about})


@dataclass(frozen=True, slots=True)
class Settings:
    """All shares are between 0 and 1, drawn per request content and try; together they are at most 1.

    A request may carry its own seed, latency, jitter, output_tokens, retry_after, shares: `x-simulator-latency: 0.2`,
    `x-simulator-share-500: 1` (the other shares are then 0). A batch may carry its own `batch_…` likewise, in the
    headers of the request that makes it or in its metadata. `x-simulator-fault: reset` asks for a certain fault (429,
    500, reset, stall, malformed, empty, invalid, length, filter), `x-simulator-fault-tries: 2` for so many tries only.
    """

    seed: int = _setting(0, "Answers and faults are drawn from it; equal seeds give equal answers.")
    latency: float = _setting(0.0, "Seconds before an answer.")
    jitter: float = _setting(0.0, "Up to so many seconds more, drawn per request.")
    output_tokens: int = _setting(60, "Tokens of a text answer, a quarter more or less (a token is 4 bytes).")
    vary: bool = _setting(False, "Answer an equal request differently each time it comes.")
    requests_per_minute: float | None = _setting(None, "Refuse what comes faster with 429.")
    tokens_per_minute: float | None = _setting(None, "Refuse with 429 what would use more tokens, in and out together.")
    burst_seconds: float = _setting(
        1.0, "How much of a limit an idle minute may save up: what is allowed in so many seconds."
    )
    retry_after: float | None = _setting(1.0, "Seconds that a drawn 429 asks to wait; none: it does not say.")
    share_429: float = _setting(0.0, "Share of requests answered 429.")
    share_500: float = _setting(0.0, "Share of requests answered 500.")
    share_reset: float = _setting(0.0, "Share of requests whose connection is reset.")
    share_stall: float = _setting(0.0, "Share of requests that are never answered.")
    share_malformed: float = _setting(0.0, "Share of answers whose JSON breaks off.")
    share_empty: float = _setting(0.0, "Share of answers with status 200 and no body.")
    share_invalid: float = _setting(0.0, "Share of answers that break the schema, choice or pattern asked for.")
    share_length: float = _setting(0.0, "Share of answers cut off with finish_reason 'length'.")
    share_filter: float = _setting(0.0, "Share of answers withheld with finish_reason 'content_filter'.")
    batch_seconds: float = _setting(0.0, "Seconds that a batch takes; 0: as fast as it can be worked off.")
    batch_expire: float | None = _setting(None, "A batch expires when this share of its requests is done.")
    batch_halt: float | None = _setting(None, "A batch stands still at this share of its requests; 0: it never moves.")
    batch_refuse: bool = _setting(False, "Batches fail because their file is refused as a whole.")
    batch_share_error: float = _setting(0.0, "Share of a batch's requests that end in an error of their own.")
    batch_share_missing: float = _setting(0.0, "Share of a batch's requests without any result.")
    batch_share_duplicate: float = _setting(0.0, "Share of a batch's results that are given twice.")
    batch_share_unknown: float = _setting(0.0, "Share of a batch's results beside which stands one of an unknown id.")
    batch_malformed: int = _setting(0, "So many results of a batch break off; not those of a request that came before.")
    batch_shuffle: bool = _setting(False, "The results of a batch come in another order than its requests.")
    batch_share_lost: float = _setting(0.0, "Share of submits whose connection is reset after the batch was made.")
    batch_list_lag: float = _setting(0.0, "Seconds before a file or a batch is seen in lists.")
    batch_first: int | None = _setting(None, "Only so many batches have the faults above, the first ones.")
    batch_queued_tokens: int | None = _setting(None, "Tokens that all batches under way may ask; one above it fails.")
    folder: str | None = _setting(None, "Where files and batches are kept for the next start; none: they are not.")
    remember: int = _setting(500_000, "How many request contents are told apart when counting repeated answers.")

    def __post_init__(self) -> None:
        for name in (*SHARES, *BATCH_SHARES, "batch_share_lost", "batch_expire", "batch_halt"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        if sum(getattr(self, name) for name in SHARES) > 1.000001:
            raise ValueError("the shares of the faults are more than 1 together")
        if sum(getattr(self, name) for name in BATCH_SHARES) > 1.000001:
            raise ValueError("the shares of what goes wrong in a batch are more than 1 together")
        for name in ("latency", "jitter", "burst_seconds", "batch_seconds", "batch_list_lag", "batch_malformed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative")
        for name in ("requests_per_minute", "tokens_per_minute"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} must be more than 0")

    def asked(self, headers: Mapping[str, str]) -> Settings:
        """These settings as the request's own headers want them. Raises `ValueError` naming the header."""
        wanted: dict[str, Any] = {}
        for header, text in headers.items():
            name = header.lower()
            if not name.startswith(HEADER) or name in OTHER_HEADERS:
                continue
            key = name[len(HEADER) :].replace("-", "_")
            if key not in PER_REQUEST:
                raise ValueError(f"the header '{header}' sets nothing; known are {', '.join(sorted(PER_REQUEST))}")
            try:
                wanted[key] = PER_REQUEST[key](text)
            except ValueError:
                raise ValueError(f"the header '{header}' has no usable value: '{text}'") from None
        if not wanted:
            return self
        if any(key in SHARES for key in wanted):
            wanted = dict.fromkeys(SHARES, 0.0) | wanted
        return replace(self, **wanted)


SHARES = tuple(each.name for each in fields(Settings) if each.name.startswith("share_"))
BATCH_SHARES = ("batch_share_error", "batch_share_missing", "batch_share_duplicate", "batch_share_unknown")
BATCH_FAULTS = (
    *BATCH_SHARES,
    "batch_expire",
    "batch_halt",
    "batch_refuse",
    "batch_malformed",
    "batch_shuffle",
    "batch_share_lost",
)
"""What `batch_first` takes away from later batches."""
OTHER_HEADERS = frozenset({HEADER + "fault", HEADER + "fault-tries"})


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")


PER_REQUEST: Mapping[str, Any] = {
    "seed": int,
    "latency": float,
    "jitter": float,
    "output_tokens": int,
    "retry_after": float,
    **dict.fromkeys(SHARES, float),
    **dict.fromkeys(BATCH_SHARES, float),
    "batch_seconds": float,
    "batch_expire": float,
    "batch_halt": float,
    "batch_refuse": _truth,
    "batch_malformed": int,
    "batch_shuffle": _truth,
    "batch_share_lost": float,
    "batch_list_lag": float,
}


def descriptions() -> dict[str, str]:
    """Setting → what it does, for a command's help."""
    return {each.name: each.metadata["description"] for each in fields(Settings)}
