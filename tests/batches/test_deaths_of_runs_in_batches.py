"""SIGKILL of the real process: whatever it was doing, the next runs come to the undisturbed end, and pay once."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

from hasty import processes, start
from provider_apart import job, output, serving

DEATHS = 50
PATIENCE = 60.0
FAULTS = {
    "batch_share_error": 0.1,
    "batch_share_missing": 0.05,
    "batch_share_duplicate": 0.05,
    "batch_share_unknown": 0.05,
    "batch_shuffle": True,
    "batch_share_lost": 0.1,
    "batch_list_lag": 0.05,
}


def batched(folder: Path, url: str, count: int) -> Path:
    params = {"batch_size": 40, "max_retries": 60, "delete_successful_batch_files": True}
    return job(folder, url, params={**params, "batch_check_interval": 0.02}, input={"count": count})


def test_runs_in_batches_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    """Fifty times in one job: the output is the undisturbed one's, no request is paid twice, no file is left over."""
    draw, count, deaths, context = random.Random(7), 240, 0, processes()
    until = time.monotonic() + PATIENCE
    with serving(batch_seconds=0.1, **FAULTS) as provider:
        path = batched(tmp_path / "job", provider.url, count)
        asked = threading.Semaphore(0)
        provider.before = lambda method, where: asked.release()
        while deaths < DEATHS and time.monotonic() < until:
            process = start(context, path, *(["--no-wait"] if draw.random() < 0.3 else []))
            # a run that is only starting dies of nothing: most die after so many calls, some at any time
            for _ in range(draw.randrange(0, 12)):
                asked.acquire(timeout=0.1)
            time.sleep(draw.random() * 0.02)
            process.kill()
            process.join(PATIENCE)
            assert process.exitcode in (-signal.SIGKILL, 0, 75), (path.parent / "stderr.txt").read_text()
            deaths += process.exitcode == -signal.SIGKILL
            if process.exitcode == 0:
                # it was faster: more of the job is wanted
                count += 40
                path = batched(tmp_path / "job", provider.url, count)
        last = start(context, path)
        last.join(PATIENCE)
        assert last.exitcode == 0, (path.parent / "stderr.txt").read_text()
        assert provider.paid == {"1": count}
        assert provider.files == 0
    with serving() as calm:
        quiet = start(context, batched(tmp_path / "calm", calm.url, count))
        quiet.join(PATIENCE)
    assert output(path) == output(tmp_path / "calm" / "job.yaml")
    assert deaths >= DEATHS // 2
