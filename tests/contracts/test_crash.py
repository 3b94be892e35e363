"""The crash contract, the same for every engine: wherever a run dies, the next ones come to the undisturbed result."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from dying import DeadError, dying_after
from loopback import Asked, Loopback, Step, completion, error, response, serving
from processes import killed, simulator, started, until
from whole_runs import failures, rows, spec, synth

import synth_cli.core.retry
import synth_cli.outputs.publish
from synth_cli.core.events import RoundClosed

AT_ONCE = 2
OUTPUTS = ["out.jsonl", "out.csv", "deep/out.parquet"]


@dataclass(frozen=True)
class Way:
    """An engine, as a spec names it. `repeats`: the most requests that one death may have to repeat."""

    name: str
    keys: dict[str, Any]
    repeats: int


WAYS = [
    Way(
        "online",
        {"engine": "online", "backend_params": {"max_concurrent_requests": AT_ONCE, "max_retries": 2}},
        2 * AT_ONCE,
    ),
    Way(
        "online, streamed and budgeted",
        {
            "backend_params": {"max_concurrent_requests": AT_ONCE, "max_retries": 2, "stream": True},
            "generation_params": {"max_tokens": 10},
            "budget": {"max_tokens": 100_000},
        },
        2 * AT_ONCE,
    ),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


def model(asked: Asked) -> Sequence[Step]:
    """Answers by the row; some rows need a second try, one never gets an answer and one is refused for good."""
    row, turn = asked.prompt, asked.turn
    if row == "row 1" and turn == 1:
        return [error(429, "slow down", "Retry-After: 0")]
    if row == "row 2" and turn == 1:
        return [error(500, "oops")]
    if row == "row 3" and turn == 1:
        return [response(200, b'{"choices": [{')]
    if row == "row 4":
        return [error(500, "never")]
    if row == "row 6":
        return [error(400, "not this one")]
    if asked.body.get("stream"):
        events = [
            {"model": "m", "choices": [{"index": 0, "delta": {"content": row.upper()}, "finish_reason": "stop"}]},
            {"model": "m", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
        ]
        said = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"
        return [response(200, said, "Content-Type: text/event-stream")]
    return [response(200, completion(row.upper()))]


def job(folder: Path, provider: Loopback, way: Way) -> Path:
    return spec(folder, provider.url, input={"count": 8}, output={"path": OUTPUTS}, **way.keys)


def written(path: Path) -> dict[str, bytes | None]:
    """The outputs' bytes; None where a file is not there."""
    places = {name: path.parent / name for name in OUTPUTS}
    return {name: place.read_bytes() if place.exists() else None for name, place in places.items()}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once: how long they wait is no part of this contract."""
    monkeypatch.setattr(synth_cli.core.retry, "UNKNOWN_PACE", 0.0)
    monkeypatch.setattr(synth_cli.core.retry, "SHORTEST", 0.001)


def undisturbed(folder: Path, way: Way) -> tuple[dict[str, bytes | None], Loopback, int]:
    """What a run comes to that nobody disturbs: its outputs, the provider, and how many facts it recorded."""
    with serving(model) as provider, pytest.MonkeyPatch.context() as patch, dying_after(10**6, patch) as recorded:
        path = job(folder, provider, way)
        assert synth("run", path, "--quiet") == 1
        return written(path), provider, len(recorded)


@every_way
def test_a_run_may_die_after_any_fact(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run again it has the undisturbed outputs, byte for byte, and asks again at most for what was in flight."""
    expected, calm, facts = undisturbed(tmp_path / "calm", way)
    assert all(expected.values())
    for stop in range(1, facts + 1):
        with serving(model) as provider:
            path = job(tmp_path / f"{stop}", provider, way)
            with dying_after(stop, monkeypatch), pytest.raises(DeadError):
                synth("run", path, "--quiet")
            assert set(written(path).values()) == {None} or written(path) == expected
            code = synth("run", path, "--quiet")
            # died once everything was said and done, the second run was a round of its own and had its own attempts
            assert code == 1, f"after {stop} facts"
            assert written(path) == expected, f"after {stop} facts"
            over = stop >= facts
            assert provider.requests - calm.requests <= (3 if over else way.repeats), f"after {stop} facts"
            assert not over or provider.asked - calm.asked == {"row 4": 3}


