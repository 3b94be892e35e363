"""A finished file in the run's folder, on its way to where the user wants it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from synth_cli.errors import SetupError

SAME_NAME = 1000
"""Outputs of one run that may have the same file name, in different folders."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """`path` is complete and durable; `target` is the output path or URL as the spec has it."""

    path: Path
    target: str
    rows: int


class Sink(Protocol):
    """Takes rows in output order, in chunks. Either `close` or `discard` ends it."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raises UsageError for a value that no output can hold, SetupError when the disk refuses."""

    def close(self) -> Candidate: ...

    def discard(self) -> None:
        """Leaves nothing behind. Harmless after `close` or a second time."""


class Draft:
    """A file that has its name only once it is whole: until then it ends in `.partial`."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        name = os.path.basename(target.rstrip("/"))
        self.path, self.partial, self.file = _create(folder, name)

    def finish(self, rows: int) -> Candidate:
        with complaint(self.target):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.partial, self.path)
            sync_folder(self.path.parent)
        return Candidate(self.path, self.target, rows)

    def discard(self) -> None:
        self.file.close()
        self.partial.unlink(missing_ok=True)


@contextmanager
def complaint(target: str) -> Iterator[None]:
    """What the operating system refuses while an output is made, as an error that names the output."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"cannot write {target}: {error.strerror or error}",
            hint="every answer is kept: mend it and run again, or give another place with --output",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes a rename inside it survive a power cut, where the file system lets folders be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _create(folder: Path, name: str) -> tuple[Path, Path, BinaryIO]:
    with complaint(name):
        folder.mkdir(parents=True, exist_ok=True)
        stem, dot, suffix = name.partition(".")
        for number in range(1, SAME_NAME):
            path = folder / (name if number == 1 else f"{stem}-{number}{dot}{suffix}")
            partial = path.with_name(path.name + ".partial")
            if path.exists():
                continue
            try:
                return path, partial, partial.open("xb")
            except FileExistsError:
                continue
    raise SetupError(f"{folder} already holds {SAME_NAME} files named {name}")
