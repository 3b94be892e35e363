"""The batch engine against a little provider in memory that goes wrong in all the ways that real ones do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from little_provider import (
    BAD_REQUEST,
    BROKEN_OFF,
    BUSY,
    EXPIRED,
    PAID,
    PRICE,
    SERVER_ERROR,
    TERMS,
    USAGE,
    Job,
    Provider,
    Remote,
    answered,
    read,
    request,
    row_of,
    scripted,
)

from synth_cli.core.events import Closed, Faulted, Opened, Opening, Replied, Sought
from synth_cli.core.ports import BatchLimits, BatchLook, BatchResult, BatchStanding, Engine, Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.core.request import Request
from synth_cli.core.shift import Ending
from synth_cli.engines.batch import BatchSettings
from synth_cli.engines.batches.common import CHUNK
from synth_cli.engines.recording import GroupRecord
from synth_cli.stores.ledger import SqliteLedger

SETTINGS = BatchSettings("main", "job", price=PRICE)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def closed(ledger: SqliteLedger) -> list[str]:
    return [mark.outcome for mark in ledger.marks() if isinstance(mark, Closed)]


def empty(folder: Path) -> bool:
    """Nothing of the batches' files is left."""
    return not list(folder.glob("*.jsonl"))


def test_it_is_an_engine(ledger: SqliteLedger, tmp_path: Path) -> None:
    """It has the shape by which the rooms meet."""
    engine: Engine = Job(Provider(), ledger, tmp_path).engine
    assert engine is not None


