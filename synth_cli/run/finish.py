"""The second pass: rows in input order, joined by id with what the ledger holds, shaped into output rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from synth_cli.compile.requests import Drafter
from synth_cli.core.events import Faulted, Outcome, Replied
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Message
from synth_cli.core.row import Context, Finished, Row, Sampled
from synth_cli.core.state import NOTHING, Answered, Failed, History, Invalid, Unanswered
from synth_cli.outputs.candidate import Sink
from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.turns import Dropped
from synth_cli.report.causes import Causes, Drops
from synth_cli.responses.shape import Shaper
from synth_cli.run.feed import Policy
from synth_cli.run.sharding import Shard
from synth_cli.stores.ledger import SqliteLedger
from synth_cli.stores.worksheet import Worksheet

CHUNK = 128
SHOWN = 256
"""Characters of a data URL that failed.jsonl shows."""
NOT_ASKED = Fault(FaultKind.MISSING, "not answered yet; run again to ask")


@dataclass(slots=True)
class Counts:
    """What became of the rows: `rows_in`, `failed`, `kept` and `unasked` count input rows, the others output rows."""

    rows_in: int = 0
    rows_out: int = 0
    filtered: int = 0
    reused: int = 0
    """Answers that were there before this run."""
    succeeded: int = 0
    """Of which at least one answer came and was valid."""
    failed: int = 0
    kept: int = 0
    """Failed, and in the output all the same."""
    unasked: int = 0
    """Failed only because some of their requests have not been asked yet."""
    causes: Causes = field(default_factory=Causes)
    drops: Drops = field(default_factory=Drops)


@dataclass(frozen=True, slots=True)
class Second:
    """All that the second pass needs of a step."""

    step: str
    drafter: Drafter
    shaper: Shaper
    policy: Policy
    worksheet: Worksheet
    ledger: SqliteLedger
    needs_messages: bool
    """Whether anybody reads the messages really sent (`_synth`, `reply.messages`)."""
    started: float = 0.0
    """When the run began, in seconds since the epoch."""

    def rows(self) -> Iterator[tuple[Row, Sequence[Sampled], Finished]]:
        """Each input row in order with its samples and what they became."""
        rows = self.worksheet.rows(self.step)
        while chunk := list(islice(rows, CHUNK)):
            yield from self._chunk(chunk)

    def _chunk(
        self, chunk: Sequence[tuple[Row, Sequence[bytes], Fault | None]]
    ) -> Iterator[tuple[Row, Sequence[Sampled], Finished]]:
        histories = self.ledger.histories([id for _, ids, _ in chunk for id in ids])
        for row, ids, refused in chunk:
            if refused is not None:
                sampled = [Sampled(b"", 0, cause=refused)]
            else:
                sampled = [self._sampled(row, sample, id, histories.get(id, NOTHING)) for sample, id in enumerate(ids)]
            yield row, sampled, self.shaper.finish(row, sampled)

    def _sampled(self, row: Row, sample: int, id: bytes, history: History) -> Sampled:
        stands = self.policy.standing(history, Context(row, sample), asking=False)
        attempts = len(history.replies) + len(history.faults)
        if isinstance(stands, Answered):
            replied = stands.replied
            messages = self._messages(row, sample, replied) if self.needs_messages else ()
            return Sampled(id, sample, stands.value, stands.reply, replied, attempts=attempts, messages=messages)
        if isinstance(stands, Failed):
            return Sampled(id, sample, cause=stands.cause, attempts=attempts)
        return Sampled(id, sample, cause=NOT_ASKED, attempts=attempts)

    def _messages(self, row: Row, sample: int, replied: Replied | None) -> tuple[Message, ...]:
        if replied is not None and replied.messages is not None:
            return replied.messages
        drafts = self.drafter.drafts(row)
        if isinstance(drafts, Fault):
            return ()
        draft = drafts[sample]
        return draft.messages if draft.prompt is None else ({"role": "user", "content": draft.prompt},)

    def failure(self, row: Row, sampled: Sampled, cause: Fault | Invalid) -> bytes:
        """One line of failed.jsonl: the row, its messages, and the real error of each attempt."""
        # a row whose request could not be made has none
        outcomes = self.ledger.attempts(sampled.request_id) if sampled.request_id else ()
        attempts = [self._attempt(row, sampled.sample, outcome) for outcome in outcomes]
        line = {
            "row": row.values,
            "index": row.index,
            "sample": sampled.sample,
            "request_id": sampled.request_id.hex() or None,
            "error": str(cause),
            "messages": [_shortened(message) for message in self._messages(row, sampled.sample, None)],
            "attempts": attempts,
        }
        return orjson.dumps(line, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)

    def _attempt(self, row: Row, sample: int, outcome: Outcome) -> Mapping[str, Any]:
        common = {"attempt": outcome.attempt, "at": outcome.at, "latency": round(outcome.latency, 6)}
        if isinstance(outcome, Faulted):
            raw = outcome.answer.body.decode(errors="replace") if outcome.answer is not None else None
            fault = outcome.fault
            return {**common, "error": str(fault), "status": fault.status, "raw": raw}
        reply = self.policy.read(outcome.answer)
        verdict = self.policy.judge(Context(row, sample), reply)
        error = str(verdict) if isinstance(verdict, Invalid) else None
        return {
            **common,
            "error": error,
            "answer": reply.text,
            "finish_reason": reply.finish_reason,
            "raw": outcome.answer.body.decode(errors="replace"),
        }

    def given_up(self, *, tried: bool) -> Iterator[tuple[Row, Sampled, Fault | Invalid]]:
        """What failed for good; with `tried` also what was asked and is not answered."""
        for row, ids, refused in self.worksheet.rows(self.step):
            if refused is not None:
                yield row, Sampled(b"", 0, cause=refused), refused
                continue
            for sample, (id, history) in enumerate(zip(ids, self._histories(ids), strict=True)):
                stands = self.policy.standing(history, Context(row, sample), asking=False)
                cause: Fault | Invalid | None = None
                if isinstance(stands, Failed):
                    cause = stands.cause
                elif isinstance(stands, Unanswered) and tried:
                    cause = history.faults[-1].fault if history.faults else stands.invalid
                if cause is not None:
                    yield row, Sampled(id, sample, cause=cause), cause

    def _histories(self, ids: Sequence[bytes]) -> list[History]:
        known = self.ledger.histories(ids)
        return [known.get(id, NOTHING) for id in ids]


def note_failures(second: Second, failed: Path, *, tried: bool) -> Counts:
    """Writes failed.jsonl of a run that ended before all was asked; counts nothing but the failures."""
    counts, row_before = Counts(), -1
    with failed.open("wb") as failures:
        for row, sampled, cause in second.given_up(tried=tried):
            counts.failed += row.index != row_before
            row_before = row.index
            counts.causes.add(cause)
            failures.write(second.failure(row, sampled, cause))
    if not counts.failed:
        failed.unlink()
    return counts


def write(
    second: Second, sinks: Sequence[Sink], failed: Path, formatter: Formatter, shard: Shard | None = None
) -> Counts:
    """Writes the candidates' rows, in their format, and failed.jsonl; memory stays flat."""
    counts = Counts()
    pending: list[Mapping[str, Any]] = []
    with failed.open("wb") as failures:
        for row, sampled, finished in second.rows():
            counts.rows_in += 1
            counts.filtered += finished.filtered
            counts.reused += sum(one.replied is not None and one.replied.at < second.started for one in sampled)
            counts.succeeded += len(finished.failures) < len(sampled)
            made = _formatted(finished.rows, formatter, row.index, counts.drops)
            counts.rows_out += len(made)
            pending.extend(made if shard is None else shard.marked(row.index, made))
            if finished.failures:
                counts.failed += 1
                counts.kept += bool(made)
                counts.unasked += all(cause is NOT_ASKED for _, cause in finished.failures)
                by_sample = {one.sample: one for one in sampled}
                for sample, cause in finished.failures:
                    counts.causes.add(cause)
                    failures.write(second.failure(row, by_sample[sample], cause))
            if len(pending) >= CHUNK:
                _flush(sinks, pending)
        _flush(sinks, pending)
    if not counts.failed:
        failed.unlink()
    return counts


def _formatted(
    rows: Sequence[Mapping[str, Any]], formatter: Formatter, index: int, drops: Drops
) -> list[Mapping[str, Any]]:
    made: list[Mapping[str, Any]] = []
    for row in rows:
        shaped = formatter.shape(row)
        if isinstance(shaped, Dropped):
            drops.add(shaped.reason, index)
        else:
            made.append(shaped)
    return made


def _flush(sinks: Sequence[Sink], rows: list[Mapping[str, Any]]) -> None:
    for sink in sinks:
        sink.write(rows)
    rows.clear()


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
