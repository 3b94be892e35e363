"""What tokens cost in batches, where the table of prices does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from synth_cli.core.cost import Price
from synth_cli.providers import prices

DISCOUNTS: Mapping[str, float] = {
    "openai": 0.5,  # https://platform.openai.com/docs/guides/batch
    "azure": 0.5,  # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch
    "anthropic": 0.5,  # https://docs.anthropic.com/en/docs/build-with-claude/batch-processing
    "gemini": 0.5,  # https://ai.google.dev/gemini-api/docs/batch-api
    "mistral": 0.5,  # https://docs.mistral.ai/capabilities/batch
    "groq": 0.5,  # https://console.groq.com/docs/batch
    "fireworks_ai": 0.5,  # https://docs.fireworks.ai/guides/batch-inference
    "dashscope": 0.5,  # https://www.alibabacloud.com/help/en/model-studio/batch-inference
}
"""Share of the online price that all of a provider's models cost. Together's discount is for some models only, a
proxy's whatever stands behind it: they are counted at the online price, which is never too little."""


def batch_price(
    backend: str, model: str, *, in_mtok: float | None = None, out_mtok: float | None = None
) -> Price | None:
    """USD per token in a batch; None where no price is known.

    What the user gives (USD per million) is taken as it is: whoever knows the price knows what it is for.
    """
    return prices.stated(_known(backend, model), in_mtok, out_mtok)


def _known(backend: str, model: str) -> Price | None:
    online = prices.price(backend, model)
    if online is None:
        return None
    if not prices.listed(backend, model, "batches"):
        return _times(online, DISCOUNTS.get(backend, 1.0))
    found = prices.price(backend, model, tier="batches")
    if found is None or online.long is None or found.long is not None or not online.input:
        return found
    # the table has no batch price of long inputs: they cost as much more as they do online
    return replace(found, long_above=online.long_above, long=_times(online.long, found.input / online.input))


def _times(price: Price, share: float) -> Price:
    def part(value: float | None) -> float | None:
        return None if value is None else value * share

    return replace(
        price,
        input=price.input * share,
        output=price.output * share,
        cached=part(price.cached),
        cache_write=part(price.cache_write),
        reasoning=part(price.reasoning),
        long=None if price.long is None else _times(price.long, share),
    )
