"""`synth serve` starts vLLM's server, and a spec that names its address asks it with constraints of all kinds."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from synth_cli.cli.serve import ASKED_WITH

LINES = 60
"""Of the server's own words that a failure shows."""
START = 240
"""Seconds in which it must be up."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/models", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def written(folder: Path, spec: dict[str, Any], name: str = "job") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def served(tiny: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The lines of a spec that `synth serve` said, while the server runs."""
    folder = tmp_path_factory.mktemp("served")
    spec = {
        "engine": "vllm",
        "model": str(tiny),
        "backend_params": {
            "enforce_eager": True,
            "dtype": "float32",
            "max_model_length": 1024,
            "lora_path": str(lora),
            "engine_args": {"kv_cache_memory_bytes": 64 << 20, "enable_chunked_prefill": False},
        },
        "input": {"count": 1},
        "prompt": "Hello",
    }
    path, port, log = written(folder, spec), free_port(), folder / "server.log"
    with log.open("wb") as words:
        command = [sys.executable, "-m", "synth_cli", "serve", str(path), "--port", str(port)]
        server = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}/v1"
        give_up = time.monotonic() + START
        while not up(address):
            said = log.read_text(errors="replace").splitlines()[-LINES:]
            assert server.poll() is None, "\n".join(said)
            assert time.monotonic() < give_up, "\n".join(said)
            time.sleep(0.5)
        said = log.read_text(errors="replace")
        lines = said.split(f"{ASKED_WITH}\n\n", 1)[1].split("\n\n", 1)[0]
        asked = yaml.safe_load("\n".join(lines.splitlines()[:4]))
        assert asked == {"model": {"name": str(tiny), "backend": "vllm", "base_url": address}}
        assert b"VLLM_NO_USAGE_STATS=1" in Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        yield asked
    finally:
        # it is the very process that we started
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(folder: Path, served: dict[str, Any], **step: Any) -> list[dict[str, Any]]:
    spec = {
        **served,
        "input": {"count": 6},
        "prompt": "Say something about {{ index }}.",
        "generation_params": {"max_tokens": 200, "temperature": 1.0, "seed": 3},
        "backend_params": {"max_concurrent_requests": 6},
        "output": {"path": "out.jsonl"},
        **step,
    }
    path = written(folder, spec)
    command = [sys.executable, "-m", "synth_cli", "run", str(path), "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return [orjson.loads(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]


def test_a_schema_is_kept(served: dict[str, Any], tmp_path: Path) -> None:
    """Every answer of a model that talks at random is an object of the schema, at the first attempt."""
    schema = {"label": "enum[good, bad]", "sure": "bool", "stars": {"type": "int", "minimum": 1, "maximum": 5}}
    rows = answers(tmp_path, served, response={"schema": schema}, backend_params={"max_retries": 0})
    assert [row["index"] for row in rows] == list(range(6))
    assert all(row["label"] in ("good", "bad") and isinstance(row["sure"], bool) for row in rows)
    assert all(row["stars"] in range(1, 6) for row in rows)


def test_a_choice_is_kept(served: dict[str, Any], tmp_path: Path) -> None:
    """Every answer is one of the words."""
    words = ["red wine", "grüner Tee", "水"]
    rows = answers(tmp_path, served, response={"choice": words}, backend_params={"max_retries": 0})
    assert {row["response"] for row in rows} <= set(words)
    assert len(rows) == 6


def test_a_regex_is_kept(served: dict[str, Any], tmp_path: Path) -> None:
    """Every answer matches as a whole."""
    rows = answers(tmp_path, served, response={"regex": r"[A-Z]{2}-\d{4}"}, backend_params={"max_retries": 0})
    assert [bool(re.fullmatch(r"[A-Z]{2}-\d{4}", row["response"])) for row in rows] == [True] * 6


def test_a_grammar_is_kept(served: dict[str, Any], tmp_path: Path) -> None:
    """Every answer is a sentence of the grammar."""
    grammar = 'start: NUMBER " + " NUMBER\nNUMBER: /[1-9][0-9]?/\n'
    rows = answers(tmp_path, served, response={"grammar": grammar}, backend_params={"max_retries": 0})
    assert [bool(re.fullmatch(r"[1-9]\d? \+ [1-9]\d?", row["response"])) for row in rows] == [True] * 6


def test_the_spec_asks_the_adapter(served: dict[str, Any], tmp_path: Path) -> None:
    """The name that the spec gives means the model with its adapter; the model alone answers otherwise."""
    step = {"generation_params": {"max_tokens": 8, "temperature": 0}, "backend_params": {"invalid_finish_reasons": []}}
    adapted = answers(tmp_path / "adapted", served, **step)
    model = served["model"]
    base = answers(tmp_path / "base", {"model": {**model, "name": model["name"] + "-base"}}, **step)
    assert [row["index"] for row in base] == [row["index"] for row in adapted]
    assert [row["response"] for row in base] != [row["response"] for row in adapted]
