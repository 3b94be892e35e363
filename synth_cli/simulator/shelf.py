"""The files that were uploaded to the simulated model, and those it wrote: on the disk, so that memory stays small."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

INTERNAL = "internal"
"""The purpose of files that no client put here and none sees."""
GEMINI_FILE = "gemini"
HIDDEN = frozenset({INTERNAL, GEMINI_FILE})
"""Purposes that OpenAI's lists do not show."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`created` in seconds since 1970; `more` is what only one protocol knows of a file."""

    id: str
    name: str
    purpose: str
    created: float
    size: int
    more: dict[str, Any] = field(default_factory=dict)


class Shelf:
    """Files by id, newest last. With a folder they are there again after a restart; without one they go at the end."""

    def __init__(self, folder: Path | None) -> None:
        self.kept = folder is not None
        self._folder = folder
        self.known: dict[str, StoredFile] = {}
        if folder is not None:
            (folder / "files").mkdir(parents=True, exist_ok=True)
            (folder / "records").mkdir(exist_ok=True)
        for one in sorted(self.records("file"), key=lambda each: each["created"]):
            self.known[one["id"]] = StoredFile(**one)

    @property
    def folder(self) -> Path:
        # most servers never see a file: they leave no trace on the disk
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="synth-simulator-"))
            (self._folder / "files").mkdir()
        return self._folder

    def path(self, name: str) -> Path:
        # ids may hold slashes: they never become folders
        return self.folder / "files" / name.replace("/", "_")

    def open(self) -> tuple[str, BinaryIO]:
        """(a token, a file to write to); `keep` makes a stored file of it."""
        token = "new-" + secrets.token_hex(12)
        return token, self.path(token).open("wb", buffering=1 << 18)

    def keep(
        self,
        token: str,
        name: str,
        *,
        file_id: str,
        purpose: str,
        created: float,
        more: dict[str, Any] | None = None,
    ) -> StoredFile:
        size = self.path(token).stat().st_size
        self.path(token).replace(self.path(file_id))
        stored = StoredFile(file_id, name, purpose, created, size, more or {})
        self.known[file_id] = stored
        self.record("file", file_id, asdict(stored))
        return stored

    def drop(self, token: str) -> None:
        self.path(token).unlink(missing_ok=True)

    def delete(self, file_id: str) -> bool:
        """Whether there was such a file."""
        if self.known.pop(file_id, None) is None:
            return False
        self.drop(file_id)
        self.forget("file", file_id)
        return True

    def record(self, kind: str, name: str, value: dict[str, Any]) -> None:
        """Writes what a restarted server needs to know; nothing where nothing is kept."""
        if self.kept:
            path = self.place(kind, name)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
            os.replace(fresh, path)

    def records(self, kind: str) -> Iterator[dict[str, Any]]:
        if self.kept:
            for path in (self.folder / "records").glob(f"{kind}-*.json"):
                yield orjson.loads(path.read_bytes())

    def forget(self, kind: str, name: str) -> None:
        if self.kept:
            self.place(kind, name).unlink(missing_ok=True)

    def place(self, kind: str, name: str) -> Path:
        return self.folder / "records" / f"{kind}-{name.replace('/', '_')}.json"

    def close(self) -> None:
        if self._folder is None:
            return
        for path in (self._folder / "files").glob("new-*"):
            with suppress(OSError):
                path.unlink()
        if not self.kept:
            shutil.rmtree(self._folder, ignore_errors=True)
