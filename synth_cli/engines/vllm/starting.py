"""Bringing vLLM up: its environment, where its log goes, and why it did not come up."""

from __future__ import annotations

import json
import logging
import multiprocessing.spawn
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from synth_cli.engines.vllm.guard import Guard
from synth_cli.engines.vllm.settings import INSTALL, QUIET, ModelSettings, on_cpu, rank_of
from synth_cli.errors import MissingExtra, SetupError

ENVIRONMENT: Mapping[str, str] = {
    **QUIET,
    # a fork would take along our ledger, its lock and the threads that hold them
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"
CONFIGURATION = "VLLM_LOGGING_CONFIG_PATH"
CAUSE = re.compile(r"\b((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (\S.*)$")
STAGES: Mapping[str, str] = {
    "Starting to load model": "loading weights",
    "Loading weights took": "weights loaded",
    "torch.compile takes": "compiled",
    "Cache the graph": "compiling",
    "Graph capturing finished": "CUDA graphs captured",
    "Capturing CUDA graph": "capturing CUDA graphs",
    "KV cache size": "memory for the cache reserved",
}
"""Lines of vLLM's log that tell how far a start is."""


INTERPRETER = """#!/bin/sh
exec >>{log} 2>&1
case "$*" in *spawn_main*) echo $$ >{pipe} ;; esac
exec {python} -ISc 'import os, sys; os.setpgid(0, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])' "$@"
"""
"""A group of its own, which keys at our terminal do not reach, and not a session of its own: Linux shares cores out
among sessions (autogroup), and vLLM's processes, which wait for one another by yielding, would only give way within
their own. That makes a small model three times slower on two cores."""


class Launch:
    """Around the engine's processes: a log for all that they print, none of it being for our terminal, and a guard."""

    def __init__(self, path: str | None) -> None:
        self._own = path is None
        if path is None:
            handle, path = tempfile.mkstemp(prefix="synth-vllm-", suffix=".log")
            os.close(handle)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="synth-vllm-"))
        self.guard = Guard(self._folder / "alive")
        self.read_from = self.path.stat().st_size if self.path.exists() else 0

    def configuration(self) -> Path:
        """A file that tells vLLM where to log."""
        level = os.environ.get("VLLM_LOGGING_LEVEL", "INFO").upper()
        handler = {"class": "logging.FileHandler", "filename": str(self.path), "formatter": "plain", "level": level}
        told = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": FORMAT}},
            "handlers": {"file": handler},
            "loggers": {"vllm": {"handlers": ["file"], "level": level, "propagate": False}},
        }
        path = self._folder / "logging.json"
        path.write_text(json.dumps(told))
        return path

    def interpreter(self) -> Path:
        """A Python whose output goes to the log, which ends when we do, and which no key at our terminal reaches."""
        path = self._folder / "python"
        told = {"log": self.path, "pipe": self.guard.pipe, "python": sys.executable}
        path.write_text(INTERPRETER.format(**{name: shlex.quote(str(value)) for name, value in told.items()}))
        path.chmod(0o700)
        return path

    def text(self) -> str:
        """What was written since the start began, at most its last megabyte."""
        with suppress(OSError), self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.read_from, size - 2**20))
            return file.read().decode("utf-8", "replace")
        return ""

    def tidy(self) -> None:
        """Once everything is started, or is not going to be: what was needed for that."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                path.unlink()
            self._folder.rmdir()

    def drop(self) -> None:
        """Once the engine is gone: the log goes too where nobody asked for it."""
        self.guard.dismiss()
        if self._own:
            self.path.unlink(missing_ok=True)


@contextmanager
def quiet(launch: Launch) -> Iterator[None]:
    """While vLLM starts its processes: what they print goes to the log, and they inherit a fitting environment.

    What the user has set already stays.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    configured = CONFIGURATION not in os.environ
    if configured:
        os.environ[CONFIGURATION] = str(launch.configuration())
    before = multiprocessing.spawn.get_executable()
    multiprocessing.spawn.set_executable(str(launch.interpreter()))
    try:
        yield
    finally:
        multiprocessing.spawn.set_executable(before)
        if configured:
            del os.environ[CONFIGURATION]
        launch.tidy()


