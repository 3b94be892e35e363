"""Rows kept on disk until their columns are known; read back in chunks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from synth_cli.outputs.candidate import complaint

CHUNK_BYTES = 1 << 20
"""Of lines read back at once (at least one line): with what Python makes of them, a few MiB of memory."""


class Spool:
    """Lies beside the candidate until the candidate is made."""

    def __init__(self, target: str, path: Path) -> None:
        self._target = target
        self._path = path
        with complaint(target):
            self._file: BinaryIO = path.open("w+b")

    def add(self, lines: Sequence[bytes]) -> None:
        with complaint(self._target):
            self._file.write(b"".join(lines))

    def chunks(self) -> Iterator[list[bytes]]:
        """All lines from the beginning, in the order in which they were added."""
        self._file.seek(0)
        # readlines stops after the line that reaches the size, and gives [] at the end
        for _ in itertools.count():
            chunk = self._file.readlines(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    def remove(self) -> None:
        self._file.close()
        if os.path.exists(self._path):
            os.unlink(self._path)
