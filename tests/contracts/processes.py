"""The command and the simulated model as processes of their own, which can be killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

SYNTH = Path(sys.executable).with_name("synth")


class Process:
    """The simulated model in a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [str(SYNTH), "simulator", "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self.process.stderr is not None
        found = re.search(r"http://\S+?/v1", self.process.stderr.readline())
        assert found is not None
        self.url = found[0]

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/simulator/counts", timeout=10) as answer:
            said: dict[str, Any] = orjson.loads(answer.read())
            return said

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def simulator(*options: str) -> Iterator[Process]:
    process = Process(*options)
    try:
        yield process
    finally:
        process.end()


def started(path: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [str(SYNTH), "run", str(path), "--quiet", *options]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Waits for it, as long as the process lives and at most a minute."""
    end = time.monotonic() + 60
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Kills it; whether it still ran."""
    process.kill()
    return process.wait(30) == -signal.SIGKILL
