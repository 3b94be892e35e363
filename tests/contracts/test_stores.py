"""What every ledger does, whatever keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from synth_cli.core.events import (
    Closed,
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
)
from synth_cli.core.figures import Latency, Traffic
from synth_cli.core.ports import Ledger
from synth_cli.core.reply import Answer, Fault, FaultKind, Usage
from synth_cli.core.rounds import Pending, Rounds, Run
from synth_cli.core.state import History
from synth_cli.stores import ledger as ledger_module
from synth_cli.stores.ledger import SqliteLedger
from synth_cli.stores.memory import MemoryLedger

AnyLedger: TypeAlias = SqliteLedger | MemoryLedger
A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))
LIKE_A = A[:8] + bytes(8)
"""Another request whose id begins as A's does."""
TIMEOUT = Fault(FaultKind.TIMEOUT, "no answer")
BUSY = Fault(FaultKind.RATE_LIMITED, "slow down", 429, 1.0)
REFUSED = Fault(FaultKind.BAD_REQUEST, "no such parameter", 400)


def replied(id: bytes, attempt: int = 1, *, at: float = 10.0, **fields: object) -> Replied:
    return Replied(id, "main", attempt, Answer("openai", b"{}"), at, 0.5, **fields)  # type: ignore[arg-type]


def faulted(id: bytes, fault: Fault, attempt: int = 1, *, at: float = 10.0, **fields: object) -> Faulted:
    return Faulted(id, "main", attempt, fault, at, 0.25, **fields)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite", "sqlite placing often"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], AnyLedger]]:
    """Makes empty ledgers; `placing often` looks requests up in the index, the other one in memory."""
    if request.param == "sqlite placing often":
        monkeypatch.setattr(ledger_module, "LATE", 2)
    made: list[AnyLedger] = []

    def one() -> AnyLedger:
        path = tmp_path / f"ledger-{len(made)}.sqlite"
        made.append(MemoryLedger() if request.param == "memory" else SqliteLedger(path))
        return made[-1]

    yield one
    for ledger in made:
        ledger.close()


@pytest.fixture
def ledger(make: Callable[[], AnyLedger]) -> AnyLedger:
    return make()


def test_it_is_a_ledger(ledger: AnyLedger) -> None:
    """It has the shape by which the rooms meet, and begins empty."""
    port: Ledger = ledger
    assert (dict(port.histories([A, B])), list(port.marks()), ledger.standing()) == ({}, [], Rounds())


def test_histories_are_folded_and_what_is_unknown_is_missing(ledger: AnyLedger) -> None:
    """Each request's facts come back in order, folded, however the groups were cut."""
    first, second, third = faulted(A, TIMEOUT), faulted(A, BUSY, 2), replied(A, 3)
    ledger.append([first, replied(B)])
    ledger.append([second])
    ledger.append([third])
    assert dict(ledger.histories([C, A, B, A])) == {
        A: History((third,), (first, second), None, attempts=2, tries=3, fresh=1),
        B: History((replied(B),), (), None, attempts=1, tries=1, fresh=1),
    }


def test_more_ids_than_a_query_holds(ledger: AnyLedger) -> None:
    """A look-up of many requests finds each, whether or not others were appended between."""
    ids = [number.to_bytes(16, "little") for number in range(1203)]
    ledger.append([replied(id) for id in ids])
    found = ledger.histories([*ids, C])
    assert {id: history.tries for id, history in found.items()} == dict.fromkeys(ids, 1)


def test_ids_that_begin_alike_are_told_apart(ledger: AnyLedger) -> None:
    """The whole id counts, not the part that an index may keep."""
    ledger.append([replied(LIKE_A), replied(LIKE_A, 2), faulted(A, TIMEOUT)])
    assert (list(ledger.histories([A])), ledger.attempts(A)) == ([A], (faulted(A, TIMEOUT),))


def test_attempts_count_within_the_round(ledger: AnyLedger) -> None:
    """A new round sees the replies of earlier ones and of their faults only those that would come again."""
    ledger.append([RoundOpened(1, 0, 1.0), RunOpened(1, 1, "runs/1", 1.0)])
    ledger.append([faulted(A, TIMEOUT), faulted(B, REFUSED), replied(C)])
    ledger.append([RunClosed(1, 1, 2.0), RoundClosed(1, 2.0), RoundOpened(2, 0, 3.0), RunOpened(2, 2, "runs/2", 3.0)])
    ledger.append([faulted(A, BUSY)])
    assert dict(ledger.histories([A, B, C])) == {
        A: History((), (faulted(A, BUSY),), None, attempts=0, tries=1),
        B: History(permanent=faulted(B, REFUSED)),
        C: History((replied(C),)),
    }


