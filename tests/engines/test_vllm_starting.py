"""Why vLLM did not start, from what its processes wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synth_cli.engines.vllm.starting import Launch, refusal

LOG = """\
ERROR WorkerProc failed to start.
Traceback (most recent call last):
    raise ValueError(msg)
ValueError: There is no parameter named 'x' in the model
ERROR EngineCore failed to start.
Exception: WorkerProc initialization failed due to an exception in a background process.
"""
ORPHANED = LOG + "RuntimeError: ('Could not load logging config. File does not exist: %s', '/tmp/logging.json')\n"
REPEATED = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launch = Launch(str(tmp_path / "engine.log"))
    yield launch
    launch.drop()
    launch.tidy()


@pytest.mark.parametrize(
    ("log", "error", "why"),
    [
        (LOG, REPEATED, "There is no parameter named 'x' in the model"),
        (ORPHANED, REPEATED, "There is no parameter named 'x' in the model"),
        ("", REPEATED, str(REPEATED)),
        (LOG, ValueError("the model's\n  own  words"), "the model's own words"),
        ("", KeyError("<image>"), "KeyError: '<image>'"),
        ("", RuntimeError(), "RuntimeError"),
    ],
)
def test_the_cause_is_told_and_not_who_heard_of_it(launch: Launch, log: str, error: Exception, why: str) -> None:
    """A process that only says that another failed has nothing to tell; the one below it has."""
    launch.path.write_text(log)
    assert refusal(error, launch).message == f"vLLM could not start: {why}"
