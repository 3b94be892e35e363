"""The lines of a batch's file, and the files that its results are written to."""

from __future__ import annotations

import asyncio
import mmap
from array import array
from collections.abc import Callable, Sequence
from typing import BinaryIO

import orjson

from synth_cli.simulator.batch import Batch, Dialect, Stage
from synth_cli.simulator.draw import mix
from synth_cli.simulator.shelf import Shelf

GROUP = 64


class Lines:
    """The lines of a stored file that are not blank, by place in the order of working."""

    def __init__(self, shelf: Shelf, file_id: str) -> None:
        self.size = shelf.path(file_id).stat().st_size
        self.file = shelf.path(file_id).open("rb")
        # an empty file cannot be mapped
        self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None
        self.starts = array("Q")
        self.ends = array("Q")
        self.order: Sequence[int] = ()
        self.find()

    def find(self) -> None:
        if self.map is None:
            return
        start = 0
        while start < self.size:
            end = self.map.find(b"\n", start)
            end = self.size if end < 0 else end
            if self.map[start:end].strip():
                self.starts.append(start)
                self.ends.append(end)
            start = end + 1
        self.order = range(len(self.starts))

    def shuffle(self, seed: int) -> None:
        self.order = array("Q", sorted(range(len(self.starts)), key=lambda number: mix(number ^ mix(seed))))

    def __len__(self) -> int:
        return len(self.starts)

    def number(self, place: int) -> int:
        return self.order[place]

    def __getitem__(self, place: int) -> bytes:
        assert self.map is not None
        number = self.order[place]
        return self.map[self.starts[number] : self.ends[number]]

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self.map is not None:
            self.map.close()
        self.file.close()


class Results:
    """The result and error files of a batch, while they are written."""

    def __init__(self, shelf: Shelf, batch: Batch, dialect: Dialect, now: Callable[[], float]) -> None:
        self.shelf = shelf
        self.batch = batch
        self.dialect = dialect
        self.now = now
        self.tokens: list[str] = []
        self.good = self.open()
        self.bad = self.good if dialect.one_file else self.open()
        self.late: list[bytes] = []

    def open(self) -> BinaryIO:
        token, file = self.shelf.open()
        self.tokens.append(token)
        return file

    async def rest(self, lines: Lines, ending: Stage) -> None:
        """What comes at the end: results given again, and word of the requests that were never worked on."""
        self.good.writelines(self.late)
        batch = self.batch
        while batch.worked + batch.dropped < batch.total:
            place = batch.worked + batch.dropped
            key = self.dialect.line(orjson.loads(lines[place]), batch).key
            self.bad.write(self.dialect.dropped(key, ending, lines.number(place)))
            batch.dropped += 1
            if place % GROUP == 0:
                await asyncio.sleep(0)

    def keep(self) -> tuple[str | None, str | None]:
        """The ids of both files; a file without a line is none."""
        found: list[str | None] = []
        for token, file, kind in zip(self.tokens, (self.good, self.bad), ("output", "error"), strict=False):
            file.close()
            if self.shelf.path(token).stat().st_size:
                name = f"{self.batch.id.replace('/', '_')}_{kind}.jsonl"
                file_id = self.dialect.make_file()
                found.append(
                    self.shelf.keep(token, name, file_id=file_id, purpose=self.dialect.purpose, created=self.now()).id
                )
            else:
                found.append(None)
        return found[0], found[1] if len(found) > 1 else None

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        for token, file in zip(self.tokens, (self.good, self.bad), strict=False):
            file.close()
            self.shelf.drop(token)
