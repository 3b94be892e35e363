"""A provider of batches on loopback that says what a test wants, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from synth_cli.core.ports import BatchClient, BatchError, BatchResult
from synth_cli.core.reply import Fault
from synth_cli.core.request import Draft, Request, Terms, identify
from synth_cli.providers.http import AiohttpTransport


@dataclass(frozen=True)
class Said:
    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


@dataclass(frozen=True)
class Asked:
    line: str
    """Method, path and query."""
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Office:
    """`says`: method and path (with or without its query) → what is said, the last one again and again."""

    says: dict[str, list[Any]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [asked.line for asked in self.asked]

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        line = f"{request.method} {request.raw_path}"
        self.asked.append(Asked(line, request.headers, await request.read()))
        answers = self.says.get(line) or self.says.get(line.partition("?")[0])
        if answers is None:
            return web.Response(status=404, body=orjson.dumps({"error": {"message": f"nothing at {line}"}}))
        said = answers.pop(0) if len(answers) > 1 else answers[0]
        said = said if isinstance(said, Said) else Said(said)
        body = said.bytes.replace(b"{url}", self.url.encode())
        port = self.url.rpartition(":")[2]
        headers = {
            name: value.replace("{url}", self.url).replace("{port}", port) for name, value in said.headers.items()
        }
        return web.Response(status=said.status, body=body, headers=headers)


@asynccontextmanager
async def open_office(says: Mapping[str, Any]) -> AsyncIterator[Office]:
    """Values that are not lists are said every time."""
    office = Office({line: said if isinstance(said, list) else [said] for line, said in says.items()})
    server = RawTestServer(office.serve)
    await server.start_server()
    office.url = str(server.make_url("")).rstrip("/")
    try:
        yield office
    finally:
        await server.close()


@asynccontextmanager
async def transport() -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport(environ={})
    try:
        yield made
    finally:
        await made.close()


def request(text: str = "hi", terms: Terms | None = None, seed: int | None = None) -> Request:
    params = {"max_tokens": 9} if seed is None else {"max_tokens": 9, "seed": seed}
    draft = Draft(terms or Terms("openai", "gpt-5-mini", params=params), ({"role": "user", "content": text},))
    return identify(draft, draft.content(0), 0)


def written(client: BatchClient, folder: Path, *requests: Request) -> Path:
    file = folder / "batch.jsonl"
    file.write_bytes(b"".join(client.line(each) for each in requests or (request(),)))
    return file


async def fault(call: Any) -> Fault:
    try:
        await call
    except BatchError as error:
        return error.fault
    raise AssertionError("the call succeeded")


async def gathered(results: AsyncIterator[BatchResult]) -> dict[str, list[Fault | str | None]]:
    """Custom id → fault or text of each result, in the order they came."""
    found: dict[str, list[Fault | str | None]] = {}
    async for result in results:
        reply = result.exchange.reply
        found.setdefault(result.custom_id, []).append(reply.text if reply else result.exchange.fault)
    return found


def answer(text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 22, "completion_tokens": 2, "total_tokens": 24},
    }
