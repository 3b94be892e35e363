"""Chains with steps in batches: each tick advances all it can, and the outcome is that of online runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from provider_apart import Provider, failures, job, output, report, rows, run_folder, serving, synth

HOUR = 3600.0


def step(name: str, engine: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "engine": engine, "prompt": prompt, "columns": {name: "{{ response }}"}, **more}


def chain(folder: Path, url: str, *steps: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Path:
    """Steps that ask `gpt-5-mini` of the provider for each of eight rows."""
    path = job(folder, url, params=params, engine="batch")
    said = yaml.safe_load(path.read_text())
    del said["prompt"], said["engine"]
    said["steps"] = [dict(each) for each in steps]
    path.write_bytes(orjson.dumps(said))
    return path


def two(first: str, second: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return step("a", first, "row {{ index }}"), step("b", second, "again {{ a }}")


@pytest.mark.parametrize("engines", [("batch", "batch"), ("batch", "online"), ("online", "batch")], ids=" ".join)
def test_a_chain_over_engines_is_answered_as_it_is_online(engines: tuple[str, str], tmp_path: Path) -> None:
    """The same bytes as two online steps; each request is paid once, in one batch a step."""
    with serving() as provider:
        path = chain(tmp_path / "job", provider.url, *two(*engines))
        assert synth("run", path, "--quiet") == 0
        made, paid = provider.made, provider.paid
        calm = chain(tmp_path / "calm", provider.url, *two("online", "online"))
        assert synth("run", calm, "--quiet") == 0
    assert output(path) == output(calm)
    assert (len(rows(path)), made) == (8, engines.count("batch"))
    assert paid == {"1": 16}


def test_each_tick_advances_all_it_can(tmp_path: Path) -> None:
    """Batch → online → batch with `--no-wait`: 75 until done; what is behind one goes on in the tick that has it."""
    steps = [
        step("a", "batch", "row {{ index }}"),
        step("b", "online", "then {{ a }}"),
        step("c", "batch", "last {{ b }}"),
    ]
    codes, made = [], []
    with serving(batch_seconds=20 * HOUR) as provider:
        path = chain(tmp_path, provider.url, *steps)
        for _ in range(7):
            codes.append(synth("run", path, "--no-wait", "--quiet"))
            made.append(provider.made)
            provider.advance(10 * HOUR)
        assert provider.paid == {"1": 24}
    # a batch is seen to have ended by the third look, 20 hours on
    assert codes == [75, 75, 75, 75, 0, 0, 0]
    assert made == [1, 1, 2, 2, 2, 2, 2]
    assert len(rows(path)) == 8


def test_a_batch_that_ends_first_lets_its_rows_go_on(tmp_path: Path) -> None:
    """Of several batches of a step, what is collected is asked in the next step though others are open."""
    with serving(batch_seconds=HOUR, batch_halt=0, batch_first=1) as provider:
        path = chain(tmp_path, provider.url, *two("batch", "batch"), params={"batch_size": 4})
        assert synth("run", path, "--no-wait", "--quiet") == 75
        assert provider.made == 2
        provider.advance(2 * HOUR)
        assert synth("run", path, "--no-wait", "--quiet") == 75
        assert provider.made == 3


def test_a_filter_between_batches(tmp_path: Path) -> None:
    """What is filtered is not in the next step's batch."""
    first, second = two("batch", "batch")
    with serving() as provider:
        path = chain(tmp_path, provider.url, {**first, "keep_if": "index is even"}, second)
        assert synth("run", path, "--quiet") == 0
        assert provider.paid == {"1": 8 + 4}
    assert [row["index"] for row in rows(path)] == [0, 2, 4, 6]


