"""The facts of one job in one SQLite file, append-only. What they amount to is derived when asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from synth_cli.core.events import Closed, Fact, Faulted, Mark, Opening, Outcome, Replied, RoundOpened, RunOpened
from synth_cli.core.figures import Latency, Share, Traffic, latency_of
from synth_cli.core.reply import FaultKind, Usage
from synth_cli.core.request import ID_BYTES, Message
from synth_cli.core.rounds import Rounds, fold_marks
from synth_cli.core.state import History, fold
from synth_cli.stores.among import Among
from synth_cli.stores.facts import (
    FAULT_KINDS,
    FAULTED,
    REPLIED,
    Values,
    faulted_values,
    mark,
    mark_values,
    outcome,
    replied_values,
)
from synth_cli.stores.schema import OUTCOMES, connect, explained

CHUNK = 500
"""Most parameters of one query: below the limit of every SQLite in use."""
LATE = 8192
"""So many outcomes are looked up in memory before their places are written."""
COUNTS = (
    "SELECT fault, finish_reason, model, COUNT(*), SUM(attempt > 1), SUM(input_tokens IS NULL), "
    "TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cached_tokens), TOTAL(cache_written_tokens), "
    "TOTAL(reasoning_tokens), SUM(cost IS NULL), TOTAL(cost), MIN(at - latency), MAX(at) "
    "FROM outcomes WHERE {where} GROUP BY 1, 2, 3"
)

SHARES = (
    "SELECT step, model, COUNT(*), TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cached_tokens), "
    "TOTAL(cache_written_tokens), TOTAL(reasoning_tokens), TOTAL(cost), SUM(cost IS NULL), MIN(at - latency), MAX(at) "
    "FROM outcomes WHERE fault IS NULL GROUP BY step, COALESCE(model, '') ORDER BY MIN(seq)"
)


class SqliteLedger:
    """A `core.ports.Ledger`. Not for use from several threads; others may read while one appends.

    Outcomes are filed under the present run and round: those of the latest `RunOpened`, or of `begin`. A ledger
    that was just opened sees itself as the next run will: in the round that is open, or in the one after. One that
    is opened read-only shows the facts as they were at that moment.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises UsageError if a newer synth wrote it, SetupError if it cannot be opened (or read-only, made)."""
        self.path = path
        self._connection, self.warnings = connect(path, read_only=read_only)
        self._run = 0
        standing = self.standing()
        self._round = standing.present_round
        self._open = set(standing.pending)
        self._among: Among | None = None
        """The ids of what is open, once they were asked for."""
        ((self._placed,),) = self._query("SELECT value FROM meta WHERE key = 'placed'")
        self._late: dict[int, list[int]] = {}
        """Where the outcomes are that `places` does not know yet: key → seqs."""
        late = self._query("SELECT seq, id FROM outcomes WHERE seq > ? ORDER BY seq", (self._placed,))
        self._last = late[-1][0] if late else self._placed
        for (seq, _), key in zip(late, _keys([id for _, id in late]), strict=True):
            self._late.setdefault(key, []).append(seq)

    def begin(self, round: int, run: int = 0) -> None:
        """From here on this is the present round and run."""
        self._round, self._run = round, run

    def append(self, facts: Sequence[Fact]) -> None:
        """One transaction, durable on return. Raises SetupError, with nothing of it kept, when the disk refuses."""
        ids: list[bytes] = []
        with explained(self.path):
            execute, executemany = self._connection.execute, self._connection.executemany
            execute("BEGIN IMMEDIATE")
            try:
                for kind, group in groupby(facts, type):
                    if kind is Replied:
                        replies: list[Replied] = list(group)  # type: ignore[arg-type]
                        executemany(self._insert(REPLIED), [replied_values(fact) for fact in replies])
                        ids.extend([fact.id for fact in replies])
                    elif kind is Faulted:
                        faults: list[Faulted] = list(group)  # type: ignore[arg-type]
                        executemany(self._insert(FAULTED), [faulted_values(fact) for fact in faults])
                        ids.extend([fact.id for fact in faults])
                    else:
                        self._mark(group)  # type: ignore[arg-type]
                if ids:
                    ((last,),) = execute("SELECT MAX(seq) FROM outcomes")
                execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    execute("ROLLBACK")
                raise
        if ids:
            self._note(ids, last)
        for fact in facts:
            if isinstance(fact, Opening):
                self._open.add(fact.key)
                if self._among is not None:
                    self._among.add(b"".join(fact.ids))
            elif isinstance(fact, Closed) and fact.key in self._open:
                self._open.remove(fact.key)
                self._among = None

    def _insert(self, columns: str) -> str:
        marks = ", ".join("?" * (columns.count(",") + 1))
        return f"INSERT INTO outcomes (run, round, {columns}) VALUES ({self._run}, {self._round}, {marks})"

    def _mark(self, marks: Iterable[Mark]) -> None:
        for fact in marks:
            seq = self._connection.execute("INSERT INTO marks (kind, body) VALUES (?, ?)", mark_values(fact)).lastrowid
            if isinstance(fact, Opening):
                self._opening(fact, seq)
            elif isinstance(fact, RunOpened):
                self.begin(fact.round, fact.run)
            elif isinstance(fact, RoundOpened):
                self.begin(fact.round, self._run)

    def _opening(self, opening: Opening, seq: int | None) -> None:
        self._connection.execute("INSERT INTO openings VALUES (?, ?, ?)", (seq, opening.key, b"".join(opening.ids)))
        self._connection.executemany(
            "INSERT INTO reasked VALUES (?, ?, ?)",
            ((seq, bytes.fromhex(id), orjson.dumps(messages)) for id, messages in opening.messages.items()),
        )

    def _note(self, ids: Sequence[bytes], last: int) -> None:
        late = self._late
        for seq, key in enumerate(_keys(ids), last - len(ids) + 1):
            if key in late:
                late[key].append(seq)
            else:
                late[key] = [seq]
        self._last = last
        if last - self._placed >= LATE:
            self._place()

    def _place(self) -> None:
        """Writes the places of all outcomes so far, in the order of the index: each page is touched once."""
        places = [(key, seq) for key in sorted(self._late) for seq in self._late[key]]
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT INTO places VALUES (?, ?)", places)
                self._connection.execute("UPDATE meta SET value = ? WHERE key = 'placed'", (self._last,))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self._placed = self._last
        self._late.clear()

    def histories(self, ids: Sequence[bytes]) -> Mapping[bytes, History]:
        """What is known of these requests, as the present round sees it; those never heard of are missing."""
        present = self._round
        known: dict[bytes, list[tuple[Outcome, bool]]] = {id: [] for id in ids}
        for row in self._outcomes(ids):
            # two ids may share a key
            if row[0] in known:
                known[row[0]].append((outcome(row), row[2] == present))
        return {id: fold(outcomes) for id, outcomes in known.items() if outcomes}

    def attempts(self, id: bytes) -> tuple[Outcome, ...]:
        """Every outcome of a request, of all rounds, oldest first."""
        return tuple(outcome(row) for row in self._outcomes([id]) if row[0] == id)

    def _outcomes(self, ids: Sequence[bytes]) -> list[Values]:
        """The rows of these ids, and of any that share their keys, oldest first."""
        return self._look_up(f"SELECT {OUTCOMES} FROM outcomes WHERE seq IN", self._seqs(ids))

    def _seqs(self, ids: Sequence[bytes]) -> list[int]:
        """Where the outcomes of these ids are, and of any that share their keys, oldest first."""
        keys = _keys(ids)
        late = self._late
        seqs = {seq for key in keys if key in late for seq in late[key]} if late else set()
        if self._placed:
            seqs.update([seq for (seq,) in self._look_up("SELECT seq FROM places WHERE key IN", keys)])
        return sorted(seqs)

    def _look_up(self, statement: str, parameters: Sequence[int | bytes]) -> list[Values]:
        found: list[Values] = []
        for start in range(0, len(parameters), CHUNK):
            chunk = parameters[start : start + CHUNK]
            found += self._query(f"{statement} ({', '.join('?' * len(chunk))})", chunk)
        return found

    def marks(self) -> Iterator[Fact]:
        """Every fact that is not about a single request, oldest first; openings without their ids and messages."""
        for kind, body in self._query("SELECT kind, body FROM marks ORDER BY seq"):
            yield mark(kind, body)

    def ids_in(self, key: str) -> Iterator[bytes]:
        """The ids of the opening `key`, in its order."""
        ids = self._ids(key)
        for start in range(0, len(ids), ID_BYTES):
            yield ids[start : start + ID_BYTES]

    def _ids(self, key: str) -> bytes:
        found = self._query("SELECT ids FROM openings WHERE key = ?", (key,))
        return found[0][0] if found else b""

    def messages_in(self, key: str, ids: Sequence[bytes]) -> Mapping[bytes, tuple[Message, ...]]:
        """What the opening `key` sends for those of these requests for which it is not what their rows render to."""
        found = self._query("SELECT seq FROM openings WHERE key = ?", (key,))
        if not found:
            return {}
        rows = self._look_up(f"SELECT id, messages FROM reasked WHERE opening = {found[0][0]} AND id IN", ids)
        return {id: tuple(orjson.loads(messages)) for id, messages in rows}

    def pending(self, ids: Sequence[bytes]) -> set[bytes]:
        """Those of these requests that are in an opening that is not closed."""
        if not self._open:
            return set()
        if self._among is None:
            self._among = Among()
            for key in self._open:
                self._among.add(self._ids(key))
        return self._among.of(ids)

    def outcomes_in(self, key: str, ids: Sequence[bytes]) -> set[bytes]:
        """Those of these requests of which an outcome says that it came in the batch `key`."""
        wanted, seqs = set(ids), self._seqs(ids)
        rows = self._look_up("SELECT id, batch FROM outcomes WHERE seq IN", seqs)
        return {id for id, batch in rows if batch == key and id in wanted}

    def standing(self) -> Rounds:
        """Rounds, runs and what is still open, as of now."""
        return fold_marks(self.marks())

    def spent(self, round: int) -> tuple[float, int]:
        """(USD, tokens) that a round has used, with what its other runs held when they died."""
        sums = self._query("SELECT TOTAL(spent), TOTAL(spent_tokens) FROM outcomes WHERE round = ?", (round,))
        ((cost, tokens),) = sums
        held_cost, held_tokens = self.standing().reserved(round, besides=self._run)
        return cost + held_cost, int(tokens) + held_tokens

    def traffic(self, *, run: int | None = None, round: int | None = None, step: str | None = None) -> Traffic:
        """The figures of a run, a round, a step, or of everything. Reads no bodies; memory stays flat."""
        scope = {"run": run, "round": round, "step": step}
        given = {key: value for key, value in scope.items() if value is not None}
        where = " AND ".join(f"{key} = ?" for key in given) or "1"
        parameters = tuple(given.values())
        counts = self._query(COUNTS.format(where=where), parameters)
        replies = sum(row[3] for row in counts if row[0] is None)
        with explained(self.path):
            ordered = self._connection.execute(
                f"SELECT latency FROM outcomes WHERE fault IS NULL AND {where} ORDER BY latency", parameters
            )
            latency = latency_of((value for (value,) in ordered), replies)
            ordered.close()
        return _traffic(counts, replies, latency)

    def bodies(self, steps: Sequence[str], *, run: int | None = None, round: int | None = None) -> Iterator[bytes]:
        """The bodies of the replies for these steps, of a run, a round or everything, one by one."""
        scope = {"run": run, "round": round}
        given = {key: value for key, value in scope.items() if value is not None}
        where = " AND ".join([f"step IN ({', '.join('?' * len(steps))})", *(f"{key} = ?" for key in given)])
        with explained(self.path):
            found = self._connection.execute(
                f"SELECT body FROM outcomes WHERE fault IS NULL AND {where}", (*steps, *given.values())
            )
            yield from (body for (body,) in found)

    def shares(self) -> tuple[Share, ...]:
        """What each model answered for each step, over everything, in the order in which they first did."""
        return tuple(
            Share(step, model or "", count, Usage(*map(int, tokens)), cost, unpriced, first, last)
            for step, model, count, *tokens, cost, unpriced, first, last in self._query(SHARES)
        )

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Values]:
        with explained(self.path):
            return self._connection.execute(statement, parameters).fetchall()


def _keys(ids: Sequence[bytes]) -> tuple[int, ...]:
    """The first 8 bytes of each id as a number that SQLite can keep."""
    return struct.unpack(f"<{len(ids)}q", b"".join([id[:8] for id in ids]))


def _traffic(counts: Iterable[Values], replies: int, latency: Latency | None) -> Traffic:
    faults: dict[FaultKind, int] = {}
    finish_reasons: dict[str, int] = {}
    models: dict[str, int] = {}
    retries = unmetered = unpriced = 0
    tokens = [0, 0, 0, 0, 0]
    cost = 0.0
    first: float | None = None
    last: float | None = None
    for fault, finish_reason, model, count, again, no_usage, *sums, no_cost, known, start, end in counts:
        retries += again
        first = start if first is None else min(first, start)
        last = end if last is None else max(last, end)
        if fault is not None:
            kind = FAULT_KINDS[fault]
            faults[kind] = faults.get(kind, 0) + count
            continue
        finish_reasons[finish_reason or ""] = finish_reasons.get(finish_reason or "", 0) + count
        models[model or ""] = models.get(model or "", 0) + count
        unmetered += no_usage
        unpriced += no_cost
        cost += known
        tokens = [total + int(more) for total, more in zip(tokens, sums, strict=True)]
    usage = Usage(*tokens)
    return Traffic(
        replies, faults, retries, usage, unmetered, cost, unpriced, finish_reasons, models, latency, first, last
    )
