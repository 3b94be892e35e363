"""Facts ↔ the ledger's tables."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from synth_cli.core.events import (
    Closed,
    Fact,
    Faulted,
    Opened,
    Opening,
    Published,
    Publishing,
    Replied,
    Reserved,
    RoundClosed,
    RoundOpened,
    RunClosed,
    RunOpened,
    Sought,
)
from synth_cli.core.reply import Answer, Fault, FaultKind, Usage
from synth_cli.stores.ledger import SqliteLedger

ID = bytes(range(16))
OUTCOMES: list[Fact] = [
    Replied(ID, "main", 1, Answer("openai", b'{"a": "\xc3\xa9"}'), 1.5, 0.25),
    Replied(
        ID,
        "judge",
        3,
        Answer("litellm", b"\x00\xff"),
        1.7e9 + 0.123456,
        0.1,
        "gpt-5-mini",
        "stop",
        Usage(100, 20, 30, 4, 5),
        0.1 + 0.2,
        0.5,
        120,
        (
            {"role": "user", "content": [{"type": "text", "text": "schön 🙂"}]},
            {"role": "assistant", "content": None},
        ),
        "key-1",
    ),
    Replied(ID, "main", 1, Answer("openai", b""), 0.0, 0.0, usage=Usage(), cost=0.0, spent=0.0, messages=()),
    Faulted(ID, "main", 2, Fault(FaultKind.TIMEOUT, "no answer within 600 s"), 2.5),
    Faulted(
        ID,
        "main",
        2,
        Fault(FaultKind.RATE_LIMITED, "slow down", 429, 1.5),
        2.5,
        0.75,
        Answer("openai", b"<html>"),
        0.004,
        17,
        "key-1",
    ),
]
MARKS: list[Fact] = [
    RoundOpened(1, 2, 3.25),
    RoundClosed(1, 4.5),
    RunOpened(7, 1, "runs/7-20261121T100000Z", 5.5, simulated=True),
    RunClosed(7, 75, 6.5),
    Reserved(7, 0.1 + 0.2, 12_345_678_901),
    Publishing(7, {"/a/candidate.jsonl": "/b/out.jsonl"}, {"rows": 3, "simulated": False, "limit": None}),
    Published(7),
    Opening("key-1", "main", (), 7.5, 0.1 + 0.2, 500, {}, 2, 90, "openai https://example.org/v1"),
    Opened("key-1", {"batch": "b_1", "files": ["f_1"]}, 8.5),
    Sought("key-1", 8.75),
    Closed("key-1", "collected", 9.5),
]


def test_the_cases_cover_every_kind_of_fact() -> None:
    """Every kind of fact is among the cases, so that a new one cannot be forgotten."""
    assert {type(fact) for fact in OUTCOMES + MARKS} == set(get_args(Fact))


@pytest.mark.parametrize("fact", OUTCOMES, ids=lambda fact: type(fact).__name__)
def test_an_outcome_comes_back_as_it_was(fact: Replied | Faulted, tmp_path: Path) -> None:
    """An outcome read from the file equals the one that was appended."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append([fact])
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.attempts(ID) == (fact,)


def test_marks_come_back_as_they_were(tmp_path: Path) -> None:
    """Marks read from the file equal those that were appended, in order."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append(MARKS)
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        assert list(ledger.marks()) == MARKS


def test_what_an_opening_holds_is_kept_apart(tmp_path: Path) -> None:
    """Its ids and messages come back equal, when asked for."""
    messages = ({"role": "user", "content": "schön 🙂"}, {"role": "assistant", "content": None})
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append([Opening("key-1", "main", (ID[::-1], ID), 7.5, messages={ID.hex(): messages})])
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        assert (
            list(ledger.marks()),
            list(ledger.ids_in("key-1")),
            ledger.messages_in("key-1", [ID[::-1], ID]),
        ) == ([Opening("key-1", "main", (), 7.5)], [ID[::-1], ID], {ID: messages})
