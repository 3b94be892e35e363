"""Engines of this machine in whole runs: which models share one, and what the display hears of them."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

import synth_cli.engines.crew
import synth_cli.report.live
import synth_cli.run.desk
import synth_cli.run.vllm
import synth_cli.run.wire
from synth_cli.cli.app import app
from synth_cli.core.ports import Exchange, Progress, WorkerLostError
from synth_cli.core.reply import Answer, Fault, FaultKind
from synth_cli.core.request import Request
from synth_cli.engines.crew import Hired, Say
from synth_cli.engines.vllm.settings import ModelSettings
from synth_cli.providers.openai import read_chat
from synth_cli.report.live import Quiet, done
from synth_cli.run.job import run_job
from synth_cli.run.options import RunOptions


class Worker:
    """Answers with the prompt. The model `refusing` refuses each row, and the prompt 'die' ends the first workers."""

    def __init__(self, place: Place, model: str) -> None:
        self._place = place
        self._model = model

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        prompts = [request.messages[-1]["content"] for request in requests]
        await asyncio.sleep(0)
        if "die" in prompts and self._place.lives:
            self._place.lives -= 1
            raise WorkerLostError(Fault(FaultKind.LOST, "the worker died"))
        if self._model == "refusing":
            return [Exchange(fault=Fault(FaultKind.CONTEXT_LENGTH, "too long"))] * len(prompts)
        return [answer(prompt) for prompt in prompts]

    async def close(self) -> None:
        """There is nothing to end."""


def answer(prompt: str) -> Exchange:
    choice = {"message": {"content": prompt}, "finish_reason": "stop"}
    body = orjson.dumps({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    return Exchange(read_chat(body), Answer("openai", body))


class Place(Quiet):
    """Where workers run, of which the first `lives` can be ended, and a display that keeps all that it is told. A start
    goes on when that satisfies `seen`."""

    def __init__(self, seen: Callable[[Place], object] = lambda place: True, lives: int = 0) -> None:
        self._seen = seen
        self.lives = lives
        self.loaded: list[str] = []
        self.told: list[Progress] = []

    async def hire(self, settings: ModelSettings, say: Say) -> Hired:
        self.loaded.append(settings.model)
        say("loading weights")
        async with asyncio.timeout(60):
            while not self._seen(self):  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0)
        say("ready")
        return Hired(Worker(self, settings.model), 8)

    def update(self, progress: Progress) -> None:
        self.told.append(progress)

    @property
    def notes(self) -> list[str]:
        """Each note once, as they came."""
        return list(dict.fromkeys(progress.note for progress in self.told))


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits, and the machine is not looked at."""
    monkeypatch.setattr(synth_cli.engines.crew, "PAUSE", 0.0)
    monkeypatch.setattr(synth_cli.run.desk, "REFRESH", 0.0)
    monkeypatch.setattr(synth_cli.run.wire, "ready", lambda *arguments: None)


def write(folder: Path, **keys: Any) -> Path:
    said = {"version": 1, "engine": "vllm", "model": "org/m", "output": {"path": "out.jsonl"}}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(said | keys, sort_keys=False))
    return path


