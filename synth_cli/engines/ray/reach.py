"""Whether there is anybody at an address, and calls that may never return: Ray itself waits for minutes or for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Door: TypeAlias = tuple[str, int]
"""Host and port."""
LIMIT: Final = 10.0
"""Seconds for a connection."""
_calls: SimpleQueue[Callable[[], None]] = SimpleQueue()


def door(address: str) -> Door | None:
    """Where a cluster at this address is knocked at; None where only Ray knows, such as for 'auto'."""
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        return (place.hostname, place.port) if place.hostname and place.port else None
    except ValueError:
        return None


async def reach(at: Door) -> None:
    """Raises OSError where nobody takes a connection."""
    async with asyncio.timeout(LIMIT):
        _, writer = await asyncio.open_connection(*at)
    writer.close()


async def aside(call: Callable[[], T]) -> T:
    """What a call gives, from a thread that keeps nobody from leaving should it never return."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def answer() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it; the thread goes on
            outcome.set_exception(error)

    _thread()
    _calls.put(answer)
    return await asyncio.wrap_future(outcome)


@cache
def _thread() -> None:
    """Starts the thread. It stays: what Ray starts on this machine ends with the thread that started it."""

    def run() -> None:
        while True:
            _calls.get()()

    threading.Thread(target=run, name="ray", daemon=True).start()
