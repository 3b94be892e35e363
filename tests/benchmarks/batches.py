"""A large job in batches against a provider with errors, and what a row costs from spec to batch file.

    python tests/benchmarks/batches.py [ROWS]

The simulated model is a process of its own. In the first part one request in a hundred ends in an error of its own
and one in two hundred has no result; the output is to be exact after the retries. In the second the run ends when
everything is submitted. CPU is that of `synth` alone; goal for the second: at most 60 µs a row.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml

ROWS = 50_000
SYNTH = Path(sys.executable).with_name("synth")


@contextmanager
def simulator(*options: str) -> Iterator[str]:
    """Its base address."""
    command = [SYNTH, "simulator", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().split(" is at ")[1].split(";")[0]
        finally:
            process.terminate()


def spec(folder: Path, url: str, rows: int) -> Path:
    said: Mapping[str, Any] = {
        "version": 1,
        "model": {"name": "m", "backend": "openai", "base_url": url, "api_key": "none"},
        "engine": "batch",
        "backend_params": {"batch_check_interval": 0.5, "max_retries": 8, "batch_size": rows},
        "generation_params": {"max_tokens": 600, "temperature": 0.8},
        "input": {"count": rows},
        "prompt": {"system": "You are a friendly chef. " * 4, "user": "Recipe number {{ index }}, please."},
        "output": {"path": "out.jsonl"},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def called(path: Path, *options: str) -> tuple[int, float, float, float]:
    """(exit code, wall seconds, CPU seconds, peak MiB) of a run."""
    began = time.perf_counter()
    process = subprocess.Popen([SYNTH, "run", path, "--quiet", *options])
    _, status, used = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code, time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def exact(rows: int) -> None:
    faults = ("--batch-share-error", "0.01", "--batch-share-missing", "0.005")
    with tempfile.TemporaryDirectory() as folder, simulator(*faults) as url:
        path = spec(Path(folder), url, rows)
        code, wall, cpu, memory = called(path)
        with (Path(folder) / "out.jsonl").open("rb") as file:
            right = all(orjson.loads(line)["index"] == index for index, line in enumerate(file))
            count = sum(1 for _ in (Path(folder) / "out.jsonl").open("rb"))
        with urllib.request.urlopen(url.removesuffix("/v1") + "/simulator/counts") as answer:
            paid = orjson.loads(answer.read())["paid"]
    print(f"{rows:,} rows, 1% errors, 0.5% missing: exit {code}, {count:,} rows, in order: {right}, paid {paid}")
    print(f"  wall {wall:.1f} s, CPU {cpu:.1f} s ({1e6 * cpu / rows:.0f} µs a row), peak {memory:.0f} MiB")


def submitted(rows: int) -> None:
    found = []
    for count in (rows // 10, rows):
        with tempfile.TemporaryDirectory() as folder, simulator("--batch-seconds", "3600") as url:
            found.append(called(spec(Path(folder), url, count), "--no-wait"))
    (_, _, small, less), (code, wall, cpu, memory) = found
    print(
        f"spec to submitted file, {rows:,} rows: exit {code}, wall {wall:.1f} s, CPU {cpu:.1f} s, peak {memory:.0f} MiB"
    )
    print(
        f"  {1e6 * (cpu - small) / (rows - rows // 10):.0f} µs a row beyond the first {rows // 10:,} ({less:.0f} MiB)"
    )


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    submitted(rows)
    exact(rows)


if __name__ == "__main__":
    main()
