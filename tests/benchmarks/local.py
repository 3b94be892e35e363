"""Prints how `engine: vllm` compares with bare loops over vLLM's own engine, and whether its other goals are met.

`python local.py [speed|memory|sigkill|ray|all] [--rounds 5] [--rows 2000]`; exits 1 where a goal is missed. Needs
vLLM and Ray and no GPU: the model is made on the spot. One row in ten asks for 256 tokens, the others for 8; 64 are in
flight. Time is from the first request to the last answer: the engine's start and end are not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import yaml
from compare import goal, missed
from processes import SYNTH

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vllm"))

import tiny_model

HERE = Path(__file__).resolve().parent
IN_FLIGHT = 64
LONG, SHORT = 256, 8
LIMIT = 1800
"""Seconds that one process may take."""
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """`memory` in MiB, the most that the process itself held, without vLLM's; `loop` and `engine` in CPU seconds, of
    that process and of vLLM's. A run's begin with its first group of answers and end about half a second before its
    last one."""

    tokens: int
    seconds: float
    loop: float = 0.0
    engine: float = 0.0
    memory: float = 0.0

    @property
    def rate(self) -> float:
        """Output tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Job:
    """A spec in a folder of its own, without any state, and the same rows for a bare loop."""

    path: Path
    rows: int

    @property
    def jobs(self) -> Path:
        return self.path.parent / "jobs.jsonl"

    @property
    def output(self) -> Path:
        return self.path.parent / "out.jsonl"

    @property
    def state(self) -> Path:
        return self.path.parent / ".synth" / "bench"


def job(model: Path, folder: Path, rows: int, *, long: bool = True, **params: Any) -> Job:
    folder.mkdir(parents=True)
    made = Job(folder / "bench.yaml", rows)
    lengths = [LONG if long and index % 10 == 0 else SHORT for index in range(rows)]
    inputs, bare = [], []
    for index, length in enumerate(lengths):
        inputs.append(json.dumps({"n": index, "generation_params": {"max_tokens": length}}))
        bare.append(json.dumps({"prompt": f"Say something about the number {index}.", "max_tokens": length}))
    (folder / "in.jsonl").write_text("\n".join(inputs) + "\n")
    made.jobs.write_text("\n".join(bare) + "\n")
    spec = {
        "engine": "vllm",
        "model": str(model),
        "generation_params": {"ignore_eos": True, "temperature": 0},
        "backend_params": {
            "enforce_eager": True,
            "dtype": "float32",
            "max_model_length": 1024,
            "batch_size": IN_FLIGHT,
            "invalid_finish_reasons": [],
            "engine_args": {"kv_cache_memory_bytes": 64 << 20, "enable_chunked_prefill": False},
            **params,
        },
        "input": {"path": "in.jsonl"},
        "prompt": "Say something about the number {{ n }}.",
        "output": {"path": "out.jsonl"},
    }
    made.path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return made


def bare(model: Path, what: Job, *options: str) -> Pace:
    command = [sys.executable, str(HERE / "local_bare.py"), str(model), str(what.jobs), *options]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False)
    if ended.returncode:
        raise SystemExit(f"the bare loop failed:\n{ended.stderr[-3000:]}")
    said = json.loads(ended.stdout.splitlines()[-1])
    return Pace(**said)


def started(what: Job) -> subprocess.Popen[bytes]:
    with (what.path.parent / "log").open("ab") as log:
        return subprocess.Popen([str(SYNTH), "run", str(what.path)], env=ENVIRONMENT, stdout=log, stderr=log)


