"""Everything that stops a run, in one tree; a row's trouble is a `core.reply.Fault`, never raised.

    SynthError                 70  only ever raised as one of these:
    ├── UsageError              2  the command line, or a state that does not fit the spec
    │   └── SpecError           2  one or more `Problem`s in the spec, all at once
    ├── SetupError              3  the run cannot work as the machine or the account stands
    │   ├── AuthError           3  key refused, no credit, model unknown to the provider
    │   └── MissingExtra        3  a package that only some specs need is not installed
    ├── BelowFloor              1  finished (or stopped early) below what was asked for
    ├── BudgetReached           4  money or tokens of the round are used up
    ├── Locked                  5  another run holds the job
    ├── Unfinished             75  run again to go on (deadline, pending batches)
    └── Interrupted       130/143  a signal; everything that was paid for is on disk

The message says what and where; `hint` says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a spec. Lines and columns count from 1; 0 means the place is not known."""

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}" if self.column else f":{self.line}"
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}; {self.hint}" if self.hint else text


class SynthError(Exception):
    """What ends a run with a message for people and an exit code for scripts."""

    exit_code: int = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SynthError):
    exit_code = 2


class SpecError(UsageError):
    """Carries every problem found, so that a user mends them in one go."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SetupError(SynthError):
    exit_code = 3


class AuthError(SetupError):
    """The provider's own words are in the message."""


class MissingExtra(SetupError):
    def __init__(self, package: str, needed_for: str, install: str) -> None:
        super().__init__(f"{needed_for} needs the package '{package}', which is not installed", hint=f"run: {install}")


class BelowFloor(SynthError):
    exit_code = 1


class BudgetReached(SynthError):
    exit_code = 4


class Locked(SynthError):
    exit_code = 5


class Unfinished(SynthError):
    exit_code = 75


class Interrupted(SynthError):
    """`signum` 2 exits with 130, 15 with 143, as a shell says it."""

    def __init__(self, message: str, *, signum: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signum


def alone(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to raise in place of a group: its only error, or the first where all say what ends the run."""
    errors = several.exceptions
    once = len(errors) == 1 or all(isinstance(error, SynthError) for error in errors)
    return errors[0] if once else several
