"""The user's function and a run's many passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synth_cli.core.reply import Fault
from synth_cli.responses.parse import parsed
from synth_cli.run.once import Once
from synth_cli.stores.worksheet import Worksheet


@pytest.mark.parametrize("given", [{"n": 1}, [{"n": 1}, {"n": 2}], [], None, "text"], ids=repr)
def test_a_function_is_called_once_for_an_answer(tmp_path: Path, given: Any) -> None:
    """Whatever it returns is there the next time, in the right shape or not."""
    called: list[str] = []

    def parse(row: dict[str, Any], response: Any) -> Any:
        called.append(response)
        return given

    with Worksheet(tmp_path / "worksheet.sqlite") as worksheet:
        once = Once("own", parse, worksheet)
        found = [parsed(once, {"word": "one"}, "answer") for _ in range(3)]
    assert (found, called) == ([parsed(parse, {}, "answer")] * 3, ["answer", "answer"])


@pytest.mark.parametrize("late", [False, True], ids=["at once", "while it yields"])
def test_what_it_raised_is_remembered(tmp_path: Path, late: bool) -> None:
    """It is not called again to raise the same; the row's trouble is told in the same words, with the line."""
    called: list[str] = []

    def parse(row: dict[str, Any], response: Any) -> Any:
        called.append(response)
        if late:
            return (1 // 0 for _ in range(1))
        raise ValueError("no number in it")

    with Worksheet(tmp_path / "worksheet.sqlite") as worksheet:
        once = Once("own", parse, worksheet)
        first, again = (parsed(once, {"word": "one"}, "answer") for _ in range(2))
    assert isinstance(first, Fault)
    assert (again, called) == (first, ["answer"])
    assert f"{__file__}:" in first.message
