"""Prints how a job of two steps compares with one step of as many requests, and whether its goals are met.

`python chains.py [speed|memory|all] [--pairs 3]`; exits 1 where a goal is missed. The server is the constant one, at
50 ms a request. Each process is a fresh one and pairs alternate, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from compare import each, goal, missed
from jobs import lines, spec, synth
from processes import Cost, Server, serving

ROWS = 5_000
FEW, MANY = 2_000, 20_000


def chain(server: Server, rows: int, folder: Path) -> Path:
    """The benchmark's own job, asked of each row and then of each answer."""
    path = spec(server, rows, folder)
    before, _, after = path.read_text().partition("prompt: ")
    said, _, rest = after.partition("\n")
    steps = f"""\
steps:
  - name: first
    prompt: {said}
    columns: {{a: "{{{{ response }}}}"}}
  - name: second
    prompt: "{{{{ a[:400] }}}} {{{{ index }}}}"
"""
    path.write_text(f"{before}{steps}{rest}")
    return path


def speed(folder: Path, pairs: int) -> None:
    print(f"speed: two steps of {ROWS:,} rows against one of {2 * ROWS:,}, 50 ms, 256 in flight")
    print(f"  load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    walls, cpus = [], []
    with serving() as server:
        start = synth(spec(server, 1, folder / "warm"))
        for _ in range(pairs):
            one = synth(spec(server, 2 * ROWS, folder / "one"))
            path = chain(server, ROWS, folder / "two")
            two = synth(path)
            check(path, ROWS)
            print(each("one step", one, start, 2 * ROWS))
            print(each("two steps", two, start, 2 * ROWS))
            walls.append(two.wall / one.wall)
            cpus.append(two.cpu / one.cpu)
    goal("wall of two steps / of one", statistics.median(walls), 1.15, "x")
    print(f"         CPU of two steps / of one: {statistics.median(cpus):.4g}x")


def memory(folder: Path, pairs: int) -> None:
    print(f"memory: peak of two steps at {FEW:,} and at {MANY:,} rows")
    costs: list[Cost] = []
    with serving() as server:
        for rows in (FEW, MANY):
            path = chain(server, rows, folder / f"{rows}")
            costs.append(synth(path))
            check(path, rows)
    few, many = costs
    print(f"  {few.memory:.0f} and {many.memory:.0f} MiB")
    goal(f"more memory at {MANY:,} rows", many.memory - few.memory, 20, " MiB")


def check(path: Path, rows: int) -> None:
    if len(lines(path)) != rows:
        raise SystemExit(f"{path}: {len(lines(path)):,} rows instead of {rows:,}")


PARTS: dict[str, Callable[[Path, int], None]] = {"speed": speed, "memory": memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in PARTS if args.part == "all" else [args.part]:
            PARTS[name](Path(folder), args.pairs)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
