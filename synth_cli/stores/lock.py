"""One run at a time: a lock that the system lets go of when its process dies, with words on who holds it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson

from synth_cli.errors import Locked
from synth_cli.stores.filesystem import network_type
from synth_cli.stores.schema import explained_disk

UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What file systems without locks answer: there the words in the file are all there is to go by."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `since` in seconds since the epoch."""

    host: str
    pid: int
    since: float

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC)
        return f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def dead(self) -> bool:
        """Whether it is known to be gone: only of this host can that be said."""
        return self.host == host() and not _alive(self.pid)


def host() -> str:
    return os.uname().nodename


@contextmanager
def locked(path: Path, job: str, *, now: float) -> Iterator[None]:
    """Holds the lock while the block runs. Raises Locked, naming the holder, if another run has it.

    A lock whose holder died is taken over; on a network file system only if it died on this host.
    """
    with explained_disk(path):
        file = path.open("a+b")
    with file:
        _take(file, path, job)
        _write(file, orjson.dumps(asdict(Holder(host(), os.getpid(), now))))
        try:
            yield
        finally:
            # the file stays: deleting it would let two runs lock two files of one name
            _write(file, b"")


def holder(path: Path) -> Holder | None:
    """Who holds the lock now, as far as the file tells; takes nothing and waits for nothing."""
    try:
        found = _read(path.read_bytes())
    except OSError:
        return None
    return None if found is None or found.dead else found


def _take(file: IO[bytes], path: Path, job: str) -> None:
    supported = True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(_text(file), path, job) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        supported = False
    before = _text(file)
    if before is None or before.dead:
        return
    # a network's locks may be each host's own, so another host's words count there
    if not supported or (before.host != host() and network_type(path) is not None):
        raise _refusal(before, path, job)


def _refusal(found: Holder | None, path: Path, job: str) -> Locked:
    if found is None:
        return Locked(f"the job '{job}' is being run by another process", hint="wait until it has ended")
    if found.host == host():
        hint = f"wait until it has ended, or stop it: kill {found.pid}"
    else:
        hint = f"wait until it has ended; if no such process runs there any more, delete {path}"
    return Locked(f"the job '{job}' is being run by {found}", hint=hint)


def _text(file: IO[bytes]) -> Holder | None:
    file.seek(0)
    return _read(file.read())


def _read(data: bytes) -> Holder | None:
    try:
        return Holder(**orjson.loads(data))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _write(file: IO[bytes], data: bytes) -> None:
    file.seek(0)
    file.truncate()
    file.write(data)
    file.flush()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
