"""The life of a batch with every batch client, against the simulated model that speaks its protocol."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from synth_cli.core.ports import BatchClient, BatchLook, BatchResult
from synth_cli.core.request import Draft, Request, Terms, identify
from synth_cli.providers.batches import batch_client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.providers.resolve import resolve
from synth_cli.simulator import Settings, Simulator

HOSTS = {
    "openai": ("openai", "gpt-5-mini", "/v1"),
    "groq": ("groq", "llama-3.3-70b", "/openai/v1"),
    "azure": ("azure", "gpt-4.1", ""),
    "azure v1": ("azure", "gpt-4.1", "/openai/v1"),
    "proxy": ("litellm_proxy", "writer", "/v1"),
    "together": ("together_ai", "meta-llama/Llama-3.3-70B", "/together/v1"),
    "mistral": ("mistral", "mistral-small-latest", "/v1"),
    "anthropic": ("anthropic", "claude-sonnet-4-5", ""),
    "gemini": ("gemini", "gemini-3-flash", "/v1beta"),
    "simulator": ("simulator", "simulator", "/v1"),
}
KEY = "synth-job-0123456789ab"
COUNT = 8
STEPS = 1000


def asked(backend: str, model: str) -> list[Request]:
    drafts = [
        Draft(Terms(backend, model, params={"max_tokens": 50}), ({"role": "user", "content": f"Say {number}."},))
        for number in range(COUNT)
    ]
    return [identify(draft, draft.content(0), 0) for draft in drafts]


async def until_ended(client: BatchClient, ticket: object) -> BatchLook:
    for _ in range(STEPS):
        look = await client.look(ticket)  # type: ignore[arg-type]
        if look.ended:
            return look
        await asyncio.sleep(0.005)
    raise AssertionError(f"still {look.state}")


def lived(host: str, folder: Path, settings: Settings) -> tuple[BatchLook, list[BatchResult], list[Request], object]:
    """(how it ended, its results, its requests, what was paid)."""
    backend, model, path = HOSTS[host]

    async def run() -> tuple[BatchLook, list[BatchResult], list[Request], object]:
        transport = AiohttpTransport(environ={})
        try:
            async with Simulator(settings) as simulator:
                base = simulator.url.removesuffix("/v1") + path
                endpoint = resolve(model, backend=backend, base_url=base, api_key="k", environ={})
                client = batch_client(endpoint, transport)
                requests = asked(backend, model)
                file = folder / "requests.jsonl"
                file.write_bytes(b"".join(client.line(request) for request in requests))
                since = time.time()
                ticket = await client.submit(KEY, file, COUNT, {"team": "x"})
                assert await client.find(KEY, since) is not None
                assert await client.find("synth-job-ffffffffffff", since) is None
                look = await until_ended(client, ticket)
                results = [result async for result in client.results(look.ticket or ticket)]
                await client.discard(look.ticket or ticket)
                return look, results, requests, simulator.counts["paid"]
        finally:
            await transport.close()

    return asyncio.run(run())


@pytest.mark.parametrize("host", HOSTS)
def test_every_request_comes_back_once(host: str, tmp_path: Path) -> None:
    """Submitted, found by its key, looked at, collected: an answer for each id, each paid once."""
    look, results, requests, paid = lived(host, tmp_path, Settings())
    assert look.outcome == "collected"
    assert sorted(result.custom_id for result in results) == sorted(request.id.hex() for request in requests)
    assert all(result.exchange.reply is not None for result in results)
    assert paid == {"1": COUNT}


@pytest.mark.parametrize("host", HOSTS)
def test_what_expired_keeps_what_was_done(host: str, tmp_path: Path) -> None:
    """As many answers as were paid; nothing else is taken for one."""
    look, results, requests, paid = lived(host, tmp_path, Settings(batch_expire=0.5))
    replies = {result.custom_id for result in results if result.exchange.reply is not None}
    assert look.outcome == "expired"
    assert replies <= {request.id.hex() for request in requests}
    assert paid == ({"1": len(replies)} if replies else {})
    assert len(replies) == (0 if host == "gemini" else COUNT // 2)


@pytest.mark.parametrize("host", HOSTS)
def test_errors_of_single_requests_are_faults(host: str, tmp_path: Path) -> None:
    """Every request that failed has a fault that allows another attempt, under its own id; nothing was paid."""
    _, results, requests, paid = lived(host, tmp_path, Settings(batch_share_error=1))
    assert sorted(result.custom_id for result in results) == sorted(request.id.hex() for request in requests)
    assert {result.exchange.fault.scope for result in results if result.exchange.fault} == {"attempt"}
    assert paid == {}
