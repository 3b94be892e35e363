"""What a template can see: one row, and after the answer also that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth_cli.core.row import Row

RESERVED = frozenset({"row", "vars", "index", "sample", "response", "item", "reply"})
AFTER = frozenset({"response", "item", "reply"})
"""Reserved names that have a value only after the answer."""


@dataclass(slots=True)
class Scope:
    """Not frozen: one is made for each row and each answer, and freezing triples what that costs.

    `values` are the columns, `id` seeds what is drawn at random, `after` holds `response`, `item` and `reply`.
    """

    values: Mapping[str, Any]
    index: int
    id: bytes
    sample: int
    after: Mapping[str, Any]

    def get(self, name: str, missing: Any) -> Any:
        """What the name stands for here, `vars` apart."""
        if name not in RESERVED:
            return self.values.get(name, missing)
        match name:
            case "row":
                return self.values
            case "index":
                return self.index
            case "sample":
                return self.sample
            case "response" if "response" not in self.after:
                return self.values.get(name, missing)
            case _:
                return self.after.get(name, missing)


def scope(row: Row, *, sample: int = 0, **after: Any) -> Scope:
    """The scope of a row; `after` are `response`, `item` and `reply` once there is an answer."""
    return Scope(row.values, row.index, row.id, sample, after)
