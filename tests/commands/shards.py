"""Jobs that are done in parts, and where the parts are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_line import synth

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".parquet")
COLUMNS = {"n": "{{ index }}", "text": "{{ response }}"}
SIMULATED: dict[str, Any] = {
    "model": "simulator",
    "input": {"count": 11},
    "prompt": "Say one thing.",
    "carry": False,
    "columns": COLUMNS,
}
CHAIN: dict[str, Any] = {
    "input": {"count": 7},
    "model": "simulator",
    "steps": [
        {
            "name": "topics",
            "prompt": "Name topics.",
            "response": {"schema": {"topics": ["str"]}},
            "each": "response.topics",
            "columns": {"topic": "{{ item }}"},
        },
        {"name": "stories", "samples": 2, "prompt": "Of {{ topic }}.", "columns": {"story": "{{ response }}"}},
    ],
}


def in_shards(path: Path, of: int, *options: object) -> None:
    for number in range(1, of + 1):
        called = synth("run", path, "--shard", f"{number}/{of}", *options)
        assert called.code == 0, called.err


def part(folder: Path, number: int, of: int, suffix: str = ".jsonl") -> Path:
    return folder / f"out/rows.shard-{number}-of-{of}{suffix}"
