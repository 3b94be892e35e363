"""What counts as answered, as failed, as left to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synth_cli.core.ports import Judge
from synth_cli.core.reply import Answer, Reply
from synth_cli.core.request import Message
from synth_cli.core.row import Context
from synth_cli.core.state import History, Invalid, Standing, Unanswered, standing

Reask = Callable[[tuple[Message, ...], Reply, Invalid], tuple[Message, ...]]


@dataclass(frozen=True, slots=True)
class Policy:
    """Of one model of a step. `reask` makes the messages that show the model what was wrong."""

    max_retries: int
    retry_failed: bool
    judge: Judge
    read: Callable[[Answer], Reply]
    reask: Reask | None = None

    def standing(self, history: History, context: Context, *, asking: bool) -> Standing:
        """What is known of a request comes to this. `asking`: before it is asked, when `--retry-failed` has a say."""
        return standing(
            history,
            lambda reply: self.judge(context, reply),
            self.read,
            max_retries=self.max_retries,
            retry_failed=asking and self.retry_failed,
        )

    def again(self, messages: tuple[Message, ...], stands: Unanswered) -> tuple[Message, ...] | None:
        """A re-ask that was due when the last run ended, made again from what it knew."""
        if self.reask is None or stands.invalid is None or stands.latest is None:
            return None
        return self.reask(messages, self.read(stands.latest.answer), stands.invalid)