def test_rounds_and_runs_in_one_group_of_facts(ledger: AnyLedger) -> None:
    """Outcomes are filed under the round that was open where they stand in the group."""
    before, after = faulted(A, TIMEOUT), faulted(A, BUSY)
    ledger.append([RoundOpened(1, 0, 1.0), before, RoundOpened(2, 0, 2.0), after])
    assert dict(ledger.histories([A])) == {A: History((), (after,), None, attempts=0, tries=1)}


def test_a_round_can_be_taken_as_present(ledger: AnyLedger) -> None:
    """`begin` shows how things would stand in another round."""
    ledger.append([faulted(A, TIMEOUT)])
    ledger.begin(2)
    assert dict(ledger.histories([A])) == {A: History()}


def test_attempts_are_all_outcomes_in_order(ledger: AnyLedger) -> None:
    """All that ever came of a request, over rounds, for the list of failures."""
    ledger.append([faulted(A, TIMEOUT), replied(B), replied(A, 2)])
    ledger.begin(2)
    ledger.append([faulted(A, BUSY)])
    assert (ledger.attempts(A), ledger.attempts(C)) == ((faulted(A, TIMEOUT), replied(A, 2), faulted(A, BUSY)), ())


def test_marks_keep_their_order_among_outcomes(ledger: AnyLedger) -> None:
    """Facts that are about no request come back in the order in which they were appended."""
    marks = [RoundOpened(1, 0, 1.0), RunOpened(1, 1, "runs/1", 1.0), Reserved(1, 2.5, 100), Published(1)]
    ledger.append([marks[0], replied(A), marks[1]])
    ledger.append([marks[2], replied(B), marks[3]])
    assert list(ledger.marks()) == marks


def test_standing_is_what_the_marks_amount_to(ledger: AnyLedger) -> None:
    """Round, runs, unfinished publication and open work can be asked for."""
    opening = Opening("k", "main", (), 3.0)
    publishing = Publishing(1, {"a": "b"}, {"rows": 2})
    ledger.append([RoundOpened(1, 4, 1.0), RunOpened(1, 1, "runs/1", 1.0, True), opening, publishing])
    ledger.append([Opened("k", {"batch": "x"}, 4.0)])
    assert ledger.standing() == Rounds(
        1,
        4,
        True,
        (Run(1, 1, "runs/1", 1.0, True),),
        publishing,
        None,
        {"k": Pending(opening, Opened("k", {"batch": "x"}, 4.0))},
    )


def test_what_a_round_spent_includes_what_the_dead_held(ledger: AnyLedger) -> None:
    """Outcomes of the round count, and reservations of its other runs that were never settled."""
    ledger.append([RoundOpened(1, 0, 1.0), RunOpened(1, 1, "runs/1", 1.0), Reserved(1, 9.0, 900)])
    ledger.append([replied(A, spent=100.0, spent_tokens=5), Reserved(1, 0.0, 0), RunClosed(1, 1, 2.0)])
    ledger.append([RoundClosed(1, 2.0), RoundOpened(2, 0, 3.0), RunOpened(2, 2, "runs/2", 3.0), Reserved(2, 4.0, 40)])
    ledger.append([replied(B, spent=0.5, spent_tokens=7), faulted(C, TIMEOUT, spent=0.25, spent_tokens=2)])
    ledger.append([replied(C, 2), Reserved(2, 2.0, 20)])
    ledger.append([RunOpened(3, 2, "runs/3", 4.0), Reserved(3, 1.0, 10)])
    assert [ledger.spent(round) for round in (1, 2, 3)] == [(100.0, 5), (2.75, 29), (0.0, 0)]


def test_figures_of_a_run_a_round_and_a_step(ledger: AnyLedger) -> None:
    """Requests, tokens, cost, faults, finish reasons, models and latencies, for the scope that is asked for."""
    ledger.append([RoundOpened(1, 0, 1.0), RunOpened(1, 1, "runs/1", 1.0)])
    ledger.append([faulted(A, BUSY, at=11.0), faulted(B, TIMEOUT, at=12.0)])
    ledger.append([RunOpened(2, 1, "runs/2", 2.0)])
    ledger.append(
        [
            faulted(A, BUSY, 2, at=13.0),
            replied(A, 3, at=14.0, model="m", finish_reason="stop", usage=Usage(10, 5, 4, 3, 2), cost=0.5),
            replied(B, 2, at=15.0, model="m", finish_reason="length", usage=Usage(1, 1), cost=0.25),
            Replied(C, "judge", 1, Answer("openai", b""), 16.0, 2.0),
        ]
    )
    second = Traffic(
        replies=3,
        faults={FaultKind.RATE_LIMITED: 1},
        retries=3,
        usage=Usage(11, 6, 4, 3, 2),
        unmetered=1,
        cost=0.75,
        unpriced=1,
        finish_reasons={"stop": 1, "length": 1, "": 1},
        models={"m": 2, "": 1},
        latency=Latency(0.5, 2.0, 2.0),
        first=12.75,
        last=16.0,
    )
    judge = Traffic(
        replies=1,
        unmetered=1,
        unpriced=1,
        finish_reasons={"": 1},
        models={"": 1},
        latency=Latency(2.0, 2.0, 2.0),
        first=14.0,
        last=16.0,
    )
    whole = ledger.traffic(round=1)
    assert [
        ledger.traffic(run=2),
        ledger.traffic(run=2, step="judge"),
        (whole.requests, dict(whole.faults), whole.first),
        ledger.traffic(run=7),
    ] == [second, judge, (6, {FaultKind.RATE_LIMITED: 2, FaultKind.TIMEOUT: 1}, 10.75), Traffic()]


