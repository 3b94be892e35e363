"""How fast requests may leave: buckets of requests and tokens per minute, given by the user or learnt from headers.

A bucket is charged when a request leaves and may fall into debt by that one request; the next leaves once the debt is
paid back at the allowed rate. So nothing has to be held back for its size, and nothing waits for ever. All times are
seconds of one monotonic clock, handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from synth_cli.core.ports import RateLimits
from synth_cli.core.reply import Fault, FaultKind, Usage
from synth_cli.core.request import Request

USED: Final = 0.98
"""Share of a limit that is used: leaves room for the jitter between our clock and the server's."""
BURST: Final = 0.25
"""Seconds of idle time that may be caught up with at once: covers late timers, too little for a short window."""
BYTES_PER_TOKEN: Final = 4
IMAGE_TOKENS: Final = 1_000
"""For a part that is not text; its base64 form says nothing about its tokens."""
FIRST_OUTPUT: Final = 256.0
"""Output tokens assumed until an answer came, where `max_tokens` does not say less."""
FASTER: Final = 1.1
"""By which a pace that was found out is raised while the server refuses hardly anything."""
SLOWER: Final = 0.95
"""By which it is lowered while the server refuses some, but never below what was found."""
MEMORY: Final = 0.05
"""Weight of the latest answer in the running mean of output tokens."""
NO_MORE = "the provider allows no more"
LONGEST_PAUSE: Final = 60.0
"""Seconds; after them a few requests find out how things stand."""
UNSAID_PAUSE: Final = 1.0
"""Seconds, where nothing remains and the server refills steadily or does not say when."""

Kind: TypeAlias = Literal["requests", "tokens", "input tokens", "output tokens"]
Source: TypeAlias = Literal["spec", "provider", "found"]
"""Where a limit comes from: the user, response headers, or what a server let through that refused the rest."""

WHO: Final[Mapping[Source, str]] = {
    "spec": "paced",
    "provider": "paced by the provider",
    "found": "slowed because the provider refuses more",
}


