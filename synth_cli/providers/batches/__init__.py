"""Batches: one file per protocol, and one table that says which backend has which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TypeAlias

from synth_cli.core.ports import BatchClient, FileTransport
from synth_cli.errors import UsageError
from synth_cli.providers.resolve import Endpoint

Make: TypeAlias = Callable[..., BatchClient]

PROTOCOLS: Mapping[str, str] = {
    "openai": "openai",
    "azure": "openai",
    "groq": "openai",
    "together_ai": "openai",
    "litellm_proxy": "openai",
    "novita": "openai",
    "nebius": "openai",
    "dashscope": "openai",
    "simulator": "openai",
    "vllm": "openai",
    "hosted_vllm": "openai",
    "mistral": "mistral",
    "fireworks_ai": "fireworks",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
"""Backend → module here. Each has `client(endpoint, transport, *, window) -> BatchClient`."""

OWN: Mapping[str, str] = {
    "bedrock": "its batches read and write S3 buckets under a role of the account",
    "bedrock_converse": "its batches read and write S3 buckets under a role of the account",
    "vertex_ai": "its batches read and write Cloud Storage or BigQuery; `backend: gemini` has batches",
    "xai": "its batches are made request by request, not of a file",
    "cohere": "it has batches for embeddings only",
}
"""Why a backend that has something called batches is not here."""


def unsupported(backend: str) -> str:
    """Why this backend has no batches, empty where it has."""
    if backend in PROTOCOLS:
        return ""
    return f"no batches with backend {backend}" + (f": {OWN[backend]}" if backend in OWN else "")


def batch_client(endpoint: Endpoint, transport: FileTransport, *, window: str = "24h") -> BatchClient:
    """The batch calls of an endpoint's provider. Raises UsageError where there are none.

    `window` is how long the provider may take, as it writes it (`24h`). The transport stays the caller's.
    """
    why = unsupported(endpoint.backend)
    if why:
        raise UsageError(why, hint="engine: online asks the same model, at the online price")
    # the simulated server speaks OpenAI's protocol whatever the spec names
    name = "openai" if endpoint.host.name == "simulator" else PROTOCOLS[endpoint.backend]
    make: Make = import_module(f"synth_cli.providers.batches.{name}").client
    return make(endpoint, transport, window=window)
