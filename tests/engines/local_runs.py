"""What tests of the engine over workers share: tasks, a ledger of lists, and one whole `advance`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from little_worker import Office

from synth_cli.core.events import Fact, Faulted, Replied
from synth_cli.core.ports import Task
from synth_cli.core.reply import Fault, Reply
from synth_cli.core.request import Request, Terms
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context, Row
from synth_cli.core.state import Valid, Verdict
from synth_cli.core.work import Rules, StepWork
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.recording import GroupRecord

TERMS = Terms("vllm", "m")


def tasks(
    rows: int, samples: int = 1, *, seed: int | None = None, words: dict[int, str] | None = None
) -> Iterator[Task]:
    """Tasks of so many rows; `words` are the prompts of some, 'row n' those of the others."""
    for index in range(rows):
        row = Row(index, index.to_bytes(16, "big"), {})
        messages = ({"role": "user", "content": (words or {}).get(index, f"row {index}")},)
        for sample in range(samples):
            id_ = (index * 1000 + sample).to_bytes(16, "big")
            own = None if seed is None else seed + sample
            yield Task(Request(id_, TERMS, messages, seed=own), Context(row, sample))


class Facts:
    """A ledger of lists: one for each transaction."""

    def __init__(self) -> None:
        self.groups: list[list[Fact]] = []

    def append(self, facts: Iterable[Fact]) -> None:
        self.groups.append(list(facts))

    @property
    def all(self) -> list[Fact]:
        return [fact for group in self.groups for fact in group]

    @property
    def answered(self) -> list[int]:
        return sorted(int.from_bytes(fact.id, "big") for fact in self.all if isinstance(fact, Replied))

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        return [(int.from_bytes(fact.id, "big"), fact.fault) for fact in self.all if isinstance(fact, Faulted)]


def fine(context: Context, reply: Reply) -> Verdict:
    return Valid(reply.text)


def work_of(source: Iterable[Task], record: GroupRecord, **more: Any) -> StepWork:
    rules = {"step": "main", "retry": RetryPolicy(2), "judge": fine, **more}
    return StepWork(iter(source), Rules(**rules), record, chance=lambda: 0.0)


def run(office: Office, source: Iterable[Task], workers: int = 1, **more: Any) -> tuple[StepWork, Facts, LocalEngine]:
    """One whole `advance` of so many workers."""
    facts = Facts()
    record = GroupRecord(facts)  # type: ignore[arg-type]
    work = work_of(source, record, **more)

    async def scenario() -> LocalEngine:
        engine = LocalEngine(office.starts(workers))
        await engine.open()
        try:
            await engine.advance(work, record)
        finally:
            await engine.close()
        return engine

    engine = asyncio.run(scenario())
    assert record.pending == 0
    return work, facts, engine


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)
