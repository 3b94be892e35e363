"""The SQLite ledger: durability, versions, and what it says when the disk or the file is wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synth_cli.core.events import Faulted, Opening, Replied, RoundClosed, RoundOpened, RunOpened
from synth_cli.core.figures import Share
from synth_cli.core.reply import Answer, Fault, FaultKind, Usage
from synth_cli.core.state import History
from synth_cli.errors import SetupError, UsageError
from synth_cli.stores import ledger as ledger_module
from synth_cli.stores import schema
from synth_cli.stores.ledger import SqliteLedger

APPENDER = """
import sys
from pathlib import Path
from synth_cli.core.events import Replied
from synth_cli.core.reply import Answer
from synth_cli.stores.ledger import SqliteLedger
with SqliteLedger(Path(sys.argv[1])) as ledger:
    for group in range(100_000):
        ids = [(group * 16 + at).to_bytes(16, "big") for at in range(16)]
        ledger.append([Replied(id, "main", 1, Answer("openai", b"x" * 1200), 1.0, 0.5) for id in ids])
        print(group, flush=True)
"""


def replied(number: int) -> Replied:
    return Replied(number.to_bytes(16, "little"), "main", 1, Answer("openai", b"x" * 600), 1.0, 0.5)


def test_every_group_reported_as_durable_outlives_a_kill(tmp_path: Path) -> None:
    """A process killed while it appends has lost nothing of what it was told was kept, and left no half of a group."""
    path = tmp_path / "ledger.sqlite"
    process = subprocess.Popen([sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout as lines:
        # enough that places have been written too
        for line in lines:
            if int(line) == 700:
                break
        process.send_signal(signal.SIGKILL)
        durable = max([700, *(int(line) for line in lines if line.endswith("\n"))])
    ids = [number.to_bytes(16, "big") for number in range((durable + 2) * 16)]
    with SqliteLedger(path) as ledger:
        found = ledger.histories(ids)
    complete = (durable + 1) * 16
    assert (process.returncode, set(ids[:complete]) - set(found), len(found) % 16) == (-signal.SIGKILL, set(), 0)


def test_it_opens_in_the_round_that_the_next_run_belongs_to(tmp_path: Path) -> None:
    """An open round goes on after reopening; after a closed one, earlier attempts no longer count."""
    path = tmp_path / "ledger.sqlite"
    with SqliteLedger(path) as ledger:
        ledger.append([RoundOpened(1, 0, 1.0), RunOpened(1, 1, "runs/1", 1.0), replied(1)])
    with SqliteLedger(path) as ledger:
        assert ledger.histories([replied(1).id]) == {replied(1).id: History((replied(1),), (), None, 1, 1, 1)}
        ledger.append([RoundClosed(1, 2.0)])
    with SqliteLedger(path) as ledger:
        assert ledger.histories([replied(1).id]) == {replied(1).id: History((replied(1),))}


@pytest.mark.parametrize("late", [1, 3, 1000])
def test_what_was_not_yet_placed_is_found_after_reopening(
    late: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many outcomes the index lacks, a ledger that is opened again finds all and appends rightly."""
    monkeypatch.setattr(ledger_module, "LATE", late)
    path = tmp_path / "ledger.sqlite"
    facts = [replied(number) for number in range(8)]
    for fact in facts:
        with SqliteLedger(path) as ledger:
            ledger.append([fact])
    with SqliteLedger(path, read_only=True) as ledger:
        assert [ledger.attempts(fact.id) for fact in facts] == [(fact,) for fact in facts]


def test_reading_goes_on_beside_a_run(tmp_path: Path) -> None:
    """A reader sees the facts as they were when it opened, and neither waits for the other."""
    path = tmp_path / "ledger.sqlite"
    with SqliteLedger(path) as writer:
        writer.append([replied(1), RoundOpened(1, 0, 1.0)])
        with SqliteLedger(path, read_only=True) as reader:
            writer.append([replied(2), RoundClosed(1, 2.0)])
            ids = [replied(1).id, replied(2).id]
            assert (list(reader.histories(ids)), list(reader.marks()), reader.traffic().replies) == (
                [replied(1).id],
                [RoundOpened(1, 0, 1.0)],
                1,
            )
        with SqliteLedger(path, read_only=True) as reader:
            assert reader.traffic().replies == 2


