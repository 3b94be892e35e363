"""Where files are, as a spec says it: a path, or a URL of any file system that fsspec knows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from synth_cli.errors import MissingExtra

PACKAGES: Mapping[str, tuple[str, str]] = {
    "s3": ("s3fs", "synth-cli[s3]"),
    "s3a": ("s3fs", "synth-cli[s3]"),
    "gs": ("gcsfs", "synth-cli[gcs]"),
    "gcs": ("gcsfs", "synth-cli[gcs]"),
    "az": ("adlfs", "adlfs"),
    "abfs": ("adlfs", "adlfs"),
    "abfss": ("adlfs", "adlfs"),
    "sftp": ("paramiko", "paramiko"),
    "ssh": ("paramiko", "paramiko"),
}
"""Scheme → the package that speaks it, and what pip installs to have it."""


def is_url(path: str) -> bool:
    """Whether it is a URL; all else is a path on this machine."""
    return "://" in path


def missing_package(url: str, needed_for: str) -> MissingExtra | None:
    """What to install for an address of this scheme; None where that is not known."""
    found = PACKAGES.get(url.partition("://")[0])
    if found is None:
        return None
    package, installed = found
    return MissingExtra(package, needed_for, f"pip install {shlex.quote(installed)}")
