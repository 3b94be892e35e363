"""The run's log: one line for what a person would want to know the next morning, not one per row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path


class Journal:
    """Appends lines with the time of day (UTC) to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, line: str) -> None:
        self._file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")

    def close(self) -> None:
        self._file.close()