def test_reading_makes_no_ledger(tmp_path: Path) -> None:
    """A ledger that is not there is an error for who only reads, and is not made."""
    with pytest.raises(SetupError, match="unable to open"):
        SqliteLedger(tmp_path / "ledger.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """A file of a later version is exit 2 with the way out, and stays as it is."""
    path = tmp_path / "ledger.sqlite"
    SqliteLedger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (schema.VERSION + 1,))
    connection.close()
    with pytest.raises(UsageError, match="written by a newer synth") as caught:
        SqliteLedger(path)
    assert "pip install --upgrade" in caught.value.hint


def as_version_1(path: Path, facts: list[Replied]) -> None:
    """A ledger as it was before there were batches."""
    with SqliteLedger(path) as ledger:
        ledger.append([RoundOpened(1, 0, 1.0), *facts])
    with sqlite3.connect(path) as connection:
        for statement in (
            "ALTER TABLE outcomes DROP COLUMN batch",
            "DROP TABLE openings",
            "DROP TABLE reasked",
            "UPDATE meta SET value = 1 WHERE key = 'version'",
        ):
            connection.execute(statement)
    connection.close()


def test_a_ledger_of_version_1_goes_on(tmp_path: Path) -> None:
    """It is raised in place with all its facts, and takes batches from then on."""
    path = tmp_path / "ledger.sqlite"
    as_version_1(path, [replied(1)])
    in_batch = replace(replied(2), batch="k")
    for _ in range(2):
        with SqliteLedger(path) as ledger:
            assert (ledger.attempts(replied(1).id), list(ledger.marks())) == ((replied(1),), [RoundOpened(1, 0, 1.0)])
    with SqliteLedger(path) as ledger:
        ledger.append([Opening("k", "main", (in_batch.id,), 2.0), in_batch])
    with SqliteLedger(path) as ledger:
        ids = [replied(1).id, in_batch.id]
        assert (ledger.attempts(in_batch.id), ledger.pending(ids), ledger.outcomes_in("k", ids)) == (
            (in_batch,),
            {in_batch.id},
            {in_batch.id},
        )


def test_a_ledger_of_version_1_can_be_read_as_it_is(tmp_path: Path) -> None:
    """Who only reads does not change the file, and finds everything."""
    path = tmp_path / "ledger.sqlite"
    as_version_1(path, [replied(1)])
    before = path.read_bytes()
    with SqliteLedger(path, read_only=True) as ledger:
        assert (ledger.attempts(replied(1).id), ledger.traffic().replies, ledger.pending([replied(1).id])) == (
            (replied(1),),
            1,
            set(),
        )
        assert (list(ledger.ids_in("k")), ledger.outcomes_in("k", [replied(1).id])) == ([], set())
    assert path.read_bytes() == before


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """Bytes that are no database are exit 2 with the way out, not a traceback."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(UsageError, match="cannot be read as a ledger") as caught:
        SqliteLedger(path)
    assert str(path) in caught.value.hint


def test_a_full_disk_keeps_nothing_of_the_group_and_all_before(tmp_path: Path) -> None:
    """When the disk is full the run ends with a message; what was durable stays, and the group is not half there."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append([replied(1)])
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(SetupError, match="full"):
            ledger.append([replied(number) for number in range(2, 200)])
        assert list(ledger.histories([replied(number).id for number in range(200)])) == [replied(1).id]
        ledger._connection.execute("PRAGMA max_page_count = 100000")
        ledger.append([replied(2)])
        assert ledger.attempts(replied(2).id) == (replied(2),)


def test_on_a_network_file_system_it_keeps_a_journal_and_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shared memory the ledger does without WAL and says so; its facts are the same."""
    monkeypatch.setattr(schema, "network_type", lambda path: "nfs4")
    path = tmp_path / "ledger.sqlite"
    with SqliteLedger(path) as ledger:
        ledger.append([replied(1)])
        mode = ledger._connection.execute("PRAGMA journal_mode").fetchone()[0]
        (warning,) = ledger.warnings
        assert (mode, ledger.attempts(replied(1).id)) == ("delete", (replied(1),))
    assert warning.startswith(f"{path} is on a network file system (nfs4): ")


def test_it_is_synced_with_every_group(tmp_path: Path) -> None:
    """On a local disk the ledger is in WAL mode with full synchronisation, without a warning."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        modes = [ledger._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert (modes, ledger.warnings) == (["wal", 2], ())


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_ledger_that_may_only_be_read_is_said_so(tmp_path: Path) -> None:
    """Missing permission is exit 3 with the path."""
    path = tmp_path / "ledger.sqlite"
    SqliteLedger(path).close()
    path.chmod(0o400)
    with pytest.raises(SetupError, match=r"ledger\.sqlite"), SqliteLedger(path) as ledger:
        ledger.append([replied(1)])


def test_shares_say_who_answered_each_step(tmp_path: Path) -> None:
    """Replies, tokens and cost of each model and step, over everything; faults and unknown prices are told apart."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        first = replace(replied(1), model="a", usage=Usage(10, 5, 2), cost=0.5, at=3.0)
        ledger.append(
            [
                first,
                replace(first, id=replied(2).id, cost=None, at=9.0),
                replace(replied(3), step="judge", at=4.0),
                Faulted(replied(4).id, "main", 1, Fault(FaultKind.TIMEOUT, "late"), 1.0),
            ]
        )
        assert ledger.shares() == (
            Share("main", "a", 2, Usage(20, 10, 4), 0.5, 1, 2.5, 9.0),
            Share("judge", "", 1, Usage(), 0.0, 1, 3.5, 4.0),
        )


def test_bodies_of_steps_are_read_one_by_one(tmp_path: Path) -> None:
    """Of replies alone, of a run or a round."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append([RunOpened(1, 1, "runs/1", 1.0), replace(replied(1), answer=Answer("openai", b"one"))])
        ledger.append([RunOpened(2, 1, "runs/2", 2.0), replace(replied(2), answer=Answer("openai", b"two"))])
        ledger.append([replace(replied(3), step="judge", answer=Answer("openai", b"three"))])
        ledger.append([Faulted((4).to_bytes(16, "little"), "main", 1, Fault(FaultKind.TIMEOUT, "late"), 3.0)])
        assert list(ledger.bodies(["main"])) == [b"one", b"two"]
        assert list(ledger.bodies(["main", "judge"], run=2)) == [b"two", b"three"]
        assert list(ledger.bodies(["judge"], round=1)) == [b"three"]
        assert list(ledger.bodies([])) == []
