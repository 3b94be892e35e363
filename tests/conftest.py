"""What all tests share: examples that are made up are the same in each run, so that a result depends on the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.load_profile("same")
