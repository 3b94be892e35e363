"""LiteLLM's table of models, read from its file without importing LiteLLM: prices, context windows, providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from synth_cli.core.cost import Price

Tier: TypeAlias = Literal["", "batches", "flex", "priority"]

FILE = "model_prices_and_context_window_backup.json"

BARE: tuple[tuple[str, str], ...] = (
    (r"^(ft:)?(gpt-|chatgpt-|o[1-9]([-.]|$)|davinci-|babbage-)", "openai"),
    (r"^claude-", "anthropic"),
    (r"^(gemini|gemma)-", "gemini"),
    (r"^command-", "cohere"),
    (r"^deepseek-(chat|reasoner|coder)", "deepseek"),
    (r"^(open-)?(mistral|mixtral|ministral|magistral|codestral|devstral|pixtral)-", "mistral"),
    (r"^grok-", "xai"),
    (r"^sonar", "perplexity"),
)
"""Names that are their maker's; the table gives some of them to a cloud that only resells them."""

_TIER = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")
# providers that serve text but have no model of their own in the table
_UNLISTED = frozenset(
    {"bedrock", "bedrock_converse", "vertex_ai", "sagemaker", "sagemaker_chat", "huggingface", "predibase", "triton"}
    | {"xinference", "oobabooga", "petals", "litellm_proxy", "github", "langgraph", "openai_like", "clarifai"}
)


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    found = find_spec("litellm")
    if found is None or not found.submodule_search_locations:
        return {}
    try:
        data = orjson.loads((Path(found.submodule_search_locations[0]) / FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return {name: entry for name, entry in data.items() if isinstance(entry, dict) and name != "sample_spec"}


@cache
def providers() -> frozenset[str]:
    """Every provider that LiteLLM has a model of."""
    names = (str(entry.get("litellm_provider", "")) for entry in _table().values())
    return _UNLISTED | {name.split("-")[0] if name.startswith("vertex_ai") else name for name in names if name}


def provider_of_bare(model: str) -> str | None:
    """The provider of a model that is named without one."""
    for pattern, provider in BARE:
        if re.search(pattern, model):
            return provider
    entry = _table().get(model)
    provider = str(entry.get("litellm_provider", "")) if entry else ""
    if not provider:
        return None
    return "vertex_ai" if provider.startswith("vertex_ai") else provider.removeprefix("text-completion-")


def _entry(backend: str, model: str) -> Mapping[str, Any] | None:
    table = _table()
    if backend == "litellm":
        backend, _, model = model.partition("/")
    found = table.get(f"{backend}/{model}")
    if found is not None:
        return found
    bare = table.get(model)
    if bare is not None:
        provider = str(bare.get("litellm_provider", ""))
        if provider.removeprefix("text-completion-").split("-")[0].startswith(backend):
            return bare
    # a dated or fine-tuned name costs what its base costs
    shorter = re.sub(r"-\d{4}-?\d{2}-?\d{2}$", "", model)
    return _entry(backend, shorter) if shorter != model else None


def price(
    backend: str, model: str, *, in_mtok: float | None = None, out_mtok: float | None = None, tier: Tier = ""
) -> Price | None:
    """USD per token: what the user says (USD per million) over the table; None where neither knows.

    Where a tier has no price of its own, the standard one holds.
    """
    if backend == "simulator":
        return stated(Price(0.0, 0.0), in_mtok, out_mtok)
    entry = _entry(backend, model)
    found = ((_price(entry, f"_{tier}") if tier else None) or _price(entry, "")) if entry else None
    return stated(found, in_mtok, out_mtok)


def stated(found: Price | None, in_mtok: float | None, out_mtok: float | None) -> Price | None:
    """What the user says (USD per million) over the table; None where half of it is known to neither."""
    if in_mtok is not None and out_mtok is not None:
        return Price(in_mtok / 1e6, out_mtok / 1e6)
    if found is None or (in_mtok is None and out_mtok is None):
        return found
    if in_mtok is not None:
        return Price(in_mtok / 1e6, found.output, reasoning=found.reasoning)
    assert out_mtok is not None
    return Price(found.input, out_mtok / 1e6, found.cached, found.cache_write)


def listed(backend: str, model: str, tier: Tier) -> bool:
    """Whether the table has a price of this tier's own."""
    entry = _entry(backend, model)
    return entry is not None and _price(entry, f"_{tier}" if tier else "") is not None


def _price(entry: Mapping[str, Any], tier: str) -> Price | None:
    entered, left = _number(entry, "input_cost_per_token" + tier), _number(entry, "output_cost_per_token" + tier)
    if entered is None or left is None:
        return None
    above, long = None, None
    if not tier:
        tiers = sorted(int(match[1]) for match in map(_TIER.match, entry) if match)
        if tiers:
            above = tiers[0] * 1000
            long = _price(entry, f"_above_{tiers[0]}k_tokens")
    return Price(
        entered,
        left,
        cached=_number(entry, "cache_read_input_token_cost" + tier),
        cache_write=_number(entry, "cache_creation_input_token_cost" + tier),
        reasoning=None if tier else _number(entry, "output_cost_per_reasoning_token"),
        long_above=above if long else None,
        long=long,
    )


def max_output_tokens(backend: str, model: str) -> int | None:
    """Most tokens that the model can put out; None where the table does not say."""
    entry = _entry(backend, model)
    return _whole(entry, "max_output_tokens") or _whole(entry, "max_tokens") if entry else None


def context_window(backend: str, model: str) -> int | None:
    """Most tokens that the model takes in; None where the table does not say."""
    entry = _entry(backend, model)
    return _whole(entry, "max_input_tokens") if entry else None


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(entry: Mapping[str, Any], name: str) -> int | None:
    value = _number(entry, name)
    return int(value) if value else None
