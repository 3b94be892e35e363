"""Which requests may be what kills a worker: those that were there each time one died."""

from __future__ import annotations

from collections.abc import Iterable

from synth_cli.core.ports import Task
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.engines.joining import same_question

PRESENT = 2
"""Deaths in company that make a request one to be asked alone."""


class Suspects:
    """Remembers only those that were in flight when a worker died and have not been answered since."""

    def __init__(self) -> None:
        self._present: dict[bytes, int] = {}
        self._convicted: list[tuple[Task, Fault]] = []

    def died(self, tasks: Iterable[Task]) -> None:
        """A worker died with these in flight."""
        for task in tasks:
            self._present[task.request.id] = self._present.get(task.request.id, 0) + 1

    def ended(self, task: Task) -> None:
        """It came to an end without harm."""
        if self._present:
            self._present.pop(task.request.id, None)

    def suspected(self, task: Task) -> bool:
        """Whether it is to be asked with nothing else beside it."""
        return bool(self._present) and self._present.get(task.request.id, 0) >= PRESENT

    def convict(self, task: Task, fault: Fault) -> Fault:
        """A worker died with only this in flight, of which that was suspected; returns what ends the row."""
        words = f"the engine died each time this was asked, at last with nothing else beside it: {fault.message}"
        guilt = Fault(FaultKind.BAD_REQUEST, words)
        self._convicted.append((task, guilt))
        self._present.pop(task.request.id, None)
        return guilt

    def condemned(self, task: Task) -> Fault | None:
        """What ends a task that asks the same as one that was convicted: another sample of its row."""
        found = (guilt for convict, guilt in self._convicted if same_question(convict, task))
        return next(found, None)
