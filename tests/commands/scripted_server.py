"""An OpenAI-compatible server on loopback that answers as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Asked:
    """One request as it came in. `number` counts from 0."""

    number: int
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    again: int
    """How often the same body came before."""
    at: float

    @property
    def user(self) -> str:
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Say:
    """What to answer. `text` None sends `body` as it is."""

    text: str | None = None
    status: int = 200
    body: bytes | Mapping[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    finish: str = "stop"
    usage: tuple[int, int] | None = (10, 5)
    drop: bool = False
    """Closes the connection without an answer."""


Script = Callable[[Asked], Say]


def echo(asked: Asked) -> Say:
    """Answers with the user turn."""
    return Say(asked.user)


@dataclass
class Server:
    url: str
    script: Script
    asked: list[Asked] = field(default_factory=list)
    most: int = 0
    """Most requests that were under way at once."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set by the first request."""


@contextmanager
def serving(script: Script = echo) -> Iterator[Server]:
    """A server in a thread of its own; `server.script` may be exchanged at any time."""
    loop = asyncio.new_event_loop()
    server = Server("", script)
    seen: dict[bytes, int] = {}
    under_way = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal under_way
        raw = await request.read()
        again = seen[raw] = seen.get(raw, -1) + 1
        asked = Asked(
            len(server.asked),
            request.path,
            orjson.loads(raw),
            {name.lower(): value for name, value in request.headers.items()},
            again,
            loop.time(),
        )
        server.asked.append(asked)
        server.reached.set()
        under_way += 1
        server.most = max(server.most, under_way)
        try:
            said = server.script(asked)
            if said.after:
                await asyncio.sleep(said.after)
        finally:
            under_way -= 1
        if said.drop:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if said.text is None:
            body = said.body if isinstance(said.body, bytes) else orjson.dumps(said.body)
            return web.Response(status=said.status, body=body, headers=said.headers)
        if asked.body.get("stream"):
            return await _stream(request, asked, said)
        return web.json_response(completion(asked, said), headers=said.headers)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/{any:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner

    runner = loop.run_until_complete(start())
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/v1"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_close(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _close(runner: web.AppRunner) -> None:
    """Ends the server, and the answers that nobody waits for any more."""
    await runner.cleanup()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def completion(asked: Asked, said: Say) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": f"answer-{asked.number}",
        "object": "chat.completion",
        "model": asked.body["model"],
        "choices": [{"index": 0, "finish_reason": said.finish, "message": {"role": "assistant", "content": said.text}}],
    }
    if said.usage is not None:
        into, out = said.usage
        body["usage"] = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
    return body


async def _stream(request: web.Request, asked: Asked, said: Say) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    assert said.text is not None
    common = {"id": "s", "object": "chat.completion.chunk", "model": asked.body["model"]}
    middle = len(said.text) // 2
    for part in (said.text[:middle], said.text[middle:]):
        chunk = {**common, "choices": [{"index": 0, "delta": {"content": part}, "finish_reason": None}]}
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
    last = {**common, "choices": [{"index": 0, "delta": {}, "finish_reason": said.finish}]}
    await response.write(b"data: " + orjson.dumps(last) + b"\n\n")
    if said.usage is not None:
        usage = {"prompt_tokens": said.usage[0], "completion_tokens": said.usage[1], "total_tokens": sum(said.usage)}
        await response.write(b"data: " + orjson.dumps({**common, "choices": [], "usage": usage}) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response
