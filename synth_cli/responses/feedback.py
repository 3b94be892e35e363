"""The conversation that shows a model what was wrong with its answer."""

from __future__ import annotations

from collections.abc import Sequence

from synth_cli.core.reply import Reply
from synth_cli.core.request import Message
from synth_cli.core.state import Invalid


def feedback(messages: Sequence[Message], reply: Reply, invalid: Invalid) -> tuple[Message, ...]:
    """The messages of a re-ask: the old ones, the answer, and why it was not valid.

    Without an answer the note goes into the last user turn: several providers refuse an empty assistant turn, and
    two user turns in a row.
    """
    note = f"Your answer is not valid: {invalid.reason}\nAnswer again, in full, with this put right. Do not explain."
    if reply.text and not reply.text.isspace():
        return (*messages, {"role": "assistant", "content": reply.text}, {"role": "user", "content": note})
    if messages and messages[-1].get("role") == "user":
        last = messages[-1]
        content = last.get("content")
        added = [*content, {"type": "text", "text": note}] if isinstance(content, list) else f"{content}\n\n{note}"
        return (*messages[:-1], {**last, "content": added})
    return (*messages, {"role": "user", "content": note})
