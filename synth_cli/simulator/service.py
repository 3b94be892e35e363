"""What every endpoint of the simulator shares: limits, faults, latency and counts around an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeAlias

from aiohttp import web

from synth_cli.simulator.asked import Asked, Refused, server_error
from synth_cli.simulator.batches import Batches
from synth_cli.simulator.counts import Counts
from synth_cli.simulator.draw import Draw, mix, number_of
from synth_cli.simulator.faults import Trouble, faultless, spoilt, troubled
from synth_cli.simulator.limits import Limits, Refusal, spoken
from synth_cli.simulator.model import Choice, Model
from synth_cli.simulator.settings import HEADER, Settings
from synth_cli.simulator.shelf import Shelf

RAW_PREFIX = HEADER.encode()
LOOK_AGAIN = 0.5
JSON = "application/json"
OTHER_KEYS = ("x-api-key", "api-key", "x-goog-api-key")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Routes: TypeAlias = Mapping[tuple[str, str], Handler]
"""(method, path) → who answers; a path that ends in `/*` is any path below."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One protocol: how its body is read, and how an answer is written whole and as events.

    `name` is what the counts call it. The writers get the prompts, their choices and the request's content number.
    """

    name: str
    read: Callable[[bytes], Sequence[Asked]]
    whole: Callable[[Sequence[Asked], Sequence[Choice], int], bytes]
    events: Callable[[Sequence[Asked], Sequence[Choice], int], Iterable[bytes]] = lambda asked, choices, content: ()
    """Nothing where questions of the protocol are never read as wanting a stream."""
    error: Callable[[Refused], bytes] = Refused.body


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request will get, decided before anything is awaited."""

    settings: Settings
    asked: Sequence[Asked]
    choices: Sequence[Choice]
    content: int
    trouble: Trouble | None
    delay: float

    @property
    def paid(self) -> bool:
        """Whether the model worked for it."""
        return self.trouble is None or self.trouble in (
            Trouble.RESET,
            Trouble.MALFORMED,
            Trouble.EMPTY,
            Trouble.INVALID,
            Trouble.LENGTH,
            Trouble.FILTER,
        )


