from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from synth_cli.core.ports import HttpAnswer, HttpCall, TransportError
from synth_cli.core.reply import FaultKind
from synth_cli.providers.http import AiohttpTransport

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _open(environ: Mapping[str, str] | None = None) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(environ=environ or {})
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def _server(talk: Talk) -> AsyncIterator[str]:
    """A server that speaks as `talk` does on each connection, and counts nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x?a=b"
    finally:
        server.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    return head, await reader.readexactly(length)


def _saying(*parts: bytes, close: bool = True) -> Talk:
    """Answers every request with these bytes, each part in a packet of its own."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await _request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.002)
            if close:
                return

    return talk


def _call(url: str, **changes: Any) -> HttpCall:
    return HttpCall(**{"method": "POST", "url": url, "body": b'{"a":1}', "timeout": 20.0, **changes})


async def _ask(talk: Talk, **changes: Any) -> HttpAnswer:
    async with _server(talk) as url, _open() as transport:
        answer: HttpAnswer = await transport.send(_call(url, **changes))
        return answer


OK = b"HTTP/1.1 200 OK\r\n"
BIG = bytes(range(256)) * 4000


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ([OK + b"Content-Length: 2\r\n\r\nhi"], b"hi"),
        ([OK + b"content-LENGTH:  2 \r\n\r\n", b"h", b"i"], b"hi"),
        ([OK + b"Content-Le", b"ngth: 2\r\n\r", b"\nhi"], b"hi"),
        ([OK + b"Content-Length: 0\r\n\r\n"], b""),
        ([OK + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG], BIG),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n"], b"hi!"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r", b"\nh", b"i\r\n", b"0\r\n", b"T: x\r\n\r\n"], b"hi"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n%X\r\n" % len(BIG) + BIG, b"\r\n0\r\n\r\n"], BIG),
        ([OK + b"\r\n", b"until ", b"the end"], b"until the end"),
        ([b"HTTP/1.0 200 OK\r\n\r\nold"], b"old"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 2\r\n\r\nhi"], b"hi"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
        ([OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(b"z")), gzip.compress(b"z")],
         b"z"),
        ([OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"z")], b"z"),
    ],
)  # fmt: skip
def test_a_body_comes_whole_however_it_is_sent(parts: list[bytes], body: bytes) -> None:
    """By length, in chunks, until the connection ends, compressed, in any packets."""
    assert asyncio.run(_ask(_saying(*parts))).body == body


def test_status_and_headers_come_along() -> None:
    """Header names are compared without case; an error status is an answer, not an exception."""
    said = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow"
    answer = asyncio.run(_ask(_saying(said)))
    assert (answer.status, answer.body) == (429, b"slow")
    assert answer.headers.get("retry-after") == answer.headers["RETRY-AFTER"] == "7"


def test_a_request_is_sent_as_it_is() -> None:
    """Method, path with query, host, headers and body reach the server."""
    seen: list[tuple[str, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await _request(reader))
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    body = "ü".encode() * 300_000
    asyncio.run(_ask(talk, headers={"Authorization": "Bearer k", "X-A": "b"}, body=body))
    head, sent = seen[0]
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /v1/x?a=b http/1.1"
    assert {"authorization: bearer k", "x-a: b", f"content-length: {len(body)}"} <= set(lines)
    assert sum(line.startswith("host: 127.0.0.1:") for line in lines) == 1
    assert sent == body


def test_connections_are_kept_and_used_again() -> None:
    """Ten answers one after the other need one connection, ten at once need ten."""
    opened = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await _saying(OK + b"Content-Length: 2\r\n\r\nhi", close=False)(reader, writer)

    async def run() -> None:
        async with _server(talk) as url, _open() as transport:
            for _ in range(10):
                await transport.send(_call(url))
            assert opened == 1
            await asyncio.gather(*(transport.send(_call(url)) for _ in range(10)))
            assert opened == 10

    asyncio.run(run())


@pytest.mark.parametrize(
    "said",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        OK + b"\r\nhi",
    ],
)
def test_a_connection_that_ended_is_not_used_again(said: bytes) -> None:
    """Said in a header, by the version or by a missing length: the next request gets a new one and its answer."""

    async def run() -> None:
        async with _server(_saying(said)) as url, _open() as transport:
            for _ in range(3):
                assert (await transport.send(_call(url))).body == b"hi"

    asyncio.run(run())


