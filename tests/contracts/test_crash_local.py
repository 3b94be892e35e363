"""The crash contract of the engine over workers: a run may die after any fact, and its workers with it or before it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from dying import DeadError, dying_after
from whole_runs import failures, rows, spec, synth

import synth_cli.core.retry
import synth_cli.engines.crew
import synth_cli.run.vllm
import synth_cli.run.wire
from synth_cli.core.events import RoundClosed
from synth_cli.core.ports import Exchange, WorkerLostError
from synth_cli.core.reply import Answer, Fault, FaultKind
from synth_cli.core.request import STRIDE, Request
from synth_cli.engines.crew import Hired, Say
from synth_cli.engines.vllm.settings import ModelSettings
from synth_cli.providers.openai import read_chat

AT_ONCE = 4
SAMPLES = 2


class Machine:
    """Where workers run. It outlives runs, so that a row may fail the first time it is ever asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.starts = 0

    @property
    def requests(self) -> int:
        return sum(self.asked.values())

    async def hire(self, settings: ModelSettings, say: Say) -> Hired:
        self.starts += 1
        return Hired(Unreliable(self), settings.in_flight or 8)


class Unreliable:
    """Answers by the row: some samples need a second try, one never gets a valid answer, one row is refused, and one
    ends the worker the first time, another each time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._death: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        before = [self._machine.asked[name_of(request)] for request in requests]
        self._machine.asked.update(map(name_of, requests))
        # all that are asked together are in flight before anything comes of one
        await asyncio.sleep(0.001)
        names = list(map(name_of, requests))
        if any(name.startswith("row 7") for name in names) or ("row 2/8" in names and before == [0] * len(names)):
            self._death.cancel()
        if self._death.done():
            raise WorkerLostError(Fault(FaultKind.LOST, "the worker died"))
        return [self._said(name, turn) for name, turn in zip(names, before, strict=True)]

    def _said(self, name: str, turn: int) -> Exchange:
        if name.startswith("row 6"):
            return Exchange(fault=Fault(FaultKind.CONTEXT_LENGTH, "too long"))
        invalid = name == "row 4/8" or (name in ("row 1/8", "row 3/9") and turn == 0)
        choice = {"message": {"content": name.upper()}, "finish_reason": "length" if invalid else "stop"}
        body = orjson.dumps({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
        return Exchange(read_chat(body), Answer("openai", body))

    async def close(self) -> None:
        """There is nothing to end."""


def name_of(request: Request) -> str:
    """The row and the seed, which tells its samples apart; a re-ask counts on from it by strides."""
    return f"{request.messages[-1]['content']}/{None if request.seed is None else request.seed % STRIDE}"


def job(folder: Path) -> Path:
    return spec(
        folder,
        "",
        engine="vllm",
        model="org/m",
        samples=SAMPLES,
        generation_params={"seed": 8},
        backend_params={"batch_size": AT_ONCE, "max_retries": 2},
        input={"count": 10},
    )


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits, and the machine is not looked at."""
    monkeypatch.setattr(synth_cli.core.retry, "UNKNOWN_PACE", 0.0)
    monkeypatch.setattr(synth_cli.core.retry, "SHORTEST", 0.001)
    monkeypatch.setattr(synth_cli.engines.crew, "PAUSE", 0.0)
    monkeypatch.setattr(synth_cli.run.wire, "ready", lambda *arguments: None)


ONCE = 10 * SAMPLES + 4
"""Requests, with those that are asked again because an answer was not valid."""
AT_DEATHS = 4 * AT_ONCE
"""What one run may ask again because workers died: one for row 2, three until row 7 is found."""


def on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(synth_cli.run.vllm, "hire", machine.hire)
    return machine


def undisturbed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], Machine, int]:
    """What a run comes to that nobody disturbs: its rows, the machine, and how many facts it recorded."""
    machine = on(Machine(), monkeypatch)
    path = job(folder)
    with dying_after(10**6, monkeypatch) as recorded:
        assert synth("run", path, "--quiet") == 1
    return rows(path), machine, len(recorded)


def test_workers_that_die_cost_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one run: what was in flight at a death is asked again, and the row that kills is found and fails alone."""
    found, machine, _ = undisturbed(tmp_path, monkeypatch)
    whole = [(index, seed) for index in range(10) for seed in (8, 9)]
    failed = {(4, 8), (6, 8), (6, 9), (7, 8), (7, 9)}
    assert found == [
        {"index": index, "response": f"ROW {index}/{seed}"} for index, seed in whole if (index, seed) not in failed
    ]
    by_prompt: dict[str, list[str]] = {}
    for failure in failures(tmp_path / "job.yaml"):
        by_prompt.setdefault(failure.prompt, []).append(failure.error)
    killed = "bad request: the engine died each time this was asked, at last with nothing else beside it"
    assert {prompt: len(errors) for prompt, errors in by_prompt.items()} == {"row 4": 1, "row 6": 2, "row 7": 2}
    assert by_prompt["row 7"] == [f"{killed}: the worker died"] * 2
    assert by_prompt["row 6"] == ["context length: too long"] * 2
    # the first start, one after the death of row 2, and three after those of row 7, or four where the room at the
    # worker parted its two samples
    assert machine.starts in (5, 6)


def test_a_run_over_workers_may_die_after_any_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run again it has the undisturbed rows, and asks again at most for what was in flight."""
    expected, _, facts = undisturbed(tmp_path / "calm", monkeypatch)
    for stop in count(1):
        machine = on(Machine(), monkeypatch)
        path = job(tmp_path / f"{stop}")
        dead = False
        try:
            with dying_after(stop, monkeypatch):
                synth("run", path, "--quiet")
        except DeadError:
            dead = True
        assert synth("run", path, "--quiet") == 1
        assert rows(path) == expected, f"after {stop} facts"
        assert machine.requests <= ONCE + 2 * AT_DEATHS + 2 * AT_ONCE, f"after {stop} facts"
        if not dead:
            break
    # how many are in flight at a worker's death is a matter of moments
    assert stop >= facts - 2 * AT_ONCE


def test_a_run_over_workers_that_dies_again_and_again_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run lives for long; attempts are counted on, and what failed for good is not asked by the next."""
    expected, _, facts = undisturbed(tmp_path / "calm", monkeypatch)
    machine = on(Machine(), monkeypatch)
    path = job(tmp_path / "job")
    for deaths in count():
        assert deaths < facts
        try:
            with dying_after(16, monkeypatch) as recorded:
                assert synth("run", path, "--quiet") == 1
        except DeadError:
            pass
        if isinstance(recorded[-1], RoundClosed):
            break
    assert rows(path) == expected
    assert deaths > 1
    assert machine.asked["row 4/8"] <= 3 + 2 * deaths


def test_a_second_run_over_workers_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is answered, no model is loaded."""
    machine = on(Machine(), monkeypatch)
    path = spec(tmp_path, "", engine="vllm", model="org/m", samples=2, input={"count": 5})
    assert synth("run", path, "--quiet") == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    assert synth("run", path, "--quiet") == 0
    assert (machine.starts, machine.requests) == (1, 10)
    assert (tmp_path / "out.jsonl").read_bytes() == before
