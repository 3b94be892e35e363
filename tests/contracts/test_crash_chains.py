"""The crash contract for jobs of several steps: wherever a run dies, no step repeats more than was in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dying import DeadError, dying_after
from loopback import Asked, Loopback, Step, completion, error, response, serving
from processes import killed, simulator, started, until
from whole_runs import spec, synth

import synth_cli.core.retry
from synth_cli.core.events import RoundClosed

AT_ONCE = 2
REPEATS = 2 * AT_ONCE
"""The most requests of one step that one death may have to repeat."""


@dataclass(frozen=True)
class Way:
    """A shape of a job. A prompt's first word is its step's name."""

    name: str
    steps: Sequence[Mapping[str, Any]]
    keys: Mapping[str, Any]


def step(name: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "prompt": f"{name} {prompt}", "columns": {name: "{{ response }}"}, **more}


def spare(url: str) -> list[dict[str, Any]]:
    return [{"name": "spare", "backend": "openai", "base_url": url, "api_key": "none"}]


FAN = {"each": "[1, 2]", "columns": {"a": "{{ response }}/{{ item }}"}}
WAYS = [
    Way("chain", [step("a", "{{ index }}", **FAN), step("b", "{{ a }}", keep_if="index != 3")], {}),
    Way(
        "chain with refine and fallback",
        [
            step("a", "{{ index }}", refine={"times": 2, "prompt": "a more {{ response }}"}, fallback=[]),
            step("b", "{{ a }}", fallback=[]),
        ],
        {},
    ),
    Way(
        "chain with steps that need all rows",
        [
            step("a", "{{ index }}", **FAN),
            {"name": "once", "type": "dedup", "by": "a"},
            step("b", "{{ a }}"),
            {"name": "together", "type": "group", "by": "index"},
            step("c", "{{ b | length }} of {{ index }}"),
        ],
        {},
    ),
    Way(
        "conversation, judged",
        [
            {
                "name": "talk",
                "turns": {"user": {"system": "talk asks"}, "assistant": {"system": "talk says"}, "max": 3},
            },
            step("b", "{{ messages | length }}"),
        ],
        {"input": {"rows": [{"w": "x"}, {"w": "y"}]}},
    ),
    Way(
        "chain to a target",
        [step("a", "{{ index }}", keep_if="index is even"), step("b", "{{ a }}")],
        {"target_rows": {"rows": 3, "max_candidates": 9}, "input": {}},
    ),
    Way(
        "chain within a budget",
        [step("a", "{{ index }}"), step("b", "{{ a }}")],
        {"budget": {"max_tokens": 100_000}, "generation_params": {"max_tokens": 10}},
    ),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


def model(asked: Asked) -> Sequence[Step]:
    """Answers by the prompt; some need a second try, one is refused for good by the first model."""
    prompt, turn = asked.prompt, asked.turn
    if prompt == "a 1" and turn == 1:
        return [error(429, "slow down", "Retry-After: 0")]
    if prompt.startswith("b") and prompt.endswith("2") and turn == 1:
        return [error(500, "oops")]
    if prompt == "a 3" and asked.body["model"] != "spare":
        return [error(400, "not this one")]
    # what the sides of a conversation say grows, so that no two of its messages are equal
    told = prompt if len(asked.body["messages"]) == 1 else f"{len(asked.body['messages'])} {prompt[:9]}"
    return [response(200, completion(told.upper()))]


def job(folder: Path, provider: Loopback, way: Way) -> Path:
    steps = [dict(each) for each in way.steps]
    for each in steps:
        if "fallback" in each:
            each["fallback"] = spare(provider.url)
    keys = {"input": {"count": 5}, "backend_params": {"max_concurrent_requests": AT_ONCE, "max_retries": 2}, **way.keys}
    path = spec(folder, provider.url, steps=steps, **keys)
    path.write_text(path.read_text().replace("prompt: row {{ index }}\n", "", 1))
    return path


def by_step(asked: Counter[str]) -> Counter[str]:
    steps: Counter[str] = Counter()
    for prompt, times in asked.items():
        steps[prompt.split()[0]] += times
    return steps


def written(path: Path) -> bytes | None:
    place = path.parent / "out.jsonl"
    return place.read_bytes() if place.exists() else None


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once: how long they wait is no part of this contract."""
    monkeypatch.setattr(synth_cli.core.retry, "UNKNOWN_PACE", 0.0)
    monkeypatch.setattr(synth_cli.core.retry, "SHORTEST", 0.001)


