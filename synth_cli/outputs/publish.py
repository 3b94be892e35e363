"""Candidates become outputs: all of them, also when the run dies in between.

`Publishing` is recorded once every candidate is complete and durable. From there the moves are only ever rolled
forward: a candidate that is gone has been moved, so doing it all again does no harm. `Published` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth_cli.core.events import Fact, Published, Publishing
from synth_cli.errors import SetupError, SynthError
from synth_cli.outputs.candidate import Candidate
from synth_cli.outputs.places import name_of, put, shown


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an output was made: what a later, lesser run is held against. `at` in seconds since the epoch."""

    rows: int
    simulated: bool = False
    limited: bool = False
    at: float = 0.0


def publish(
    candidates: Sequence[Candidate],
    *,
    run: int,
    provenance: Provenance,
    append: Callable[[Sequence[Fact]], None],
    base: Path,
) -> None:
    """Moves every candidate to its target. `base` is the spec's folder, `append` the ledger's.

    Raises SetupError naming each output that could not be written; those stay candidates, and are tried again by
    `roll_forward`.
    """
    moves = {name_of(candidate.path, base): name_of(candidate.target, base) for candidate in candidates}
    publishing = Publishing(run, moves, asdict(provenance))
    append([publishing])
    refused = roll_forward(publishing, base)
    if refused:
        raise SetupError("\n".join(error.message for error in refused.values()), hint=next(iter(refused.values())).hint)
    append([Published(run)])


def roll_forward(publishing: Publishing, base: Path) -> Mapping[str, SynthError]:
    """Does the moves that are not done yet. Returns the targets that could not be written, with the reason.

    Only when there are none is the publication complete, and the caller records `Published`.
    """
    refused: dict[str, SynthError] = {}
    for source, target in publishing.moves.items():
        candidate = base / source
        if candidate.exists():
            try:
                put(candidate, target, base)
            except SynthError as error:
                refused[target] = error
    return refused


def last_published(target: str, base: Path, *ledgers: Iterable[Fact]) -> Provenance | None:
    """How the file at `target` was made, as far as these ledgers (the real one, the simulated one) know."""
    name = name_of(target, base)
    found: list[Provenance] = []
    for marks in ledgers:
        open_: dict[int, Publishing] = {}
        done: Mapping[str, Any] | None = None
        for mark in marks:
            if isinstance(mark, Publishing):
                open_[mark.run] = mark
            elif isinstance(mark, Published):
                publishing = open_.pop(mark.run, None)
                if publishing is not None and name in publishing.moves.values():
                    done = publishing.facts
        if done is not None:
            found.append(Provenance(**done))
    return max(found, key=lambda provenance: provenance.at, default=None)


def refusal(target: str, existing: Provenance | None, new: Provenance) -> str | None:
    """Why `new` must not replace the file that is there (None: nothing is known of how it was made), or None.

    A simulated run replaces no real output, a limited one no fuller one; a whole, real run replaces anything.
    """
    if not (new.simulated or new.limited):
        return None
    kind = "simulated" if new.simulated else "limited"
    if existing is None:
        return f"{shown(target)} was there before and may be real: a {kind} run does not replace it"
    if new.simulated and not existing.simulated:
        return f"{shown(target)} holds {existing.rows:,} real rows: a simulated run does not replace it"
    # a whole output is fuller than a limited one of as many rows, unless its rows are only simulated
    whole_is_more = not existing.limited and existing.simulated == new.simulated
    if new.limited and existing.rows >= new.rows + (not whole_is_more):
        whole = "" if existing.limited else "all "
        return f"{shown(target)} holds {whole}{existing.rows:,} rows: a limited run does not replace it"
    return None
