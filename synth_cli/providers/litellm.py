"""Every provider that does not speak OpenAI's protocol, through LiteLLM: the only import of it.

LiteLLM answers in OpenAI's shape, so its answers are kept and read like all others. Its exceptions blur causes
(quota, rate and overload look alike; Anthropic's 529 becomes 500), so the provider's own body is taken out of them
and judged as if it had come over HTTP. About 3-5 ms of CPU time a request, 2.5 s and 165 MiB to import.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Literal

import orjson

from synth_cli.core.ports import Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind
from synth_cli.core.request import Request, Terms
from synth_cli.providers import limits
from synth_cli.providers.clients import secrets
from synth_cli.providers.faults import fault_of, masked
from synth_cli.providers.hosts import Structured
from synth_cli.providers.lower import Lowered, instructed, lower
from synth_cli.providers.openai import READERS, BodyError, protocol
from synth_cli.providers.resolve import Endpoint

TOOL_TAKERS = ("anthropic/", "gemini/", "vertex_ai/gemini", "vertex_ai/claude", "bedrock/anthropic")
PREFIX = "llm_provider-"
"""LiteLLM puts it before the names of the provider's own headers."""


@cache
def _litellm() -> ModuleType:
    # read while it is imported: without them it fetches its price map, which stalls where there is no network
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    import litellm

    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # of its own types, when the first stream is read
    warnings.filterwarnings("ignore", message=".*Pydantic will not protect items")
    module: ModuleType = litellm
    return module


class LitellmClient:
    """Asks one model through LiteLLM, whose own retries are off: when to try again is decided here alone."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._litellm = _litellm()
        name = "anthropic" if endpoint.backend == "anthropic" else "openai"
        self._dialect = limits.DIALECTS[name]
        self._secrets = secrets(endpoint)
        self._last: tuple[Terms, Lowered] | None = None

    async def ask(self, request: Request) -> Exchange:
        endpoint, litellm = self._endpoint, self._litellm
        if self._last is None or self._last[0] is not request.terms:
            self._last = (request.terms, _lowered(litellm, endpoint, request.terms))
        lowered = self._last[1]
        sent = _arguments(endpoint, request, lowered) | {"timeout": endpoint.timeout}
        if endpoint.api_key:
            sent["api_key"] = endpoint.api_key
        if "tools" in sent:
            # with tools it looks for MCP gateways among them, which needs a package that it does not install
            sent["_skip_mcp_handler"] = True
        call = litellm.atext_completion if request.terms.completion else litellm.acompletion
        try:
            response = await call(**sent, max_retries=0, num_retries=0)
            if sent.get("stream"):
                chunks = [chunk async for chunk in response]
                response = litellm.stream_chunk_builder(chunks, messages=sent.get("messages"))
        # LiteLLM lets any class through: its own, openai's, httpx's, and KeyErrors of its translations
        except Exception as error:  # noqa: BLE001
            return Exchange(fault=self._fault(error))
        return self._exchange(protocol(request.terms.completion, lowered.reading), response)

    def _exchange(self, name: str, response: Any) -> Exchange:
        hidden = getattr(response, "_hidden_params", None) or {}
        headers = _plain(hidden.get("additional_headers") or {})
        stated = limits.read(headers, self._dialect, time.time())
        body = orjson.dumps(response.model_dump() if response is not None else None, default=str)
        answer = Answer(name, body)
        try:
            return Exchange(READERS[name](body), answer, None, stated)
        except BodyError as error:
            return Exchange(None, answer, Fault(FaultKind.MALFORMED, masked(str(error), self._secrets)), stated)

    def _fault(self, error: Exception) -> Fault:
        # some of its messages end with a traceback of its own
        text = str(error).partition("Traceback (most recent")[0].strip()
        litellm = self._litellm
        if isinstance(error, litellm.Timeout):
            return Fault(FaultKind.TIMEOUT, f"no answer within {self._endpoint.timeout:g} s")
        if "Unable to get json response" in text:
            return Fault(FaultKind.MALFORMED, masked(text, self._secrets)[:600])
        body, said = _body_of(text)
        status = getattr(error, "status_code", None)
        headers = dict(getattr(error, "litellm_response_headers", None) or {})
        # LiteLLM numbers broken connections 500, but no response's headers came with them
        if not said and not headers and (not isinstance(status, int) or status >= 500) and _is_of(error, litellm):
            return Fault(FaultKind.CONNECTION, masked(text, self._secrets)[:600])
        if not isinstance(status, int):
            # not an answer of the provider: a parameter that LiteLLM refuses, or a defect of its own
            return Fault(FaultKind.BAD_REQUEST, masked(f"{type(error).__name__}: {text}", self._secrets)[:600])
        return fault_of(status, headers, body, now=time.time(), secrets=self._secrets)

    async def close(self) -> None:
        """Closes LiteLLM's connections."""
        await self._litellm.close_litellm_async_clients()


