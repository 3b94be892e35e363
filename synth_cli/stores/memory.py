"""A ledger that keeps nothing: for plans of jobs that have none yet, for tests, and to say plainly what one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from synth_cli.core.events import Fact, Faulted, Opening, Outcome, Replied, RoundOpened, RunOpened
from synth_cli.core.figures import Traffic, traffic_of
from synth_cli.core.request import Message
from synth_cli.core.rounds import Rounds, fold_marks
from synth_cli.core.state import History, fold


class MemoryLedger:
    """A `core.ports.Ledger` that behaves as `SqliteLedger` does, without the disk."""

    def __init__(self) -> None:
        self.warnings: tuple[str, ...] = ()
        self._outcomes: list[tuple[Outcome, int, int]] = []
        self._marks: list[Fact] = []
        self._openings: dict[str, Opening] = {}
        self._run = 0
        self._round = 1

    def begin(self, round: int, run: int = 0) -> None:
        self._round, self._run = round, run

    def append(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, Replied | Faulted):
                self._outcomes.append((fact, self._run, self._round))
                continue
            if isinstance(fact, Opening):
                self._openings[fact.key] = fact
                self._marks.append(replace(fact, ids=(), messages={}))
                continue
            self._marks.append(fact)
            if isinstance(fact, RunOpened):
                self.begin(fact.round, fact.run)
            elif isinstance(fact, RoundOpened):
                self.begin(fact.round, self._run)

    def histories(self, ids: Sequence[bytes]) -> Mapping[bytes, History]:
        known: dict[bytes, list[tuple[Outcome, bool]]] = {}
        wanted = set(ids)
        for outcome, _, round in self._outcomes:
            if outcome.id in wanted:
                known.setdefault(outcome.id, []).append((outcome, round == self._round))
        return {id: fold(outcomes) for id, outcomes in known.items()}

    def attempts(self, id: bytes) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome, _, _ in self._outcomes if outcome.id == id)

    def marks(self) -> Iterator[Fact]:
        yield from tuple(self._marks)

    def ids_in(self, key: str) -> Iterator[bytes]:
        if key in self._openings:
            yield from self._openings[key].ids

    def messages_in(self, key: str, ids: Sequence[bytes]) -> Mapping[bytes, tuple[Message, ...]]:
        messages = self._openings[key].messages if key in self._openings else {}
        return {id: messages[id.hex()] for id in ids if id.hex() in messages}

    def pending(self, ids: Sequence[bytes]) -> set[bytes]:
        held = {id for key in self.standing().pending for id in self._openings[key].ids}
        return held.intersection(ids)

    def outcomes_in(self, key: str, ids: Sequence[bytes]) -> set[bytes]:
        return {outcome.id for outcome, _, _ in self._outcomes if outcome.batch == key}.intersection(ids)

    def standing(self) -> Rounds:
        return fold_marks(self._marks)

    def spent(self, round: int) -> tuple[float, int]:
        outcomes = [outcome for outcome, _, its in self._outcomes if its == round]
        cost, tokens = self.standing().reserved(round, besides=self._run)
        return (
            sum(outcome.spent or 0.0 for outcome in outcomes) + cost,
            sum(outcome.spent_tokens for outcome in outcomes) + tokens,
        )

    def traffic(self, *, run: int | None = None, round: int | None = None, step: str | None = None) -> Traffic:
        return traffic_of(
            [
                outcome
                for outcome, its_run, its_round in self._outcomes
                if run in {None, its_run} and round in {None, its_round} and step in {None, outcome.step}
            ]
        )

    def close(self) -> None:
        """Nothing to close."""
