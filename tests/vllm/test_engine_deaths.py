"""Deaths of vLLM's engine and of the run around it: every row arrives, exact, and hardly any is asked twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import yaml
from local_jobs import Facts, Job, seeded, until
from worker_runs import settings

from synth_cli.core.reply import FaultKind
from synth_cli.engines.crew import Hired, Say
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.vllm.worker import VllmWorker
from synth_cli.run.vllm import hire

SYNTH = Path(sys.executable).with_name("synth")
ROOM = 16


def test_an_engine_that_is_killed_is_started_again(tiny: Path) -> None:
    """SIGKILL of vLLM's process in the middle: what was in flight is asked again, all answers are the undisturbed."""
    tasks = list(seeded(300, {"temperature": 0.9, "max_tokens": 48, "ignore_eos": True}, samples=2))
    workers: list[VllmWorker] = []

    async def start(say: Say) -> Hired:
        hired = await hire(settings(tiny, batch_size=ROOM), say)
        assert isinstance(hired.worker, VllmWorker)
        workers.append(hired.worker)
        return hired

    async def scenario() -> tuple[Facts, Facts]:
        engine = LocalEngine([start])
        try:
            await engine.open()
            calm = await Job(tasks).advanced(engine)
            job = Job(tasks)
            running = asyncio.create_task(job.advanced(engine))
            await until(lambda: len(job.facts.all) > 100)
            for pid in workers[0].pids:
                os.kill(pid, signal.SIGKILL)
            return calm, await running
        finally:
            await engine.close()

    calm, disturbed = asyncio.run(scenario())
    assert (len(calm.answers), disturbed.answers, len(disturbed.replied)) == (600, calm.answers, 600)
    words = {(fact.fault.kind, fact.fault.message) for fact in disturbed.faulted}
    assert words == {(FaultKind.LOST, "vLLM's engine was killed (signal 9); the machine may have been out of memory")}
    assert 0 < len(disturbed.faulted) <= ROOM
    assert len(workers) == 2


def spec(folder: Path, tiny: Path, params: dict[str, Any]) -> Path:
    said = {
        "version": 1,
        "engine": "vllm",
        "model": os.path.relpath(tiny, folder),
        "samples": 2,
        "generation_params": {"temperature": 0.9, "seed": 3, "max_tokens": 64, "ignore_eos": True},
        "backend_params": {**params, "batch_size": ROOM, "invalid_finish_reasons": []},
        "input": {"count": 300},
        "prompt": "row {{ index }}",
        "output": {"path": "out.jsonl", "metadata": True},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return path


def synth(path: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [str(SYNTH), "run", str(path), "--quiet", *options]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def replies(path: Path) -> int:
    """Answers that the ledger holds."""
    ledger = path.parent / ".synth" / "job" / "ledger.sqlite"
    if not ledger.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as reading:
            (found,) = reading.execute("select count(*) from outcomes where fault is null").fetchone()
            return int(found)
    except sqlite3.OperationalError:
        return 0


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, tiny: Path, vllm_params: dict[str, Any]) -> None:
    """SIGKILL of the run in the middle, then run again: every row once, and only what was not recorded is asked."""
    path = spec(tmp_path, tiny, vllm_params)
    process = synth(path)
    end = time.monotonic() + 200
    while replies(path) < 100 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    before = replies(path)
    process = synth(path, "--json")
    said, _ = process.communicate(timeout=200)
    report = orjson.loads(said)
    assert (process.returncode, replies(path)) == (0, 600)
    assert 100 <= before < 600
    rows = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [row["index"] for row in rows] == [index for index in range(300) for _ in range(2)]
    assert len({row["_synth"]["request_id"] for row in rows}) == 600
    assert report["traffic"]["requests"] == 600 - before