@pytest.mark.parametrize("later", [False, True])
def test_answers_that_nobody_asked_for_are_never_taken_for_ones_own(later: bool) -> None:
    """Bytes behind an answer, or on a connection that waits, spoil the connection and not the next answer."""

    async def run() -> None:
        said = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await _request(reader)
                writer.write(OK + b"Content-Length: 5\r\n\r\nright")
                if later:
                    await writer.drain()
                    await asyncio.sleep(0.005)
                writer.write(OK + b"Content-Length: 5\r\n\r\nwrong")
                await writer.drain()
                said.set()

        async with _server(talk) as url, _open() as transport:
            for _ in range(3):
                said.clear()
                assert (await transport.send(_call(url))).body == b"right"
                await said.wait()
                await asyncio.sleep(0.005)

    asyncio.run(run())


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _request(reader)
    writer.transport.abort()


@pytest.mark.parametrize(
    "talk",
    [
        _reset,
        _saying(b""),
        _saying(OK),
        _saying(OK + b"Content-Length: 9\r\n\r\nhalf"),
        _saying(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal"),
        _saying(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhal\r\n"),
        _saying(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhal\r\n0\r\n\r\n"),
        _saying(OK + b"Content-Length: x\r\n\r\nhi"),
        _saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        _saying(OK + b"no colon\r\n\r\n"),
        _saying(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
        _saying(OK + b"X: " + b"y" * 300_000),
    ],
)
def test_an_exchange_that_breaks_is_a_connection_fault(talk: Talk) -> None:
    """Resets, halves, and what is not HTTP: a fault with words, and the transport goes on working."""

    async def run() -> None:
        async with _open() as transport:
            async with _server(talk) as url:
                with pytest.raises(TransportError) as caught:
                    await transport.send(_call(url))
            async with _server(_saying(OK + b"Content-Length: 2\r\n\r\nhi")) as url:
                assert (await transport.send(_call(url))).body == b"hi"
        assert caught.value.fault.kind is FaultKind.CONNECTION
        assert caught.value.fault.message

    asyncio.run(run())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://nowhere.invalid/v1", "ftp://127.0.0.1/", "nonsense"])
def test_a_server_that_cannot_be_reached_is_a_fault_of_its_own(url: str) -> None:
    """Refused, unknown, or not an address at all."""

    async def run() -> None:
        async with _open() as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(_call(url))
        assert caught.value.fault.kind is FaultKind.UNREACHABLE

    asyncio.run(run())


def test_a_server_that_is_not_trusted_is_not_reached() -> None:
    """TLS with something that is not TLS."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async def run() -> None:
        async with _server(talk) as url, _open() as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(_call(url.replace("http:", "https:")))
        assert caught.value.fault.kind is FaultKind.UNREACHABLE

    asyncio.run(run())


def test_a_header_with_a_line_break_is_not_sent() -> None:
    """It would be a header of its own."""

    async def run() -> None:
        async with _server(_saying(OK + b"Content-Length: 0\r\n\r\n")) as url, _open() as transport:
            with pytest.raises(TransportError):
                await transport.send(_call(url, headers={"x": "a\r\ny: b"}))

    asyncio.run(run())


@pytest.mark.parametrize("start", [b"", OK, OK + b"Content-Length: 9\r\n\r\nhalf"])
def test_an_answer_that_does_not_come_in_time_is_a_timeout(start: bytes) -> None:
    """Silence, or silence in the middle; the connection is given up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(start)
        await writer.drain()
        assert await reader.read() == b""

    async def run() -> None:
        async with _server(talk) as url, _open() as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(_call(url, timeout=0.05))
        assert (caught.value.fault.kind, caught.value.fault.message) == (FaultKind.TIMEOUT, "no answer within 0.05 s")

    asyncio.run(run())


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    """Its connection is closed, so that its answer cannot come to the next request."""
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        arrived.set()
        await reader.read()
        ended.set()

    async def run() -> None:
        async with _server(talk) as url, _open() as transport:
            task = asyncio.create_task(transport.send(_call(url)))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ended.wait()

    asyncio.run(run())


def test_closing_fails_what_is_still_waiting() -> None:
    """Nobody waits for ever on a transport that is closed."""
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        arrived.set()
        await reader.read()

    async def run() -> None:
        async with _server(talk) as url:
            transport = AiohttpTransport(environ={})
            task = asyncio.create_task(transport.send(_call(url)))
            await arrived.wait()
            await transport.close()
            with pytest.raises(TransportError, match="disconnected"):
                await task

    asyncio.run(run())


@pytest.mark.parametrize("excepted", [False, True])
def test_a_proxy_of_the_environment_is_used(excepted: bool) -> None:
    """HTTP_PROXY gets the whole address; a host in NO_PROXY is asked directly."""
    seen: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await _request(reader)
        seen.append(head.partition("\r\n")[0].partition(" ")[2].partition(" ")[0])
        writer.write(OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()

    async def run() -> None:
        async with _server(talk) as proxy:
            environ = {"HTTP_PROXY": proxy.partition("/v1")[0], "NO_PROXY": "127.0.0.1" if excepted else "other.test"}
            async with _open(environ) as transport:
                url = proxy if excepted else "http://model.invalid/v1"
                assert (await transport.send(_call(url))).body == b"hi"

    asyncio.run(run())
    assert seen == ["/v1/x?a=b" if excepted else "http://model.invalid/v1"]


def test_credentials_in_an_address_become_a_header() -> None:
    """A gateway behind basic authentication can be written into base_url."""
    seen: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await _request(reader))[0])
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    async def run() -> None:
        async with _server(talk) as url, _open() as transport:
            await transport.send(_call(url.replace("//", "//me:pass@")))

    asyncio.run(run())
    assert "authorization: basic bwu6cgfzcw==" in seen[0].lower()


def _subclasses(root: type[BaseException]) -> list[type[BaseException]]:
    found = [root]
    for child in root.__subclasses__():
        found += _subclasses(child)
    return [kind for kind in dict.fromkeys(found) if kind.__module__.startswith("aiohttp")]


@pytest.mark.parametrize("kind", _subclasses(aiohttp.ClientError), ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_is_a_fault(kind: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """None of its classes passes through: a timeout is a timeout, and what came before any connection is told apart."""

    class Broken(kind):  # type: ignore[valid-type,misc]
        # what a certificate's error is asked for, which its own __init__ would set
        host = "there"
        certificate_error = ValueError("broken")

        def __init__(self) -> None:
            pass

        def __str__(self) -> str:
            return "broken"

    def fail(*_args: Any, **_named: Any) -> Any:
        raise Broken

    async def run() -> None:
        async with _open() as transport:
            monkeypatch.setattr(aiohttp.ClientSession, "request", fail)
            with pytest.raises(TransportError) as caught:
                await transport.send(_call("http://127.0.0.1:1/"))
            expected = FaultKind.CONNECTION
            if issubclass(kind, TimeoutError):
                expected = FaultKind.TIMEOUT
            elif issubclass(kind, aiohttp.ClientConnectorError | aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
                expected = FaultKind.UNREACHABLE
            assert caught.value.fault.kind is expected

    asyncio.run(run())


def test_a_real_server_is_understood() -> None:
    """Against aiohttp's own server: chunked answers, large bodies, many at once."""

    async def run() -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            response = web.StreamResponse(headers={"X-Length": str(len(body))})
            await response.prepare(request)
            for at in range(0, len(body), 50_000):
                await response.write(body[at : at + 50_000])
            return response

        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/x", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/x"
        bodies = [bytes([size % 251]) * (size * 7919) for size in range(1, 30)]
        try:
            async with _open() as transport:
                answers = await asyncio.gather(*(transport.send(_call(url, body=body)) for body in bodies))
                assert [answer.body for answer in answers] == bodies
        finally:
            await runner.cleanup()

    asyncio.run(run())
