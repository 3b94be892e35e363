"""Marks → rounds, runs and open work."""

from __future__ import annotations

from synth_cli.core.events import (
    Closed,
    Opened,
    Opening,
    Published,
    Publishing,
    Reserved,
    RoundClosed,
    RoundOpened,
    RunClosed,
    RunOpened,
    Sought,
)
from synth_cli.core.rounds import Pending, Rounds, Run, fold_marks

ROUND = RoundOpened(1, 0, 1.0)
RUN = RunOpened(1, 1, "runs/1", 1.0)


def test_before_anything_the_first_run_opens_the_first_round() -> None:
    """An empty ledger has no round, and names the first."""
    rounds = fold_marks([])
    assert (rounds, rounds.present_round, rounds.next_run, rounds.last_run) == (Rounds(), 1, 1, None)


def test_an_open_round_goes_on() -> None:
    """A run that ended unfinished leaves its round open: the next run belongs to it."""
    rounds = fold_marks([ROUND, RUN, RunClosed(1, 75, 2.0)])
    run = Run(1, 1, "runs/1", 1.0, False, 2.0, 75)
    assert (rounds, rounds.present_round, rounds.next_run, rounds.last_run) == (
        Rounds(1, 0, True, (run,)),
        1,
        2,
        run,
    )


def test_a_closed_round_is_followed_by_another() -> None:
    """After the end of a round the next run opens a new one, whose epoch may be new."""
    marks = [ROUND, RUN, RunClosed(1, 0, 2.0), RoundClosed(1, 2.0)]
    assert fold_marks(marks).present_round == 2
    rounds = fold_marks([*marks, RoundOpened(2, 1, 3.0)])
    assert (rounds.round, rounds.epoch, rounds.open, rounds.present_round) == (2, 1, True, 2)


def test_only_the_last_reservation_of_each_run_is_held() -> None:
    """What a run reserved counts until it says otherwise, for good if it died; the asking run's own does not."""
    rounds = fold_marks(
        [
            ROUND,
            RUN,
            Reserved(1, 5.0, 50),
            Reserved(1, 3.0, 30),
            RunOpened(2, 1, "runs/2", 2.0),
            Reserved(2, 7.0, 70),
            Reserved(2, 0.0, 0),
            RunOpened(3, 1, "runs/3", 3.0),
            Reserved(3, 1.0, 10),
        ]
    )
    assert [rounds.reserved(1), rounds.reserved(1, besides=3), rounds.reserved(2)] == [(4.0, 40), (3.0, 30), (0, 0)]


def test_a_publication_is_pending_until_it_is_done() -> None:
    """What was announced is to be rolled forward; what was done is remembered."""
    first, second = Publishing(1, {"a": "out"}, {"rows": 3}), Publishing(2, {"b": "out"}, {"rows": 4})
    done = fold_marks([first, Published(1)])
    again = fold_marks([first, Published(1), second])
    assert [(done.publishing, done.published), (again.publishing, again.published)] == [(None, first), (second, first)]


def test_work_elsewhere_is_pending_until_it_is_closed() -> None:
    """Announced, accepted, closed: what is not closed is to be looked after."""
    one, two, three = (Opening(key, "main", (b"a",), 1.0) for key in ("one", "two", "three"))
    opened = Opened("two", {"id": "b"}, 2.0)
    rounds = fold_marks([one, two, three, opened, Closed("three", "collected", 3.0)])
    assert rounds.pending == {"one": Pending(one), "two": Pending(two, opened)}


def test_when_it_was_first_sought_in_vain_is_kept() -> None:
    """Later searches change nothing: how long it has been missing counts from the first."""
    opening = Opening("one", "main", (), 1.0)
    rounds = fold_marks([opening, Sought("one", 5.0), Sought("one", 9.0), Sought("other", 9.0)])
    assert rounds.pending == {"one": Pending(opening, sought=5.0)}


def test_open_work_is_held_in_the_round_that_will_collect_it() -> None:
    """What it may cost counts in the latest round and in the next, until it is closed; in no earlier one."""
    marks = [ROUND, Opening("one", "main", (), 1.0, 2.0, 20), RoundClosed(1, 2.0), RoundOpened(2, 0, 3.0)]
    rounds = fold_marks([*marks, Opening("two", "main", (), 4.0, 0.5, 5)])
    done = fold_marks([*marks, Closed("one", "expired", 5.0)])
    assert [rounds.reserved(round) for round in (1, 2, 3)] == [(0, 0), (2.5, 25), (2.5, 25)]
    assert done.reserved(2) == (0, 0)
