"""What a batch of requests is, whatever protocol it came by."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from synth_cli.simulator.asked import Asked, Refused, wrong
from synth_cli.simulator.model import Choice


class Stage(StrEnum):
    VALIDATING = "validating"
    RUNNING = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDED = frozenset({Stage.COMPLETED, Stage.FAILED, Stage.EXPIRED, Stage.CANCELLED})


@dataclass(slots=True)
class Batch:
    """`times` says when each stage began; all times are seconds since 1970 on the simulator's clock.

    `dropped` requests were never worked on: the batch expired or was cancelled before. `wanted` are settings of its
    own.
    """

    id: str
    dialect: str
    input: str
    endpoint: str
    model: str
    created: float
    deadline: float
    window: str = "24h"
    number: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """What only its protocol knows of it."""
    stage: Stage = Stage.VALIDATING
    times: dict[str, float] = field(default_factory=dict)
    total: int = 0
    worked: int = 0
    succeeded: int = 0
    errored: int = 0
    dropped: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    output: str | None = None
    errors: str | None = None
    stop: int | None = None
    """How far it had come when it was cancelled."""

    @property
    def ended(self) -> bool:
        return self.stage in ENDED


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch; `key` is the client's id."""

    key: str
    body: Mapping[str, Any]


class Problem(Exception):  # noqa: N818 - what is told about the file, not what went wrong here
    """Why a batch's file is refused."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one protocol writes requests and results. Lines end in a newline; `number` is the request's place.

    `line` raises `Problem`, `read` raises `Refused`. With `one_file` errors stand among the results.
    """

    name: str
    line: Callable[[Any, Batch], Line]
    read: Callable[[Line, Batch], Sequence[Asked]]
    answered: Callable[[str, Sequence[Asked], Sequence[Choice], int], bytes]
    refused: Callable[[str, Refused, int], bytes]
    dropped: Callable[[str, Stage, int], bytes]
    make_id: Callable[[], str]
    make_file: Callable[[], str]
    most: int
    one_file: bool = False
    shuffled: bool = False
    keeps_expired: bool = True
    """Whether what was done is there when a batch expires; where not, nothing is done then."""
    purpose: str = "batch_output"


def parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Problem("invalid_json_line", "This line is not parseable as valid JSON.") from None


def problem(code: str, message: str, *, param: str | None = None, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}


UNITS = {"m": 60, "h": 3600, "d": 86400}


def window_of(text: str) -> float:
    """Seconds of `24h`, `7d`. Raises `Refused`."""
    if text[:-1].isdigit() and text[-1:] in UNITS:
        return float(text[:-1]) * UNITS[text[-1]]
    raise wrong("completion_window", f"'{text}' is not a time such as '24h'")


def iso(moment: float) -> str:
    """RFC 3339, in microseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def token(length: int, alphabet: str = ALPHABET) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
