"""`synth merge`: the outputs of all shards of a job become the output that a run of the whole would have written.

Each row's mark says which input row it came from, so the parts can be of any format (CSV only where it is to be CSV
again) and any name; one row of each is in memory at a time. What is missing, doubled, of another split or another run
is found before anything is written, as far as the first rows and the names of empty files tell, and otherwise before
the output appears.
"""

from __future__ import annotations

import heapq
import os
import resource
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from synth_cli.compile.inputs import known_columns
from synth_cli.compile.inputs.sources import rows_of
from synth_cli.errors import SetupError, UsageError
from synth_cli.outputs.places import check, local_path, put
from synth_cli.outputs.sinks import sink, suffix_of
from synth_cli.report.words import counted
from synth_cli.run.marks import Mark, mark_of
from synth_cli.run.sharding import MARK, Shard
from synth_cli.spec.addresses import is_url
from synth_cli.spec.model import SUFFIXES, Input

CHUNK = 512
SPARE = 64
"""Open files that are not parts."""
NO_MARK = "give the files that `synth run --shard` wrote, each once"


@dataclass(frozen=True, slots=True)
class Merged:
    rows: int
    shards: int


@dataclass(frozen=True, slots=True)
class Part:
    """One file. An empty one has no `first` mark; `shard` is None if its name does not tell either."""

    path: str
    shard: Shard | None
    rows: Iterator[Mapping[str, Any]]
    first: Mark | None = None


def merge(out: str, paths: Sequence[str]) -> Merged:
    """Writes `out` from the outputs of all shards, in input order, whole or not at all.

    Raises UsageError where the parts are not exactly one whole, SetupError where `out` cannot be written.
    """
    here = Path.cwd()
    _distinct(out, paths, here)
    _typed(out, paths)
    check(out, here)
    _all_open(len(paths))
    parts = [_part(path, here) for path in paths]
    shards = _whole(parts)
    columns = tuple(sorted(_columns(paths, here)))
    with tempfile.TemporaryDirectory(prefix=".synth-merge-", dir=_beside(out, here)) as folder:
        made = sink(out, Path(folder), expected=columns)
        try:
            rows = heapq.merge(*(_numbered(part) for part in parts), key=itemgetter(0))
            while chunk := [row for _, row in islice(rows, CHUNK)]:
                made.write(chunk)
            candidate = made.close()
        finally:
            made.discard()
        put(candidate.path, out, here)
    return Merged(candidate.rows, shards)


def _all_open(files: int) -> None:
    """Parts are read side by side: the usual 1,024 open files may be too few. Raises SetupError for too low a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SetupError(f"{files:,} parts, and only {hard:,} files may be open at once", hint=f"ulimit -Hn {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _distinct(out: str, paths: Sequence[str], here: Path) -> None:
    if suffix_of(out) is None:
        raise UsageError(f"{out}: the suffix says the format, and this is none", hint=f"one of {', '.join(SUFFIXES)}")
    places = [out, *paths]
    seen: set[str] = set()
    for path in places:
        at = str(local_path(path, here) or path)
        if at in seen:
            what = "the output is also a part" if path == out else "given twice"
            raise UsageError(f"{path}: {what}", hint="the first name is the output, the others are the parts")
        seen.add(at)


def _typed(out: str, paths: Sequence[str]) -> None:
    for path in paths:
        if suffix_of(path) == ".csv" and suffix_of(out) != ".csv":
            raise UsageError(
                f"{path}: CSV has no types, so numbers and lists would be texts in {out}",
                hint="merge it into a .csv, or give output.path a .jsonl or .parquet and run the shards again",
            )


def _part(path: str, here: Path) -> Part:
    at = local_path(path, here)
    if at is not None and not at.is_file():
        raise UsageError(f"{path}: there is no such file", hint=_run_first(Shard.named(path)))
    if suffix_of(path) is None:
        raise UsageError(f"{path}: no output of a shard", hint=f"their names end in {', '.join(SUFFIXES)}")
    rows: Iterator[Mapping[str, Any]] = iter(rows_of(_source(path), here))
    first = next(rows, None)
    if first is None:
        return Part(path, Shard.named(path), iter(()))
    found = mark_of(first.get(MARK))
    if found is None:
        raise UsageError(f"{path}: row 1 has no mark of a shard in the column {MARK}", hint=NO_MARK)
    return Part(path, found.shard, chain([first], rows), found)


def _source(path: str) -> Input:
    return Input.model_construct(_fields_set={"path"}, path=path)


def _whole(parts: Sequence[Part]) -> int:
    """How many shards there are: all of one run and one split, each once."""
    begun = [(part.path, part.first.whole) for part in parts if part.first is not None]
    for path, whole in begun:
        if whole != begun[0][1]:
            raise UsageError(
                f"{begun[0][0]} is part of the run '{begun[0][1]}' and {path} of '{whole}'",
                hint="run all shards of one job alike, with the same --limit or none",
            )
    known: dict[Shard, str] = {}
    for part in parts:
        if part.shard is None:
            continue
        for other, path in known.items():
            if other.of != part.shard.of:
                raise UsageError(
                    f"{path} is shard {other} and {part.path} is shard {part.shard}: parts of different splits",
                    hint="run all shards with the same n",
                )
        if part.shard in known:
            raise UsageError(f"{known[part.shard]} and {part.path} are both shard {part.shard}", hint=NO_MARK)
        known[part.shard] = part.path
    # an empty file under another name is one of those that are not seen
    nameless = len(parts) - len(known)
    of = next(iter(known)).of if known else nameless
    missing = [Shard(number, of) for number in range(1, of + 1) if Shard(number, of) not in known]
    if len(missing) > nameless:
        said = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        raise UsageError(f"{counted(len(missing) - nameless, 'shard')} missing: {said}", hint=_run_first(missing[0]))
    if len(missing) < nameless:
        raise UsageError(f"{len(parts)} parts, but the job has {of}", hint=NO_MARK)
    return of


def _run_first(shard: Shard | None) -> str:
    return NO_MARK if shard is None else f"run it first: synth run SPEC --shard {shard}"


def _numbered(part: Part) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """The rows without their marks, each with what sorts it."""
    before = ("", -1)
    for number, marked in enumerate(part.rows, 1):
        row = dict(marked)
        found = mark_of(row.pop(MARK, None))
        if found is None or part.first is None or (found.shard, found.whole) != (part.shard, part.first.whole):
            what = "no mark of a shard" if found is None else f"the mark of shard {found.shard} of '{found.whole}'"
            raise UsageError(f"{part.path}: row {number} has {what} in the column {MARK}", hint=NO_MARK)
        order = (found.place, found.index)
        if order < before or found.index not in found.shard:
            raise UsageError(
                f"{part.path}: row {number} comes from input row {found.index}, out of its order",
                hint="give the file as the run wrote it",
            )
        before = order
        yield order, row


def _columns(paths: Iterable[str], here: Path) -> set[str]:
    """Columns that the output has even without a row: those that tables without rows name."""
    names: set[str] = set()
    for path in paths:
        if suffix_of(path) in (".csv", ".parquet"):
            names |= known_columns(_source(path), folder=here) or frozenset()
    return names - {MARK}


def _beside(out: str, here: Path) -> Path | None:
    """Where a rename into place is one step; None for a URL."""
    at = None if is_url(out) else local_path(out, here)
    return None if at is None else next(folder for folder in at.parents if os.path.isdir(folder))
