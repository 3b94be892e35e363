"""Tasks that differ in their sample and seed alone, taken together: one call to a model answers them all."""

from __future__ import annotations

from collections import deque

from synth_cli.core.ports import Done, Task, Wait, Work


class Joined:
    """The tasks of a work in bundles. What was taken to see whether it belongs to a bundle is held for the next."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.held: deque[Task] = deque()
        """Taken and in no bundle yet."""

    def take(self, now: float, most: int) -> list[Task] | Wait | Done:
        """The next bundle, of at most `most` tasks."""
        first = self._one(now)
        if not isinstance(first, Task):
            return first
        bundle = [first]
        while len(bundle) < most:
            following = self._one(now)
            if not isinstance(following, Task):
                break
            if not follows(bundle[-1], following):
                self.held.appendleft(following)
                break
            bundle.append(following)
        return bundle

    def look(self, now: float) -> Task | Wait | Done:
        """What the work says now; a task is held."""
        found = self._work.take(now)
        if isinstance(found, Task):
            self.held.append(found)
        return found

    def _one(self, now: float) -> Task | Wait | Done:
        return self.held.popleft() if self.held else self._work.take(now)


def follows(first: Task, second: Task) -> bool:
    """Whether the second is the next sample of the same question, as many times tried."""
    one, other = first.request, second.request
    return (
        first.context.row is second.context.row
        and second.context.sample == first.context.sample + 1
        and first.attempt == second.attempt
        and same_question(first, second)
        and (other.seed is None if one.seed is None else other.seed == one.seed + 1)
    )


def same_question(first: Task, second: Task) -> bool:
    """Whether two tasks of one row ask the same, whatever their samples."""
    one, other = first.request, second.request
    return (
        first.context.row.id == second.context.row.id
        and (one.terms is other.terms or one.terms == other.terms)
        and one.messages == other.messages
        and one.prompt == other.prompt
        and first.messages == second.messages
    )
