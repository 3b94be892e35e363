"""What templates see of a reply, and what `_synth` keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synth_cli.core.reply import Reply, Usage
from synth_cli.core.request import Message


def reply_view(reply: Reply, *, cost: float | None, messages: Sequence[Message] | None = None) -> dict[str, Any]:
    """`reply` in templates. `messages` is missing where nobody knows them (in `check`)."""
    view: dict[str, Any] = {
        "finish_reason": reply.finish_reason,
        "reasoning": reply.reasoning,
        "model": reply.model,
        "tool_calls": list(reply.tool_calls),
        "logprobs": reply.logprobs,
        "usage": usage_view(reply.usage),
        "cost": cost,
        "raw": reply.raw,
    }
    if messages is not None:
        view["messages"] = list(messages)
    return view


def usage_view(usage: Usage | None) -> Mapping[str, int] | None:
    """Tokens as charged; `input` includes `cached`, `output` includes `reasoning`."""
    if usage is None:
        return None
    return {
        "input": usage.input,
        "output": usage.output,
        "total": usage.input + usage.output,
        "cached": usage.cached,
        "cache_written": usage.cache_written,
        "reasoning": usage.reasoning,
    }
