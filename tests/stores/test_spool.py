"""Rows kept for a round."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synth_cli.core.row import Row
from synth_cli.stores.spool import Spool

ROWS = [
    Row(0, b"\x00" * 16, {"text": "a\nb c", "raw": b"\n"}),
    Row(7, b"\x0a" * 16, {"n": 1}),
    Row(9, b"\x01" * 16, {}),
]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    """Rows are read again in order, as often as wanted, with every value as it was."""
    spool = Spool(tmp_path / "rows-1.jsonl")
    spool.write(iter(ROWS))
    assert (spool.complete, list(spool.rows()), list(spool.rows())) == (True, ROWS, ROWS)


def test_a_source_that_breaks_off_leaves_nothing_to_read(tmp_path: Path) -> None:
    """Rows are there whole or not at all, so that a round never goes on with half of them."""
    spool = Spool(tmp_path / "rows-1.jsonl")

    def broken() -> Iterator[Row]:
        yield ROWS[0]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        spool.write(broken())
    assert not spool.complete
    spool.write(ROWS)
    assert list(spool.rows()) == ROWS


def test_dropped_rows_are_gone(tmp_path: Path) -> None:
    """After the round nothing stays behind, and dropping twice is no error."""
    spool = Spool(tmp_path / "rows-1.jsonl")
    spool.write(ROWS)
    spool.drop()
    spool.drop()
    assert (spool.complete, list(tmp_path.iterdir())) == (False, [])
