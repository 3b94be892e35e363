"""How deep a value that came from outside may be nested: what writes and renders values cannot go down for ever."""

from __future__ import annotations

from typing import Any

DEEPEST = 200
"""orjson writes 254 levels; a row adds some of its own."""


def too_deep(value: Any, text: str) -> bool:
    """Whether `value`, read from `text`, has more levels than `DEEPEST`. Costs next to nothing for ordinary texts."""
    if len(text) <= DEEPEST or text.count("[") + text.count("{") <= DEEPEST:
        return False
    level = [one for one in (value,) if isinstance(one, dict | list)]
    for _ in range(DEEPEST):
        if not level:
            return False
        items = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
        level = [item for item in items if isinstance(item, dict | list)]
    return bool(level)
