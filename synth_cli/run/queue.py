"""Tasks that wait for an engine, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from synth_cli.core.ports import Task


class Source(Protocol):
    """Where a queue's tasks come from. `waiting` counts those of each step, over all queues."""

    waiting: list[int]

    @property
    def over(self) -> bool: ...

    def next(self, queue: Queue) -> Task | None: ...

    def found(self, queue: Queue) -> bool: ...

    def crowded(self, step: int) -> bool: ...

    def taken(self, step: int) -> None: ...


class Queue:
    """Satisfies `Tasks`: those for one engine, the last step's first, so that rows are finished before others begin."""

    def __init__(self, flow: Source, steps: int, woken: Callable[[], None]) -> None:
        self._flow = flow
        self._waiting: list[deque[Task]] = [deque() for _ in range(steps)]
        self.woken = woken
        """Called when a task comes to an empty queue, and when one may be had again."""
        self.size = 0

    def add(self, step: int, task: Task) -> None:
        self._waiting[step].append(task)
        self._flow.waiting[step] += 1
        self.size += 1
        if self.size == 1:
            self.woken()

    def pop(self) -> Task | None:
        """The next task, unless steps behind its own have more than enough to do."""
        if not self.size:
            return None
        step = next(step for step in reversed(range(len(self._waiting))) if self._waiting[step])
        if self._flow.crowded(step):
            return None
        self.size -= 1
        task = self._waiting[step].popleft()
        self._flow.taken(step)
        return task

    def ready(self) -> bool:
        """Whether a task can be had now."""
        return self._flow.found(self)

    def next(self) -> Task | None:
        return self._flow.next(self)

    @property
    def over(self) -> bool:
        return not self.size and self._flow.over
