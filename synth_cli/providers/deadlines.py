"""Deadlines of many waits with one timer: a timer for each costs a tenth of what a request does."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

SHARE: Final = 0.02
"""Part of the time allowed by which its end may be noticed late."""
OFTEN: Final = 0.005
SELDOM: Final = 1.0
"""Seconds between two looks, at least and at most."""


class Deadlines:
    """`within(seconds)` raises TimeoutError in the block that takes longer, as `asyncio.timeout` does.

    All blocks are looked after together, every now and then: one may end late by a fiftieth of the time allowed, and
    by a second at most. A task is in one block at a time.
    """

    def __init__(self) -> None:
        self._due: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._pause = SELDOM
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def within(self, seconds: float) -> _Within:
        return _Within(self, seconds)

    def begin(self, task: asyncio.Task[Any], seconds: float) -> None:
        loop = task.get_loop()
        self._due[task] = loop.time() + seconds
        pause = min(max(seconds * SHARE, OFTEN), SELDOM)
        if self._timer is None or pause < self._pause or loop is not self._loop:
            # a timer of a loop that has ended never rings
            self._loop = loop
            self._pause = pause
            self._look_later(loop)

    def end(self, task: asyncio.Task[Any]) -> bool:
        """Whether the time was over."""
        del self._due[task]
        if not self._late:
            return False
        late = task in self._late
        self._late.discard(task)
        return late

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self._pause, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for task, due in self._due.items():
            if due <= now and task not in self._late:
                self._late.add(task)
                task.cancel()
        if self._due:
            self._look_later(loop)


class _Within:
    __slots__ = ("_cancelling", "_deadlines", "_seconds", "_task")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.begin(task, self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # a task that somebody else cancels as well ends as cancelled
        late = self._deadlines.end(self._task)
        if late and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
