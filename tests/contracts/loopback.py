"""A provider on loopback that says byte for byte what a test wants, and counts what it was asked.

It runs on a thread of its own, so that a whole run can be made in the test's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import orjson


class End(Enum):
    CLOSE = "the connection is closed in order"
    RESET = "the connection is reset"
    SILENCE = "nothing more comes, and the connection stays open"


Step: TypeAlias = bytes | float | End
"""Bytes to send in a packet of their own, seconds to wait, or how it ends; without an end the connection is kept."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`turn` counts from 1 how often this prompt was asked."""

    prompt: str
    turn: int
    body: Mapping[str, Any]


Say: TypeAlias = Callable[[Asked], Sequence[Step]]


@dataclass
class Loopback:
    """`asked` counts the requests for each prompt (its last message's text)."""

    say: Say
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def requests(self) -> int:
        return self.asked.total()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = orjson.loads(await reader.readexactly(length))
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        self.asked[prompt] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for step in self.say(Asked(prompt, self.asked[prompt], body)):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                elif step is End.RESET:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return False
                elif step is End.SILENCE:
                    await reader.read()
                    return False
                else:
                    return False
        finally:
            self.in_flight -= 1
        return True


@contextmanager
def serving(say: Say) -> Iterator[Loopback]:
    """The provider, for as long as the context lasts."""
    provider = Loopback(say)
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, backlog=512)
        provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await server.serve_forever()

    def run() -> None:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main())
        stop.append(task.cancel)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            rest = asyncio.all_tasks(loop)
            for one in rest:
                one.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        finally:
            loop.close()

    stop: list[Callable[[], object]] = []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield provider
    finally:
        loop.call_soon_threadsafe(stop[0])
        thread.join(10)


def response(status: int, body: bytes, *headers: str, length: bool = True) -> bytes:
    """A whole HTTP/1.1 response; JSON unless a header says otherwise."""
    lines = [f"HTTP/1.1 {status} Said", *headers]
    if not any(line.lower().startswith("content-type") for line in headers):
        lines.append("Content-Type: application/json")
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def completion(text: str | None, **changes: Any) -> bytes:
    """The body of a chat completion: 7 tokens in, 3 out."""
    said = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    # unlike orjson it writes numbers of any size
    return json.dumps(said | changes).encode()


def error(status: int, message: str, *headers: str, **more: Any) -> bytes:
    """An error as OpenAI says it."""
    return response(status, orjson.dumps({"error": {"message": message, **more}}), *headers)


def fine(asked: Asked) -> Sequence[Step]:
    """Says the prompt back in capitals."""
    return [response(200, completion(asked.prompt.upper()))]