def ran(path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(synth_cli.run.vllm, "hire", place.hire)
    run_job(path, RunOptions(), environ=os.environ, display=lambda plan: place)
    return place


STEPS: list[dict[str, Any]] = [
    {"name": "a", "prompt": "one {{ index }}"},
    {"name": "b", "prompt": "two {{ response }}"},
]


@pytest.mark.parametrize(
    ("params", "loaded"),
    [
        ({"max_tokens": 9}, 1),
        ({"min_tokens": 2, "max_retries": 1, "invalid_finish_reasons": ["length"]}, 1),
        ({"in_mtok_cost": 1, "out_mtok_cost": 2}, 1),
        ({"max_model_length": 512}, 2),
        ({"batch_size": 4}, 2),
    ],
)
def test_models_that_are_loaded_alike_share_an_engine(
    tmp_path: Path, params: dict[str, Any], loaded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps load their model once, unless they say different things about the engine itself."""
    steps = [STEPS[0], STEPS[1] | {"backend_params": params}]
    path = write(tmp_path, input={"count": 3}, steps=steps)
    place = ran(path, Place(), monkeypatch)
    assert place.loaded == ["org/m"] * loaded
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


def test_what_belongs_to_other_engines_parts_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step has models of several engines, its `request_timeout` says nothing about the one that is loaded."""
    pool = {"model": ["org/m", {"name": "simulator", "engine": "online"}], "backend_params": {"request_timeout": 5}}
    path = write(tmp_path, input={"count": 3}, steps=[STEPS[0] | pool, STEPS[1]])
    assert ran(path, Place(), monkeypatch).loaded == ["org/m"]


def test_the_display_tells_a_restart_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start says how far it is, a restart which one it is, and an engine that is up says nothing."""

    def seen(place: Place) -> bool:
        return place.told[-1].note.endswith("loading weights")

    path = write(tmp_path, input={"rows": [{"word": "die"}, {"word": "live"}]}, prompt="{{ word }}")
    place = ran(path, Place(seen, lives=2), monkeypatch)
    start = "starting the engine"
    again = "restarting the engine"
    assert [note for note in place.notes if note.endswith("loading weights")] == [
        f"{start}: loading weights",
        f"{again}: loading weights",
        f"{again} (2nd time): loading weights",
    ]
    restarting = [note.startswith(again) for note in place.notes].index(True)
    assert {note.partition(" (")[0].partition(":")[0] for note in place.notes[restarting:]} <= {again, ""}
    assert place.told[-1].note == ""


def test_rows_that_cannot_be_asked_are_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are failed and part of the total from the first to the last, and none that this run has sent."""

    def seen(place: Place) -> bool:
        return place.told[-1].unsent == 4

    path = write(tmp_path, input={"count": 12}, prompt="{{ 1 // (index % 3) if index % 3 == 0 else index }}")
    place = ran(path, Place(seen), monkeypatch)
    assert [one.failed for one in place.told] == [0] * len(place.told)
    assert all(done(one) <= one.total for one in place.told if one.total is not None)
    last = place.told[-1]
    assert (last.answered, last.unsent, last.total, done(last)) == (8, 4, 12, 12)


def test_a_failure_is_counted_once_in_all_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed with one model is met again when the next model has its turn."""
    path = write(tmp_path, input={"count": 3}, model=["refusing", "org/m"], prompt="{{ index }}")
    place = ran(path, Place(), monkeypatch)
    last = place.told[-1]
    assert place.loaded == ["refusing", "org/m"]
    assert all(done(one) <= 6 for one in place.told)
    assert (last.answered, last.failed, last.unsent, last.total) == (3, 3, 0, 6)


def test_what_a_fallback_is_still_to_answer_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that failed is no failure as long as another model may answer in its place."""
    path = write(tmp_path, input={"count": 3}, model="refusing", fallback=["org/m"], prompt="{{ index }}")
    place = ran(path, Place(), monkeypatch)
    assert place.loaded == ["refusing", "org/m"]
    assert {one.failed for one in place.told} == {0}
    assert place.told[-1].answered == 3
    place = ran(
        write(tmp_path, input={"count": 3}, model="refusing", fallback=["refusing"], prompt="no {{ index }}"),
        Place(),
        monkeypatch,
    )
    assert place.told[-1].failed == 3


@pytest.mark.parametrize("quiet", [False, True])
def test_a_preview_that_asks_says_that_it_starts_an_engine(
    tmp_path: Path, quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, as a run does; not with `--json`."""
    monkeypatch.setattr(synth_cli.report.live, "FIRST_LINE", 0.0)
    monkeypatch.setattr(synth_cli.report.live, "NEXT_LINE", 0.0)
    stderr, stdout = io.StringIO(), io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "stdout", stdout)
    said = "starting the engine: loading weights"
    place = Place(lambda place: quiet or said in stderr.getvalue())
    monkeypatch.setattr(synth_cli.run.vllm, "hire", place.hire)
    path = write(tmp_path, input={"count": 2}, prompt="{{ index }}")
    with pytest.raises(SystemExit) as ended:
        app(["preview", str(path), "--run", *(["--json"] if quiet else [])])
    assert (ended.value.code, place.loaded) == (0, ["org/m"]), stderr.getvalue()
    assert (said in stderr.getvalue(), stderr.getvalue() == "") == (not quiet, quiet)
