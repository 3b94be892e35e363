"""Where outputs go: a local path, relative to the spec's folder, or a URL of any file system that fsspec knows."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth_cli.errors import SetupError, UsageError
from synth_cli.outputs.candidate import complaint, sync_folder
from synth_cli.spec.addresses import is_url, missing_package

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "r2", "hf"})
"""There an upload appears whole or not at all by itself, folders are no things, and a move is a second copy."""
_LOCAL = ("file://", "local://")


def local_path(target: str, base: Path) -> Path | None:
    """The absolute path that a target means, links followed; None for a URL of another file system."""
    for scheme in _LOCAL:
        target = target.removeprefix(scheme)
    return None if is_url(target) else Path(os.path.realpath(base / Path(target).expanduser()))


def name_of(target: str | Path, base: Path) -> str:
    """One name per place, for the ledger: a URL, a path relative to `base` when it is inside, or an absolute one."""
    path = local_path(str(target), base)
    if path is None:
        return str(target)
    home = Path(os.path.realpath(base))
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)


def shown(target: str) -> str:
    """A target without the user and password that a URL may carry."""
    return re.sub(r"(://)[^/@]*@", r"\1", target)


def check(target: str, base: Path) -> None:
    """Raises, before anything is paid for, where publishing is bound to fail. No network, and nothing is made."""
    path = local_path(target, base)
    if path is None:
        _file_system(target)
        return
    if path.is_dir():
        raise UsageError(f"output '{target}' is a folder", hint="name a file in it")
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir():
        raise UsageError(f"output '{target}': {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SetupError(f"output '{target}': {nearest} may not be written to", hint="give another place with --output")


def exists(target: str, base: Path) -> bool:
    """Raises SetupError where a remote file system cannot be asked."""
    path = local_path(target, base)
    if path is not None:
        return path.exists()
    system, remote, _ = _file_system(target)
    try:
        return bool(system.exists(remote))
    except Exception as error:
        # a file system of fsspec has error classes of its own, which nobody can list
        raise _refusal(target, error) from error


def peek(target: str, base: Path) -> str | None:
    """The text that is there now; None where there is nothing. Raises SetupError where it cannot be read."""
    path = local_path(target, base)
    if path is not None:
        if not path.exists():
            return None
        with complaint(target):
            return path.read_text(encoding="utf-8", errors="replace")
    system, remote, _ = _file_system(target)
    try:
        found: bytes | None = system.cat_file(remote) if system.exists(remote) else None
    except Exception as error:
        # as above
        raise _refusal(target, error) from error
    return None if found is None else found.decode(errors="replace")


@contextmanager
def fetched(target: str, base: Path, folder: Path) -> Iterator[Path]:
    """The published file on this machine; of a URL a copy in `folder`, for as long as it is needed."""
    path = local_path(target, base)
    if path is not None:
        yield path
        return
    system, remote, _ = _file_system(target)
    copy = folder / f"fetched-{remote.rpartition('/')[2]}"
    try:
        try:
            system.get_file(remote, str(copy))
        except Exception as error:
            # as above
            raise SetupError(f"cannot read {shown(target)} again: {type(error).__name__}: {error}") from error
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def put(candidate: Path, target: str, base: Path) -> None:
    """Moves a candidate to its target, whole or not at all: after a SetupError only the candidate is left."""
    path = local_path(target, base)
    if path is None:
        _upload(candidate, target)
        return
    with complaint(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(candidate, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(candidate, path)
        sync_folder(path.parent)


def _copy(candidate: Path, path: Path) -> None:
    """To another file system: beside the target under another name first, then renamed."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with candidate.open("rb") as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    candidate.unlink()


def _upload(candidate: Path, target: str) -> None:
    system, remote, scheme = _file_system(target)
    folder, _, name = remote.rpartition("/")
    partial = f"{folder}/.{name}.partial"
    try:
        if scheme in OBJECT_STORES:
            system.put_file(str(candidate), remote)
        else:
            if folder:
                system.makedirs(folder, exist_ok=True)
            try:
                system.put_file(str(candidate), partial)
                system.mv(partial, remote)
            finally:
                if system.exists(partial):
                    system.rm_file(partial)
    except Exception as error:
        # as above
        raise _refusal(target, error) from error
    candidate.unlink()


def _file_system(target: str) -> tuple[Any, str, str]:
    """(file system, path in it, scheme)."""
    from fsspec.core import url_to_fs

    scheme = target.partition("://")[0]
    try:
        system, remote = url_to_fs(target)
    except ImportError as error:
        what = f"writing {shown(target)}"
        hint = "install the package it names"
        raise (missing_package(target, what) or SetupError(f"{what} is not possible: {error}", hint=hint)) from error
    except ValueError as error:
        raise UsageError(f"output '{shown(target)}': {error}") from error
    return system, remote, scheme


def _refusal(target: str, error: Exception) -> SetupError:
    return SetupError(
        f"cannot write {shown(target)}: {type(error).__name__}: {error}",
        hint="every answer is kept: mend it and run again, or give another place with --output",
    )
