"""Files that commands write for people."""

from __future__ import annotations

from pathlib import Path

from synth_cli.errors import SetupError


def write(path: Path, text: str) -> None:
    """Writes it, with the folders on the way. Raises SetupError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"cannot write {path}: {error.strerror or error}", hint="choose a place that may be written to"
        ) from None
