"""Whole runs of the command over workers on Ray, which is started on this machine for the run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import yaml

SYNTH = Path(sys.executable).with_name("synth")
# as a user's shell has it: who may speak with our Ray is for the run to say
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@pytest.fixture
def simulator() -> Iterator[str]:
    """The address of a simulated model in a process of its own."""
    command = [str(SYNTH), "simulator", "--port", "0", "--latency", "0.01"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    found = re.search(r"http://\S+?/v1", process.stderr.readline())
    assert found is not None
    yield found[0]
    process.terminate()
    process.wait(10)
    process.stderr.close()


def test_an_online_step_is_asked_by_workers_on_ray(simulator: str, tmp_path: Path) -> None:
    """`distributed` for a provider: every row arrives, nothing of Ray's is said, and nothing of it stays."""
    spec: dict[str, Any] = {
        "version": 1,
        "model": {"name": "m", "backend": "openai", "base_url": simulator, "api_key": "none"},
        "backend_params": {"distributed": {"workers": 2}, "max_concurrent_requests": 64},
        "input": {"count": 1000},
        "prompt": "row {{ index }}",
        "response": {"choice": ["yes", "no"]},
        "output": {"path": "out.jsonl"},
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    command = [str(SYNTH), "run", str(path), "--quiet"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={**ENVIRONMENT, "PWD": str(tmp_path)}, capture_output=True, timeout=200, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr.decode()) == (0, b"", "")
    rows = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [row["index"] for row in rows] == list(range(1000))
    assert not [one for one in psutil.process_iter(["name", "environ"]) if own_ray(one, tmp_path)]


def own_ray(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is Ray's and was started from this test's run."""
    environ = process.info["environ"] or {}
    return environ.get("PWD") == str(folder) and ("ray" in process.info["name"] or "gcs" in process.info["name"])
