"""The one place where an error becomes a message on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec

import typer

from synth_cli.errors import SetupError, SpecError, SynthError

P = ParamSpec("P")
BUG = 70
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What a full or broken disk says. Everything of a job that is written says so itself: what is left is stdout."""


def guarded(command: Callable[P, int]) -> Callable[P, NoReturn]:
    """A command that returns its exit code, as Typer wants it: errors shown for people, then exit."""

    @wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> NoReturn:
        raise typer.Exit(_guard(lambda: command(*args, **kwargs)))

    return inner


def _guard(command: Callable[[], int]) -> int:
    try:
        code = command()
        # what cannot be written shows here, while there is still somebody to say so
        sys.stdout.flush()
        return code
    except SynthError as error:
        say(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("synth: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read our output has left
        _drop_stdout()
        return 141
    except OSError as error:
        if error.errno not in FULL:
            return _bug()
        _drop_stdout()
        print(f"synth: cannot write to stdout: {error.strerror}", file=sys.stderr)
        return SetupError.exit_code
    except Exception:  # noqa: BLE001 - the boundary: whatever is left is a bug of ours, and says so
        return _bug()


def _drop_stdout() -> None:
    """What it still holds goes nowhere: Python must not complain at exit that it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug() -> int:
    traceback.print_exc()
    print("\nsynth: this is a bug in synth; nothing that was recorded is lost, run again to go on", file=sys.stderr)
    return BUG


def say(error: SynthError) -> None:
    """The error for people: what, where, what next."""
    if isinstance(error, SpecError):
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return
    print(f"synth: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
