"""Jobs in batches, by the command: what one costs its user is the word `batch` in the spec."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from provider_apart import HOSTS, Provider, failures, job, output, report, rows, serving, synth

from synth_cli.providers.prices import price

LONG = {"max_tokens": 200}
HOUR = 3600.0


def posts(provider: Provider) -> int:
    return sum(method == "POST" for method, _ in provider.calls)


@pytest.mark.parametrize("host", HOSTS)
def test_a_spec_is_answered_in_batches_as_it_is_online(host: str, tmp_path: Path) -> None:
    """With every provider: the same bytes, each request paid once, and nothing is left at the provider to be paid."""
    with serving() as provider:
        batched = job(tmp_path / "batch", provider.url, host, {"max_retries": 0}, generation_params=LONG)
        assert synth("run", batched, "--quiet") == 0
        paid, made = provider.paid, provider.made
        more = {"generation_params": LONG, "engine": "online"}
        asked = job(tmp_path / "online", provider.url, host, {"max_retries": 0}, **more)
        assert synth("run", asked, "--quiet") == 0
    assert output(batched) == output(asked)
    assert len(rows(batched)) == 8
    assert (paid, made) == (({}, 0) if host == "simulator" else ({"1": 8}, 1))


@pytest.mark.parametrize("first", ["batch", "online"])
def test_answers_of_one_engine_are_answers_for_the_other(first: str, tmp_path: Path) -> None:
    """An engine is changed in the spec: nothing is asked again."""
    with serving() as provider:
        path = job(tmp_path, provider.url, engine=first)
        assert synth("run", path, "--quiet") == 0
        before, calls = output(path), posts(provider)
        path = job(tmp_path, provider.url, engine="online" if first == "batch" else "batch")
        assert synth("run", path, "--quiet") == 0
        assert (output(path), posts(provider)) == (before, calls)


def test_a_run_that_does_not_wait_is_run_again_until_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """75 and what to do next, until the batch has ended; then 0, and again 0 without a call."""
    with serving(batch_seconds=20 * HOUR) as provider:
        path = job(tmp_path, provider.url)
        codes = []
        for _ in range(4):
            codes.append(synth("run", path, "--no-wait", "--quiet"))
            provider.advance(7 * HOUR)
        assert codes == [75, 75, 75, 0]
        said = capsys.readouterr().err
        assert "1 batch with 8 requests open at the provider" in said
        assert f"run again to go on: synth run {path} --no-wait" in said
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 1, 8)
        calls = len(provider.calls)
        assert synth("run", path, "--no-wait", "--quiet") == 0
        assert len(provider.calls) == calls


def test_several_open_batches_advance_in_one_tick(tmp_path: Path) -> None:
    """`batch_size` makes them; all that ended are collected by the same tick, those that did not are left."""
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url, params={"batch_size": 3})
        assert synth("run", path, "--no-wait", "--quiet") == 75
        assert provider.made == 3
        provider.advance(2 * HOUR)
        assert synth("run", path, "--no-wait", "--quiet") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 3, 8)


def test_a_run_looks_as_often_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `batch_check_interval` once, spread by a tenth."""
    waits: list[float] = []
    with serving(batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url, params={"batch_check_interval": 600})

        async def wait_for(future: Any, seconds: float) -> None:
            future.close()
            waits.append(seconds)
            provider.advance(seconds)
            raise TimeoutError

        asyncs = SimpleNamespace(wait_for=wait_for, Event=asyncio.Event)
        monkeypatch.setattr("synth_cli.run.batch.asyncio", asyncs)
        assert synth("run", path, "--quiet") == 0
    # the simulated batch ends after an hour and what it takes to work it off
    assert 6 <= len(waits) <= 8
    assert all(540 <= wait <= 660 for wait in waits)
    assert len(set(waits)) > 1


def test_the_window_and_the_labels_reach_the_provider(tmp_path: Path) -> None:
    """`completion_window` and `labels`, beside the key that finds the batch again."""
    with serving() as provider:
        path = job(tmp_path, provider.url, params={"completion_window": "7d"}, labels={"team": "x"})
        assert synth("run", path, "--quiet") == 0
        assert provider.service is not None
        batch = next(iter(provider.service.batches.known.values()))
        assert (batch.window, batch.metadata["team"]) == ("7d", "x")
        assert any(value.startswith("synth-job-") for value in batch.metadata.values())


