"""Calls that are not questions to the model (files, batches): faults, counts and errors around what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from aiohttp import web

from synth_cli.simulator.asked import Refused, server_error
from synth_cli.simulator.draw import Draw, mix, number_of
from synth_cli.simulator.faults import Trouble, troubled
from synth_cli.simulator.limits import Refusal
from synth_cli.simulator.service import JSON, Handler, Service, check_key, reset, too_fast
from synth_cli.simulator.settings import HEADER, Settings

PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Sent:
    """What a call answers: JSON, or a file from the disk."""

    body: bytes | Path
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    lost: bool = False
    """The connection is reset in place of the answer."""
    content_type: str = JSON


Act: TypeAlias = Callable[[web.BaseRequest], Awaitable[Sent]]


async def call(
    service: Service, request: web.BaseRequest, name: str, act: Act, error: Callable[[Refused], bytes] = Refused.body
) -> web.StreamResponse:
    """Does what is asked, as the settings have it. A drawn 429 or 500 comes before anything is done, the rest after.

    Faults are drawn from the call's name and how often it came: ids are never the same twice.
    """
    counts = service.counts
    counts.enter()
    outcome = "broken off"
    try:
        settings, forced, tries = service.settings_for(request)
        check_key(request)
        content = number_of(name.encode())
        turn = counts.turns(content) + 1
        counts.turn(content)
        asked_for = forced if turn <= tries else None
        trouble = troubled(settings, content, turn) if forced is None else asked_for
        if settings.latency or settings.jitter:
            await asyncio.sleep(settings.latency + settings.jitter * Draw(mix(content + turn)).unit())
        if trouble is Trouble.RATE:
            raise too_fast(name, Refusal("requests", settings.requests_per_minute or 60, settings.retry_after))
        if trouble is Trouble.ERROR:
            raise server_error()
        sent = await act(request)
        if sent.lost or trouble is Trouble.RESET:
            outcome = Trouble.RESET.value
            return reset(request)
        if trouble is Trouble.STALL:
            outcome = trouble.value
            await service.stall(request)
            return reset(request)
        broken = trouble in (Trouble.MALFORMED, Trouble.EMPTY)
        outcome = trouble.value if broken and trouble is not None else "answered"
        return await respond(request, sent, 0.5 if trouble is Trouble.MALFORMED else 0.0 if broken else 1.0)
    except Refused as refused:
        outcome = refused.code or str(refused.status)
        return web.Response(
            status=refused.status, body=error(refused), content_type=JSON, headers=dict(refused.headers)
        )
    finally:
        counts.leave(name, outcome)


async def respond(request: web.BaseRequest, sent: Sent, share: float) -> web.StreamResponse:
    """Sends that share of the answer; of a file all of its length is promised."""
    if isinstance(sent.body, bytes):
        body = sent.body[: int(len(sent.body) * share)]
        return web.Response(status=sent.status, body=body, content_type=sent.content_type, headers=dict(sent.headers))
    response = web.StreamResponse(headers=dict(sent.headers))
    response.content_type = sent.content_type
    with sent.body.open("rb") as file:
        size = sent.body.stat().st_size
        response.content_length = size
        left = int(size * share)
        try:
            await response.prepare(request)
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                await response.write(piece)
            if share == 1:
                await response.write_eof()
            elif request.transport is not None:
                request.transport.close()
        except ConnectionError:
            pass  # the client went away; it has what it wanted
    return response


def handler(service: Service, name: str, act: Act, error: Callable[[Refused], bytes] = Refused.body) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await call(service, request, name, act, error)

    return handle


def elsewhere(request: web.BaseRequest) -> Refused:
    """For a path below one that is known."""
    return Refused(404, f"Invalid URL ({request.method} {request.path})")


def lost(service: Service, settings: Settings) -> bool:
    """Whether this submit's answer is lost, drawn from how many there were."""
    if not settings.batch_share_lost:
        return False
    content = number_of(b"lost")
    service.counts.turn(content)
    turn = service.counts.turns(content)
    return Draw(mix(content ^ mix(settings.seed + (turn << 32)))).unit() < settings.batch_share_lost


def base_of(request: web.BaseRequest) -> str:
    """The server's own address, as the client wrote it."""
    return f"{request.scheme}://{request.host}"


def own_headers(request: web.BaseRequest) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower().startswith(HEADER)}
