"""OpenAI's chat completions, completions and models."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from synth_cli.simulator.asked import Asked, body_of, read_chat, read_completions
from synth_cli.simulator.model import Choice
from synth_cli.simulator.service import JSON, Endpoint, Handler, Routes, Service
from synth_cli.simulator.wire import chat_body, chat_events, completion_body, completion_events, models_body

PREFIXES = ("/v1", "/openai/v1", "/together/v1")
"""OpenAI's; Groq's and Azure's newer one; Together's, beside its batches."""
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

    found: dict[tuple[str, str], Handler] = {("POST", "/openai/deployments/*"): chat}
    for prefix in PREFIXES:
        found["POST", f"{prefix}/chat/completions"] = chat
        found["POST", f"{prefix}/completions"] = completions
        found["GET", f"{prefix}/models"] = models
    return found
