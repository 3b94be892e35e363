"""Whole runs of the command over workers on Ray, which is started on this machine for the run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import yaml

SYNTH = Path(sys.executable).with_name("synth")
# as a user's shell has it: who may speak with our Ray is for the run to say
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
OPEN = {"RAY_AUTH_MODE": "disabled"}
"""For a cluster of the test's own."""


SOON = 120
"""Seconds within which a run is over, and whatever is waited for in it."""


@pytest.fixture
def simulator() -> Iterator[str]:
    """The address of a simulated model in a process of its own."""
    command = [str(SYNTH), "simulator", "--port", "0", "--latency", "0.1"]
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
    run = Run(tmp_path, online(simulator, {"workers": 2}, rows=1000), "--quiet", environ={"PWD": str(tmp_path)})
    assert run.ended() == (0, b"", "")
    assert run.rows == list(range(1000))
    assert not [one for one in psutil.process_iter(["name", "environ"]) if own_ray(one, tmp_path)]


def test_a_worker_of_vllm_that_is_killed_loses_no_row(
    tiny: Path, vllm_params: Mapping[str, Any], tmp_path: Path
) -> None:
    """Two copies on Ray, of which one dies in the middle: all rows are there, and what is said is the report alone."""
    spec = {
        "version": 1,
        "model": str(tiny),
        "engine": "vllm",
        "backend_params": {**vllm_params, "data_parallel_size": 2, "batch_size": 2, "invalid_finish_reasons": []},
        "generation_params": {"max_tokens": 160, "ignore_eos": True},
        "input": {"count": 60},
        "prompt": "row {{ index }}",
        "output": {"path": "out.jsonl"},
    }
    run = Run(tmp_path, spec, "--json", "--quiet")
    until(lambda: run.answered > 4 and len(run.actors()) == 2)
    run.actors()[0].kill()
    code, report, said = run.ended()
    assert (code, said, orjson.loads(report)["run"]["exit_code"]) == (0, "", 0)
    assert run.rows == list(range(60))
    assert "a worker is lost: a worker on the cluster was lost" in run.log


def test_a_cluster_without_its_head_ends_the_run_in_order(simulator: str, tmp_path: Path) -> None:
    """What is answered is kept and reported, before Ray would end the process."""
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 2})
    address = nodes.address
    try:
        wanted = {"workers": 2, "address": address}
        run = Run(tmp_path, online(simulator, wanted, rows=10**5), "--json", "--quiet", environ=OPEN)
        until(lambda: run.answered > 100)
        nodes.head_node.kill_gcs_server(check_alive=False)
        code, report, said = run.ended()
    finally:
        nodes.shutdown()
    told = orjson.loads(report)
    assert (code, told["traffic"]["replies"] > 100) == (3, True), said
    assert f"the Ray cluster at {address} is gone" in told["run"]["exit_reason"]


def test_an_address_where_nobody_is_is_told_at_once(simulator: str, tmp_path: Path) -> None:
    """Ray itself would try for minutes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, said = Run(tmp_path, online(simulator, {"address": address}, rows=9), "--quiet").ended()
    assert (code, said.splitlines()[0]) == (3, f"synth: there is no Ray at {address}: Connection refused")


def test_a_connection_to_ray_that_hangs_can_be_stopped(simulator: str, tmp_path: Path) -> None:
    """Somebody takes the connection and says nothing: the first signal ends the run all the same."""
    with socket.create_server(("", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        run = Run(tmp_path, online(simulator, {"address": address}, rows=9), "--quiet")
        silent.accept()
        # the first only knocks
        silent.accept()
        began = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        assert (run.ended()[0], time.monotonic() - began < 30) == (143, True)


class Run:
    """`synth run` of a spec in a process of its own."""

    def __init__(self, folder: Path, spec: Mapping[str, Any], *options: str, environ: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.spec = folder / "job.yaml"
        self.spec.write_text(yaml.safe_dump(dict(spec), sort_keys=False))
        self.environ = {**ENVIRONMENT, **environ}
        command = [str(SYNTH), "run", str(self.spec), *options]
        self.process = subprocess.Popen(
            command, cwd=folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def ended(self) -> tuple[int, bytes, str]:
        """Its exit code, and what it said to stdout and to stderr."""
        try:
            out, err = self.process.communicate(timeout=SOON)
        finally:
            self.process.kill()
        return self.process.returncode, out, err.decode()

    @property
    def answered(self) -> int:
        """Requests that are answered by now."""
        command = [str(SYNTH), "status", str(self.spec), "--json"]
        told = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, timeout=60, check=False)
        assert self.process.poll() is None, self.ended()
        return int(orjson.loads(told.stdout)["answers"]) if told.returncode == 0 else 0

    def actors(self) -> list[psutil.Process]:
        """The processes that hold its workers."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "ray::Host" in " ".join(child.cmdline())]

    @property
    def rows(self) -> list[int]:
        lines = (self.folder / "out.jsonl").read_bytes().splitlines()
        return [orjson.loads(line)["index"] for line in lines]

    @property
    def log(self) -> str:
        (log,) = self.folder.glob(".synth/job/runs/*/run.log")
        return log.read_text()


def online(simulator: str, distributed: Mapping[str, Any], *, rows: int) -> Mapping[str, Any]:
    """A spec whose model is a provider's, asked by workers on Ray."""
    return {
        "version": 1,
        "model": {"name": "m", "backend": "openai", "base_url": simulator, "api_key": "none"},
        "backend_params": {"distributed": dict(distributed), "max_concurrent_requests": 64},
        "input": {"count": rows},
        "prompt": "row {{ index }}",
        "response": {"choice": ["yes", "no"]},
        "output": {"path": "out.jsonl"},
    }


def until(so: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not so():
        assert time.monotonic() - began < SOON
        time.sleep(0.2)


def own_ray(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is Ray's and was started from this test's run."""
    environ = process.info["environ"] or {}
    return environ.get("PWD") == str(folder) and ("ray" in process.info["name"] or "gcs" in process.info["name"])