@dataclass(frozen=True, slots=True)
class PaceSettings:
    """What the user fixed; None is learnt or adapted. `ceiling` is the most that this machine can hold open."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Input and output together."""
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    max_concurrent: int | None = None
    seconds_to_pause: float = 10.0
    """For a 429 without a Retry-After."""
    ceiling: int = 1024


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens charged when a request left, settled by its real usage."""

    input: float = 0.0
    output: float = 0.0


NOTHING = Estimate()


class Bucket:
    """One limit. `ready` is when the next request may leave, as far as this limit goes."""

    __slots__ = ("_at", "_level", "kind", "per_minute", "ready", "source")

    def __init__(self, kind: Kind, per_minute: float, source: Source, now: float) -> None:
        self.kind: Final = kind
        self.per_minute = per_minute
        self.source: Final = source
        self._level = 0.0
        self._at = now
        self.ready = now

    @property
    def rate(self) -> float:
        """Per second."""
        return self.per_minute * USED / 60

    def charge(self, amount: float, now: float) -> None:
        """Takes `amount` (gives it back where it is negative)."""
        rate = self.per_minute * USED / 60
        level = self._level + (now - self._at) * rate
        if level > rate * BURST:
            # what was given back may be used at once; what time brings is kept for a moment only
            level = max(self._level, rate * BURST)
        self._level = level - amount
        self._at = now
        self.ready = now - self._level / rate

    def allow(self, per_minute: float, now: float) -> None:
        """The limit is another one now; debts stay."""
        self.charge(0.0, now)
        self.per_minute = per_minute
        self.charge(0.0, now)


class Pacer:
    """All limits of one endpoint. Charged by `leave`, corrected by `settle`, taught by `learn`."""

    def __init__(self, settings: PaceSettings, now: float) -> None:
        self._fixed: dict[Kind, float | None] = {
            "requests": settings.requests_per_minute,
            "tokens": settings.tokens_per_minute,
            "input tokens": settings.input_tokens_per_minute,
            "output tokens": settings.output_tokens_per_minute,
        }
        self._buckets: dict[Kind, Bucket] = {
            kind: Bucket(kind, limit, "spec", now) for kind, limit in self._fixed.items() if limit is not None
        }
        self._found: Bucket | None = None
        self._found_at_least = 0.0
        self._ordered = tuple(self._buckets.values())
        self._counts_tokens = any(bucket.kind != "requests" for bucket in self._ordered)
        self._paused_until = now
        self._why = NO_MORE
        self._mean_output: float | None = None
        self._windowed = False
        self._known: RateLimits | None = None

    def ready(self, now: float) -> float:
        """When the next request may leave; not later than `now` means at once."""
        due = self._paused_until
        for bucket in self._ordered:
            due = max(due, bucket.ready)
        return due

    def estimate(self, request: Request) -> Estimate:
        """The tokens that `request` will probably use; zeros where no limit counts tokens."""
        if not self._counts_tokens:
            return NOTHING
        return Estimate(input_tokens(request), self._output(request))

    def refusal(self, estimate: Estimate) -> Fault | None:
        """Why a request of this size could never leave, if so: it alone is above a whole minute's limit."""
        for bucket in self._ordered:
            needed = amount(bucket.kind, estimate.input, estimate.output)
            if needed > bucket.per_minute and bucket.kind != "requests":
                return Fault(FaultKind.TOO_LARGE, too_large(bucket, needed))
        return None

    def leave(self, estimate: Estimate, now: float) -> None:
        """A request leaves."""
        for bucket in self._ordered:
            bucket.charge(amount(bucket.kind, estimate.input, estimate.output), now)

    def settle(self, estimate: Estimate, usage: Usage | None, now: float) -> None:
        """An answer came. Without a usage the estimate stays charged: the server may have counted it."""
        if usage is None:
            return
        mean = self._mean_output
        self._mean_output = usage.output if mean is None else mean + MEMORY * (usage.output - mean)
        if not self._counts_tokens or estimate is NOTHING:
            return
        more_input, more_output = usage.input - estimate.input, usage.output - estimate.output
        for bucket in self._ordered:
            if bucket.kind != "requests":
                bucket.charge(amount(bucket.kind, more_input, more_output), now)

    def pause(self, seconds: float, now: float, why: str = NO_MORE) -> None:
        """Nothing leaves for `seconds` (at most a minute); `why` is for people."""
        self._paused_until = max(self._paused_until, now + min(seconds, LONGEST_PAUSE))
        self._why = why

    def learn(self, said: RateLimits, sent: float, now: float) -> None:
        """Takes up what an answer's headers say, where the user did not say it; none left means a pause.

        Only answers to requests sent (at `sent`) after the latest pause began can pause again: the others say the
        same thing once more.
        """
        known = self._known
        if known is None or (
            said.requests_per_minute != known.requests_per_minute
            or said.tokens_per_minute != known.tokens_per_minute
            or said.input_tokens_per_minute != known.input_tokens_per_minute
            or said.output_tokens_per_minute != known.output_tokens_per_minute
        ):
            self._known = said
            self._take_up("requests", said.requests_per_minute, now)
            self._take_up("tokens", said.tokens_per_minute, now)
            self._take_up("input tokens", said.input_tokens_per_minute, now)
            self._take_up("output tokens", said.output_tokens_per_minute, now)
        wait = max(
            self._exhausted(said.requests_per_minute, said.remaining_requests, said.reset_requests),
            self._exhausted(
                said.tokens_per_minute or said.input_tokens_per_minute, said.remaining_tokens, said.reset_tokens
            ),
        )
        if wait > 0 and sent >= self._paused_until:
            self.pause(wait, now)

    def find(self, per_minute: float, now: float) -> None:
        """The server refuses most requests and says no limit that explains it: so many a minute it let through."""
        self._found = Bucket("requests", per_minute, "found", now)
        self._found_at_least = per_minute
        self._order()

    @property
    def found(self) -> float:
        """Requests a minute that were found out and are kept to; 0 where there is no such pace."""
        return self._found_at_least if self._found is not None else 0.0

    def forget(self) -> None:
        """The pace that was found is no use."""
        self._found = None
        self._order()

    def probe(self, now: float) -> None:
        """It refuses hardly anything: a pace that was found is raised, and forgotten when nothing waits for it."""
        found = self._found
        if found is None:
            return
        if found.ready < now - 1:
            self.forget()
        else:
            found.allow(found.per_minute * FASTER, now)

    def ease(self, now: float) -> None:
        """It refuses some: a pace that was found is lowered a little."""
        if self._found is not None:
            self._found.allow(max(self._found_at_least, self._found.per_minute * SLOWER), now)

    def _order(self) -> None:
        buckets = self._buckets.values()
        self._ordered = (*buckets, self._found) if self._found is not None else tuple(buckets)

    def note(self, now: float) -> str:
        """What holds requests back now, in a few words."""
        if self._paused_until > now:
            return f"paused for {self._paused_until - now:.0f} s: {self._why}"
        late = max(self._ordered, key=lambda bucket: bucket.ready, default=None)
        if late is None or late.ready <= now:
            return ""
        return f"{WHO[late.source]}: {late.per_minute:,.0f} {late.kind}/min"

    def _output(self, request: Request) -> float:
        mean = FIRST_OUTPUT if self._mean_output is None else self._mean_output
        params = request.terms.params
        most = params.get("max_tokens") or params.get("max_completion_tokens")
        return min(mean, most) if isinstance(most, int | float) else mean

    def _take_up(self, kind: Kind, per_minute: float | None, now: float) -> None:
        if per_minute is None or per_minute <= 0 or self._fixed[kind] is not None:
            return
        bucket = self._buckets.get(kind)
        if bucket is not None:
            bucket.allow(per_minute, now)
            return
        self._buckets[kind] = Bucket(kind, per_minute, "provider", now)
        self._order()
        self._counts_tokens = self._counts_tokens or kind != "requests"

    def _exhausted(self, limit: float | None, remaining: float | None, reset: float | None) -> float:
        """Seconds to wait because of what remains: 0 while something does."""
        if remaining is None:
            return 0.0
        if limit and reset is not None:
            # a server that refills steadily is full again after the time that its missing share takes; one that
            # counts in fixed windows names the window's end, whatever was used
            refill = (limit - remaining) / limit * 60
            self._windowed = self._windowed or reset > refill * 1.3 + 2
        if remaining > 0:
            return 0.0
        if reset is None:
            return UNSAID_PAUSE
        return min(reset, UNSAID_PAUSE) if limit and not self._windowed else reset


def amount(kind: Kind, input_count: float, output_count: float) -> float:
    """What a request takes from a bucket of this kind."""
    if kind == "requests":
        return 1.0
    if kind == "tokens":
        return input_count + output_count
    return input_count if kind == "input tokens" else output_count


def input_tokens(request: Request) -> float:
    """UTF-8 bytes of all text / 4, and a constant for each image or file."""
    size = others = 0
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            size += _bytes(content)
        elif isinstance(content, list | tuple):
            for part in content:
                text = _text(part)
                size += _bytes(text)
                others += not text
    if request.prompt is not None:
        size += _bytes(request.prompt)
    return size / BYTES_PER_TOKEN + others * IMAGE_TOKENS


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def too_large(bucket: Bucket, needed: float) -> str:
    what = f"the request needs about {needed:,.0f} {bucket.kind}"
    if bucket.source == "provider":
        return f"{what}, but the provider allows {bucket.per_minute:,.0f} a minute; shorten the prompt or max_tokens"
    key = f"max_{bucket.kind.replace(' ', '_')}_per_minute"
    return f"{what}, but {key} is {bucket.per_minute:,.0f}; raise it, or shorten the prompt or max_tokens"
