"""The command `synth` as a user calls it, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from typer.testing import CliRunner

from synth_cli.cli.app import app

BUG = 70
KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Called:
    """How a command ended, and what it wrote for programs and for people."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


def synth(*arguments: object, env: Mapping[str, str] | None = None) -> Called:
    """Calls the command in this process. Keys of the machine are not there unless `env` gives them."""
    surroundings = {**dict.fromkeys(KEYS), **(env or {})}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=surroundings)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code != BUG, result.stderr
    return Called(result.exit_code, result.stdout, result.stderr)


def started(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The command in a process of its own, for signals and locks."""
    return subprocess.Popen(
        [sys.executable, "-m", "synth_cli", *map(str, arguments)],
        cwd=cwd,
        env={**{k: v for k, v in os.environ.items() if k not in KEYS}, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write(folder: Path, spec: Mapping[str, Any] | str, name: str = "job.yaml") -> Path:
    """A spec file in a folder."""
    path = folder / name
    path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(dict(spec), sort_keys=False))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def last_run(folder: Path, name: str = "job", *, simulated: bool = False) -> Path:
    """The folder of a job's latest run."""
    state = folder / ".synth" / name
    found = sorted(
        ((state / "simulated") if simulated else state).glob("runs/*"), key=lambda path: int(path.name.split("-")[0])
    )
    return found[-1]


def failures(folder: Path, name: str = "job") -> list[dict[str, Any]]:
    return rows(last_run(folder, name) / "failed.jsonl")


def spec(base_url: str, *rest: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A spec that asks the model `m` at an address for each of three words."""
    made: dict[str, Any] = {
        "model": {"name": "m", "base_url": base_url, "api_key": "sk-quite-secret"},
        "input": {"rows": [{"word": "one"}, {"word": "two"}, {"word": "three"}]},
        "prompt": "Say {{ word }}.",
    }
    for each in rest:
        made.update(each)
    made.update(more)
    return made


def words(asked: Sequence[Any]) -> list[str]:
    """The user turns that a server was sent, in alphabetical order."""
    return sorted(one.user for one in asked)
