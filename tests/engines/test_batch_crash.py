"""The crash contract of the batch engine: wherever the process dies, the next ones come to the undisturbed result, and
no request is paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from little_provider import (
    BAD_REQUEST,
    EXPIRED,
    PAID,
    PRICE,
    SERVER_ERROR,
    Client,
    Job,
    Provider,
    Remote,
    request,
    row_of,
    scripted,
)

from synth_cli.core.events import Fact
from synth_cli.core.ports import BatchLook
from synth_cli.core.request import Request
from synth_cli.engines.batch import BatchSettings
from synth_cli.stores.ledger import SqliteLedger

ROWS = 9
SCRIPT = {1: [SERVER_ERROR], 2: ["invalid"], 3: [None], 4: [BAD_REQUEST] * 9, 5: [None, SERVER_ERROR, "invalid"]}


class DeadError(BaseException):
    """The process is gone: nothing that catches errors may see it."""


def worst(request: Request) -> tuple[float, int]:
    return 2 * PAID, 100


@dataclass(frozen=True)
class Way:
    """A job to disturb, and the provider that it meets."""

    name: str
    provider: Callable[[], Provider]
    settings: BatchSettings = field(default_factory=lambda: BatchSettings("main", "job", price=PRICE, batch_size=4))
    more: tuple[tuple[str, Any], ...] = ()


def half_refused(remote: Remote) -> BatchLook | None:
    bad = [at for at, line in enumerate(remote.lines, 1) if row_of(line) == 6]
    return BatchLook("failed", True, "failed", refused={bad[0]: BAD_REQUEST}) if bad else None


PLAIN = BatchSettings("main", "job", price=PRICE, batch_size=4)
WAYS = [
    Way("plain", lambda: Provider(says=scripted(SCRIPT))),  # type: ignore[arg-type]
    Way(
        "expiring, a list that lags, files deleted",
        lambda: Provider(says=scripted({5: [EXPIRED], 6: [EXPIRED, EXPIRED]}), lag=100.0),
        replace(PLAIN, delete_successful=True, delete_failed=True),
    ),
    Way("a refused line, re-asks shown", lambda: Provider(ends=half_refused), PLAIN, (("feedback", True),)),
    Way("budgeted", Provider, PLAIN, (("worst", worst), ("budget", 2 * PAID * ROWS))),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


class Mortal(SqliteLedger):
    """Dies when so many facts are recorded; what was recorded before stays."""

    left = 10**9

    def append(self, facts: Sequence[Fact]) -> None:
        kept = facts[: self.left]
        if kept:
            super().append(kept)
        self.left -= len(kept)
        if not self.left:
            raise DeadError


@dataclass
class Fate:
    """Dies at the n-th boundary of a call: before or after it."""

    left: int = 10**9

    def __call__(self, call: str) -> None:
        self.left -= 1
        if not self.left:
            raise DeadError


def lived(way: Way, provider: Provider, folder: Path, *, facts: int = 10**9, calls: int = 10**9) -> tuple[int, int]:
    """A process that runs the job until its end, or to its own; how many facts and boundaries it had left."""
    fate = Fate(calls)
    with Mortal(folder / "ledger.sqlite") as ledger:
        # the machine lives on: what a process wrote is there without waiting for the disk
        ledger._connection.execute("PRAGMA synchronous = OFF")
        ledger.left = facts
        client = Client(provider, fate, fate)
        with suppress(DeadError):
            Job(provider, ledger, folder, ROWS, settings=way.settings, client=client, **dict(way.more)).run()
        return ledger.left, fate.left


@dataclass(frozen=True)
class Result:
    """What a job came to: each row's answer, how often each was run, and what was spent."""

    said: dict[int, str]
    ran: Counter[int]
    spent: tuple[float, int]
    attempts: dict[int, list[int]]


def result(way: Way, provider: Provider, folder: Path) -> Result:
    with SqliteLedger(folder / "ledger.sqlite", read_only=True) as ledger:
        assert ledger.standing().pending == {}
        attempts = {row: [fact.attempt for fact in ledger.attempts(request(row).id)] for row in range(ROWS)}
        said = Job(provider, ledger, folder, ROWS, settings=way.settings, **dict(way.more)).said()
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in attempts.values())
        if way.settings.delete_successful:
            assert provider.files == set()
        else:
            assert provider.files == {remote.key for remote in provider.batches}
        return Result(said, provider.ran, ledger.spent(1), attempts)


def undisturbed(way: Way, folder: Path) -> tuple[Result, int, int]:
    folder.mkdir()
    provider = way.provider()
    facts, calls = lived(way, provider, folder)
    return result(way, provider, folder), 10**9 - facts, 10**9 - calls


@every_way
def test_it_may_die_after_any_fact(way: Way, tmp_path: Path) -> None:
    """Run again it has the undisturbed answers, attempts and cost, and every request was paid as often as then."""
    expected, facts, _ = undisturbed(way, tmp_path / "calm")
    for stop in range(1, facts + 1):
        folder, provider = tmp_path / f"{stop}", way.provider()
        folder.mkdir()
        lived(way, provider, folder, facts=stop)
        lived(way, provider, folder)
        assert result(way, provider, folder) == expected, f"after {stop} facts"


@every_way
def test_it_may_die_before_and_after_any_call(way: Way, tmp_path: Path) -> None:
    """Between an upload and its batch, between a submit and its answer, between two results: the same."""
    expected, _, calls = undisturbed(way, tmp_path / "calm")
    for stop in range(1, calls + 1):
        folder, provider = tmp_path / f"{stop}", way.provider()
        folder.mkdir()
        lived(way, provider, folder, calls=stop)
        lived(way, provider, folder)
        assert result(way, provider, folder) == expected, f"at boundary {stop}"


@pytest.mark.parametrize("facts", [2, 5])
def test_it_may_die_again_and_again(facts: int, tmp_path: Path) -> None:
    """No process records more than a few facts; together they come to the undisturbed end."""
    expected, most, _ = undisturbed(WAYS[0], tmp_path / "calm")
    folder, provider = tmp_path / "job", WAYS[0].provider()
    folder.mkdir()
    for deaths in count():
        assert deaths < 2 * most
        left, _ = lived(WAYS[0], provider, folder, facts=facts)
        if left:
            break
    assert result(WAYS[0], provider, folder) == expected
