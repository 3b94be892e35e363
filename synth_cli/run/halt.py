"""Signals as an orderly end: the first stops taking work, the second leaves now."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from synth_cli.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Told(BaseException):
    """No `Exception`: a user's function that runs when the signal comes must not make it one row's trouble."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def interrupting(hint: str) -> Iterator[None]:
    """Where no loop hears them, signals are raised as the `Interrupted` that they mean."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise _Told(signum)

    before = {signum: signal.signal(signum, interrupt) for signum in SIGNALS}
    try:
        yield
    except _Told as told:
        raise Interrupted("stopped; everything answered is kept", signum=told.signum, hint=hint) from None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class Halt:
    """`stop` and `leave` are what a run sets them to; `signum` is the first signal that came."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.stop: Callable[[], None] = lambda: None
        self.leave: Callable[[], object] = lambda: None

    def __call__(self, signum: int) -> None:
        if self.signum is None:
            self.signum = signum
            sys.stderr.write("\nsynth: finishing what is in flight; once more to leave now\n")
            self.stop()
        else:
            self.leave()

    @contextmanager
    def listening(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Signals come here as long as this is open."""
        for signum in SIGNALS:
            loop.add_signal_handler(signum, self, signum)
        try:
            yield
        finally:
            for signum in SIGNALS:
                loop.remove_signal_handler(signum)