class Service:
    """The state behind the endpoints."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sound = faultless(settings)
        self.model = Model()
        self.counts = Counts(settings.remember)
        self.limits = Limits(settings, time.monotonic())
        self.closing = asyncio.Event()
        self.shelf = Shelf(None if settings.folder is None else Path(settings.folder))
        self.batches = Batches(settings, self.model, self.counts, self.shelf)

    async def close(self) -> None:
        await self.batches.close()
        self.shelf.close()

    def reset(self) -> None:
        self.counts.reset()
        self.limits = Limits(self.settings, time.monotonic())

    async def exchange(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        """Answers one request as the settings have it."""
        data = await request.read()
        counts = self.counts
        counts.enter()
        outcome = "broken off"
        try:
            plan = self.plan(request, data, endpoint)
            if plan.delay:
                await asyncio.sleep(plan.delay)
            outcome = plan.trouble.value if plan.trouble else "answered"
            if plan.paid:
                counts.pay(plan.content, plan.asked[0].user[:80])
            if plan.trouble is None:
                counts.answer(plan.content, sum(choice.tokens for choice in plan.choices))
            return await self.respond(request, endpoint, plan)
        except Refused as refused:
            outcome = refused.code or str(refused.status)
            return web.Response(
                status=refused.status,
                body=endpoint.error(refused),
                content_type=JSON,
                headers={**self.limits.headers(), **refused.headers},
            )
        finally:
            counts.leave(endpoint.name, outcome)

    def plan(self, request: web.BaseRequest, data: bytes, endpoint: Endpoint) -> Plan:
        """Raises `Refused`. What is refused has no part in the tries of its content, save for drawn faults."""
        settings, forced, forced_tries = self.settings_for(request)
        check_key(request)
        asked = endpoint.read(data)
        check_model(asked[0].model)
        content = number_of(data)
        turn = self.counts.turns(content) + 1
        trouble = None
        if forced is not None:
            trouble = forced if turn <= forced_tries else None
        elif not self.sound or settings is not self.settings:
            trouble = troubled(settings, content, turn)
        if trouble is Trouble.RATE:
            self.counts.turn(content)
            raise too_fast(
                asked[0].model, Refusal("requests", settings.requests_per_minute or 60, settings.retry_after)
            )
        choices = [
            choice
            for one in asked
            for choice in self.model.answer(
                one, settings, salt=turn if settings.vary else 0, invalid=trouble is Trouble.INVALID
            )
        ]
        if trouble in (Trouble.LENGTH, Trouble.FILTER):
            choices = [spoilt(choice, trouble) for choice in choices]
        if self.limits.buckets:
            tokens = sum(one.prompt_tokens for one in asked) + sum(choice.tokens for choice in choices)
            refusal = self.limits.take(tokens, time.monotonic())
            if refusal is not None:
                raise too_fast(asked[0].model, refusal)
        self.counts.turn(content)
        delay = settings.latency
        if settings.jitter:
            delay += settings.jitter * Draw(mix(content + turn)).unit()
        return Plan(settings, asked, choices, content, trouble, delay)

    async def respond(self, request: web.BaseRequest, endpoint: Endpoint, plan: Plan) -> web.StreamResponse:
        headers = self.limits.headers()
        match plan.trouble:
            case Trouble.ERROR:
                raise server_error()
            case Trouble.STALL:
                await self.stall(request)
                return reset(request)
            case Trouble.RESET if not plan.asked[0].stream:
                return reset(request)
            case Trouble.EMPTY:
                return web.Response(body=b"", content_type=JSON, headers=headers)
            case _ if plan.asked[0].stream:
                return await self.stream(request, endpoint, plan, headers)
            case _:
                body = endpoint.whole(plan.asked, plan.choices, plan.content)
                if plan.trouble is Trouble.MALFORMED:
                    body = body[: len(body) // 2]
                return web.Response(body=body, content_type=JSON, headers=headers)

    async def stream(
        self, request: web.BaseRequest, endpoint: Endpoint, plan: Plan, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_type = "text/event-stream"
        response.headers["Cache-Control"] = "no-cache"
        await response.prepare(request)
        events = list(endpoint.events(plan.asked, plan.choices, plan.content))
        half = len(events) // 2
        try:
            if plan.trouble in (Trouble.RESET, Trouble.MALFORMED):
                await response.write(b"".join(events[:half]))
                if plan.trouble is Trouble.RESET:
                    # no TCP reset: it would take away what the client has not read yet
                    if request.transport is not None:
                        request.transport.close()
                    return response
                await response.write(events[half][: len(events[half]) // 2] + b"\n\n")
            else:
                await response.write(b"".join(events[:half]))
                await response.write(b"".join(events[half:]))
            await response.write_eof()
        except ConnectionError:
            pass  # the client went away; it was answered as far as it wanted
        return response

    async def stall(self, request: web.BaseRequest) -> None:
        """Until the client gives up, or the server ends."""
        while not self.closing.is_set() and request.transport is not None and not request.transport.is_closing():
            try:
                await asyncio.wait_for(self.closing.wait(), LOOK_AGAIN)
            except TimeoutError:
                continue

    def settings_for(self, request: web.BaseRequest) -> tuple[Settings, Trouble | None, int]:
        """(settings, the fault that the request itself asks for, for how many tries)."""
        if not any(name[:12].lower() == RAW_PREFIX for name, _ in request.raw_headers):
            return self.settings, None, 0
        headers = request.headers
        try:
            settings = self.settings.asked(headers)
            wanted = headers.get(HEADER + "fault")
            trouble = None if wanted is None else Trouble(wanted)
            return settings, trouble, int(headers.get(HEADER + "fault-tries", "1000000000"))
        except ValueError as error:
            raise Refused(400, str(error), param="headers") from error


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Breaks the connection off with a TCP reset."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


def check_key(request: web.BaseRequest) -> None:
    headers = request.headers
    if headers.get("Authorization") == "Bearer bad" or any(headers.get(name) == "bad" for name in OTHER_KEYS):
        raise Refused(401, "Incorrect API key provided: bad.", code="invalid_api_key")


def check_model(model: str) -> None:
    name = model.rpartition("/")[2]
    if name.startswith("unknown"):
        raise Refused(
            404,
            f"The model `{model}` does not exist or you do not have access to it.",
            code="model_not_found",
        )
    if "no-credit" in name:
        raise Refused(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            kind="insufficient_quota",
            code="insufficient_quota",
        )


def too_fast(model: str, refusal: Refusal) -> Refused:
    of = "requests per min (RPM)" if refusal.of == "requests" else "tokens per min (TPM)"
    if refusal.wait is None and refusal.requested:
        message = f"Request too large for {model} on {of}: Limit {refusal.limit:.0f}, Requested {refusal.requested}."
    else:
        message = f"Rate limit reached for {model} on {of}: Limit {refusal.limit:.0f}."
    headers: dict[str, str] = {}
    if refusal.wait is not None:
        message += f" Please try again in {spoken(refusal.wait)}."
        headers["retry-after"] = str(ceil(refusal.wait))
        headers["retry-after-ms"] = str(ceil(refusal.wait * 1000))
    return Refused(429, message, kind=refusal.of, code="rate_limit_exceeded", headers=headers)
