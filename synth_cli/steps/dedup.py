"""`type: dedup`: of rows that are equal in some columns, or in all, the first one stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from synth_cli.core.row import Row
from synth_cli.spec.model import Step
from synth_cli.steps.scratch import By, content_of, table

TABLES = "CREATE TABLE seen (content BLOB PRIMARY KEY) WITHOUT ROWID;"


class Exact:
    """`method: exact`. Values are equal if their JSON is, whatever the order of a mapping's keys."""

    def __init__(self, step: Step) -> None:
        self._name, self._by = step.name, step.by
        self.left_out = 0

    def rows(self, rows: Iterator[Row], scratch: Path) -> Iterator[Row]:
        """Each row that is the first of its equals, as soon as it comes."""
        self.left_out = 0
        by = By(self._name, self._by)
        with table(scratch, TABLES) as seen:
            for row in rows:
                content = content_of(by.of(row.values))
                if seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (content,)).rowcount:
                    yield row
                else:
                    self.left_out += 1
        by.complete()
