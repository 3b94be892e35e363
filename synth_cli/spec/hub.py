"""What the names of a push may be. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from synth_cli.spec.model import Push
from synth_cli.spec.places import Finding

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
SPLIT = re.compile(r"\w+(\.\w+)*")


def problems(push: Push | None) -> Iterator[Finding]:
    """Names that the Hub, or `datasets`, would refuse once everything is paid for."""
    if push is None:
        return
    if not REPO.fullmatch(push.repo) or push.repo.endswith((".git", ".", "-")) or re.search(r"--|\.\.", push.repo):
        yield Finding(("output", "push", "repo"), f"'{push.repo}' is no repository", "write it owner/name")
    if not SPLIT.fullmatch(push.split):
        hint = "a split's name has letters, digits, '_' and dots between them: train"
        yield Finding(("output", "push", "split"), f"'{push.split}' is no split", hint)
