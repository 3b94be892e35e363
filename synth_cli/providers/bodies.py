"""Bodies too large for memory: sent in pieces from the disk, read line by line. Multipart forms: RFC 7578."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

Parts: TypeAlias = tuple[bytes | Path, ...]

PIECE = 256 * 1024
"""Bytes read from a file at once."""
LINE_BYTES = 64 * 1024 * 1024
"""A longer line is cut to its first `CUT` bytes: enough to see whose it is."""
CUT = 4096


def multipart(
    fields: Mapping[str, str], file: Path, *, filename: str, name: str = "file", kind: str = "application/jsonl"
) -> tuple[dict[str, str], Parts]:
    """(headers, body) of a form with one file, its fields first. The file is read only when the body is sent."""
    # names are unguessable (they hold a key), so no line of the file can hold the boundary but by intent
    said = repr((sorted(fields.items()), filename, name)).encode()
    boundary = f"synth-{blake2b(said, digest_size=16).hexdigest()}"
    head = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(field)}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    head.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(filename)}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    parts = ("".join(head).encode(), file, f"\r\n--{boundary}--\r\n".encode())
    return {"content-type": f"multipart/form-data; boundary={boundary}"}, parts


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def size(parts: Parts) -> int:
    """Bytes of a body of parts. Raises OSError for a file that is not there."""
    return sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in parts)


async def pieces(parts: Parts) -> AsyncIterator[bytes]:
    """The body's bytes, a piece of at most `PIECE` bytes from a file at a time."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        with part.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


class Splitter:
    """Bytes as they come in, lines out, without their ends (LF or CR LF)."""

    __slots__ = ("_held", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes."""
        lines = piece.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            lines[0] = self._whole(lines[0])
        if rest:
            self._held += len(rest)
            # past the limit only the length goes on growing
            if self._held <= LINE_BYTES or not self._parts:
                self._parts.append(rest)
            elif len(self._parts) > 1 or len(self._parts[0]) > CUT:
                self._parts = [b"".join(self._parts)[:CUT]]
        return [line[:-1] if line[-1:] == b"\r" else line for line in lines]

    def rest(self) -> bytes:
        """The last line, where the body did not end with an end of line."""
        return self._whole(b"") if self._parts else b""

    def _whole(self, last: bytes) -> bytes:
        line = b"".join((*self._parts, last)) if self._held + len(last) <= LINE_BYTES else b"".join(self._parts)[:CUT]
        self._parts, self._held = [], 0
        return line