def undisturbed(folder: Path, way: Way) -> tuple[bytes, Loopback, int, int]:
    """What a run comes to that nobody disturbs: output, provider, exit code and how many facts it recorded."""
    with serving(model) as provider, pytest.MonkeyPatch.context() as patch, dying_after(10**6, patch) as recorded:
        path = job(folder, provider, way)
        code = synth("run", path, "--quiet")
        output = written(path)
        assert code in (0, 1)
        assert output
        return output, provider, code, len(recorded)


@every_way
def test_a_chain_may_die_after_any_fact(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run again it has the undisturbed output, byte for byte; of each step at most what was in flight is repeated."""
    expected, calm, code, facts = undisturbed(tmp_path / "calm", way)
    for stop in range(1, facts + 1):
        with serving(model) as provider:
            path = job(tmp_path / f"{stop}", provider, way)
            with dying_after(stop, monkeypatch), pytest.raises(DeadError):
                synth("run", path, "--quiet")
            assert written(path) in (None, expected)
            assert synth("run", path, "--quiet") == code, f"after {stop} facts"
            assert written(path) == expected, f"after {stop} facts"
            repeated = by_step(provider.asked) - by_step(calm.asked)
            assert all(times <= REPEATS for times in repeated.values()), f"after {stop} facts: {repeated}"


@every_way
def test_a_chain_that_dies_again_and_again_comes_to_its_end(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run lives for longer than it takes to end in order."""
    expected, calm, code, facts = undisturbed(tmp_path / "calm", way)
    with serving(model) as provider:
        path = job(tmp_path / "job", provider, way)
        for deaths in count():
            assert deaths < facts
            with dying_after(8, monkeypatch) as recorded, suppress(DeadError):
                assert synth("run", path, "--quiet") == code
            if isinstance(recorded[-1], RoundClosed):
                break
        assert written(path) == expected
        repeated = by_step(provider.asked) - by_step(calm.asked)
        assert all(times <= deaths * REPEATS for times in repeated.values())


def long_chain(folder: Path, url: str) -> Path:
    steps = [
        {**step("a", "{{ index }}"), "refine": {"times": 1, "prompt": "a more {{ response }}"}, "fallback": spare(url)},
        {"name": "once", "type": "dedup", "by": "index"},
        step("b", "{{ a }}", keep_if="index % 3"),
        step("c", "{{ b }}"),
    ]
    path = spec(folder, url, input={"count": 300}, steps=steps, backend_params={"max_concurrent_requests": 16})
    path.write_text(path.read_text().replace("prompt: row {{ index }}\n", "", 1))
    return path


def test_a_killed_chain_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL in each step of 300 rows, then run again: the undisturbed bytes, and few requests more."""
    with simulator(
        "--latency", "0.02", "--share-500", "0.03", "--share-429", "0.03", "--retry-after", "0.02"
    ) as server:
        calm = long_chain(tmp_path / "calm", server.url)
        assert started(calm).wait(100) == 0
        before = server.counts()["answered"]
        path = long_chain(tmp_path / "job", server.url)
        deaths = 0
        for share in (0.2, 0.5, 0.8, 0.95):
            process = started(path)
            until(lambda share=share: server.counts()["answered"] >= before * (1 + share), process)  # type: ignore[misc]
            deaths += killed(process)
            assert written(path) is None
        assert deaths == 4
        assert started(path).wait(100) == 0
        assert written(path) == written(calm)
        assert server.counts()["answered"] - 2 * before <= deaths * 2 * 16
        # what only the dead runs needed is gone with them
        assert not list((path.parent / ".synth").rglob("worksheet.sqlite*"))
