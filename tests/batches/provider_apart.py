"""A provider of batches that outlives the runs of `synth`: the simulated model on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
import yaml
from aiohttp import web

import synth_cli.simulator.server
from synth_cli.cli.app import app
from synth_cli.simulator import Settings, Simulator
from synth_cli.simulator.service import Handler, Service

T = TypeVar("T")
Backend = tuple[str, str, str]
"""(backend, model, path of the base address)"""
HOSTS: Mapping[str, Backend] = {
    "openai": ("openai", "gpt-5-mini", "/v1"),
    "groq": ("groq", "llama-3.3-70b", "/openai/v1"),
    "azure": ("azure", "gpt-4.1", ""),
    "azure v1": ("azure", "gpt-4.1", "/openai/v1"),
    "proxy": ("litellm_proxy", "writer", "/v1"),
    "together": ("together_ai", "meta-llama/Llama-3.3-70B", "/together/v1"),
    "mistral": ("mistral", "mistral-small-latest", "/v1"),
    "anthropic": ("anthropic", "claude-sonnet-4-5", ""),
    "gemini": ("gemini", "gemini-3-flash", "/v1beta"),
    "simulator": ("simulator", "simulator", "/v1"),
}


@dataclass
class Provider:
    """`calls` are the (method, path) that came; `before` may look at each, and may keep it waiting."""

    simulator: Simulator
    loop: asyncio.AbstractEventLoop
    calls: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda method, path: None
    service: Service | None = None

    @property
    def url(self) -> str:
        return self.simulator.url

    @property
    def paid(self) -> Mapping[str, int]:
        """How often contents were paid → how many contents."""
        paid: Mapping[str, int] = self.within(lambda: dict(self.simulator.counts["paid"]))
        return paid

    @property
    def made(self) -> int:
        """Batches that were made."""
        assert self.service is not None
        return len(self.service.batches.known)

    @property
    def files(self) -> int:
        """Files that are kept."""
        assert self.service is not None
        return len(self.service.shelf.known)

    def advance(self, seconds: float) -> None:
        """Moves the clock of the batches."""
        self.within(lambda: self.simulator.advance(seconds))

    def within(self, do: Callable[[], T]) -> T:
        """Does it on the provider's thread."""

        async def done() -> T:
            return do()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(10)

    def behave(self, **settings: Any) -> None:
        """Other settings from now on."""
        assert self.service is not None
        service, new = self.service, Settings(**settings)

        def change() -> None:
            service.settings = service.batches.settings = new

        self.within(change)


@contextmanager
def serving(**settings: Any) -> Iterator[Provider]:
    """The simulated model, until the context ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    simulator = Simulator(Settings(**settings))
    provider = Provider(simulator, loop)
    plain = synth_cli.simulator.server.dispatcher

    def dispatcher(service: Service) -> Handler:
        dispatch = plain(service)
        provider.service = service

        async def watched(request: web.BaseRequest) -> web.StreamResponse:
            provider.calls.append((request.method, request.path))
            provider.before(request.method, request.path)
            return await dispatch(request)

        return watched

    thread.start()
    synth_cli.simulator.server.dispatcher = dispatcher
    try:
        asyncio.run_coroutine_threadsafe(simulator.__aenter__(), loop).result(10)
    finally:
        synth_cli.simulator.server.dispatcher = plain
    try:
        yield provider
    finally:
        asyncio.run_coroutine_threadsafe(simulator.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def job(folder: Path, url: str, host: str = "openai", params: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    """A job of eight rows in batches; `params` are more backend_params, `changes` replace or add top-level keys."""
    backend, model, path = HOSTS[host]
    said: dict[str, Any] = {
        "version": 1,
        "model": {"name": model, "backend": backend, "base_url": url.removesuffix("/v1") + path, "api_key": "none"},
        "engine": "batch",
        "backend_params": dict(params or {}),
        "input": {"count": 8},
        "prompt": "row {{ index }}",
        "output": {"path": "out.jsonl"},
    }
    said |= changes
    if said["engine"] == "batch":
        said["backend_params"].setdefault("batch_check_interval", 0.02)
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "job.yaml"
    place.write_text(yaml.safe_dump(said, sort_keys=False))
    return place


def synth(*arguments: str | Path) -> int:
    """The exit code of `synth ARGUMENTS`."""
    try:
        app([str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def output(path: Path, name: str = "out.jsonl") -> bytes | None:
    """What a spec's output holds; None where it is not there."""
    place = path.parent / name
    return place.read_bytes() if place.exists() else None


def rows(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in (output(path) or b"").splitlines()]


def run_folder(path: Path) -> Path:
    """That of the latest run."""
    runs = (path.parent / ".synth" / quote(path.stem) / "runs").iterdir()
    return max(runs, key=lambda run: int(run.name.split("-")[0]))


def failures(path: Path) -> list[tuple[str, str, list[str | None]]]:
    """(prompt, error, each attempt's error) of what the latest run wrote into failed.jsonl."""
    file = run_folder(path) / "failed.jsonl"
    said = map(orjson.loads, file.read_bytes().splitlines() if file.exists() else [])
    return [(one["messages"][-1]["content"], one["error"], [try_["error"] for try_ in one["attempts"]]) for one in said]


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((run_folder(path) / "report.json").read_bytes())
    return found