@every_way
def test_a_run_that_dies_again_and_again_comes_to_its_end(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run lives for longer than it takes to end in order; a hopeless row's attempts are counted on."""
    expected, calm, facts = undisturbed(tmp_path / "calm", way)
    with serving(model) as provider:
        path = job(tmp_path / "job", provider, way)
        for deaths in count():
            assert deaths < facts
            # one more than a run records that only has to end: its own six, with a publication rolled forward
            with dying_after(7, monkeypatch) as recorded, suppress(DeadError):
                assert synth("run", path, "--quiet") == 1
            if isinstance(recorded[-1], RoundClosed):
                break
        assert written(path) == expected
        assert provider.requests <= calm.requests + deaths * way.repeats
        by_prompt = {failure.prompt: failure for failure in failures(path)}
        assert list(by_prompt) == ["row 4", "row 6"]
        assert by_prompt["row 4"].attempts == ["server error: HTTP 500: never"] * 3
        assert by_prompt["row 6"].attempts == ["bad request: HTTP 400: not this one"]


def run_dying_after(moves: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies when it has moved so many candidates to their places."""
    put, left = synth_cli.outputs.publish.put, moves

    def dying(*arguments: Any) -> None:
        nonlocal left
        if not left:
            raise DeadError
        left -= 1
        put(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(synth_cli.outputs.publish, "put", dying)
        with pytest.raises(DeadError):
            synth("run", path, "--quiet")


@pytest.mark.parametrize("moves", range(len(OUTPUTS)))
@pytest.mark.parametrize("again", ["--quiet", "--no-calls"])
def test_a_run_may_die_while_it_publishes(
    moves: int, again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two renames too: each file is whole, old or new, and the next run ends what was begun."""
    expected, calm, _ = undisturbed(tmp_path / "calm", WAYS[0])
    with serving(model) as provider:
        path = job(tmp_path / "job", provider, WAYS[0])
        for name in OUTPUTS:
            (path.parent / name).parent.mkdir(exist_ok=True)
            (path.parent / name).write_text("old\n")
        old = written(path)
        run_dying_after(moves, path, monkeypatch)
        assert written(path) == old | {name: expected[name] for name in OUTPUTS[:moves]}
        assert synth("run", path, again) == 1
        assert (written(path), provider.asked) == (expected, calm.asked)


def test_what_was_being_published_arrives_though_the_next_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publication is rolled forward as it was announced, whatever becomes of the run that finds it."""
    expected, _, _ = undisturbed(tmp_path / "calm", WAYS[0])
    with serving(model) as provider:
        path = job(tmp_path / "job", provider, WAYS[0])
        run_dying_after(1, path, monkeypatch)
    # the provider is gone, and all is asked anew
    edited = ("--set", "prompt=another {{ index }}", "--set", "backend_params.max_retries=0")
    assert (synth("run", path, "--quiet", *edited), written(path)) == (1, expected)


def many(folder: Path, url: str, count: int, **changes: Any) -> Path:
    params = {"max_concurrent_requests": 16}
    return spec(folder, url, input={"count": count}, backend_params=params, **changes)


def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL in the middle of 800 rows, then run again: the undisturbed bytes, and few requests more."""
    with simulator("--latency", "0.02") as server:
        calm = many(tmp_path / "calm", server.url, 800)
        assert started(calm).wait(60) == 0
        before = server.counts()["answered"]
        path = many(tmp_path / "job", server.url, 800)
        process = started(path)
        until(lambda: server.counts()["answered"] >= before + 200, process)
        assert killed(process)
        assert rows(path) == []
        assert started(path).wait(60) == 0
        assert (path.parent / "out.jsonl").read_bytes() == (calm.parent / "out.jsonl").read_bytes()
        assert server.counts()["answered"] - before - 800 <= 2 * 16
        # what only the dead run needed is gone with it
        assert not list((path.parent / ".synth").rglob("worksheet.sqlite*"))


def test_a_process_killed_at_any_moment_comes_to_its_end(tmp_path: Path) -> None:
    """Ten deaths at moments drawn by chance, start-up and publishing among them, change not a byte."""
    chance = random.Random(11)
    with simulator(
        "--latency", "0.02", "--share-500", "0.05", "--share-429", "0.05", "--retry-after", "0.05"
    ) as server:
        changes = {"output": {"path": ["out.jsonl", "out.csv"]}}
        calm = many(tmp_path / "calm", server.url, 600, **changes)
        assert started(calm).wait(60) == 0
        path = many(tmp_path / "job", server.url, 600, **changes)
        deaths = 0
        for _ in range(10):
            process = started(path)
            end = time.monotonic() + chance.uniform(0.3, 0.75)
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.01)
            deaths += killed(process)
            for name in ("out.jsonl", "out.csv"):
                found, expected = path.parent / name, calm.parent / name
                assert not found.exists() or found.read_bytes() == expected.read_bytes()
        assert started(path).wait(60) == 0
        assert deaths >= 5
        for name in ("out.jsonl", "out.csv"):
            assert (path.parent / name).read_bytes() == (calm.parent / name).read_bytes()
        assert server.counts()["repeated"] <= 600 + deaths * 2 * 16


def test_a_budget_holds_over_deaths(tmp_path: Path) -> None:
    """However often the process is killed, the server never counts more tokens in a round than the budget allows."""
    budget = 60_000
    chance = random.Random(5)
    with simulator("--latency", "0.02") as server:
        path = many(
            tmp_path,
            server.url,
            3000,
            generation_params={"max_tokens": 100},
            budget={"max_tokens": budget},
        )
        for _ in range(5):
            process = started(path)
            enough = server.counts()["answered"] + 10 + chance.randrange(40)
            until(lambda enough=enough: server.counts()["answered"] > enough, process)  # type: ignore[misc]
            if not killed(process):
                break
        code = started(path).wait(60)
        used = server.counts()["tokens"]
        assert code == 4
        assert budget / 4 < used <= budget
        # the round goes on: there is nothing left in it
        assert started(path).wait(60) == 4
        assert server.counts()["tokens"] == used
