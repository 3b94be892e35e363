"""Which files a path or a glob means, and how each is opened; local or at an fsspec URL."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, cast

from synth_cli.errors import SetupError, UsageError
from synth_cli.spec.addresses import is_url, missing_package

TABLES = ("csv", "tsv", "json", "jsonl", "ndjson")
PACKED = ("gz", "zst")
CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class File:
    """`path` as the user would write it in the spec (relative to its folder, or a URL); `at` is where to open it."""

    path: str
    at: str
    system: Any = None
    """The fsspec file system of a URL."""

    @property
    def name(self) -> str:
        return self.at.replace("\\", "/").rstrip("/").rpartition("/")[2]

    @property
    def kind(self) -> str:
        """csv, tsv, jsonl, json, parquet, or `file` for anything else."""
        return kind_of(self.name)

    @property
    def packing(self) -> str:
        """gz, zst, or nothing."""
        last = self.name.lower().rpartition(".")[2]
        return last if last in PACKED and self.kind != "file" else ""

    def size(self) -> int | None:
        if self.system is not None:
            return None
        try:
            return os.stat(self.at).st_size
        except OSError:
            return None


def kind_of(name: str) -> str:
    parts = name.lower().split(".")
    if len(parts) > 2 and parts[-1] in PACKED and parts[-2] in TABLES:
        parts.pop()
    last = parts[-1] if len(parts) > 1 else ""
    if last == "ndjson":
        return "jsonl"
    return last if last in TABLES or last == "parquet" else "file"


def find(path: str, folder: Path) -> list[File]:
    """The files of a path or glob, sorted; at least one. Raises UsageError with the nearest names there are."""
    if is_url(path):
        return _find_remote(path)
    whole = folder / path
    if whole.is_file():
        return [File(path, str(whole))]
    if whole.is_dir():
        raise UsageError(
            f"input.path: {path} is a folder", hint=f"name its files, for example {path.rstrip('/')}/*.jsonl"
        )
    if not glob.has_magic(path):
        raise _missing(path, whole)
    pattern = path if os.path.isabs(path) else os.path.join(glob.escape(str(folder)), path)
    found = sorted(at for at in glob.iglob(pattern, recursive=True) if os.path.isfile(at))
    if not found:
        raise UsageError(f"input.path: no file matches {path} in {folder}", hint=_beside(_start(path, folder)))
    absolute = os.path.isabs(path)
    return [File(at if absolute else Path(os.path.relpath(at, folder)).as_posix(), at) for at in found]


def reads(path: str, folder: Path, target: Path) -> bool:
    """Whether `input.path` means the file at `target` (its real path), or would once that is there."""
    if is_url(path):
        return False
    whole = os.path.realpath(folder / path)
    if not glob.has_magic(path) or os.path.isfile(whole):
        return whole == str(target)
    return _matches(target.parts, Path(whole).parts)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _start(path: str, folder: Path) -> Path:
    """The part of a glob before its first wildcard."""
    plain: list[str] = []
    for part in Path(path).parts:
        if glob.has_magic(part):
            break
        plain.append(part)
    return folder.joinpath(*plain)


def _missing(path: str, whole: Path) -> UsageError:
    there = whole.parent
    if not there.is_dir():
        while not there.parent.is_dir():
            there = there.parent
        near = _near(there.name, there.parent)
        return UsageError(
            f"input.path: {path} does not exist: there is no folder {there}", hint=near or _beside(there.parent)
        )
    return UsageError(
        f"input.path: {path} does not exist (looked for {whole})", hint=_near(whole.name, there) or _beside(there)
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError:
        return []


def _near(name: str, folder: Path) -> str:
    names = _names(folder)
    near = get_close_matches(name, names, n=3)
    stem = name.partition(".")[0].lower()
    near += [other for other in names if other.partition(".")[0].lower() == stem and other not in near]
    return f"did you mean {' or '.join(near[:3])}?" if near else ""


def _beside(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = _names(folder)
    if not names:
        return f"{folder} is empty"
    return f"in {folder} there are: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"


def _find_remote(path: str) -> list[File]:
    with reaching(path), foreign(path):
        from fsspec.core import url_to_fs

        system, inside = url_to_fs(path)
        if system.exists(inside) and not system.isdir(inside):
            return [File(path, inside, system)]
        found = sorted(at for at in system.glob(inside) if not system.isdir(at)) if glob.has_magic(inside) else []
    if not found:
        raise UsageError(f"input.path: nothing is at {path}", hint="check the address and that you may read it")
    return [File(system.unstrip_protocol(at), at, system) for at in found]


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """Says what is wrong with a place that cannot be read, in the words of whoever refused."""
    scheme = path.partition("://")[0] if is_url(path) else ""
    try:
        yield
    except (UsageError, SetupError):
        raise
    except FileNotFoundError:
        raise UsageError(
            f"input.path: {path} does not exist", hint="check the address and that you may read it"
        ) from None
    except PermissionError as error:
        raise SetupError(
            f"input.path: may not read {path}: {error}", hint="check its permissions, or your credentials"
        ) from None
    except ImportError as error:
        hint = "install the package it names"
        raise (
            missing_package(path, path) or SetupError(f"input.path: cannot open {path}: {error}", hint=hint)
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path}: not a whole .gz file ({error})", hint="fetch or pack it again") from None
    except OSError as error:
        raise SetupError(
            f"input.path: cannot read {path}: {error.strerror or error}", hint="check the disk or network"
        ) from None
    except Exception as error:
        # a file system of fsspec has error classes of its own, which nobody can list; a built-in one is a bug
        if not scheme or type(error).__module__ == "builtins":
            raise
        raise SetupError(f"input.path: cannot read {path}: {error}", hint="check the network") from None


@contextmanager
def opened(file: File) -> Iterator[IO[bytes]]:
    """The file's bytes from begin to end, unpacked where its name says that it is packed."""
    with reaching(file.path), _from_begin(file) as raw:
        match file.packing:
            case "gz":
                with gzip.open(raw) as stream:
                    yield stream  # type: ignore[misc]
            case "zst":
                with io.BufferedReader(_Unpacked(raw, file.path), CHUNK) as stream:
                    yield stream
            case _:
                yield raw


