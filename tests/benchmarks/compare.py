"""Prints how `synth run` compares with a bare loop, and whether the other goals for a run are met.

`python compare.py [speed|memory|faults|pacing|startup|sigkill|all] [--pairs 3]`; exits 1 where a goal is missed. Each
process is a fresh one and pairs alternate, so that a busy machine slows both. Start-up is a one-row run's.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobs import lines, spec, started, synth
from processes import SYNTH, Cost, bare, measured, serving

ROWS = 10_000
MANY = 100_000
IN_FLIGHT = 256
PER_MINUTE = 3000
TOKENS_EACH = 300

missed: list[str] = []


def goal(name: str, value: float, most: float, unit: str = "", *, least: bool = False) -> None:
    """Prints a figure beside what it should at most (or at least) be."""
    met = value >= most if least else value <= most
    if not met:
        missed.append(name)
    bound = "at least" if least else "at most"
    print(f"  {'ok    ' if met else 'MISSED'} {name}: {value:.4g}{unit} ({bound} {most:g}{unit})", flush=True)


def each(label: str, cost: Cost, start: Cost, rows: int) -> str:
    per_row = (cost.cpu - start.cpu) / (rows - 1) * 1e6
    return (
        f"  {label}: {per_row:.0f} µs CPU a row, {cost.wall - start.wall:.2f} s wall, {cost.memory:.0f} MiB "
        f"(start-up {start.cpu:.2f} s CPU, {start.wall:.2f} s wall)"
    )


def speed(folder: Path, pairs: int) -> None:
    print(f"speed: {ROWS:,} rows, 50 ms, {IN_FLIGHT} in flight")
    cpus, walls, fast = [], [], []
    with serving() as server:
        synth(spec(server, 1, folder / "warm"))
        for _ in range(pairs):
            one, ours = synth(spec(server, 1, folder / "one")), synth(spec(server, ROWS, folder / "many"))
            base_one, base = bare(server, 1, folder), bare(server, ROWS, folder)
            quick_one, quick = bare(server, 1, folder, "--uvloop"), bare(server, ROWS, folder, "--uvloop")
            print(each("synth", ours, one, ROWS))
            print(each("bare", base, base_one, ROWS))
            print(each("bare, uvloop", quick, quick_one, ROWS))
            cpus.append((ours.cpu - one.cpu) / (base.cpu - base_one.cpu))
            walls.append((ours.wall - one.wall) / (base.wall - base_one.wall))
            fast.append((ours.cpu - one.cpu) / (quick.cpu - quick_one.cpu))
    goal("client CPU per row / bare loop's", statistics.median(cpus), 1.5, "x")
    goal("wall, start-up apart / bare loop's", statistics.median(walls), 1.25, "x")
    print(f"         client CPU per row / bare loop's on uvloop: {statistics.median(fast):.4g}x")


def memory(folder: Path, pairs: int) -> None:
    print(f"memory: peak at {ROWS:,} and {MANY:,} rows")
    with serving() as server:
        few = synth(spec(server, ROWS, folder / "few"))
        many = synth(spec(server, MANY, folder / "many"))
        base = bare(server, MANY, folder)
    print(f"  synth: {few.memory:.0f} and {many.memory:.0f} MiB; bare: {base.memory:.0f} MiB")
    print(f"  {MANY:,} rows: synth {many.wall:.1f} s wall, bare {base.wall:.1f} s")
    goal("more memory at 100,000 rows", many.memory - few.memory, 20, " MiB")
    goal("memory at 100,000 rows", many.memory, 110, " MiB")


def faults(folder: Path, pairs: int) -> None:
    print(f"faults: 10% 429, 5% 500, 1% malformed; {ROWS:,} rows")
    shares = ("--share-429", "0.1", "--share-500", "0.05", "--share-malformed", "0.01", "--retry-after", "1")
    with serving() as server:
        clean = synth(spec(server, ROWS, folder / "clean"))
    with serving(*shares) as server:
        path = spec(server, ROWS, folder / "faulty")
        ours = synth(path)
        counts = server.counts()
        arrived = len(lines(path))
    ordered = counts["longest_chain"] * 1.0
    print(f"  {clean.wall:.2f} s without faults, {ours.wall:.2f} s with; one request was told to wait {ordered:.0f} s")
    goal("rows that arrived", arrived, ROWS, least=True)
    goal("wall", ours.wall, 1.5 * clean.wall + ordered, " s")
    goal("requests sent / rows", counts["requests"] / ROWS, 1.25, "x")


def pacing(folder: Path, pairs: int) -> None:
    """Two minutes each; the burst allowed at the start is part of what may be used."""
    print(f"pacing: {PER_MINUTE:,} requests/min and tokens/min enforced, two minutes each")
    limits = {
        "requests/min": ("--requests-per-minute", PER_MINUTE, 1),
        "tokens/min": ("--tokens-per-minute", PER_MINUTE * TOKENS_EACH, TOKENS_EACH),
    }
    for name, (option, limit, each_costs) in limits.items():
        with serving(option, str(limit)) as server:
            path = spec(server, 4 * PER_MINUTE, folder / "paced", in_flight=None)
            process = started(path)
            try:
                while not server.counts().get("requests"):
                    time.sleep(0.02)
                time.sleep(120)
                counts = server.counts()
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)
        used = counts["200"] * each_costs / (2 * limit)
        goal(f"{name}: share of the allowed rate", used, 0.95, least=True)
        goal(f"{name}: share of 429", counts.get("429", 0) / counts["requests"], 0.01)


def startup(folder: Path, pairs: int) -> None:
    print("startup: CPU seconds")
    with serving() as server:
        synth(spec(server, 1, folder / "one"))
        runs = [synth(spec(server, 1, folder / "one")) for _ in range(pairs)]
    helps = [measured([str(SYNTH), "--help"]) for _ in range(pairs)]
    goal("synth --help", statistics.median(cost.cpu for cost in helps), 0.3, " s")
    goal("a one-row run", statistics.median(cost.cpu for cost in runs), 0.8, " s")


def sigkill(folder: Path, pairs: int) -> None:
    print(f"sigkill: in the middle of {ROWS:,} rows, then run again")
    with serving() as server:
        path = spec(server, ROWS, folder / "killed")
        process = started(path)
        wait_for(lambda: server.counts().get("requests", 0) >= ROWS // 2)
        process.kill()
        process.wait()
        before = server.counts()["requests"]
        synth(path)
        counts = server.counts()
        found = lines(path)
    print(f"  killed after {before:,} requests; {counts['requests']:,} in all")
    goal("rows in the output", len(found), ROWS, least=True)
    goal("rows that are wrong or out of place", wrong(found), 0)
    goal("requests repeated", counts["requests"] - ROWS, 2 * IN_FLIGHT)


def wrong(found: list[bytes]) -> int:
    return sum(json.loads(line)["index"] != place for place, line in enumerate(found)) + abs(len(found) - ROWS)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("waited a minute in vain")
        time.sleep(0.02)


PARTS: dict[str, Callable[[Path, int], None]] = {
    "speed": speed,
    "memory": memory,
    "faults": faults,
    "startup": startup,
    "sigkill": sigkill,
    "pacing": pacing,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", default="speed", choices=[*PARTS, "all"])
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in PARTS if "all" in args.part else [args.part] if isinstance(args.part, str) else args.part:
            PARTS[name](Path(folder), args.pairs)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
