"""What packing costs: ready requests into batch files, against writing the same lines with orjson.

    python tests/benchmarks/packing.py [ROWS]

CPU seconds, best of five, each in a fresh process, with all requests made before. `engine` is a whole advance: tasks
taken, packed, announced in a ledger on the disk, and handed to a provider that takes everything. Memory is measured
apart, with requests that are made as they are taken. Goals: at most 2x, memory flat.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from synth_cli.core.ports import BatchLimits, Task
from synth_cli.core.request import Request, Terms
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context, Row
from synth_cli.core.state import Valid
from synth_cli.core.work import Rules, StepWork
from synth_cli.engines.batch import BatchEngine, BatchSettings
from synth_cli.engines.recording import GroupRecord
from synth_cli.providers.batches import lines
from synth_cli.providers.hosts import HOSTS
from synth_cli.stores.ledger import SqliteLedger

ROWS = 100_000
SIZE = 50_000
TERMS = Terms("openai", "gpt-5-mini", params={"temperature": 0.8, "max_tokens": 600})
SYSTEM = {"role": "system", "content": "You are a friendly chef. " * 8}
USER = "Write an easy recipe of Thai cuisine for two people who are in a hurry. " * 4
ROW = Row(0, b"", {})
BETWEEN = '"method":"POST","url":"/v1/chat/completions",'


def tasks(count: int) -> Iterator[Task]:
    for number in range(count):
        messages = (SYSTEM, {"role": "user", "content": f"{number}: {USER}"})
        yield Task(Request(number.to_bytes(16, "little"), TERMS, messages), Context(ROW))


class Client:
    """Takes everything."""

    limits = BatchLimits(SIZE, 200_000_000)

    def __init__(self) -> None:
        self.line = lines.Writer(HOSTS["openai"], lambda completion: BETWEEN).line

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Mapping[str, Any]:
        return {"id": key}


def bare(ready: Iterable[Task], folder: Path) -> None:
    """The same lines by orjson alone."""
    body = {"model": TERMS.model, **TERMS.params}
    file = None
    for number, task in enumerate(ready):
        if number % SIZE == 0:
            file = (folder / f"bare-{number}.jsonl").open("wb", buffering=1 << 20)
        assert file is not None
        request = task.request
        said = {
            "custom_id": request.id.hex(),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**body, "messages": request.messages},
        }
        file.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))


def engine(ready: Iterable[Task], folder: Path) -> None:
    with SqliteLedger(folder / "ledger.sqlite") as ledger:
        record = GroupRecord(ledger)
        rules = Rules("main", RetryPolicy(), lambda context, reply: Valid(reply.text))
        work = StepWork(iter(ready), rules, record, chance=lambda: 0.5)
        own = BatchEngine(Client(), ledger, BatchSettings("main", "bench"), folder=folder)  # type: ignore[arg-type]
        asyncio.run(own.advance(work, record))
        assert own.outstanding


WAYS = {"bare": bare, "engine": engine}


def child(name: str, count: int, lazy: bool) -> None:
    """Prints CPU seconds and peak MiB."""
    with tempfile.TemporaryDirectory() as folder:
        ready: Iterable[Task] = tasks(count) if lazy else list(tasks(count))
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        began = time.process_time()
        WAYS[name](ready, Path(folder))
        cpu = time.process_time() - began
    print(cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(name: str, count: int, *, lazy: bool = False) -> tuple[float, float]:
    command = [sys.executable, __file__, name, str(count), *(["lazy"] if lazy else [])]
    found = []
    for _ in range(1 if lazy else 5):
        cpu, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        found.append((float(cpu), float(memory)))
    return min(found)


def main() -> None:
    if len(sys.argv) > 2:
        child(sys.argv[1], int(sys.argv[2]), "lazy" in sys.argv)
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    costs = {name: measure(name, count)[0] for name in WAYS}
    for name, cpu in costs.items():
        print(f"{name:8} {cpu:7.3f} s  {1e6 * cpu / count:6.2f} µs a request")
    print(f"packing is {costs['engine'] / costs['bare']:.2f}x of writing the same lines")
    memory = [measure("engine", times * count, lazy=True)[1] for times in (1, 2, 4)]
    print("peak memory at 1, 2 and 4 times the requests: " + ", ".join(f"{mib:.1f}" for mib in memory) + " MiB")


if __name__ == "__main__":
    main()
