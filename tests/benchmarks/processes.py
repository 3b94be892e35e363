"""Processes measured from outside: CPU (user + system), wall and peak memory of each, in a fresh one every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SYNTH = Path(sys.executable).with_name("synth")


@dataclass(frozen=True, slots=True)
class Cost:
    """`cpu` and `wall` in seconds, `memory` in MiB, the process's exit `code`."""

    cpu: float
    wall: float
    memory: float
    code: int


@dataclass(frozen=True, slots=True)
class Server:
    url: str

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/counts", timeout=10) as response:
            found: dict[str, Any] = json.load(response)
            return found


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """The constant server with these options, in a process of its own."""
    command = [sys.executable, str(HERE / "server.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1")
        finally:
            process.terminate()


def measured(command: Sequence[str], *, log: Path | None = None) -> Cost:
    """Runs it to its end. Its standard streams go to `log`, or nowhere."""
    started = time.monotonic()
    with open(log or os.devnull, "ab") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / unit, process.returncode)


def bare(server: Server, rows: int, folder: Path, *options: str) -> Cost:
    out = folder / f"bare-{rows}.jsonl"
    cost = measured([sys.executable, str(HERE / "bare.py"), server.url, str(rows), str(out), *options])
    if cost.code:
        raise SystemExit("the bare loop failed")
    return cost