def test_a_job_goes_through_batches(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Packed, announced, submitted, looked at, collected: one answer a row, paid once, each step on record."""
    provider = Provider()
    job = Job(provider, ledger, tmp_path, settings=replace(SETTINGS, batch_size=4))
    ticks = [job.tick() for _ in range(3)]
    assert (ticks, job.said(), provider.ran) == ([False, False, True], answered(10), Counter(range(10)))
    assert provider.uploads == [(4, 384), (4, 384), (2, 192)]
    keys = [remote.key for remote in provider.batches]
    assert all(key.startswith("synth-job-") for key in keys)
    assert list(ledger.marks()) == [
        *(
            mark
            for number, (key, size) in enumerate(zip(keys, (4, 4, 2), strict=True))
            for mark in (
                Opening(key, "main", (), 1000.0, requests=size),
                Opened(key, {"batch": f"batch-{number}"}, 1000.0),
            )
        ),
        *(Closed(key, "collected", 1120.0) for key in keys),
    ]
    assert ledger.attempts(request(5).id) == (
        Replied(
            request(5).id,
            "main",
            1,
            Answer("little", b"answer 5"),
            1120.0,
            120.0,
            "m",
            "stop",
            USAGE,
            PAID,
            PAID,
            15,
            batch=keys[1],
        ),
    )
    assert empty(tmp_path)


def test_what_is_in_a_batch_is_not_asked_again(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Rows that are added while a batch is open make a batch of their own."""
    provider = Provider(looks=3)
    Job(provider, ledger, tmp_path, rows=4).tick()
    job = Job(provider, ledger, tmp_path, rows=9)
    job.run()
    assert (job.said(), provider.ran, [size for size, _ in provider.uploads]) == (
        answered(9),
        Counter(range(9)),
        [4, 5],
    )


def test_the_batches_are_shown(ledger: SqliteLedger, tmp_path: Path) -> None:
    """State, age, what is done and what it cost, while it is open and when it has ended."""
    provider = Provider(says=scripted({1: [SERVER_ERROR]}))
    job = Job(provider, ledger, tmp_path, rows=4)
    seen = []
    for _ in range(3):
        job.tick()
        seen.append(job.engine.batches[0])
    key = provider.batches[0].key
    opened = BatchStanding(key, "submitted", total=4, opened_at=1000.0, at=1000.0)
    assert seen == [
        opened,
        replace(opened, state="in_progress", done=0, failed=0),
        replace(opened, state="completed", done=None, failed=None, collected=4, cost=3 * PAID, outcome="collected"),
    ]
    assert (job.engine.collected.replies, job.engine.collected.faults, job.engine.outstanding) == (3, 1, 1)


def test_a_survey_changes_nothing(ledger: SqliteLedger, tmp_path: Path) -> None:
    """How the batches stand can be asked by anyone, and is only looked at."""
    provider = Provider(looks=5)
    Job(provider, ledger, tmp_path, rows=4).tick()
    marks = list(ledger.marks())
    (standing,) = asyncio.run(Job(provider, ledger, tmp_path, rows=4).engine.survey())
    assert (standing.state, standing.total, provider.calls[-1], list(ledger.marks())) == (
        "in_progress",
        4,
        "look",
        marks,
    )


def test_faults_that_may_go_away_are_packed_again(ledger: SqliteLedger, tmp_path: Path) -> None:
    """A line's own error, an answer that is invalid and a line that is missing each take another attempt; a refusal
    is final, and a hopeless row fails when its attempts are used up."""
    script = {1: [SERVER_ERROR], 2: ["invalid"], 3: [None], 4: [BAD_REQUEST] * 9, 5: [SERVER_ERROR, None, "invalid"]}
    provider = Provider(says=scripted(script))  # type: ignore[arg-type]
    job = Job(provider, ledger, tmp_path, rows=7)
    job.run()
    assert job.said() == answered(7) | {4: "bad request: not this one", 5: "schema: no title"}
    assert provider.ran == Counter({0: 1, 1: 2, 2: 2, 3: 2, 4: 1, 5: 3, 6: 1})
    assert [(type(fact), fact.attempt) for fact in ledger.attempts(request(5).id)] == [
        (Faulted, 1),
        (Faulted, 2),
        (Replied, 3),
    ]


def test_an_expired_batch_keeps_what_was_finished(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Its answers count, the other rows are told that they were not charged and are asked again."""
    provider = Provider(says=scripted({row: [EXPIRED] for row in range(5, 10)}))
    job = Job(provider, ledger, tmp_path)
    job.run()
    assert (job.said(), provider.ran, closed(ledger)) == (answered(10), Counter(range(10)), ["expired", "collected"])
    (first, _) = ledger.attempts(request(9).id)
    assert isinstance(first, Faulted)
    assert (first.fault.kind, first.spent, "not charged" in first.fault.message) == (FaultKind.MISSING, 0.0, True)


def test_unknown_doubled_and_broken_ids_change_nothing(ledger: SqliteLedger, tmp_path: Path) -> None:
    """The first result of an id counts; those of no request of this batch are left out and noted."""
    other = Answer("little", b"another")
    strange = [
        BatchResult(custom_id, Exchange(read(other), other))
        for custom_id in ("", "no hex", "00", "ab" * 16, request(77).id.hex())
    ]
    twice = [BatchResult(request(3).id.hex(), Exchange(read(answer), answer)) for answer in (other, other)]
    provider = Provider(extra=[*strange, *twice])
    job = Job(provider, ledger, tmp_path, rows=5)
    job.run()
    assert job.said() == answered(5) | {3: "another"}
    assert (ledger.histories([request(77).id]), ledger.traffic().replies) == ({}, 5)
    assert any("5 results of requests that it does not have; 2 results that came again" in line for line in job.log)


def test_a_submit_that_came_through_unheard_is_found(ledger: SqliteLedger, tmp_path: Path) -> None:
    """It is looked for before anything is sent again, and paid once, though the list lags behind."""
    provider = Provider(lag=90.0, trouble=[("submit", BROKEN_OFF, True)])
    job = Job(provider, ledger, tmp_path)
    job.run()
    assert (job.said(), provider.ran, len(provider.batches)) == (answered(10), Counter(range(10)), 1)
    assert [type(mark) for mark in ledger.marks()] == [Opening, Sought, Opened, Closed]


def test_a_submit_that_never_came_through_is_sent_again(ledger: SqliteLedger, tmp_path: Path) -> None:
    """After it was missing for long enough, and what it uploaded is gone."""
    provider = Provider(trouble=[("submit", BROKEN_OFF, False)])
    job = Job(provider, ledger, tmp_path)
    job.run()
    assert (job.said(), provider.ran) == (answered(10), Counter(range(10)))
    assert closed(ledger) == ["absent", "collected"]
    assert provider.files == {provider.batches[0].key}
    assert [type(mark) for mark in ledger.marks()][:3] == [Opening, Sought, Closed]


def test_a_refused_submit_is_known_not_to_have_come_through(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Too many requests at once: nothing is looked for, no attempt is used up, and the next advance tries again."""
    provider = Provider(trouble=[("submit", BUSY, False)])
    job = Job(provider, ledger, tmp_path, retries=0)
    job.run()
    assert (job.said(), closed(ledger), "find" in provider.calls) == (answered(10), ["absent", "collected"], False)


def test_a_file_that_is_refused_is_tried_in_parts_and_not_for_ever(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Each refusal counts for every request in the file, smaller files find out which one it is."""
    too_large = Fault(FaultKind.TOO_LARGE, "the file is too large", 413)
    provider = Provider(trouble=[("submit", too_large, False)] * 2)
    job = Job(provider, ledger, tmp_path, rows=8)
    job.run()
    assert (job.said(), provider.ran) == (answered(8), Counter(range(8)))
    assert [size for size, _ in provider.uploads] == [2, 2, 2, 2]
    hopeless = Provider(trouble=[("submit", too_large, False)] * 99)
    with SqliteLedger(tmp_path / "other.sqlite") as other:
        job = Job(hopeless, other, tmp_path, rows=8)
        job.run()
        refused = "no result: the provider refused the batch: the file is too large"
        assert set(job.said().values()) <= {refused, "too large: the file is too large"}


def test_a_batch_that_fails_for_some_of_its_lines_goes_without_them(ledger: SqliteLedger, tmp_path: Path) -> None:
    """The lines named are refused for good, the others lose no attempt."""

    def ends(remote: Remote) -> BatchLook | None:
        bad = [at for at, line in enumerate(remote.lines, 1) if row_of(line) in (3, 6)]
        return BatchLook("failed", True, "failed", refused=dict.fromkeys(bad[:1], BAD_REQUEST)) if bad else None

    provider = Provider(ends=ends)
    job = Job(provider, ledger, tmp_path, retries=0)
    job.run()
    refused = "bad request: not this one"
    assert job.said() == answered(10) | {3: refused, 6: refused}
    assert [size for size, _ in provider.uploads] == [10, 9, 8]


def test_a_batch_that_fails_as_a_whole_is_not_tried_for_ever(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Its requests fail with the provider's reason when their attempts are used up; none was paid."""
    broken = Fault(FaultKind.MISSING, "the batch failed: no quorum")
    provider = Provider(ends=lambda remote: BatchLook("failed", True, "failed", fault=broken))
    job = Job(provider, ledger, tmp_path, rows=4, retries=1)
    job.run()
    assert set(job.said().values()) == {"no result: the batch failed: no quorum"}
    assert ([size for size, _ in provider.uploads], provider.ran) == ([4, 2, 2], Counter())


def test_too_much_that_is_queued_waits_for_another_batch(ledger: SqliteLedger, tmp_path: Path) -> None:
    """A batch that the provider did not begin for lack of room uses up no attempt, and nothing is added to the queue
    before another one ends."""

    def ends(remote: Remote) -> BatchLook | None:
        crowded = remote.name == "batch-1"
        return (
            BatchLook("failed", True, "failed", fault=Fault(FaultKind.RATE_LIMITED, "queue full")) if crowded else None
        )

    provider = Provider(ends=ends)
    job = Job(provider, ledger, tmp_path, rows=6, retries=0, settings=replace(SETTINGS, batch_size=3))
    job.tick()
    provider.batches[0].left = 3
    uploads = []
    while not job.tick():
        uploads.append(len(provider.uploads))
    assert (job.said(), provider.ran) == (answered(6), Counter(range(6)))
    assert uploads == [2, 2, 2, 3, 3]


def test_credentials_that_are_refused_end_the_run(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Whatever call hears of it; what is open stays open for the next run."""
    fault = Fault(FaultKind.CREDENTIALS, "no such key", 401)
    provider = Provider(trouble=[("submit", fault, False)])
    job = Job(provider, ledger, tmp_path)
    assert (job.tick(), job.ending) == (False, Ending("fault", "no such key", fault))
    job.tick()
    provider.trouble.append(("look", fault, False))
    assert (job.tick(), job.ending) == (False, Ending("fault", "no such key", fault))
    job.run()
    assert (job.said(), provider.ran) == (answered(10), Counter(range(10)))


def test_a_line_that_would_end_every_run_ends_this_one(ledger: SqliteLedger, tmp_path: Path) -> None:
    """No credit: it is recorded, the rest of the batch is kept, and nothing more is submitted."""
    fault = Fault(FaultKind.QUOTA, "no credit", 429)
    provider = Provider(says=scripted({2: [fault]}))
    job = Job(provider, ledger, tmp_path)
    while job.ending is None:
        assert not job.tick()
    assert (job.ending, len(provider.uploads)) == (Ending("fault", "no credit", fault), 1)
    assert job.said() == answered(10) | {2: "unanswered"}
    job.run()
    assert (job.said(), provider.ran) == (answered(10), Counter([*range(10), 2]))


@pytest.mark.parametrize("call", ["look", "results", "result", "find", "sweep", "submit"])
@pytest.mark.parametrize("fault", [BROKEN_OFF, SERVER_ERROR, BUSY], ids=lambda fault: fault.kind.value)
def test_calls_that_fail_are_made_again(call: str, fault: Fault, ledger: SqliteLedger, tmp_path: Path) -> None:
    """Three failures of any call cost time, no answer and no money."""
    lost = [("submit", BROKEN_OFF, False)] if call in ("find", "sweep") else []
    provider = Provider(trouble=[*lost, *[(call, fault, False)] * 3])
    job = Job(provider, ledger, tmp_path, retries=0)
    job.run()
    assert (job.said(), provider.ran, provider.trouble) == (answered(10), Counter(range(10)), [])


def test_collecting_that_breaks_off_goes_on_where_it_was(ledger: SqliteLedger, tmp_path: Path) -> None:
    """What was read is on record, and is not recorded again."""
    provider = Provider()
    job = Job(provider, ledger, tmp_path)
    job.tick()
    job.tick()
    provider.trouble += [("never", BUSY, False)]

    strike, count = provider.strike, 0

    def fourth(call: str) -> tuple[Fault | None, bool]:
        nonlocal count
        count += call == "result"
        return (BROKEN_OFF, False) if call == "result" and count == 4 else strike(call)

    provider.strike = fourth  # type: ignore[method-assign]
    assert (job.tick(), ledger.traffic().replies) == (False, 3)
    assert (job.tick(), ledger.traffic().replies) == (True, 10)
    assert (job.said(), provider.ran) == (answered(10), Counter(range(10)))


def test_a_batch_that_never_moves_stays_open(ledger: SqliteLedger, tmp_path: Path) -> None:
    """However often it is looked at, nothing is sent again, and nothing waits for it."""
    provider = Provider(looks=10**9)
    job = Job(provider, ledger, tmp_path)
    assert [job.tick(3600.0) for _ in range(30)] == [False] * 30
    assert (len(provider.batches), job.engine.batches[0].state, job.engine.outstanding) == (1, "in_progress", 10)


def test_a_cancelled_batch_gives_what_it_had(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Asked to end, it is collected: its answers stay, the others are asked for again though nothing may be retried."""
    provider = Provider(looks=10**9)
    job = Job(provider, ledger, tmp_path, retries=0)
    job.tick()
    assert asyncio.run(job.engine.cancel(GroupRecord(ledger))) == 1
    job.tick(stop=True)
    assert (closed(ledger), ledger.traffic().replies, job.engine.batches[0].state) == ([], 0, "cancelling")
    provider.looks = 1
    job.run()
    assert (job.said(), closed(ledger)) == (answered(10), ["cancelled", "collected"])
    assert provider.ran == Counter(range(10))


def test_no_more_is_open_than_the_provider_allows(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Batches, requests and bytes each keep to their limit; the rest follows when a batch has ended."""
    provider = Provider(limits=BatchLimits(3, 10_000, open_batches=2))
    job = Job(provider, ledger, tmp_path)
    most = 0
    while not job.tick():
        most = max(most, sum(remote.look is None for remote in provider.batches))
    assert (job.said(), most, [size for size, _ in provider.uploads]) == (answered(10), 2, [3, 3, 3, 1])
    small = Provider(limits=BatchLimits(100, 250))
    with SqliteLedger(tmp_path / "other.sqlite") as other:
        Job(small, other, tmp_path).run()
    assert small.uploads == [(2, 192)] * 5


def test_queued_tokens_keep_to_their_limit(ledger: SqliteLedger, tmp_path: Path) -> None:
    """What open batches hold counts, over restarts; 'row 0' is estimated at 1.25 tokens."""
    provider = Provider(limits=BatchLimits(100, 10_000, queued_tokens=5), looks=2)
    while not Job(provider, ledger, tmp_path).tick():
        assert sum(len(remote.lines) for remote in provider.batches if remote.look is None) <= 4
    assert [size for size, _ in provider.uploads] == [4, 4, 2]


def test_a_request_larger_than_a_batch_fails_alone(ledger: SqliteLedger, tmp_path: Path) -> None:
    """It says why; the others are asked."""
    provider = Provider(limits=BatchLimits(100, 96))
    job = Job(provider, ledger, tmp_path, rows=11)
    job.run()
    (refused,) = [text for text in job.said().values() if not text.startswith("answer")]
    assert refused == "too large: the request has 97 bytes, a batch at most 96; engine: online"
    assert provider.ran == Counter(range(10))


def test_what_is_re_asked_is_kept_with_the_answer(ledger: SqliteLedger, tmp_path: Path) -> None:
    """The messages that a re-ask sent, and not those of its row, stand beside what came of it."""
    provider = Provider(says=scripted({2: ["invalid"]}))
    job = Job(provider, ledger, tmp_path, feedback=True)
    job.run()
    messages = (*request(2).messages, {"role": "user", "content": "no title"})
    assert [fact.messages for fact in ledger.attempts(request(2).id) if isinstance(fact, Replied)] == [None, messages]
    assert provider.batches[1].lines[0]["messages"] == list(messages)


def test_files_are_deleted_if_asked(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Those of batches that succeeded, those of others, or none; trouble with it is no trouble."""
    for successful, failed, left in ((False, False, 2), (True, False, 1), (False, True, 1), (True, True, 0)):
        provider = Provider(
            says=scripted({row: [EXPIRED] for row in range(5, 10)}),
            trouble=[("discard", BAD_REQUEST, True)],
        )
        with SqliteLedger(tmp_path / f"{successful}-{failed}.sqlite") as own:
            settings = replace(SETTINGS, delete_successful=successful, delete_failed=failed)
            job = Job(provider, own, tmp_path, settings=settings)
            job.run()
            assert (job.said(), len(provider.files)) == (answered(10), left)


def worst(request: Request) -> tuple[float, int]:
    return 2 * PAID, 100


def test_batches_are_packed_to_what_the_budget_admits(ledger: SqliteLedger, tmp_path: Path) -> None:
    """What is open holds its worst case, what has ended what it cost: all that can be paid for is asked, no more."""
    provider = Provider()
    job = Job(provider, ledger, tmp_path, worst=worst, budget=7.5 * PAID)
    while job.ending is None:
        assert not job.tick()
        assert sum(provider.ran.values()) * PAID <= 7.5 * PAID
    assert (job.ending.why, [size for size, _ in provider.uploads]) == ("budget", [3, 2, 1])
    assert ledger.spent(1) == (6 * PAID, 90)
    again = Job(provider, ledger, tmp_path, worst=worst, budget=20 * PAID)
    again.run()
    assert (again.said(), provider.ran) == (answered(10), Counter(range(10)))


def test_a_missing_result_of_a_batch_that_was_charged_stays_spent(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Nobody knows whether it was paid: its share of the worst case is held for good."""
    provider = Provider(says=scripted({0: [None]}))
    Job(provider, ledger, tmp_path, rows=2, worst=worst, budget=1000.0).run()
    assert ledger.spent(1) == (2 * PAID + 2 * PAID, 130)


def test_a_stopped_run_collects_nothing_more_and_submits_nothing(ledger: SqliteLedger, tmp_path: Path) -> None:
    """What was packed and not announced is as if it had not been."""
    provider = Provider()
    job = Job(provider, ledger, tmp_path)
    job.tick(stop=True)
    assert (provider.calls, list(ledger.marks()), job.engine.finished, empty(tmp_path)) == ([], [], False, True)
    stopping = Job(provider, ledger, tmp_path)
    tasks = stopping.tasks

    def some() -> Iterator[object]:
        for number, task in enumerate(tasks()):
            if number == 5:
                assert stopping.work is not None
                stopping.work.stop()
            yield task

    stopping.tasks = some  # type: ignore[method-assign, assignment]
    stopping.tick()
    assert (provider.calls, list(ledger.marks()), empty(tmp_path)) == ([], [], True)


def test_batches_of_another_place_are_left_alone(ledger: SqliteLedger, tmp_path: Path) -> None:
    """A spec that now names another provider does not ask it about the old one's batches, and goes on without them."""
    provider, other = Provider(), Provider()
    Job(provider, ledger, tmp_path, rows=3, settings=replace(SETTINGS, place="one")).tick()
    job = Job(other, ledger, tmp_path, rows=5, settings=replace(SETTINGS, place="other"))
    job.run()
    assert (other.ran, job.engine.outstanding) == (Counter([3, 4]), 0)
    home = Job(provider, ledger, tmp_path, rows=5, settings=replace(SETTINGS, place="one"))
    home.run()
    assert home.said() == answered(5)


def test_an_empty_job_is_finished(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Without requests there is nothing to submit, and no file is left."""
    job = Job(Provider(), ledger, tmp_path, rows=0)
    assert (job.tick(), list(ledger.marks()), empty(tmp_path)) == (True, [], True)


def test_more_than_one_group_of_results(ledger: SqliteLedger, tmp_path: Path) -> None:
    """A batch of many groups, with errors and missing lines, is exact after its retries."""
    rows = 3 * CHUNK + 17
    script = {row: [SERVER_ERROR] for row in range(0, rows, 100)} | {row: [None] for row in range(1, rows, 200)}
    provider = Provider(says=scripted(script))  # type: ignore[arg-type]
    job = Job(provider, ledger, tmp_path, rows=rows)
    job.run()
    assert (job.said(), provider.ran) == (answered(rows), Counter([*range(rows), *script]))


def test_a_price_that_is_not_known_stays_unknown(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Without a price nothing is made up; a cost that the provider states counts."""
    job = Job(Provider(), ledger, tmp_path, rows=1, settings=replace(SETTINGS, price=None))
    job.run()
    (fact,) = ledger.attempts(request(0).id)
    assert isinstance(fact, Replied)
    assert (fact.cost, fact.spent, job.engine.collected.unpriced) == (None, None, 1)
    stated = Provider(
        extra=[BatchResult(request(0).id.hex(), Exchange(Reply("own", cost=0.25), Answer("little", b"own")))]
    )
    with SqliteLedger(tmp_path / "other.sqlite") as other:
        Job(stated, other, tmp_path, rows=1).run()
        (said,) = other.attempts(request(0).id)
    assert isinstance(said, Replied)
    assert (said.cost, said.usage, TERMS.model) == (0.25, None, "m")


def test_fifty_thousand_rows_are_exact_after_their_retries(ledger: SqliteLedger, tmp_path: Path) -> None:
    """A full batch in which one line in a hundred has an error and one in two hundred is missing."""
    rows = 50_000
    script = {row: [SERVER_ERROR] for row in range(0, rows, 100)} | {row: [None] for row in range(1, rows, 200)}
    provider = Provider(says=scripted(script), limits=BatchLimits(rows, 10**9))  # type: ignore[arg-type]
    job = Job(provider, ledger, tmp_path, rows=rows, group=128)
    job.run()
    assert [size for size, _ in provider.uploads] == [rows, len(script)]
    assert provider.ran == Counter([*range(rows), *script])
    assert job.said() == answered(rows)
