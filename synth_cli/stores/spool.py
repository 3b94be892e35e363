"""Rows of a source that may change between two readings, read once when a round starts and kept until it closes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synth_cli.core.row import Row
from synth_cli.core.values import decode, encode
from synth_cli.stores.schema import explained_disk

CHUNK = 128


@dataclass(frozen=True, slots=True)
class Spool:
    """A file of one row a line: index, id in hex, values. It is there whole or not at all."""

    path: Path

    @property
    def complete(self) -> bool:
        return self.path.exists()

    def write(self, rows: Iterable[Row]) -> None:
        """Keeps rows, however many; what an earlier attempt left is replaced."""
        for _ in self.writing(rows):
            pass

    def writing(self, rows: Iterable[Row]) -> Iterator[None]:
        """The same in pieces, for who has other things to do meanwhile. It is there once this has come to its end."""
        fresh = self.path.with_name(self.path.name + ".new")
        with explained_disk(self.path):
            file = fresh.open("wb", buffering=1 << 20)
        with file:
            for count, row in enumerate(rows, 1):
                line = b"%d %s %s\n" % (row.index, row.id.hex().encode(), encode(row.values))
                with explained_disk(self.path):
                    file.write(line)
                if count % CHUNK == 0:
                    yield
            with explained_disk(self.path):
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(self.path)

    def rows(self) -> Iterator[Row]:
        """The rows in the order they were written."""
        with self.path.open("rb", buffering=1 << 20) as file:
            for line in file:
                index, id, values = line.split(b" ", 2)
                yield Row(int(index), bytes.fromhex(id.decode()), decode(values))

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