def test_a_step_that_needs_all_rows_waits_for_the_batch(tmp_path: Path) -> None:
    """Behind it nothing is asked before the batch has ended."""
    first, second = two("batch", "online")
    once = {"name": "once", "type": "dedup", "by": "index"}
    with serving(batch_seconds=HOUR) as provider:
        path = chain(tmp_path, provider.url, first, once, second)
        assert synth("run", path, "--no-wait", "--quiet") == 75
        assert not [call for call in provider.calls if "completions" in call[1]]
        provider.advance(2 * HOUR)
        assert synth("run", path, "--no-wait", "--quiet") == 0
    assert len(rows(path)) == 8


def test_a_fallback_after_a_batch(tmp_path: Path) -> None:
    """What failed for good in batches is asked of the fallback, online, and is paid once."""
    with serving(batch_share_error=0.5, seed=3) as provider:
        first = step("a", "batch", "row {{ index }}", backend_params={"max_retries": 0})
        url = provider.url
        first["fallback"] = [
            {"name": "other", "backend": "openai", "base_url": url, "api_key": "k", "engine": "online"}
        ]
        first["columns"] = {"by": "{{ reply.model }}"}
        path = chain(tmp_path, url, first)
        assert synth("run", path, "--quiet") == 0
        before = len(provider.calls)
        assert synth("run", path, "--quiet") == 0
        assert len(provider.calls) == before
    assert {row["by"] for row in rows(path)} == {"gpt-5-mini", "other"}
    assert len(rows(path)) == 8


def test_refinement_in_batches(tmp_path: Path) -> None:
    """Each pass is a batch of its own."""
    refined = step("a", "batch", "row {{ index }}", refine={"times": 2, "prompt": "better than {{ response }}"})
    with serving() as provider:
        path = chain(tmp_path, provider.url, refined)
        assert synth("run", path, "--quiet") == 0
        assert (provider.made, provider.paid) == (3, {"1": 24})
    assert len(rows(path)) == 8


def test_failures_of_batches_in_the_middle(tmp_path: Path) -> None:
    """Some lines of a batch fail: the next step has the other rows, and failed.jsonl names the step."""
    first, second = two("batch", "batch")
    with serving(batch_share_error=0.4, batch_first=1, seed=5) as provider:
        path = chain(tmp_path, provider.url, first, second, params={"max_retries": 0})
        assert synth("run", path, "--quiet") == 1
        left = 8 - len(failures(path))
        assert 0 < left < 8
        assert provider.paid == {"1": 2 * left}
    assert len(rows(path)) == left
    lines = (run_folder(path) / "failed.jsonl").read_bytes().splitlines()
    assert {orjson.loads(line)["step"] for line in lines} == {"a"}
    assert report(path)["rows"]["failed"] == 8 - left


def test_cancel_ends_the_batches_of_all_steps(tmp_path: Path) -> None:
    """And a later run asks for the rest."""
    with serving(batch_seconds=HOUR) as provider:
        path = chain(tmp_path, provider.url, *two("batch", "batch"))
        assert synth("run", path, "--no-wait", "--quiet") == 75
        assert synth("cancel", path) == 0
        assert _open(provider) == 0
        provider.behave()
        assert synth("run", path, "--quiet") == 0
    assert len(rows(path)) == 8


def _open(provider: Provider) -> int:
    assert provider.service is not None
    return sum(batch.ended is None for batch in provider.service.batches.known.values())


def test_a_batch_that_expires_mixes_no_rows_up(tmp_path: Path) -> None:
    """One of two batches expires half done: every row of the next step hangs on its own answer, and none is lost."""
    with serving() as provider:
        calm = chain(tmp_path / "calm", provider.url, *two("online", "online"))
        assert synth("run", calm, "--quiet") == 0
    with serving(batch_expire=0.5, batch_first=1, batch_shuffle=True) as provider:
        path = chain(tmp_path / "job", provider.url, *two("batch", "batch"), params={"batch_size": 4})
        assert synth("run", path, "--quiet") == 0
        assert provider.paid == {"1": 16}
    assert output(path) == output(calm)