def test_ledgers_do_not_share(make: Callable[[], AnyLedger]) -> None:
    """Two jobs know nothing of each other."""
    one, other = make(), make()
    one.append([replied(A), RoundOpened(1, 0, 1.0)])
    assert (dict(other.histories([A])), list(other.marks())) == ({}, [])


def test_what_is_open_elsewhere_is_pending_until_it_is_closed(ledger: AnyLedger) -> None:
    """Requests of open batches are told from others, whatever was opened, closed or opened again between."""
    assert ledger.pending([A, B]) == set()
    ledger.append([Opening("one", "main", (A, B), 1.0)])
    assert ledger.pending([A, B, C, LIKE_A]) == {A, B}
    ledger.append([Opening("two", "main", (C,), 2.0), Opened("one", {}, 2.5)])
    assert ledger.pending([LIKE_A, C, A]) == {A, C}
    ledger.append([Closed("one", "expired", 3.0), Closed("one", "expired", 3.5), Closed("never", "absent", 3.5)])
    assert ledger.pending([A, B, C]) == {C}
    ledger.append([Closed("two", "collected", 4.0), Opening("three", "main", (B,), 5.0)])
    assert ledger.pending([A, B, C]) == {B}


def test_thousands_of_pending_requests_are_told_apart(ledger: AnyLedger) -> None:
    """Many batches of many requests, opened one after the other, hold exactly theirs."""
    ids = [number.to_bytes(8, "little") * 2 for number in range(6000)]
    for batch in range(5):
        ledger.append([Opening(f"{batch}", "main", tuple(ids[batch * 1000 : (batch + 1) * 1000]), 1.0)])
        assert ledger.pending(ids) == set(ids[: (batch + 1) * 1000])
    ledger.append([Closed("2", "collected", 2.0)])
    assert ledger.pending(ids) == {*ids[:2000], *ids[3000:5000]}


def test_what_an_opening_holds(ledger: AnyLedger) -> None:
    """Its ids come back in order, and the messages that it sends for some of them; an unknown one holds nothing."""
    messages = {A.hex(): ({"role": "user", "content": "again"},)}
    ledger.append([Opening("k", "main", (C, A, B), 3.0, messages=messages), Opening("other", "main", (C,), 3.0)])
    assert (
        list(ledger.ids_in("k")),
        ledger.messages_in("k", [B, A, LIKE_A]),
        list(ledger.ids_in("never")),
        ledger.messages_in("never", [A]),
    ) == ([C, A, B], {A: messages[A.hex()]}, [], {})


def test_which_outcomes_came_in_a_batch(ledger: AnyLedger) -> None:
    """Replies and faults of that batch count, those of others and of no batch do not."""
    ledger.append([replied(A, batch="k"), faulted(B, TIMEOUT, batch="k"), replied(C, batch="other")])
    ledger.append([replied(A, 2, batch="other"), replied(LIKE_A)])
    assert (
        ledger.outcomes_in("k", [A, B, C, LIKE_A]),
        ledger.outcomes_in("other", [A, B, C, LIKE_A]),
        ledger.outcomes_in("k", [B, LIKE_A]),
    ) == ({A, B}, {A, C}, {B})


def test_what_a_round_spent_includes_what_is_open(ledger: AnyLedger) -> None:
    """An open batch holds its worst case until it is closed; then only what its outcomes used counts."""
    ledger.append([RoundOpened(1, 0, 1.0), RunOpened(1, 1, "runs/1", 1.0), Opening("k", "main", (A, B), 2.0, 4.0, 40)])
    assert ledger.spent(1) == (4.0, 40)
    ledger.append([replied(A, spent=0.5, spent_tokens=7, batch="k")])
    ledger.append([faulted(B, TIMEOUT, spent=0.25, spent_tokens=2, batch="k"), Closed("k", "collected", 3.0)])
    assert ledger.spent(1) == (0.75, 9)