@pytest.mark.parametrize(
    ("params", "refuse", "left"),
    [
        ({}, False, 2),
        ({"delete_successful_batch_files": True}, False, 0),
        ({"delete_failed_batch_files": True}, False, 2),
        ({}, True, 1),
        ({"delete_failed_batch_files": True}, True, 0),
        ({"delete_successful_batch_files": True}, True, 1),
    ],
)
def test_files_are_deleted_where_it_is_asked_for(
    params: dict[str, Any], refuse: bool, left: int, tmp_path: Path
) -> None:
    """Those of a batch that was collected, and those of one that failed, each for itself."""
    with serving(batch_refuse=refuse) as provider:
        path = job(tmp_path, provider.url, params={"max_retries": 0, **params}, input={"count": 1})
        assert synth("run", path, "--quiet") == (1 if refuse else 0)
        assert provider.files == left


SCHEMA = {"schema": {"title": "str", "stars": "int"}}


@pytest.mark.parametrize("feedback", [False, True])
def test_an_invalid_answer_is_asked_again_in_a_later_batch(feedback: bool, tmp_path: Path) -> None:
    """With feedback the model is shown what was wrong; the report counts the retries."""
    with serving(share_invalid=0.4, seed=1) as provider:
        path = job(
            tmp_path,
            provider.url,
            params={"max_retries": 6},
            input={"count": 20},
            response={**SCHEMA, "feedback": feedback},
            output={"path": "out.jsonl", "metadata": True},
        )
        assert synth("run", path, "--quiet") == 0
        again = [row["_synth"] for row in rows(path) if row["_synth"]["attempts"] > 1]
        assert provider.made > 1
        assert again
        assert all((len(one["messages"]) > 1) is feedback for one in again)
        tried = sum(row["_synth"]["attempts"] for row in rows(path))
        assert sum(int(times) * count for times, count in provider.paid.items()) == tried
        assert report(path)["traffic"]["retries"] == tried - 20


def _attempts(found: Sequence[tuple[str, str, list[str | None]]]) -> set[int]:
    return {len(attempts) for _, _, attempts in found}


def test_faulted_lines_are_asked_again_within_max_retries(tmp_path: Path) -> None:
    """All fail: each row has 1 + max_retries attempts, each with the provider's own error."""
    with serving(batch_share_error=1) as provider:
        path = job(tmp_path, provider.url, params={"max_retries": 2})
        assert synth("run", path, "--quiet") == 1
        assert provider.made == 3
        found = failures(path)
        assert (len(found), _attempts(found)) == (8, {3})
        assert all("server had an error" in (said or "") for _, _, attempts in found for said in attempts)


def test_some_faults_are_mended_by_later_batches(tmp_path: Path) -> None:
    """Errors, missing ids, doubled and unknown ones, out of order: every row is there, none paid twice."""
    with serving(
        batch_share_error=0.2,
        batch_share_missing=0.2,
        batch_share_duplicate=0.2,
        batch_share_unknown=0.2,
        batch_shuffle=True,
    ) as provider:
        path = job(tmp_path, provider.url, params={"max_retries": 12}, input={"count": 60})
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, [row["index"] for row in rows(path)]) == ({"1": 60}, list(range(60)))


def test_an_unknown_provider_of_batches_is_refused_before_anything(tmp_path: Path) -> None:
    """With the reason, and nothing is written."""
    path = job(tmp_path, "http://127.0.0.1:9/v1")
    path.write_text(path.read_text().replace("backend: openai", "backend: bedrock"))
    assert synth("run", path, "--quiet") == 2
    assert not (tmp_path / ".synth").exists()


def test_the_report_has_the_price_of_batches(tmp_path: Path) -> None:
    """Half of the online price, from the usage that the provider counted."""
    with serving() as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--quiet") == 0
        said = report(path)["traffic"]
    tokens, full = said["tokens"], price("openai", "gpt-5-mini")
    assert full is not None
    online = tokens["input"] * full.input + tokens["output"] * full.output
    assert online > 0
    assert math.isclose(said["cost"]["usd"], online / 2, rel_tol=1e-9)


def test_a_simulated_run_in_batches_says_so(tmp_path: Path) -> None:
    """`--simulate` with `engine: batch`: no key, no provider; the report and the metadata are marked."""
    path = job(tmp_path, "http://127.0.0.1:9/v1", output={"path": "out.jsonl", "metadata": True})
    assert synth("run", path, "--simulate", "--quiet") == 0
    assert [row["_synth"]["simulated"] for row in rows(path)] == [True] * 8
    runs = sorted((tmp_path / ".synth/job/simulated/runs").iterdir())
    assert orjson.loads((runs[-1] / "report.json").read_bytes())["job"]["simulated"] is True
