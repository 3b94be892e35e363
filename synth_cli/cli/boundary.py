"""The one place where an error becomes a message on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec

import typer

from synth_cli.errors import SpecError, SynthError

P = ParamSpec("P")
BUG = 70


def guarded(command: Callable[P, int]) -> Callable[P, NoReturn]:
    """A command that returns its exit code, as Typer wants it: errors shown for people, then exit."""

    @wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> NoReturn:
        raise typer.Exit(_guard(lambda: command(*args, **kwargs)))

    return inner


def _guard(command: Callable[[], int]) -> int:
    try:
        return command()
    except SynthError as error:
        say(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("synth: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read our output has left; Python must not complain about it at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:  # noqa: BLE001 - the boundary: whatever is left is a bug of ours, and says so
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
