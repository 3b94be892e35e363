"""How batches stand, a line each."""

from __future__ import annotations

from collections.abc import Sequence

from synth_cli.core.ports import BatchStanding
from synth_cli.report.words import counted, duration, number, usd

SHOWN = 6
"""Batches that have a line of their own on the display."""


def batch_line(batch: BatchStanding, now: float) -> str:
    """`synth-recipes-1f2e  in_progress  120/5,000  12 failed  2h03m  $0.42`; `now` in seconds since the epoch."""
    done = "?" if batch.done is None else number(batch.done)
    parts = [batch.key, batch.state, f"{done}/{number(batch.total)}"]
    if batch.failed:
        parts.append(f"{number(batch.failed)} failed")
    began = batch.opened_at if batch.opened_at is not None else batch.at
    if began:
        parts.append(duration(max(now - began, 0.0)))
    if batch.collected:
        parts.append(f"{number(batch.collected)} collected, {usd(batch.cost)}")
    if batch.trouble:
        parts.append(batch.trouble)
    return "  ".join(parts)


def batch_lines(batches: Sequence[BatchStanding], now: float) -> list[str]:
    """The open ones, oldest first; of many only the first, and how many more there are."""
    standing = [batch for batch in batches if batch.outcome is None]
    lines = [batch_line(batch, now) for batch in standing[:SHOWN]]
    if len(standing) > SHOWN:
        lines.append(f"and {counted(len(standing) - SHOWN, 'more batch', 'more batches')}")
    return lines


def batches_in_words(batches: Sequence[BatchStanding]) -> str:
    """`2 batches open: 340/8,000 done`; empty without any."""
    standing = [batch for batch in batches if batch.outcome is None]
    if not standing:
        return ""
    done, total = sum(batch.done or 0 for batch in standing), sum(batch.total for batch in standing)
    return f"{counted(len(standing), 'batch', 'batches')} open: {number(done)}/{number(total)} done"
