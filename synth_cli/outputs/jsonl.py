"""JSON lines, plain or compressed: streamed, one write a chunk."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from synth_cli.outputs.candidate import Candidate, Draft, complaint
from synth_cli.outputs.encode import lines

GZIP_LEVEL = 4
ZSTD_LEVEL = 3


class Packer(Protocol):
    """A stream compressor, as zlib and zstandard shape it."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class JsonLines:
    """A `Sink`; with a packer it compresses as it goes."""

    def __init__(self, target: str, folder: Path, packer: Packer | None = None) -> None:
        self._draft = Draft(target, folder)
        self._packer = packer
        self._rows = 0

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        data = b"".join(lines(rows))
        if self._packer is not None:
            data = self._packer.compress(data)
        with complaint(self._draft.target):
            self._draft.file.write(data)
        self._rows += len(rows)

    def close(self) -> Candidate:
        with complaint(self._draft.target):
            if self._packer is not None:
                self._draft.file.write(self._packer.flush())
        return self._draft.finish(self._rows)

    def discard(self) -> None:
        self._draft.discard()


def gzip_packer() -> Packer:
    """gzip without a file name or time in its header: equal rows give equal bytes."""
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def zstd_packer() -> Packer:
    import zstandard

    packer: Packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
    return packer
