"""The suffix of an output decides how its rows are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from synth_cli.errors import UsageError
from synth_cli.outputs.candidate import Sink
from synth_cli.outputs.jsonl import JsonLines, gzip_packer, zstd_packer
from synth_cli.spec.model import SUFFIXES


def suffix_of(target: str) -> str | None:
    """Which of `SUFFIXES` an output path or URL has, in any case of letters; None for another."""
    lowered = target.lower()
    return next((suffix for suffix in SUFFIXES if lowered.endswith(suffix)), None)


def sink(target: str, folder: Path, *, expected: Sequence[str] = ()) -> Sink:
    """Writes a candidate for `target` (a path or URL) in `folder`, the run's own.

    `expected` are columns that the file has even if no row does (an empty dataset with a header).
    Raises UsageError for a suffix that we do not write.
    """
    suffix = suffix_of(target)
    match suffix:
        case ".jsonl":
            return JsonLines(target, folder)
        case ".jsonl.gz":
            return JsonLines(target, folder, gzip_packer())
        case ".jsonl.zst":
            return JsonLines(target, folder, zstd_packer())
        case ".csv":
            from synth_cli.outputs.csv import Csv

            return Csv(target, folder, expected)
        case ".parquet":
            from synth_cli.outputs.parquet import Parquet

            return Parquet(target, folder, expected, tag=uuid4().hex)
    raise UsageError(f"output '{target}': cannot tell the format", hint=f"end its name in {', '.join(SUFFIXES)}")
