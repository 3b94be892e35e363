"""What is raised of several errors at once."""

from __future__ import annotations

import pytest

from synth_cli.errors import SetupError, UsageError, alone

BUG = KeyError("x")
GONE = SetupError("the cluster is gone")


@pytest.mark.parametrize(
    ("errors", "raised"),
    [([BUG], BUG), ([GONE], GONE), ([GONE, SetupError("again"), UsageError("so")], GONE), ([GONE, BUG], None)],
)
def test_what_ends_a_run_is_said_once(errors: list[Exception], raised: Exception | None) -> None:
    """A mistake of ours among the errors is not hidden behind the others."""
    several = BaseExceptionGroup("several", errors)
    assert alone(several) is (raised or several)
