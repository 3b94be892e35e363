"""The ledger's tables, how its file is opened, and what is said when it cannot be.

An append-only log: rows are inserted and never changed. Bodies come last in a row, so that reading figures does not
walk through their overflow pages.

`places` says where the outcomes of a request are, by the first 8 bytes of its id. Ids are hashes, so an index dirties
a page of its own for nearly every row: kept up with each commit it costs as much as the log itself (8 of 18 µs a row
at 100,000 rows). It is therefore filled thousands of rows at a time; `placed` in `meta` says up to which one.

`openings` keeps the ids of a batch, one behind the other, and `reasked` what it sends for those of its requests that
do not send what their rows render to. `opening` there is the `seq` of the mark.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synth_cli.errors import SetupError, UsageError
from synth_cli.stores.filesystem import network_type

VERSION = 2
OUTCOMES = (
    "id, step, round, attempt, fault, at, latency, model, finish_reason, input_tokens, output_tokens, cached_tokens, "
    "cache_written_tokens, reasoning_tokens, cost, spent, spent_tokens, batch, status, retry_after, protocol, "
    "message, messages, body"
)
"""What is read of an outcome; a reply is one without a fault."""
BATCHES = """
CREATE TABLE openings (seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, ids BLOB NOT NULL);
CREATE TABLE reasked (
    opening INTEGER NOT NULL, id BLOB NOT NULL, messages BLOB NOT NULL, PRIMARY KEY (opening, id)
) WITHOUT ROWID;
"""
TABLES = f"""
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL, step TEXT NOT NULL, run INTEGER NOT NULL, round INTEGER NOT NULL,
    attempt INTEGER NOT NULL, fault TEXT, at REAL NOT NULL, latency REAL NOT NULL, model TEXT, finish_reason TEXT,
    input_tokens INTEGER, output_tokens INTEGER, cached_tokens INTEGER, cache_written_tokens INTEGER,
    reasoning_tokens INTEGER, cost REAL, spent REAL, spent_tokens INTEGER NOT NULL, batch TEXT, status INTEGER,
    retry_after REAL, protocol TEXT, message TEXT, messages BLOB, body BLOB
);
CREATE TABLE places (key INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE TABLE marks (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
{BATCHES}"""
UPGRADE = f"""
ALTER TABLE outcomes ADD COLUMN batch TEXT;
{BATCHES}
UPDATE meta SET value = 2 WHERE key = 'version'
"""
"""From version 1, which knew no batches. A body of more than a page then lies before `batch`: slower, not wrong."""
SHOWN = "CREATE TEMP VIEW outcomes AS SELECT *, NULL AS batch FROM main.outcomes;" + BATCHES.replace(
    "CREATE TABLE", "CREATE TEMP TABLE"
)
"""The same for who may only read."""
WAIT_SECONDS = 30.0
CACHE_KIB = 8192


def connect(path: Path, *, read_only: bool = False) -> tuple[sqlite3.Connection, tuple[str, ...]]:
    """An open ledger and warnings for people. Raises UsageError for a newer version or a file that is no ledger,
    SetupError where the file cannot be opened."""
    warnings: tuple[str, ...] = ()
    address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    with explained(path):
        connection = sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if not read_only:
                warnings = _journal(connection, path)
                connection.execute("PRAGMA synchronous = FULL")
                _create(connection)
            else:
                _snapshot(connection)
            if _version(connection, path) < VERSION:
                _upgrade(connection, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    return connection, warnings


def _journal(connection: sqlite3.Connection, path: Path) -> tuple[str, ...]:
    # WAL needs memory that all processes share, which a network file system does not give
    network = network_type(path)
    if network is None:
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
            return ()
    connection.execute("PRAGMA journal_mode = DELETE")
    where = f"is on a network file system ({network})" if network else "is on a file system without shared memory"
    return (f"{path} {where}: the ledger works more slowly there; --state-dir can put it on a local disk",)


def _snapshot(connection: sqlite3.Connection) -> None:
    """Every query from here on sees the same facts; with a journal that would make the writing run wait for us."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        connection.execute("BEGIN")


def _create(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return
    connection.execute("BEGIN IMMEDIATE")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        _execute(connection, TABLES)
        connection.execute("INSERT INTO meta VALUES ('version', ?), ('placed', 0)", (VERSION,))
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection, *, read_only: bool) -> None:
    if read_only:
        _execute(connection, SHOWN)
        return
    connection.execute("BEGIN IMMEDIATE")
    _execute(connection, UPGRADE)
    connection.execute("COMMIT")


def _execute(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";"):
        connection.execute(statement)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    found = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    version: int = found[0] if found else 0
    if version > VERSION:
        raise UsageError(
            f"{path} was written by a newer synth (ledger version {version}, this one reads up to {VERSION})",
            hint="run: pip install --upgrade synth-cli; or start afresh elsewhere with --state-dir",
        )
    return version


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours: what is wrong with the disk or the file ends a run with a message."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise SetupError(
            f"{path}: {error}", hint="check the disk's free space and the folder's permissions, then run again"
        ) from error
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"{path} cannot be read as a ledger: {error}",
            hint=f"restore it from a backup, or move it away to start afresh: mv {path} {path}.broken",
        ) from error


@contextmanager
def explained_disk(path: Path) -> Iterator[None]:
    """The same for what the system says of files and folders."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"{path}: {error.strerror or error}",
            hint="check the disk's free space and the folder's permissions, or put the state elsewhere: --state-dir",
        ) from error