@contextmanager
def unpacked(file: File) -> Iterator[IO[bytes]]:
    """The file's bytes as they are, to be read here and there."""
    with reaching(file.path), _raw(file) as raw:
        yield raw


def _raw(file: File, **options: Any) -> IO[bytes]:
    if file.system is None:
        return open(file.at, "rb")
    with foreign(file.path):
        stream: IO[bytes] = file.system.open(file.at, "rb", **options)
        return stream


def _from_begin(file: File) -> IO[bytes]:
    if file.system is None:
        return _raw(file)
    # not every web server can send parts of a file; a block size of 0 asks for the whole, once
    whole = {"block_size": 0} if file.path.startswith(("http://", "https://")) else {}
    return cast("IO[bytes]", io.BufferedReader(cast("Any", _raw(file, **whole)), CHUNK))


@contextmanager
def foreign(path: str) -> Iterator[None]:
    """For calls into a file system of fsspec: each of them has error classes of its own."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 - see above; none of them can be imported here
        raise SetupError(
            f"input.path: cannot reach {path}: {error}", hint="check the address and your credentials"
        ) from None


class _Unpacked(io.RawIOBase):
    """Zstandard frames, unpacked. The library's own reader takes a file that was cut off for a complete one."""

    def __init__(self, raw: IO[bytes], path: str) -> None:
        import zstandard

        self._raw, self._path = raw, path
        self._new, self._error = zstandard.ZstdDecompressor, zstandard.ZstdError
        self._frame: Any = None
        self._packed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._raw.read(CHUNK)
            self._packed = b""
            if not packed:
                if self._frame is not None:
                    raise self._broken("it ends too early")
                return 0
            if self._frame is None:
                self._frame = self._new().decompressobj()
            try:
                self._ready = self._frame.decompress(packed)
            except self._error as error:
                raise self._broken(str(error)) from None
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _broken(self, why: str) -> UsageError:
        return UsageError(f"{self._path}: not a whole .zst file ({why})", hint="fetch or pack it again")
