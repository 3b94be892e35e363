"""The command in processes of their own that start in no time: forks of one that has everything imported.

What a lagging list is waited for is a moment here, so that a run which follows a death need not wait for minutes.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import synth_cli.run.batch
from synth_cli.cli.app import main
from synth_cli.engines.batch import BatchSettings

GRACE = 0.15
LAZY = ("run.job", "run.show", "run.batch", "providers.batches.openai", "outputs.jsonl")
for lazy in LAZY:
    importlib.import_module(f"synth_cli.{lazy}")


def hasty(**settings: object) -> BatchSettings:
    return BatchSettings(**settings, grace=GRACE)  # type: ignore[arg-type]


def called(path: Path, arguments: tuple[str, ...]) -> None:
    """Ends this process as the command would."""
    os.chdir(path.parent)
    synth_cli.run.batch.BatchSettings = hasty  # type: ignore[assignment,misc]
    said = (path.parent / "stderr.txt").open("wb")
    os.dup2(said.fileno(), 2)
    sys.argv = ["synth", "run", path.name, "--quiet", *arguments]
    sys.exit(main())


def processes() -> ForkServerContext:
    """Where `start` forks from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def start(context: ForkServerContext, path: Path, *arguments: str) -> ForkServerProcess:
    """`synth run PATH --quiet ARGUMENTS`, in the spec's folder; what it says to people is in `stderr.txt` there."""
    process = context.Process(target=called, args=(path, arguments))
    process.start()
    return process