def synth(what: Job) -> Pace:
    """A whole run; raises with what it printed where it did not end well."""
    process = started(what)
    memory, give_up = 0.0, time.monotonic() + LIMIT
    family: list[psutil.Process] = []
    before = last = (0.0, 0.0)
    while process.poll() is None:
        memory = max(memory, held(process.pid))
        done = answered(what)
        if done and not family:
            # looked for once: each look costs the cores that are measured
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            before = last = spent(family)
        elif done < what.rows:
            last = spent(family)
        if time.monotonic() > give_up:
            process.kill()
        time.sleep(0.5)
    if process.returncode:
        log = what.path.parent / "log"
        raise SystemExit(f"synth run ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    loop, engine = last[0] - before[0], last[1] - before[1]
    return replace(paced(what), loop=loop, engine=engine, memory=memory)


def spent(family: Sequence[psutil.Process]) -> tuple[float, float]:
    """CPU seconds so far, of the first process and of the others."""
    times = [0.0]
    for one in family:
        with suppress(psutil.Error):
            times.append(sum(one.cpu_times()[:2]))
    return sum(times[:2]), sum(times[2:])


def held(pid: int) -> float:
    """MiB, the most so far; of this process alone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def paced(what: Job) -> Pace:
    """What the ledger says of the last run."""
    from synth_cli.stores.ledger import SqliteLedger

    with SqliteLedger(what.state / "ledger.sqlite", read_only=True) as ledger:
        run = ledger.standing().runs[-1]
        traffic = ledger.traffic(run=run.run)
    assert traffic.first is not None
    assert traffic.last is not None
    return Pace(traffic.usage.output, traffic.last - traffic.first)


def answered(what: Job) -> int:
    """Answers in the ledger now."""
    import sqlite3

    path = what.state / "ledger.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10) as ledger:
            return int(ledger.execute("SELECT count(*) FROM outcomes WHERE fault IS NULL").fetchone()[0])
    except sqlite3.OperationalError:
        # it is just being made
        return 0


def speed(model: Path, folder: Path, rounds: int, rows: int) -> None:
    print(f"speed: {rows:,} rows, {IN_FLIGHT} in flight, {rounds} rounds", flush=True)
    against, over = [], []
    for number in range(rounds):
        what = job(model, folder / f"speed-{number}", rows)
        loop, ours, lockstep = bare(model, what), synth(what), bare(model, what, "--lockstep")
        assert loop.tokens == ours.tokens == lockstep.tokens, (loop, ours, lockstep)
        against.append(ours.rate / loop.rate)
        over.append(ours.rate / lockstep.rate)
        print(
            f"  tokens/s: synth {ours.rate:,.0f}, bare loop {loop.rate:,.0f}, lock-step {lockstep.rate:,.0f} "
            f"({against[-1]:.2f}x, {over[-1]:.2f}x); CPU s of loop and engine: {ours.loop:.1f} + {ours.engine:.1f}, "
            f"{loop.loop:.1f} + {loop.engine:.1f}, {lockstep.loop:.1f} + {lockstep.engine:.1f}",
            flush=True,
        )
    goal("tokens/s against the bare loop's, median", statistics.median(against), 0.95, "x", least=True)
    goal("tokens/s against lock-step batches', median", statistics.median(over), 2.0, "x", least=True)


def memory(model: Path, folder: Path, rounds: int, rows: int) -> None:
    print(f"memory: of the driver, at {rows:,} and {10 * rows:,} rows", flush=True)
    few, many = (synth(job(model, folder / f"memory-{n}", n, long=False)) for n in (rows, 10 * rows))
    print(f"  {few.memory:.0f} MiB and {many.memory:.0f} MiB", flush=True)
    goal("peak memory at ten times the rows, more", many.memory - few.memory, 20, " MiB")


RECEIVED = re.compile(r"Added request ([0-9a-f]{32})")


def received(what: Job, run: int) -> set[str]:
    """The requests that vLLM says were handed to it in a run."""
    (log,) = (what.state / "runs").glob(f"{run}-*/engine.log")
    return set(RECEIVED.findall(log.read_text(errors="replace")))


def sigkill(model: Path, folder: Path, rounds: int, rows: int) -> None:
    print(f"sigkill: in the middle of {rows:,} rows, and run again", flush=True)
    logged = {"kv_cache_memory_bytes": 64 << 20, "enable_chunked_prefill": False, "enable_log_requests": True}
    what = job(model, folder / "sigkill", rows, engine_args=logged)
    process = started(what)
    give_up = time.monotonic() + LIMIT
    while answered(what) < rows // 2:
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            raise SystemExit(f"it did not come to its middle:\n{(what.path.parent / 'log').read_text()[-3000:]}")
        time.sleep(0.02)
    engine = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(engine, timeout=30)
    for one in left:
        one.kill()
    goal("processes of the engine that outlive the driver by 30 s", len(left), 0)
    kept = answered(what)
    synth(what)
    twice = received(what, 1) & received(what, 2)
    numbers = [json.loads(line)["n"] for line in what.output.read_bytes().splitlines()]
    goal("rows that are missing, doubled or out of order", int(numbers != list(range(rows))), 0)
    goal("requests of the second run, more or less than what was left", abs(len(received(what, 2)) - (rows - kept)), 0)
    goal("requests asked twice", len(twice), IN_FLIGHT)


def ray(model: Path, folder: Path, rounds: int, rows: int) -> None:
    print(f"ray: 2 workers on 2 nodes, {rows:,} rows, one node killed in the middle", flush=True)
    os.environ.update(ENVIRONMENT)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        second = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        workers = {"address": cluster.address, "workers": 2, "gpus_per_worker": 0}
        what = job(model, folder / "ray", rows, distributed=workers)
        process = started(what)
        give_up, killed = time.monotonic() + LIMIT, False
        while process.poll() is None:
            if not killed and answered(what) >= rows // 2:
                cluster.remove_node(second, allow_graceful=False)
                killed = True
            if time.monotonic() > give_up:
                process.kill()
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(
                f"synth run ended with {process.returncode}:\n{(what.path.parent / 'log').read_text()[-3000:]}"
            )
        numbers = [json.loads(line)["n"] for line in what.output.read_bytes().splitlines()]
        goal("nodes killed", int(killed), 1, least=True)
        goal("rows that are missing, doubled or out of order", int(numbers != list(range(rows))), 0)
        print(f"  {paced(what).rate:,.0f} tokens/s in all", flush=True)
    finally:
        cluster.shutdown()


PARTS: dict[str, Callable[[Path, Path, int, int], None]] = {
    "speed": speed,
    "memory": memory,
    "sigkill": sigkill,
    "ray": ray,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model.make(Path(folder) / "tiny")
        for name, part in PARTS.items():
            if args.part in (name, "all"):
                part(model, Path(folder), args.rounds, args.rows)
    print(f"missed: {', '.join(missed)}" if missed else "every goal is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
