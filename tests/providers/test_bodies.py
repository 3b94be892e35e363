from __future__ import annotations

import asyncio
import email
import email.policy
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from batch_office import Said, open_office, transport

from synth_cli.core.ports import HttpCall, HttpError, TransportError
from synth_cli.core.reply import FaultKind
from synth_cli.providers import bodies

MIB = 1 << 20


def test_a_form_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    """Fields first, then the file, each with its name; nothing of the file is read to make it."""
    file = tmp_path / "x"
    headers, parts = bodies.multipart({"purpose": "batch", 'a"b': "1"}, file, filename="k.jsonl")
    file.write_bytes(b'{"a":1}\n{"b":2}\n')
    whole = b"".join(part if isinstance(part, bytes) else part.read_bytes() for part in parts)
    said = b"content-type: " + headers["content-type"].encode() + b"\r\n\r\n" + whole
    message = email.message_from_bytes(said, policy=email.policy.default)
    read = [(part["content-disposition"].params, part.get_payload(decode=True)) for part in message.iter_parts()]  # type: ignore[attr-defined]
    assert [(dict(params), body) for params, body in read] == [
        ({"name": "purpose"}, b"batch"),
        ({"name": "a%22b"}, b"1"),
        ({"name": "file", "filename": "k.jsonl"}, b'{"a":1}\n{"b":2}\n'),
    ]
    assert bodies.size(parts) == len(whole)


def test_the_same_form_has_the_same_bytes_and_another_one_another_boundary(tmp_path: Path) -> None:
    """The boundary comes from the names."""
    file = tmp_path / "x"
    one = bodies.multipart({"purpose": "batch"}, file, filename="a")
    assert one == bodies.multipart({"purpose": "batch"}, file, filename="a")
    assert one[0] != bodies.multipart({"purpose": "batch"}, file, filename="b")[0]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b", b"\n", b"c"], [b"ab", b"c"]),
        ([b"a\r", b"\nb\r\n"], [b"a", b"b"]),
        ([b"\n\n", b"a"], [b"", b"", b"a"]),
        ([b"", b"a\n", b""], [b"a"]),
        ([], []),
        ([b"\n"], [b""]),
        (["é\n".encode()[:1], "é\n".encode()[1:]], ["é".encode()]),
    ],
)
def test_lines_are_the_same_however_the_body_is_cut(pieces: list[bytes], lines: list[bytes]) -> None:
    """Ends of lines may fall between pieces; the last one may be missing."""
    splitter = bodies.Splitter()
    found = [line for piece in pieces for line in splitter.feed(piece)]
    rest = splitter.rest()
    assert found + ([rest] if rest else []) == lines


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a line is cut to its beginning; those behind it are whole."""
    monkeypatch.setattr(bodies, "LINE_BYTES", 100_000)
    splitter = bodies.Splitter()
    tracemalloc.start()
    found = [line for _ in range(200) for line in splitter.feed(b"x" * 50_000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found += splitter.feed(b"y\nz\n")
    assert ([len(line) for line in found], found[1], peak < 500_000) == ([bodies.CUT, 1], b"z", True)


async def _sent(call_body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with open_office({"POST /": Said(b"ok")}) as office, transport() as http:
        answer = await http.send(HttpCall("POST", office.url + "/", headers, call_body, 20.0))
        asked = office.asked[0]
        return answer.status, {name.lower(): value for name, value in asked.headers.items()}, asked.body


def test_a_body_of_parts_arrives_whole_with_its_length(tmp_path: Path) -> None:
    """Bytes and files one behind the other, not in chunks: some servers refuse those."""
    file = tmp_path / "big"
    file.write_bytes(b"0123456789" * 100_000)
    status, headers, body = asyncio.run(_sent((b"<", file, b">"), **{"content-type": "x/y"}))
    assert (status, body) == (200, b"<" + b"0123456789" * 100_000 + b">")
    assert (headers["content-length"], headers.get("transfer-encoding")) == ("1000002", None)


def test_a_file_that_is_gone_is_a_broken_exchange(tmp_path: Path) -> None:
    """Not an exception of the file system's."""
    with pytest.raises(TransportError) as caught:
        asyncio.run(_sent((tmp_path / "nothing",)))
    assert caught.value.fault.kind is FaultKind.CONNECTION


def test_a_large_file_is_sent_without_being_held(tmp_path: Path) -> None:
    """Memory holds pieces of it."""
    file = tmp_path / "large"
    with file.open("wb") as opened:
        for _ in range(40):
            opened.write(b"x" * MIB)
    taken = 0

    async def swallow(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal taken
        async for piece in request.content.iter_any():
            taken += len(piece)
        return web.Response()

    async def send() -> int:
        server = RawTestServer(swallow)
        await server.start_server()
        async with transport() as http:
            tracemalloc.start()
            await http.send(HttpCall("POST", str(server.make_url("/")), {}, (file,), 60.0))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        await server.close()
        return peak

    assert (asyncio.run(send()) < 8 * MIB, taken) == (True, 40 * MIB)


async def _lines(says: Said) -> list[bytes]:
    async with open_office({"GET /": says}) as office, transport() as http:
        return [line async for line in http.lines(HttpCall("GET", office.url + "/"))]


def test_lines_of_an_answer() -> None:
    """As they are, with and without an end; also very long ones."""
    long = b"y" * (3 * MIB)
    assert asyncio.run(_lines(Said(b"a\r\n\n" + long + b"\nlast"))) == [b"a", b"", long, b"last"]


def test_an_answer_that_is_no_success_has_no_lines() -> None:
    """It comes as an error with its status and body."""
    with pytest.raises(HttpError) as caught:
        asyncio.run(_lines(Said(b"slow down", 429, {"retry-after": "3"})))
    answer = caught.value.answer
    assert (answer.status, answer.body, answer.headers["Retry-After"]) == (429, b"slow down", "3")


def test_lines_that_break_off_are_an_error_after_those_that_came() -> None:
    """What was whole is there; the reader learns that more was to come."""

    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "1000"})
        await response.prepare(request)
        await response.write(b"one\ntwo\nthr")
        assert request.transport is not None
        request.transport.close()
        return response

    async def read() -> AsyncIterator[bytes]:
        server = RawTestServer(broken)
        await server.start_server()
        try:
            async with transport() as http:
                async for line in http.lines(HttpCall("GET", str(server.make_url("/")), timeout=20.0)):
                    yield line
        finally:
            await server.close()

    async def collect() -> tuple[list[bytes], FaultKind | None]:
        came: list[bytes] = []
        try:
            async for line in read():
                came.append(line)  # noqa: PERF401 - what came before the error is wanted
        except TransportError as error:
            return came, error.fault.kind
        return came, None

    assert asyncio.run(collect()) == ([b"one", b"two"], FaultKind.CONNECTION)


def test_a_server_that_falls_silent_is_given_up() -> None:
    """After the call's timeout without a byte."""

    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def read() -> FaultKind:
        server = RawTestServer(silent)
        await server.start_server()
        try:
            async with transport() as http:
                async for _ in http.lines(HttpCall("GET", str(server.make_url("/")), timeout=0.05)):
                    pass
        except TransportError as error:
            return error.fault.kind
        finally:
            await server.close()
        raise AssertionError

    assert asyncio.run(read()) is FaultKind.TIMEOUT
