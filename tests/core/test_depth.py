from __future__ import annotations

import json
from typing import Any

import pytest

from synth_cli.core.depth import DEEPEST, too_deep


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = {"a": value} if level % 2 else [value, 2]
    return value


@pytest.mark.parametrize("value", [1, "[" * 1000, [[]] * 1000, nested(DEEPEST), [nested(DEEPEST - 1), "x"]])
def test_what_can_be_written_is_not_too_deep(value: Any) -> None:
    """However wide it is, and whatever signs its texts hold."""
    assert not too_deep(value, json.dumps(value))


@pytest.mark.parametrize("value", [nested(DEEPEST + 1), [nested(DEEPEST)], nested(900)])
def test_a_level_more_is_too_deep(value: Any) -> None:
    """Lists and mappings count alike."""
    assert too_deep(value, json.dumps(value))
