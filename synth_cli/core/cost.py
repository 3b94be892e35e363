"""What tokens cost. Prices are USD per token; where they come from is not known here."""

from __future__ import annotations

from dataclasses import dataclass

from synth_cli.core.reply import Reply, Usage


@dataclass(frozen=True, slots=True)
class Price:
    """USD per token. What has no price of its own costs what its kind costs: cached as input, reasoning as output."""

    input: float
    output: float
    cached: float | None = None
    """Input read from the provider's cache."""
    cache_write: float | None = None
    """Input written to the provider's cache."""
    reasoning: float | None = None
    """Output spent on reasoning, where it is priced apart."""
    long_above: int | None = None
    """Input tokens from which the whole request is charged at `long`."""
    long: Price | None = None


def cost(usage: Usage, price: Price) -> float:
    """USD for one request."""
    if price.long is not None and price.long_above is not None and usage.input > price.long_above:
        price = price.long
    plain = usage.input - usage.cached - usage.cache_written
    total = max(plain, 0) * price.input + usage.output * price.output
    if usage.cached:
        total += usage.cached * (price.input if price.cached is None else price.cached)
    if usage.cache_written:
        total += usage.cache_written * (price.input if price.cache_write is None else price.cache_write)
    if usage.reasoning and price.reasoning is not None:
        total += usage.reasoning * (price.reasoning - price.output)
    return total


def charged(reply: Reply, price: Price | None) -> float | None:
    """USD for a reply: what the provider states, else by its usage; None where neither is known."""
    if reply.cost is not None or reply.usage is None or price is None:
        return reply.cost
    return cost(reply.usage, price)


def worst_case(input_bytes: int, max_output: int, price: Price | None) -> tuple[float, int]:
    """(USD, tokens) that one request may cost at most: no token is shorter than a byte. Without a price: 0 USD."""
    tokens = input_bytes + max_output
    if price is None:
        return 0.0, tokens
    if price.long is not None and price.long_above is not None and input_bytes > price.long_above:
        # the tokens may be fewer than the bytes and stay below the threshold: the dearer of the two holds
        return max(_dearest(input_bytes, max_output, price), _dearest(input_bytes, max_output, price.long)), tokens
    return _dearest(input_bytes, max_output, price), tokens


def _dearest(input_tokens: int, output_tokens: int, price: Price) -> float:
    per_input = max(price.input, price.cached or 0.0, price.cache_write or 0.0)
    per_output = max(price.output, price.reasoning or 0.0)
    return input_tokens * per_input + output_tokens * per_output
