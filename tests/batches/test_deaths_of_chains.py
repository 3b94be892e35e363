"""Chains with steps in batches die after each fact that they record: the next runs pay nothing twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from provider_apart import job, output, serving, synth

import synth_cli.run.batch
import synth_cli.run.opening
from synth_cli.core.events import Fact
from synth_cli.engines.batch import BatchSettings
from synth_cli.stores.ledger import SqliteLedger

AT_ONCE = 2
PROMPTS = ("row {{ index }}", "then {{ a }}", "last {{ b }}")
WAYS = [("batch", "online", "batch"), ("online", "batch", "online")]


class DeadError(BaseException):
    """The process is gone: nothing that catches errors may see it."""


@contextmanager
def dying_after(facts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fact]]:
    """Runs die when so many facts are recorded; from then on nothing is. Yields what was recorded."""
    recorded: list[Fact] = []

    class Dying(SqliteLedger):
        def append(self, group: Sequence[Fact]) -> None:
            kept = group[: facts - len(recorded)]
            if kept:
                super().append(kept)
                recorded.extend(kept)
            if len(recorded) >= facts:
                raise DeadError

    with monkeypatch.context() as patched:
        patched.setattr(synth_cli.run.opening, "SqliteLedger", Dying)
        yield recorded


def chain(folder: Path, url: str, engines: Sequence[str]) -> Path:
    """Three steps for each of four rows; the second filters one out."""
    path = job(folder, url, engine="batch", input={"count": 4}, params={"batch_size": 3})
    said: dict[str, Any] = yaml.safe_load(path.read_text())
    del said["prompt"], said["engine"]
    said["backend_params"]["max_concurrent_requests"] = AT_ONCE
    said["steps"] = [
        {"name": name, "engine": engine, "prompt": prompt, "columns": {name: "{{ response }}"}}
        for name, engine, prompt in zip("abc", engines, PROMPTS, strict=True)
    ]
    said["steps"][1]["keep_if"] = "index != 2"
    path.write_text(yaml.safe_dump(said))
    return path


@pytest.mark.parametrize("engines", WAYS, ids=" ".join)
def test_a_chain_in_batches_may_die_after_any_fact(
    engines: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undisturbed output; batches are never paid twice, online at most what was in flight is repeated."""
    monkeypatch.setattr(synth_cli.run.batch, "BatchSettings", partial(BatchSettings, grace=0.05))
    with serving() as provider:
        calm = chain(tmp_path / "calm", provider.url, engines)
        with dying_after(10**6, monkeypatch) as recorded:
            assert synth("run", calm, "--quiet") == 0
        assert provider.paid == {"1": 11}
    told = zip(PROMPTS, engines, strict=True)
    online = tuple(prompt.split()[0] for prompt, engine in told if engine == "online")
    for stop in range(1, len(recorded) + 1):
        with serving() as provider:
            path = chain(tmp_path / f"{stop}", provider.url, engines)
            with dying_after(stop, monkeypatch), pytest.raises(DeadError):
                synth("run", path, "--quiet")
            assert synth("run", path, "--quiet") == 0, f"after {stop} facts"
            assert output(path) == output(calm), f"after {stop} facts"
            paid = provider.paid
            assert set(paid) <= {"1", "2"}, f"after {stop} facts"
            assert sum(paid.values()) == 11
            assert paid.get("2", 0) <= 2 * AT_ONCE
            # what was paid twice is known by its line where it was in a batch, and by its prompt online
            again = provider.within(lambda provider=provider: provider.simulator.counts["paid_again"])  # type: ignore[misc]
            assert all(name.startswith(online) for name in again)
