"""`status`, `cancel`, budgets, locks and signals while batches are open."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from hasty import processes, start
from provider_apart import HOSTS, Provider, job, rows, serving, synth

HOUR = 3600.0
AT_THE_PROVIDER = [host for host in HOSTS if host != "simulator"]


def until(provider: Provider, made: int) -> None:
    """Waits for so many batches to be made."""
    for _ in range(1000):
        if provider.made >= made:
            return
        time.sleep(0.01)
    raise AssertionError("no batch was made")


@pytest.mark.parametrize("host", AT_THE_PROVIDER)
def test_status_only_looks(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GETs alone, a line for each batch, and the state folder is as it was."""
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url, host, params={"batch_size": 4})
        assert synth("run", path, "--no-wait", "--quiet") == 75
        provider.calls.clear()
        ledger = tmp_path / ".synth/job/ledger.sqlite"
        before = ledger.read_bytes()
        capsys.readouterr()
        assert synth("status", path) == 0
        said = capsys.readouterr().out
        assert {method for method, _ in provider.calls} == {"GET"}
        assert len([line for line in said.splitlines() if line.startswith("batch ")]) == 2
        assert ledger.read_bytes() == before


@pytest.mark.parametrize("host", AT_THE_PROVIDER)
def test_what_was_done_in_a_cancelled_batch_is_kept(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cancel` ends the open batches and collects; a later run asks for the rest alone, which used up no retries."""
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url, host, params={"max_retries": 0}, input={"count": 40})
        assert synth("run", path, "--no-wait", "--quiet") == 75
        provider.advance(HOUR / 2)
        time.sleep(0.1)
        assert synth("cancel", path) == 0
        done = sum(provider.paid.values())
        assert 0 < done < 40
        assert f"1 batch cancelled; {done} answers kept" in capsys.readouterr().err
        assert rows(path) == []
        provider.behave()
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 40}, 2, 40)


def test_another_engine_waits_for_the_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`engine: online` while batches are open is exit 2, and the two commands that it names work."""
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--no-wait", "--quiet") == 75
        job(tmp_path, provider.url, engine="online")
        capsys.readouterr()
        assert synth("run", path, "--quiet") == 2
        said = capsys.readouterr().err
        assert f"synth cancel {path} --set engine=batch" in said
        assert f"synth run {path} --set engine=batch" in said
        assert synth("cancel", path, "--set", "engine=batch") == 0
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, len(rows(path))) == ({"1": 8}, 8)


def test_batches_are_packed_to_what_the_budget_admits(tmp_path: Path) -> None:
    """What is held for open batches and what was used stay below it; then exit 4, and more budget goes on."""
    with serving() as provider:
        path = job(tmp_path, provider.url, generation_params={"max_tokens": 200}, budget={"max_tokens": 450})
        assert synth("run", path, "--quiet") == 4
        assert provider.service is not None
        used = sum(batch.tokens_in + batch.tokens_out for batch in provider.service.batches.known.values())
        done = sum(provider.paid.values())
        assert 2 <= done < 8
        assert used <= 450
        assert rows(path) == []
        assert synth("run", path, "--quiet", "--set", "budget.max_tokens=100000") == 0
        assert (provider.paid, len(rows(path))) == ({"1": 8}, 8)


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    """While one waits for its batches: exit 5, and nothing is submitted twice."""
    context = processes()
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url)
        first = start(context, path)
        try:
            until(provider, 1)
            assert synth("run", path, "--quiet") == 5
            assert synth("cancel", path) == 5
            provider.advance(2 * HOUR)
            first.join(20)
        finally:
            first.kill()
        assert (first.exitcode, provider.paid, provider.made) == (0, {"1": 8}, 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_waiting_at_once(number: int, code: int, tmp_path: Path) -> None:
    """However long the interval; the batch stays open, and a later run collects it."""
    context = processes()
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url, params={"batch_check_interval": 600})
        waiting = start(context, path)
        try:
            until(provider, 1)
            time.sleep(0.3)
            assert waiting.pid is not None
            began = time.monotonic()
            os.kill(waiting.pid, number)
            waiting.join(20)
            took = time.monotonic() - began
        finally:
            waiting.kill()
        assert (waiting.exitcode, took < 10) == (code, True)
        assert "run again to go on: synth run job.yaml" in (tmp_path / "stderr.txt").read_text()
        provider.advance(2 * HOUR)
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 1, 8)


def test_batches_at_an_address_that_is_no_longer_named_are_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report says where they are; when the spec names it again they are collected, nothing is paid twice there."""
    with serving(batch_seconds=HOUR) as first, serving() as second:
        path = job(tmp_path, first.url)
        assert synth("run", path, "--no-wait", "--quiet") == 75
        job(tmp_path, second.url)
        capsys.readouterr()
        assert synth("run", path) == 0
        assert f"1 batch left open at openai {first.url}" in " ".join(capsys.readouterr().err.split())
        first.advance(2 * HOUR)
        job(tmp_path, first.url)
        assert synth("run", path, "--quiet") == 0
        assert (first.paid, first.made, second.paid) == ({"1": 8}, 1, {"1": 8})
