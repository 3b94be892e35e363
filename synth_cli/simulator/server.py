"""The simulated model behind an OpenAI-compatible HTTP server.

    POST /v1/chat/completions   also streamed          GET  /simulator/counts    what it did so far
    POST /v1/completions        also streamed          POST /simulator/reset     counts, tries and limits anew
    GET  /v1/models                                    POST /simulator/advance   {"seconds": 3600}: the batches' clock

    /v1/files, /v1/batches             OpenAI's batches, also below /openai/v1 (Groq, Azure) and /openai (Azure);
                                       Together's way below /together/v1
    /v1/batch/jobs                     Mistral's
    /v1/messages, /v1/messages/batches Anthropic's
    /v1beta/models/…:generateContent, …:batchGenerateContent, /v1beta/batches, /v1beta/files    Gemini's

Which model is asked for matters only where its name (without a provider's prefix) begins with `unknown` (404),
contains `no-credit` (429 insufficient_quota) or contains `reason` (it thinks aloud). The key `bad` is refused (401).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from synth_cli.simulator import batch_anthropic, batch_gemini, batch_mistral, batch_routes, openai
from synth_cli.simulator.asked import Refused, body_of
from synth_cli.simulator.service import JSON, Handler, Routes, Service
from synth_cli.simulator.settings import Settings

PROTOCOLS: tuple[Callable[[Service], Routes], ...] = (
    openai.routes,
    batch_routes.routes,
    batch_mistral.routes,
    batch_anthropic.routes,
    batch_gemini.routes,
)
"""Each protocol's routes: another one is another module here."""
LARGEST_BODY = 256 << 20
SHUTDOWN = 1.0


def dispatcher(service: Service) -> Handler:
    """One look-up in place of aiohttp's application, which costs more than half of what a request does without it."""
    routes = {**control(service)}
    for protocol in PROTOCOLS:
        routes.update(protocol(service))
    below = [(method, path[:-1], handler) for (method, path), handler in routes.items() if path.endswith("/*")]

    async def dispatch(request: web.BaseRequest) -> web.StreamResponse:
        handler = routes.get((request.method, request.path))
        if handler is not None:
            return await handler(request)
        for method, prefix, other in below:
            if method == request.method and request.path.startswith(prefix):
                return await other(request)
        known = sorted(method for method, path in routes if path == request.path)
        status = 405 if known else 404
        refused = Refused(status, f"Invalid URL ({request.method} {request.path})")
        return web.Response(status=status, body=refused.body(), content_type=JSON)

    return dispatch


def control(service: Service) -> Routes:
    async def counts(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(service.counts.snapshot()), content_type=JSON)

    async def reset(_request: web.BaseRequest) -> web.StreamResponse:
        service.reset()
        return web.Response(body=b"{}", content_type=JSON)

    async def advance(request: web.BaseRequest) -> web.StreamResponse:
        service.batches.advance(float(body_of(await request.read()).get("seconds", 0)))
        return web.Response(body=b"{}", content_type=JSON)

    return {
        ("GET", "/simulator/counts"): counts,
        ("POST", "/simulator/reset"): reset,
        ("POST", "/simulator/advance"): advance,
    }


def requests(loop: asyncio.AbstractEventLoop) -> Callable[..., web.BaseRequest]:
    """As the server's own, but bodies may be large: images travel inside them."""

    def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY)

    return make


class Simulator:
    """The server in this process, for as long as the context lasts; port 0 takes a free one.

    Raises OSError where the port is taken.
    """

    def __init__(self, settings: Settings | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.settings = settings or Settings()
        self.host = host
        self.port = port
        self._service: Service | None = None
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        self._service = Service(self.settings)
        factory = requests(asyncio.get_running_loop())
        dispatch = dispatcher(self._service)
        self._service.batches.resume()
        server = web.Server(dispatch, request_factory=factory, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, backlog=4096).start()
        except OSError:
            await runner.cleanup()
            await self._service.close()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None and self._service is not None:
            self._service.closing.set()
            await self._runner.cleanup()
            await self._service.close()
            self._runner = None

    @property
    def url(self) -> str:
        """The base address for clients, with `/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    @property
    def counts(self) -> Mapping[str, Any]:
        """As `GET /simulator/counts` gives them; kept after the end."""
        if self._service is None:
            raise RuntimeError("the simulator was never started")
        return self._service.counts.snapshot()

    def advance(self, seconds: float) -> None:
        """Moves the clock that batches live by."""
        if self._service is not None:
            self._service.batches.advance(seconds)

    def reset(self) -> None:
        """Counts, tries and limits anew."""
        if self._service is not None:
            self._service.reset()


async def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 8000, ready: Callable[[str], None] | None = None
) -> None:
    """Serves until it is cancelled; `ready` is called with the base address once it listens."""
    async with Simulator(settings, host=host, port=port) as simulator:
        if ready is not None:
            ready(simulator.url)
        await asyncio.Event().wait()
