from __future__ import annotations

import asyncio

import pytest

from synth_cli.providers.deadlines import Deadlines


def test_what_takes_too_long_ends_with_a_timeout_and_nothing_else_does() -> None:
    """Short and long waits side by side, one after the other in one task, and in one loop after another."""
    deadlines = Deadlines()

    async def wait(seconds: float) -> str:
        try:
            with deadlines.within(seconds):
                await asyncio.sleep(0.1)
        except TimeoutError:
            return "late"
        return "in time"

    async def both() -> list[str]:
        first = await asyncio.gather(wait(60), wait(0.02), wait(5))
        return [*first, await wait(0.01), await wait(10)]

    for _ in range(2):
        assert asyncio.run(both()) == ["in time", "late", "in time", "late", "in time"]


def test_a_task_that_is_cancelled_from_outside_ends_as_cancelled() -> None:
    """Not as one whose time is over."""
    deadlines = Deadlines()

    async def wait() -> None:
        with deadlines.within(60):
            await asyncio.sleep(60)

    async def cancelled() -> bool:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_an_error_of_the_block_is_its_own() -> None:
    """What is raised inside comes out as it is, and the task can go on."""
    deadlines = Deadlines()

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ZeroDivisionError), deadlines.within(1):
            raise ZeroDivisionError
        return task.cancelling()

    assert asyncio.run(run()) == 0
