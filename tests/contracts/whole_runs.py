"""Whole runs of the command, in this process: a spec as a user writes it, and how the run ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from synth_cli.cli.app import app


def spec(folder: Path, url: str, **changes: Any) -> Path:
    """A job of six rows asked of the provider at `url`; `changes` replace or add top-level keys."""
    said: dict[str, Any] = {
        "version": 1,
        "model": {"name": "m", "backend": "openai", "base_url": url, "api_key": "none"},
        "input": {"count": 6},
        "prompt": "row {{ index }}",
        "output": {"path": "out.jsonl"},
    }
    path = folder / "job.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(said | changes, sort_keys=False))
    return path


def synth(*arguments: str | Path) -> int:
    """The exit code of `synth ARGUMENTS`."""
    try:
        app([str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


@dataclass(frozen=True, slots=True)
class Failure:
    """One line of failed.jsonl: the row's prompt, the error, and each attempt's own."""

    prompt: str
    error: str
    attempts: Sequence[str | None]


def failures(path: Path) -> list[Failure]:
    """What the last run of a spec wrote into failed.jsonl."""
    runs = sorted((path.parent / ".synth" / path.stem / "runs").iterdir(), key=lambda run: int(run.name.split("-")[0]))
    file = runs[-1] / "failed.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [
        Failure(said["messages"][-1]["content"], said["error"], [attempt["error"] for attempt in said["attempts"]])
        for said in map(orjson.loads, lines)
    ]


def rows(path: Path) -> list[Any]:
    """The rows of the spec's own output, in its order; none where there is no file."""
    out = path.parent / "out.jsonl"
    return [orjson.loads(line) for line in out.read_bytes().splitlines()] if out.exists() else []
