"""The facts of one job in one SQLite file, append-only. What they amount to is derived when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from synth_cli.core.events import Fact, Faulted, Outcome, Replied, RoundOpened, RunOpened
from synth_cli.core.figures import Latency, Traffic, latency_of
from synth_cli.core.reply import Usage
from synth_cli.core.rounds import Rounds, fold_marks
from synth_cli.core.state import History, fold
from synth_cli.stores.facts import FAULT_KINDS, REPLIED, Values, mark, mark_values, outcome, outcome_values
from synth_cli.stores.schema import OUTCOMES, connect, explained

CHUNK = 500
"""Most parameters of one query: below the limit of every SQLite in use."""
INSERT = f"INSERT INTO outcomes ({OUTCOMES}) VALUES ({', '.join('?' * len(OUTCOMES.split(',')))})"
COUNTS = (
    "SELECT kind, fault, finish_reason, model, COUNT(*), SUM(attempt > 1), SUM(input_tokens IS NULL), "
    "TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(cached_tokens), TOTAL(cache_written_tokens), "
    "TOTAL(reasoning_tokens), SUM(cost IS NULL), TOTAL(cost), MIN(at - latency), MAX(at) "
    "FROM outcomes WHERE {where} GROUP BY 1, 2, 3, 4"
)


class SqliteLedger:
    """A `core.ports.Ledger`. Not for use from several threads; several processes may read while one appends.

    Outcomes are filed under the present run and round: those of the latest `RunOpened`, or of `begin`. A ledger
    that was just opened sees itself as the next run will: in the round that is open, or in the one after.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises UsageError if a newer synth wrote it, SetupError if it cannot be opened (or read-only, made)."""
        self.path = path
        self._connection, self.warnings = connect(path, read_only=read_only)
        self._empty = self._query("SELECT 1 FROM outcomes LIMIT 1") == []
        self._run = 0
        self._round = self.standing().present_round

    def begin(self, round: int, run: int = 0) -> None:
        """From here on this is the present round and run."""
        self._round, self._run = round, run

    def append(self, facts: Sequence[Fact]) -> None:
        """One transaction, durable on return. Raises SetupError, with nothing of it kept, when the disk refuses."""
        outcomes: list[Values] = []
        marks: list[tuple[str, bytes]] = []
        for fact in facts:
            if isinstance(fact, Replied | Faulted):
                outcomes.append(outcome_values(fact, self._run, self._round))
                continue
            marks.append(mark_values(fact))
            if isinstance(fact, RunOpened):
                self.begin(fact.round, fact.run)
            elif isinstance(fact, RoundOpened):
                self.begin(fact.round, self._run)
        with explained(self.path):
            execute = self._connection.execute
            execute("BEGIN IMMEDIATE")
            try:
                if outcomes:
                    self._connection.executemany(INSERT, outcomes)
                if marks:
                    self._connection.executemany("INSERT INTO marks (kind, body) VALUES (?, ?)", marks)
                execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    execute("ROLLBACK")
                raise
        if outcomes:
            self._empty = False

    def histories(self, ids: Sequence[bytes]) -> Mapping[bytes, History]:
        """What is known of these requests, as the present round sees it; those never heard of are missing."""
        if self._empty and not self._heard():
            return {}
        rows: dict[bytes, list[Values]] = {}
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            marks = ", ".join("?" * len(chunk))
            for row in self._query(f"SELECT {OUTCOMES}, seq FROM outcomes WHERE id IN ({marks})", chunk):
                known = rows.get(row[0])
                if known is None:
                    rows[row[0]] = [row]
                else:
                    known.append(row)
        present = self._round
        found: dict[bytes, History] = {}
        for id, known in rows.items():
            if len(known) > 1:
                known.sort(key=_sequence)
            found[id] = fold([(outcome(row[:-1]), row[3] == present) for row in known])
        return found

    def _heard(self) -> bool:
        """Whether an outcome came since the ledger was found empty: a reader's ledger grows under it."""
        self._empty = self._query("SELECT 1 FROM outcomes LIMIT 1") == []
        return not self._empty

    def attempts(self, id: bytes) -> tuple[Outcome, ...]:
        """Every outcome of a request, of all rounds, oldest first."""
        rows = self._query(f"SELECT {OUTCOMES} FROM outcomes WHERE id = ? ORDER BY seq", (id,))
        return tuple(outcome(row) for row in rows)

    def marks(self) -> Iterator[Fact]:
        """Every fact that is not about a single request, oldest first."""
        for kind, body in self._query("SELECT kind, body FROM marks ORDER BY seq"):
            yield mark(kind, body)

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
        replies = sum(row[4] for row in counts if row[0] == REPLIED)
        with explained(self.path):
            ordered = self._connection.execute(
                f"SELECT latency FROM outcomes WHERE kind = ? AND {where} ORDER BY latency", (REPLIED, *parameters)
            )
            latency = latency_of((value for (value,) in ordered), replies)
            ordered.close()
        return _traffic(counts, replies, latency)

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


def _sequence(row: Values) -> int:
    return int(row[-1])


def _traffic(counts: Iterable[Values], replies: int, latency: Latency | None) -> Traffic:
    faults: dict[Any, int] = {}
    finish_reasons: dict[str, int] = {}
    models: dict[str, int] = {}
    retries = unmetered = unpriced = 0
    tokens = [0, 0, 0, 0, 0]
    cost = 0.0
    first: float | None = None
    last: float | None = None
    for kind, fault, finish_reason, model, count, again, no_usage, *sums, no_cost, known, start, end in counts:
        retries += again
        first = start if first is None else min(first, start)
        last = end if last is None else max(last, end)
        if kind != REPLIED:
            faults[FAULT_KINDS[fault]] = faults.get(FAULT_KINDS[fault], 0) + count
            continue
        finish_reasons[finish_reason or ""] = finish_reasons.get(finish_reason or "", 0) + count
        models[model or ""] = models.get(model or "", 0) + count
        unmetered += no_usage
        unpriced += no_cost
        cost += known
        tokens = [total + int(more) for total, more in zip(tokens, sums, strict=True)]
    return Traffic(
        replies,
        faults,
        retries,
        Usage(*tokens),
        unmetered,
        cost,
        unpriced,
        finish_reasons,
        models,
        latency,
        first,
        last,
    )
