"""One run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from synth_cli.errors import Locked
from synth_cli.stores import lock
from synth_cli.stores.lock import Holder, holder, locked

HOLDING = """
import sys, time
from pathlib import Path
from synth_cli.stores.lock import locked
with locked(Path(sys.argv[1]), "recipes", now=0.0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_of_another_process_is_respected_until_it_dies(tmp_path: Path) -> None:
    """The holder's host and pid are named; once it is killed the job can be taken."""
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        words = rf"'recipes' is being run by process {process.pid} on {os.uname().nodename}, since 1970-01-01"
        with pytest.raises(Locked, match=words) as caught, locked(path, "recipes", now=1.0):
            pass
        assert (caught.value.exit_code, caught.value.hint) == (
            5,
            f"wait until it has ended, or stop it: kill {process.pid}",
        )
        assert holder(path) == Holder(os.uname().nodename, process.pid, 0.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert holder(path) is None
    with locked(path, "recipes", now=1.0):
        assert holder(path) == Holder(os.uname().nodename, os.getpid(), 1.0)


def test_what_another_host_left_counts_on_a_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks may be each host's own, the words of another host are believed until they are deleted."""
    path = tmp_path / "lock"
    left = orjson.dumps({"host": "elsewhere", "pid": 7, "since": 0.0})
    path.write_bytes(left)
    monkeypatch.setattr(lock, "network_type", lambda path: "nfs4")
    with pytest.raises(Locked, match="process 7 on elsewhere") as caught, locked(path, "recipes", now=1.0):
        pass
    assert (caught.value.hint.endswith(f"delete {path}"), path.read_bytes()) == (True, left)
    monkeypatch.setattr(lock, "network_type", lambda path: None)
    with locked(path, "recipes", now=1.0):
        pass
    assert path.read_bytes() == b""


@pytest.mark.parametrize(("pid", "free"), [(os.getpid(), False), (2**22 + 1, True)], ids=["alive", "dead"])
def test_without_locks_of_the_system_the_words_decide(
    pid: int, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks a living holder is respected and a dead one's lock is taken over."""

    def refuse(*_: object) -> None:
        raise OSError(lock.errno.ENOLCK, "no locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    path = tmp_path / "lock"
    path.write_bytes(orjson.dumps({"host": os.uname().nodename, "pid": pid, "since": 0.0}))
    taken = False
    try:
        with locked(path, "recipes", now=1.0):
            taken = True
    except Locked:
        pass
    assert taken == free


def test_words_that_cannot_be_read_are_no_obstacle(tmp_path: Path) -> None:
    """A lock file cut short by a crash does not lock anybody out."""
    path = tmp_path / "lock"
    path.write_bytes(b'{"host": "x", "pi')
    with locked(path, "recipes", now=1.0):
        pass
    assert holder(path) is None
