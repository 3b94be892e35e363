"""Why rows failed, in classes short enough for a table. Pure; memory does not grow with the number of failures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.state import Invalid

MOST = 1000
"""Different causes told apart; what comes after counts as `OTHER`."""
OTHER = "other causes"
CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
"""A provider's words may hold what would steer a terminal."""
EXAMPLE = 300
"""Characters kept of an example's words."""

FAULTS: Mapping[FaultKind, str] = {
    FaultKind.RATE_LIMITED: "rate limited",
    FaultKind.OVERLOADED: "provider overloaded",
    FaultKind.TIMEOUT: "timed out",
    FaultKind.CONNECTION: "connection broken",
    FaultKind.UNREACHABLE: "server not reached",
    FaultKind.SERVER_ERROR: "server error",
    FaultKind.MALFORMED: "unreadable response",
    FaultKind.MISSING: "no result came",
    FaultKind.CANCELLED: "batch cancelled",
    FaultKind.LOST: "worker lost",
    FaultKind.BAD_REQUEST: "request refused",
    FaultKind.CONTEXT_LENGTH: "too long for the model",
    FaultKind.TOO_LARGE: "request too large",
    FaultKind.CONTENT_FILTER: "content filter",
    FaultKind.TEMPLATE: "template or expression failed",
    FaultKind.CREDENTIALS: "key refused",
    FaultKind.QUOTA: "quota or credit used up",
    FaultKind.UNKNOWN_MODEL: "unknown model",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """`what` is the class, `detail` what is common to its members (a field's path, a status), `example` one's words."""

    what: str
    count: int
    detail: str = ""
    example: str = ""


class Causes:
    """Counts failures as they come."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], str] = {}

    def add(self, cause: Fault | Invalid) -> None:
        key = (what(cause), detail(cause))
        if key not in self._counts:
            if len(self._counts) >= MOST:
                key = (OTHER, "")
            self._examples.setdefault(key, words(cause))
        self._counts[key] = self._counts.get(key, 0) + 1

    def ranked(self) -> tuple[Cause, ...]:
        """Commonest first; equally common ones by name."""
        causes = (Cause(key[0], count, key[1], self._examples[key]) for key, count in self._counts.items())
        return tuple(sorted(causes, key=lambda cause: (-cause.count, cause.what, cause.detail)))


class Drops:
    """Counts the output rows that their format has no room for, as they come."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, int] = {}

    @property
    def total(self) -> int:
        return sum(self._counts.values())

    def add(self, reason: str, index: int) -> None:
        """`index` is the input row's."""
        if reason not in self._counts and len(self._counts) >= MOST:
            reason = OTHER
        self._counts[reason] = self._counts.get(reason, 0) + 1
        self._first.setdefault(reason, index)

    def ranked(self) -> tuple[Cause, ...]:
        """Commonest first; equally common ones by name."""
        causes = (Cause(why, count, "", f"row {self._first[why]}") for why, count in self._counts.items())
        return tuple(sorted(causes, key=lambda cause: (-cause.count, cause.what)))


def what(cause: Fault | Invalid) -> str:
    """The class of a cause, as a table shows it."""
    if isinstance(cause, Fault):
        return FAULTS[cause.kind]
    match cause.kind:
        case "finish reason":
            return "answer cut off or withheld"
        case "refusal":
            return "model refused"
        case "schema":
            return "answer does not fit the schema"
        case "choice":
            return "answer is none of the choices"
        case "regex":
            return "answer does not match the regex"
        case "grammar":
            return "answer does not follow the grammar"
        case "check":
            return "check not passed"
        case "empty":
            return "empty answer"
    assert_never(cause.kind)


def detail(cause: Fault | Invalid) -> str:
    """What tells causes of one class apart that people would tell apart; never a row's own data."""
    if isinstance(cause, Fault):
        return "" if cause.status is None else f"HTTP {cause.status}"
    return ""


def words(cause: Fault | Invalid) -> str:
    """The cause's own words on one line."""
    said = CONTROL.sub(" ", cause.message if isinstance(cause, Fault) else cause.reason).strip()
    return said if len(said) <= EXAMPLE else said[: EXAMPLE - 1] + "…"