def arguments(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """What LiteLLM is called with, without the key."""
    return _arguments(endpoint, request, _lowered(_litellm(), endpoint, request.terms))


def _arguments(endpoint: Endpoint, request: Request, lowered: Lowered) -> dict[str, Any]:
    terms = request.terms
    sent: dict[str, Any] = {"model": _model(endpoint)}
    sent |= {name: value for name, value in terms.params.items() if value is not None and name != "stream"}
    if request.seed is not None:
        sent["seed"] = request.seed
    if terms.completion:
        sent["prompt"] = request.prompt
    else:
        messages = [dict(message) for message in request.messages]
        sent["messages"] = instructed(messages, lowered.instruction) if lowered.instruction else messages
    if terms.tools and not terms.completion:
        sent["tools"] = [dict(tool) for tool in terms.tools]
        if terms.tool_choice is not None:
            sent["tool_choice"] = terms.tool_choice
    sent |= lowered.fields
    if endpoint.base_url:
        sent["api_base"] = endpoint.base_url
    if endpoint.headers:
        sent["extra_headers"] = dict(endpoint.headers)
    if endpoint.stream:
        sent |= {"stream": True, "stream_options": {"include_usage": True}}
    return sent


def _model(endpoint: Endpoint) -> str:
    return endpoint.model if endpoint.backend == "litellm" else f"{endpoint.backend}/{endpoint.model}"


def _lowered(litellm: ModuleType, endpoint: Endpoint, terms: Terms) -> Lowered:
    if terms.constraint is None:
        return Lowered()
    model = _model(endpoint)
    lowered = lower(terms.constraint, _structured(litellm, model), completion=terms.completion, tools=bool(terms.tools))
    if "response_format" in lowered.fields and lowered.instruction and not _takes(litellm, model, "response_format"):
        return Lowered({}, lowered.instruction, lowered.reading)
    return lowered


def _structured(litellm: ModuleType, model: str) -> Structured | Literal["tool"]:
    if litellm.supports_response_schema(model=model):
        return "strict"
    # of a model newer than its table LiteLLM says that it can do nothing; these providers' models all take tools
    takes_tools = litellm.supports_function_calling(model=model) or model.startswith(TOOL_TAKERS)
    return "tool" if takes_tools else "json"


def _takes(litellm: ModuleType, model: str, name: str) -> bool:
    return name in (litellm.get_supported_openai_params(model=model) or ())


def _plain(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower().removeprefix(PREFIX): str(value) for name, value in headers.items()}


def _is_of(error: Exception, litellm: ModuleType) -> bool:
    return isinstance(error, litellm.APIConnectionError | litellm.InternalServerError | litellm.ServiceUnavailableError)


def _body_of(text: str) -> tuple[bytes, bool]:
    """The provider's body in an exception's text, and whether it is one; otherwise the text."""
    start = text.find("{")
    end = text.rfind("}")
    if 0 <= start < end:
        body = text[start : end + 1].encode()
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            pass
        else:
            return body, True
    return text.encode(), False
