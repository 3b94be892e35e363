"""Sees to it that the engine's processes do not outlive ours, however ours ends.

vLLM's engine does not notice when its parent is killed: it would hold the GPU for ever, and the next run would find no
room there. A shell waits at a pipe that only we hold open, and kills what was entered in it when it breaks.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

WATCH = """
while read -r line; do
    [ "$line" = quit ] && exit 0
    pids="$pids $line"
done
[ -z "$pids" ] || kill -KILL $pids
"""


class Guard:
    def __init__(self, pipe: Path) -> None:
        """`pipe` is made; a process id written to it as a line is of one that ends with us."""
        os.mkfifo(pipe, 0o600)
        self.pipe = pipe
        # for both: so the opening does not wait for somebody at the other end
        self._held = os.open(pipe, os.O_RDWR)
        end = os.open(pipe, os.O_RDONLY)
        try:
            # away from our terminal: what ends us by a key must not end it first
            self._watch = subprocess.Popen(
                ["/bin/sh", "-c", WATCH],
                stdin=end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(end)

    def dismiss(self) -> None:
        """The processes are gone: nobody is to be killed any more."""
        if self._held < 0:
            return
        with suppress(OSError):
            os.write(self._held, b"quit\n")
        os.close(self._held)
        self._held = -1
        try:
            self._watch.wait(5)
        except subprocess.TimeoutExpired:
            self._watch.kill()
            self._watch.wait()
