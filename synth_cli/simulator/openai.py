"""OpenAI's chat completions, completions and models."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from synth_cli.simulator.asked import Asked, body_of, read_chat, read_completions
from synth_cli.simulator.model import Choice
from synth_cli.simulator.service import JSON, Endpoint, Routes, Service
from synth_cli.simulator.wire import chat_body, chat_events, completion_body, completion_events, models_body

MODELS = ("simulator", "simulator-reason", "gpt-5-mini")


def _chat_whole(asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    return chat_body(asked[0], choices, content)


CHAT = Endpoint(
    "chat",
    read=lambda data: (read_chat(body_of(data)),),
    whole=_chat_whole,
    events=lambda asked, choices, content: chat_events(asked[0], choices, content),
)
COMPLETIONS = Endpoint(
    "completions",
    read=lambda data: read_completions(body_of(data)),
    whole=completion_body,
    events=completion_events,
)


def routes(service: Service) -> Routes:
    async def chat(request: web.BaseRequest) -> web.StreamResponse:
        return await service.exchange(request, CHAT)

    async def completions(request: web.BaseRequest) -> web.StreamResponse:
        return await service.exchange(request, COMPLETIONS)

    async def models(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=models_body(MODELS), content_type=JSON)

    return {
        ("POST", "/v1/chat/completions"): chat,
        ("POST", "/v1/completions"): completions,
        ("GET", "/v1/models"): models,
    }
