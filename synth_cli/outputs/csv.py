"""CSV: a header, then a line per row. null is an empty cell; lists and mappings are JSON text, bytes base64."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_cli.outputs.candidate import Candidate, Draft, complaint
from synth_cli.outputs.encode import key, lines, text
from synth_cli.outputs.spool import Spool


class Csv:
    """Rows may have different columns, so the header is known only when all have come."""

    def __init__(self, target: str, folder: Path, expected: Sequence[str] = ()) -> None:
        self._draft = Draft(target, folder)
        self._spool = Spool(target, self._draft.path.with_name(self._draft.path.name + ".spool"))
        self._expected = expected
        self._names: dict[str, None] = {}
        self._rows = 0

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._spool.add(lines(rows))
        for row in rows:
            # most rows have the columns of the one before
            if not row.keys() <= self._names.keys():
                self._names.update((key(name), None) for name in row)
        self._rows += len(rows)

    def close(self) -> Candidate:
        names = list(self._names | dict.fromkeys(self._expected))
        page = _Page()
        # with this terminator a lone \r in a cell is quoted as well; the page ends its lines in \n
        writer = csv.writer(page, lineterminator="\r\n")
        with complaint(self._draft.target):
            if names:
                writer.writerow(names)
            self._draft.file.write(page.turn())
            for chunk in self._spool.chunks():
                for line in chunk:
                    # orjson would read integers beyond 64 bits as floats
                    row = json.loads(line)
                    writer.writerow([_cell(row.get(name)) for name in names])
                self._draft.file.write(page.turn())
        candidate = self._draft.finish(self._rows)
        self._spool.remove()
        return candidate

    def discard(self) -> None:
        self._draft.discard()
        self._spool.remove()


class _Page:
    """Takes the records that a csv writer makes, one a call."""

    def __init__(self) -> None:
        self._records: list[str] = []

    def write(self, record: str) -> None:
        self._records.append(record[:-2])
        self._records.append("\n")

    def turn(self) -> bytes:
        data = "".join(self._records).encode()
        self._records.clear()
        return data


def _cell(value: Any) -> Any:
    if type(value) is str:
        return value
    return None if value is None else text(value)
