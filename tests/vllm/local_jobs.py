"""Jobs for the engine over workers: seeded rows, a ledger in memory, and one `advance`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from synth_cli.core.events import Fact, Faulted, Replied
from synth_cli.core.ports import Task
from synth_cli.core.request import Request, Terms
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context, Row
from synth_cli.core.state import Valid
from synth_cli.core.work import Rules, StepWork
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.recording import GroupRecord


def seeded(
    rows: int, params: Mapping[str, Any], prompts: Mapping[int, str] | None = None, *, samples: int = 1
) -> Iterator[Task]:
    """Tasks whose ids are 10 x row + sample, each with a seed of its own; `prompts` are those of some rows."""
    terms = Terms("vllm", "m", params=params)
    for number in range(rows):
        row = Row(number, number.to_bytes(16, "big"), {})
        messages = ({"role": "user", "content": (prompts or {}).get(number, f"row {number}")},)
        for sample in range(samples):
            own = 10 * number + sample
            yield Task(Request(own.to_bytes(16, "big"), terms, messages, seed=own), Context(row, sample))


class Facts:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.all: list[Fact] = []

    def append(self, facts: Iterable[Fact]) -> None:
        self.all.extend(facts)

    @property
    def replied(self) -> list[Replied]:
        return [fact for fact in self.all if isinstance(fact, Replied)]

    @property
    def faulted(self) -> list[Faulted]:
        return [fact for fact in self.all if isinstance(fact, Faulted)]

    @property
    def answers(self) -> dict[int, str]:
        """Id → the answer's text."""
        return {
            int.from_bytes(fact.id, "big"): orjson.loads(fact.answer.body)["choices"][0]["message"]["content"]
            for fact in self.replied
        }

    @property
    def models(self) -> Counter[str | None]:
        return Counter(fact.model for fact in self.replied)


class Job:
    """The work over some tasks, and what is recorded of it."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.facts = Facts()
        self.record = GroupRecord(self.facts)  # type: ignore[arg-type]
        rules = Rules("main", RetryPolicy(2), lambda context, reply: Valid(reply.text))
        self.work = StepWork(iter(tasks), rules, self.record, chance=lambda: 0.0)

    async def advanced(self, engine: LocalEngine) -> Facts:
        await engine.advance(self.work, self.record)
        assert (self.record.pending, self.work.in_flight) == (0, 0)
        return self.facts


async def until(condition: Callable[[], object]) -> None:
    """Waits for it, at most a few minutes."""
    async with asyncio.timeout(200):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)
