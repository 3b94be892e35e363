"""failed.jsonl: a line for each sample that failed, with its row, its messages, and each attempt's real error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

import orjson

from synth_cli.core.events import Faulted, Outcome
from synth_cli.core.reply import Fault
from synth_cli.core.request import Message
from synth_cli.core.row import Context, Row, Sampled
from synth_cli.core.state import Invalid
from synth_cli.outputs.encode import readable
from synth_cli.run.stage import EachStage, ModelStage
from synth_cli.stores.ledger import SqliteLedger

SHOWN = 256
"""Characters of a data URL that failed.jsonl shows."""


class Failures:
    """Writes the lines; the attempts are the ledger's."""

    def __init__(self, file: IO[bytes], ledger: SqliteLedger) -> None:
        self._file = file
        self._ledger = ledger

    def asked(self, stage: ModelStage, row: Row, sampled: Sampled, cause: Fault | Invalid) -> None:
        """A sample of a step with a model: the attempts of all the requests that it took."""
        # a row whose request could not be made has none
        attempts = [
            attempt(stage, row, sampled.sample, voice, outcome)
            for id, voice in requests_of(stage, sampled)
            for outcome in self._ledger.attempts(id)
        ]
        self._write(stage.name, row, sampled, cause, messages=stage.messages(row, sampled), attempts=attempts)

    def computed(self, stage: EachStage, row: Row, cause: Fault | Invalid) -> None:
        """A row of a step without a model."""
        self._write(stage.name, row, Sampled(b"", 0, cause=cause), cause)

    def _write(
        self,
        step: str,
        row: Row,
        sampled: Sampled,
        cause: Fault | Invalid,
        *,
        messages: Sequence[Message] = (),
        attempts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        line = {
            "step": step,
            "row": row.values,
            "index": row.index,
            "sample": sampled.sample,
            "request_id": sampled.request_id.hex() or None,
            "error": str(cause),
            "messages": [_shortened(message) for message in messages],
            "attempts": attempts,
        }
        self._file.write(readable(line, _plain, orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE))


def requests_of(stage: ModelStage, sampled: Sampled) -> list[tuple[bytes, int]]:
    """(id, whom it asked) of the requests that a sample took, as far as there were any."""
    if sampled.requests:
        return [(id, voice) for id, (voice, _) in zip(sampled.requests, sampled.asked, strict=True)]
    return [(sampled.request_id, stage.plan.members[sampled.sample])] if sampled.request_id else []


def attempt(stage: ModelStage, row: Row, sample: int, voice: int, outcome: Outcome) -> Mapping[str, Any]:
    """One attempt of a request of a sample that failed, as failed.jsonl shows it."""
    common: dict[str, Any] = {"attempt": outcome.attempt, "at": outcome.at, "latency": round(outcome.latency, 6)}
    if len(stage.plan.voices) > 1:
        common["model"] = stage.plan.voices[voice].title
    if isinstance(outcome, Faulted):
        raw = outcome.answer.body.decode(errors="replace") if outcome.answer is not None else None
        fault = outcome.fault
        return {**common, "error": str(fault), "status": fault.status, "raw": raw}
    policy = stage.policies[voice]
    reply = policy.read(outcome.answer)
    verdict = policy.judge(Context(row, sample), reply)
    error = str(verdict) if isinstance(verdict, Invalid) else None
    return {
        **common,
        "error": error,
        "answer": reply.text,
        "finish_reason": reply.finish_reason,
        "raw": outcome.answer.body.decode(errors="replace"),
    }


def _shortened(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_short_part(part) for part in content]}


def _short_part(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {key: _short_part(value) for key, value in part.items()}
    if isinstance(part, str) and part.startswith("data:") and len(part) > SHOWN:
        return f"{part[:64]}… ({len(part)} characters)"
    return part


def _plain(value: Any) -> str:
    return f"<{type(value).__name__}>"
