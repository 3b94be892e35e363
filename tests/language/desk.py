"""A folder with a spec, the command `synth` in this process, and a server on loopback that answers as a test says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from typer.testing import CliRunner

from synth_cli.cli.app import app

Say = str | Mapping[str, Any] | None
Answer = Callable[[dict[str, Any]], Say]


@dataclass(frozen=True)
class Told:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def problems(self) -> list[str]:
        """The lines on stderr, each without the folder that the spec stands in."""
        return [line.rpartition("/spec.yaml")[1] + line.rpartition("/spec.yaml")[2] for line in self.err.splitlines()]


@dataclass
class Desk:
    """Where one test writes its spec and runs it."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.yaml"

    def write(self, **files: str | bytes) -> Desk:
        """Files beside the spec; `__` in a name is its dot."""
        for name, content in files.items():
            path = self.folder / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def says(self, spec: str | Mapping[str, Any]) -> Desk:
        """Writes the spec: its text, or what it says."""
        text = spec if isinstance(spec, str) else yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True)
        self.spec.write_text(text)
        return self

    def synth(self, command: str, *more: str, env: Mapping[str, str] | None = None) -> Told:
        done = CliRunner().invoke(app, [command, str(self.spec), *more], env=env)
        if done.exit_code == 70:
            raise AssertionError(f"a bug in synth:\n{done.stderr}")
        return Told(done.exit_code, done.stdout, done.stderr)

    def validate(self, *more: str, env: Mapping[str, str] | None = None) -> list[str]:
        """`line:column: message; hint` of every problem."""
        told = self.synth("validate", *more, env=env)
        start = f"{self.spec}:"
        return [line.removeprefix(start) for line in told.err.splitlines()]

    def run(self, *more: str, env: Mapping[str, str] | None = None) -> Told:
        return self.synth("run", "--quiet", *more, env=env)

    def rows(self, *more: str, code: int = 0) -> list[Any]:
        """Runs the spec, which must exit with `code`, and reads what it wrote to out.jsonl."""
        told = self.run("--output", str(self.folder / "out.jsonl"), *more)
        assert told.code == code, told.err
        return self.lines("out.jsonl")

    def lines(self, name: str) -> list[Any]:
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def failed(self) -> list[Any]:
        """The lines of the last run's failed.jsonl."""
        runs = sorted(self.folder.glob(".synth/*/runs/*/failed.jsonl"), key=lambda path: path.parent.name)
        return [json.loads(line) for line in runs[-1].read_text().splitlines()] if runs else []

    def preview(self, *more: str) -> list[Any]:
        told = self.synth("preview", "--json", *more)
        assert told.code in (0, 1), told.err
        shown: list[Any] = json.loads(told.out)
        return shown


@dataclass
class Server:
    """Answers chats and completions, and keeps the bodies that it was sent, in order."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def asked(self) -> list[Any]:
        """The content of each last message, or the prompt."""
        return [body["messages"][-1]["content"] if "messages" in body else body["prompt"] for body in self.bodies]

    def model(self, name: str = "tiny", **more: Any) -> dict[str, Any]:
        """The spec's `model` for it."""
        return {"name": f"openai/{name}", "base_url": self.url, **more}


USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def said(message: Say, body: Mapping[str, Any]) -> dict[str, Any]:
    """A whole answer: a text is the content, a mapping with `message` is the choice, with `choices` the body."""
    if isinstance(message, Mapping) and "choices" in message:
        return dict(message)
    if "prompt" in body:
        choice: dict[str, Any] = {"index": 0, "text": message, "finish_reason": "stop"}
    elif isinstance(message, Mapping):
        own = message.get("message", message)
        choice = {"index": 0, "finish_reason": "stop", **{k: v for k, v in message.items() if "message" in message}}
        choice["message"] = {"role": "assistant", "content": None, **own}
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": message}, "finish_reason": "stop"}
    kind = "text_completion" if "prompt" in body else "chat.completion"
    return {"id": "a1", "object": kind, "model": body["model"], "choices": [choice], "usage": USAGE}


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """A server in a thread of its own. `{"status": 400, "body": …}` is an answer with another status."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    server = Server("")

    async def handle(request: web.Request) -> web.Response:
        body = await request.json()
        server.bodies.append(body)
        server.headers.append(dict(request.headers))
        server.paths.append(request.path)
        given = answer(body)
        if isinstance(given, Mapping) and "status" in given:
            return web.json_response(given["body"], status=given["status"])
        return web.json_response(said(given, body))

    async def start() -> web.AppRunner:
        application = web.Application()
        application.router.add_post("/v1/{path:.*}", handle)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