def logged(launch: Launch) -> None:
    """Once vLLM is imported: what the libraries below it have to say goes to the log too."""
    for name in ("torch", "transformers"):
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if isinstance(one, logging.StreamHandler)]:
            logger.removeHandler(handler)
        handler = logging.FileHandler(launch.path, delay=True)
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)


def engine_args(settings: ModelSettings) -> Any:
    """`AsyncEngineArgs`. Imports vLLM, which takes seconds.

    Raises MissingExtra without vLLM, SetupError for an argument that it does not have.
    """
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
    except ModuleNotFoundError as error:
        if error.name == "vllm":
            raise MissingExtra("vllm", "engine: vllm", INSTALL) from None
        raise SetupError(f"vLLM cannot be imported: {error}", hint=f"install it anew: {INSTALL}") from None
    except (ImportError, OSError) as error:
        raise SetupError(f"vLLM cannot be imported: {error}", hint=f"install it anew: {INSTALL}") from None
    known = set(AsyncEngineArgs.__dataclass_fields__)
    for name in settings.args:
        if name not in known:
            near = get_close_matches(name.replace("-", "_"), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "names are those of vLLM's AsyncEngineArgs"
            raise SetupError(f"engine_args: vLLM has no argument '{name}'", hint=hint)
    args = {**_defaults(settings), **_lora(settings), **settings.args, "model": settings.model}
    structured = args.get("structured_outputs_config")
    if isinstance(structured, dict):
        # of a mapping vLLM makes it only later, after it has written the reasoning parser into it
        from vllm.config import StructuredOutputsConfig

        args["structured_outputs_config"] = StructuredOutputsConfig(**structured)
    return AsyncEngineArgs(**args)


def _defaults(settings: ModelSettings) -> dict[str, Any]:
    """What we ask for where the spec says nothing."""
    from vllm.platforms import current_platform

    args: dict[str, Any] = {"use_tqdm_on_load": False, "disable_log_stats": True}
    return args | (on_cpu(os.environ) if current_platform.is_cpu() else {"gpu_memory_utilization": 0.9})


def _lora(settings: ModelSettings) -> dict[str, Any]:
    if settings.lora_path is None:
        return {}
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank_of(settings.lora_path)}


def refusal(error: Exception, launch: Launch) -> SetupError:
    """Why the engine did not start. Its processes write the cause to the log, and we are told only that they ended."""
    # each process that waits for another repeats only that this failed: the last of the other causes is why
    found = (CAUSE.search(line) for line in launch.text().splitlines())
    causes = [cause for cause in found if cause is not None and not _repeats(cause[2])]
    told = str(error).strip() or type(error).__name__
    if isinstance(error, KeyError):
        told = f"KeyError: {told}"
    if _repeats(told) and causes:
        told = causes[-1][2]
    told = " ".join(told.split())
    if len(told) > 600:
        told = told[:600] + "…"
    return SetupError(f"vLLM could not start: {told}", hint=_advice(told, launch.path))


def _repeats(told: str) -> bool:
    """Whether it is about another process's end: also what one says whose start was cut short by that."""
    return any(sign in told.lower() for sign in ("initialization failed", "could not load logging config"))


def _advice(told: str, log: Path) -> str:
    low = told.lower()
    if "memory" in low and ("utilization" in low or "out of memory" in low or "cache" in low):
        return f"lower max_model_length or gpu_memory_utilization, or give it more GPUs; the whole log: {log}"
    if "max_model_len" in low or "maximum model length" in low:
        return f"lower max_model_length; the whole log: {log}"
    if ("not a valid" in low and "hugging" in low) or "repo id" in low or "repository" in low:
        return "give a model's name on the Hugging Face hub, or a folder; a gated model needs HF_TOKEN"
    return f"the whole log: {log}"


def stage(line: str) -> str | None:
    """What a line of the log says about how far the start is."""
    return next((told for sign, told in STAGES.items() if sign in line), None)
