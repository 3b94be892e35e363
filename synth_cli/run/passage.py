"""One pass over a job in the order of its input, lazily: through every step, as far as answers are known.

Rows are pulled in chunks. What becomes of each is the visitor's to say: one that asks takes note of what is open, one
that writes counts and writes. A row that is not there yet leaves a gap; a step that needs all rows waits for those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Protocol, TypeAlias

from synth_cli.compile.flow import INPUT
from synth_cli.core.row import Finished, Row, derived
from synth_cli.core.values import encode
from synth_cli.run.stage import Begun, EachStage, ModelStage, Seen, Stage, WholeStage
from synth_cli.stores.worksheet import Worksheet

CHUNK = 128

Chunks: TypeAlias = Iterator[list[Row]]
"""Rows as they come; an empty list where time went by without one."""


class Visitor(Protocol):
    """What a pass is made for."""

    asking: bool
    """Whether the pass is made before asking, when `--retry-failed` has a say."""

    def read(self, rows: Sequence[Row]) -> None:
        """Rows of the input."""

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        """What a row becomes in a step with a model; None: it is not there yet."""

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None: ...

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        """A step that needed all rows took so many, made so many of them, and left out some."""

    def gap(self, stage: WholeStage, rows: int) -> bool:
        """Only so many rows are there for a step that needs all; whether it goes on without the others."""


@dataclass(slots=True)
class Bound:
    """How many rows of the input are read; None: all."""

    rows: int | None = None


@dataclass(frozen=True)
class Chain:
    """The steps that lead to the output, joined. `source` reads the input from its beginning, given a name for what it
    counts equal rows under."""

    stages: Mapping[str, Stage]
    last: str
    source: Callable[[str], Iterator[Row]]
    worksheet: Worksheet
    scratch: Path
    wanted: Container[int] | None = None
    """The indexes of the rows that this run is about; None: all. The others go along where they tell equals apart."""
    bound: Bound = field(default_factory=Bound)
    made: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Steps whose rows the latest first pass kept: how many they took, made, and left out."""
    passes: Counter[str] = field(default_factory=Counter)

    def readers(self, name: str) -> list[Stage]:
        """The steps that take the rows of a step."""
        return [stage for stage in self.stages.values() if name in stage.plan.sources]

    def first(self, visitor: Visitor) -> Passage:
        """A pass that reads the input and keeps its rows, for another that goes over the same."""
        self.worksheet.clear()
        self.made.clear()
        return self._passage(visitor, again=False)

    def again(self, visitor: Visitor) -> Passage:
        """A pass over the rows that the latest first one read, however far it came."""
        return self._passage(visitor, again=True)

    def _passage(self, visitor: Visitor, *, again: bool) -> Passage:
        self.passes["all"] += 1
        return Passage(self, visitor, f"{self.passes['all']}/", again=again)


