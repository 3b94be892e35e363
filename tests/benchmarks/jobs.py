"""The same job for `synth run`: a spec as a user would write it, against the constant server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bare import PROMPT
from processes import SYNTH, Cost, Server, measured


def spec(server: Server, rows: int, folder: Path, *, in_flight: int | None = 256) -> Path:
    """Writes it into a folder of its own, without any state."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    most = "" if in_flight is None else f", max_concurrent_requests: {in_flight}"
    path = folder / "bench.yaml"
    path.write_text(
        f"""\
version: 1
model: {{name: bench, backend: openai, base_url: "{server.url}", api_key: none}}
generation_params: {{max_tokens: 400}}
backend_params: {{request_timeout: 60{most}}}
input: {{count: {rows}}}
prompt: "{PROMPT}{{{{ index }}}}"
output: {{path: out.jsonl}}
"""
    )
    return path


def synth(path: Path, *options: str) -> Cost:
    """`synth run`, measured; raises with what it printed where it did not end well."""
    log = path.parent / "log"
    cost = measured([str(SYNTH), "run", str(path), *options], log=log)
    if cost.code:
        raise SystemExit(f"synth run {path} ended with {cost.code}:\n{log.read_text()[-2000:]}")
    return cost


def started(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(SYNTH), "run", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lines(path: Path) -> list[bytes]:
    return (path.parent / "out.jsonl").read_bytes().splitlines()
