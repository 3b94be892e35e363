"""Where a job's state lives: `.synth/<name>/` beside its spec, with the ledger, the lock and a folder for each run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any, Self

import orjson

from synth_cli.errors import UsageError
from synth_cli.stores.lock import Holder, holder, locked
from synth_cli.stores.schema import explained_disk
from synth_cli.stores.spool import Spool

HOME = ".synth"
RECORD = "job.json"
RUN_NAME = re.compile(r"(\d+)-\d{8}T\d{6}Z")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's files. `relative` is its path from the state folder, as `RunOpened` keeps it."""

    path: Path
    relative: str

    @property
    def plan_path(self) -> Path:
        return self.path / "plan.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.json"

    @property
    def log_path(self) -> Path:
        return self.path / "run.log"

    @property
    def failed_path(self) -> Path:
        return self.path / "failed.jsonl"

    @property
    def worksheet_path(self) -> Path:
        return self.path / "worksheet.sqlite"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """`path` is the job's folder; a simulated job keeps ledger and runs in `simulated/` within it.

    Nothing is made before `lock` is taken, so that commands that only read leave no trace.
    """

    path: Path
    spec: Path
    name: str
    simulated: bool = False

    @classmethod
    def locate(cls, spec: Path, name: str, state_dir: Path | None = None, *, simulated: bool = False) -> Self:
        """The state of a spec's job. Raises UsageError if the folder belongs to another spec, or the spec seems to
        be a renamed one whose state would be left behind."""
        spec = spec.parent.resolve() / spec.name
        base = spec.parent / HOME if state_dir is None else state_dir.resolve()
        found = cls(base / name, spec, name, simulated)
        found._check()
        return found

    @property
    def root(self) -> Path:
        return self.path / "simulated" if self.simulated else self.path

    @property
    def ledger_path(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    @contextmanager
    def lock(self, *, clock: Callable[[], float] = time.time) -> Iterator[None]:
        """Holds the job, after making its folder. Raises Locked if another run has it."""
        with explained_disk(self.path):
            self.root.mkdir(parents=True, exist_ok=True)
            self._ignore()
        with locked(self.lock_path, self.name, now=clock()):
            # again, now that nobody else can write it
            self._check()
            with explained_disk(self.path):
                _replace(self.path / RECORD, orjson.dumps(self._record(), option=orjson.OPT_INDENT_2))
            yield

    def holder(self) -> Holder | None:
        """Who runs the job now; None if nobody is known to."""
        return holder(self.lock_path)

    def new_run(self, number: int, at: float) -> RunFolder:
        """Makes the folder of a run that begins at `at` (seconds since the epoch)."""
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self.root / "runs" / f"{number}-{stamp}"
        with explained_disk(path):
            path.mkdir(parents=True, exist_ok=True)
        return self._run_folder(path)

    def run_folder(self, relative: str) -> RunFolder:
        """The folder that a `RunOpened` names."""
        return RunFolder(self.path / relative, relative)

    def last_run(self) -> RunFolder | None:
        """The latest run's folder, if it is still there."""
        runs = self.root / "runs"
        numbered = [
            (int(match[1]), path)
            for path in (runs.iterdir() if runs.is_dir() else ())
            if (match := RUN_NAME.fullmatch(path.name))
        ]
        return self._run_folder(max(numbered)[1]) if numbered else None

    def spool(self, round: int, key: bytes = b"") -> Spool:
        """Rows that could be others if they were had again: of a volatile source or of the user's function, in a
        round. `key` tells them apart."""
        name = f"rows-{round}-{key.hex()}" if key else f"rows-{round}"
        return Spool(self.root / f"{name}.jsonl")

    def drop_spools(self, *, besides: int | None = None) -> None:
        """Deletes the rows kept for rounds other than this one."""
        for path in self.root.glob("rows-*.jsonl*"):
            if besides is None or not re.match(rf"rows-{besides}[-.]", path.name):
                path.unlink(missing_ok=True)

    def drop_leftovers(self) -> None:
        """Deletes what runs that were killed had no time to: worksheets, steps' folders, batches' files and half of a
        candidate."""
        for pattern in ("runs/*/worksheet.sqlite*", "runs/*/*.partial", "runs/*/synth-*.jsonl"):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)
        for path in self.root.glob("runs/*/step-*"):
            rmtree(path, ignore_errors=True)

    def _run_folder(self, path: Path) -> RunFolder:
        return RunFolder(path, path.relative_to(self.path).as_posix())

    def _record(self) -> dict[str, Any]:
        # the way from the folder to the spec: it stays the same when the two are moved together
        return {"spec": os.path.relpath(self.spec, self.path.parent), **_signs(self.spec)}

    def _ignore(self) -> None:
        # a folder that the user names may hold other things, so there only our own part is kept from git
        ours = self.path.parent if self.path.parent.name == HOME else self.path
        ignore = ours / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def _check(self) -> None:
        record = _read(self.path / RECORD)
        if record is None:
            self._check_renamed()
            return
        other = _spec_of(record, self.path)
        if other == self.spec:
            return
        if other.exists():
            raise UsageError(
                f"{self.path} is the state of {other}, not of {self.spec}: two specs have the name '{self.name}'",
                hint=f"give one of them another name (`name: {self.spec.stem}-2`), or its own --state-dir",
            )
        raise UsageError(
            f"{self.path} is the state of {other}, which is gone; is {self.spec} the same job, renamed?",
            hint=f"to go on with its answers: rm '{self.path / RECORD}'; for a new job, give the spec another `name:`",
        )

    def _check_renamed(self) -> None:
        """Without a `name:` the file's name is the job's: a renamed file would silently pay for everything again."""
        if self.name != self.spec.stem or not self.path.parent.is_dir():
            return
        mine = _signs(self.spec)
        for place in sorted(self.path.parent.glob(f"*/{RECORD}")):
            record = _read(place) or {}
            alike = any(mine.get(sign) is not None and mine[sign] == record.get(sign) for sign in ("file", "edited"))
            if alike and not _spec_of(record, place.parent).exists():
                raise UsageError(
                    f"{self.spec} seems to be {_spec_of(record, place.parent).name}, renamed; its answers are in "
                    f"{place.parent}",
                    hint=f"to go on with them: mv '{place.parent}' '{self.path}' && rm '{self.path / RECORD}'; "
                    f"for a new job, give the spec a `name:` of its own",
                )


def _spec_of(record: dict[str, Any], folder: Path) -> Path:
    return Path(os.path.normpath(folder.parent / str(record.get("spec", ""))))


def _signs(spec: Path) -> dict[str, Any]:
    """What a file keeps when it is renamed: its place on the disk, or its size and time of change."""
    try:
        found = spec.stat()
    except OSError:
        return {}
    return {"file": [found.st_dev, found.st_ino], "edited": [found.st_size, found.st_mtime_ns]}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return record if isinstance(record, dict) else None


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)