class Passage:
    """Made by a chain, gone through once."""

    def __init__(self, chain: Chain, visitor: Visitor, prefix: str, *, again: bool) -> None:
        self._chain = chain
        self._visitor = visitor
        self._prefix = prefix
        self._again = again
        self._kept: set[str] = set()
        self._gaps: set[str] = set()
        self._reader = ""

    def rows(self) -> Chunks:
        """The rows of the last step."""
        yield from self._of(self._chain.last, "")

    def gapped(self, name: str) -> bool:
        """Whether rows are missing at a step or before it."""
        if name == INPUT:
            return False
        return name in self._gaps or any(self.gapped(source) for source in self._chain.stages[name].plan.sources)

    def _of(self, name: str, reader: str) -> Chunks:
        if name == INPUT:
            yield from self._input(reader)
        elif len(self._chain.readers(name)) > 1:
            yield from self._shared(name)
        else:
            yield from self._made(self._chain.stages[name])

    def _upstream(self, stage: Stage) -> Chunks:
        for source in stage.plan.sources:
            for chunk in self._of(source, stage.name):
                # one answer may become any number of rows, and each of these again
                for start in range(0, len(chunk) or 1, CHUNK):
                    yield coming(source, stage, chunk[start : start + CHUNK])

    def _input(self, reader: str) -> Chunks:
        """The input's rows, kept the first time that they are read in a first pass."""
        worksheet, key = self._chain.worksheet, f"{INPUT}/{reader}"
        keep = not keeps(self._chain.stages[reader])
        rows: Iterator[Row]
        if self._again and keep:
            rows = (row for row, _, _ in worksheet.rows(key))
        else:
            rows = islice(self._chain.source(f"{self._prefix}{key}"), self._chain.bound.rows)
        while chunk := list(islice(rows, CHUNK)):
            if keep:
                self._count(reader, chunk)
                if not self._again:
                    worksheet.add(chunk, step=key)
            yield chunk

    def _count(self, reader: str, rows: Sequence[Row]) -> None:
        """Each row of the input counts once, however many steps begin with it."""
        self._reader = self._reader or reader
        if self._reader == reader:
            self._visitor.read([row for row in rows if self._wanted(row)])

    def _wanted(self, row: Row) -> bool:
        return self._chain.wanted is None or row.index in self._chain.wanted

    def _shared(self, name: str) -> Chunks:
        """Rows that several steps take: made once, and kept."""
        key = f"{self._prefix}{name}"
        if name not in self._kept:
            self._kept.add(name)
            for chunk in self._made(self._chain.stages[name]):
                self._chain.worksheet.add(chunk, step=key)
                yield []
        yield from self._stored(key)

    def _stored(self, key: str) -> Chunks:
        yield from _chunks(row for row, _, _ in self._chain.worksheet.rows(key))

    def _made(self, stage: Stage) -> Chunks:
        if isinstance(stage, ModelStage):
            yield from self._asked(stage)
        elif isinstance(stage, EachStage):
            for chunk in self._upstream(stage):
                made: list[Row] = []
                for row in chunk:
                    finished = stage.finish(row)
                    if self._wanted(row):
                        self._visitor.each(stage, row, finished)
                    made += children(row, finished)
                    if len(made) >= CHUNK:
                        yield made
                        made = []
                yield made
        else:
            yield from self._all(stage)

    def _asked(self, stage: ModelStage) -> Chunks:
        visitor = self._visitor
        for begun in self._begun(stage):
            made: list[Row] = []
            for seen in stage.look(begun, asking=visitor.asking):
                finished = visitor.model(stage, seen)
                if finished is None:
                    self._gaps.add(stage.name)
                else:
                    made += children(seen.row, finished)
                if len(made) >= CHUNK:
                    yield made
                    made = []
            yield made

    def _begun(self, stage: ModelStage) -> Iterator[list[Begun]]:
        """The step's rows with their requests. Those of the input are kept with them, so that it is read once."""
        keep = keeps(stage)
        if keep and self._again:
            rows = self._chain.worksheet.rows(stage.name)
            while chunk := list(islice(rows, CHUNK)):
                self._count(stage.name, [row for row, _, _ in chunk])
                yield [Begun(row, ids=tuple(ids), refused=fault) for row, ids, fault in chunk]
            return
        for fresh in self._upstream(stage):
            begun = stage.begin(fresh, space=f"{self._prefix}{stage.name}")
            if keep:
                self._count(stage.name, [one.row for one in begun])
                self._keep(stage.name, begun)
            yield begun

    def _keep(self, name: str, begun: Sequence[Begun]) -> None:
        worksheet = self._chain.worksheet
        places = worksheet.add([one.row for one in begun], step=name)
        both = list(zip(places, begun, strict=True))
        worksheet.bind([(place, one.ids) for place, one in both if one.refused is None], step=name)
        refused = [(place, one.refused) for place, one in both if one.refused is not None]
        if refused:
            worksheet.fail(refused, step=name)

    def _all(self, stage: WholeStage) -> Chunks:
        """All rows of the steps before are kept, then handed to the step."""
        chain, worksheet = self._chain, self._chain.worksheet
        if self._again and stage.name in chain.made:
            # what became of the rows before is told in each pass
            for _ in self._upstream(stage):
                yield []
            yield from self._stored(f"{stage.name}>")
            self._visitor.whole(stage, *chain.made[stage.name])
            return
        key = f"{self._prefix}>{stage.name}"
        digest = blake2b(digest_size=16)
        for chunk in self._upstream(stage):
            worksheet.add(chunk, step=key)
            if stage.kept is not None:
                for row in chunk:
                    digest.update(b"%b %b\n" % (row.id, encode(row.values)))
            yield []
        gapped = any(self.gapped(source) for source in stage.plan.sources)
        if gapped and not self._visitor.gap(stage, worksheet.count(key)):
            self._gaps.add(stage.name)
            return
        made = 0
        for chunk in self._through(stage, key, digest.digest()):
            made += len(chunk)
            if chunk and not self._again:
                worksheet.add(chunk, step=f"{stage.name}>")
            yield chunk
        counts = worksheet.count(key), made, stage.whole.left_out
        if not self._again:
            chain.made[stage.name] = counts
        self._visitor.whole(stage, *counts)

    def _through(self, stage: WholeStage, key: str, digest: bytes) -> Chunks:
        """What the step makes of the rows under this key, which have this digest; or what it made of them before."""
        spool = None if stage.kept is None else stage.kept(digest)
        if spool is None or not spool.complete:
            with _folder(self._chain.scratch) as folder:
                rows = stage.whole.rows((row for row, _, _ in self._chain.worksheet.rows(key)), folder)
                if spool is None:
                    yield from _chunks(rows)
                else:
                    for _ in spool.writing(rows):
                        yield []
        if spool is not None:
            yield from _chunks(spool.rows())


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """An empty folder while it is needed. A pass may be left halfway, which is nothing to warn of."""
    path = Path(mkdtemp(prefix="step-", dir=parent))
    try:
        yield path
    finally:
        rmtree(path, ignore_errors=True)


def _chunks(rows: Iterator[Row]) -> Chunks:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def coming(source: str, stage: Stage, rows: list[Row]) -> list[Row]:
    """Rows of one source as a step takes them: what comes to it by two ways is two rows.

    Those that can only have come by one way stay who they are, so that a source more asks nothing again.
    """
    if source not in stage.ways:
        return rows
    way = source.encode()
    return [Row(row.index, blake2b(row.id + way, digest_size=len(row.id)).digest(), row.values) for row in rows]


def keeps(stage: Stage) -> bool:
    """Whether a step keeps the input's rows itself, with the requests that they became."""
    return isinstance(stage, ModelStage) and stage.plan.sources == (INPUT,)


def children(row: Row, finished: Finished) -> list[Row]:
    """The rows that a row became."""
    ids = finished.ids or [derived(row.id, ordinal) for ordinal in range(len(finished.rows))]
    return [Row(row.index, id, values) for id, values in zip(ids, finished.rows, strict=True)]
