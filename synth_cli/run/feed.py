"""Rows → tasks, lazily: what the ledger already answers is left out, what is left is handed to the engine."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from synth_cli.compile.requests import Drafter
from synth_cli.core.ports import Judge, Ledger, Task
from synth_cli.core.reply import Answer, Fault, Reply
from synth_cli.core.request import Draft, Message, Request, identify
from synth_cli.core.row import Context, Row
from synth_cli.core.state import NOTHING, Answered, Failed, History, Invalid, Standing, Unanswered, standing
from synth_cli.core.work import stopped_by
from synth_cli.stores.worksheet import Worksheet

CHUNK = 128

Reask = Callable[[tuple[Message, ...], Reply, Invalid], tuple[Message, ...]]


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as left to do. `reask` makes the messages that show the model what was wrong."""

    max_retries: int
    retry_failed: bool
    epoch: int
    judge: Judge
    read: Callable[[Answer], Reply]
    reask: Reask | None = None
    batches: bool = False
    """Whether batches may be open: their requests are neither answered nor to be asked."""
    stop_on_failure: bool = False
    """The first row that is known to have failed ends the tasks; looking at all requests goes on."""

    def standing(self, history: History, context: Context, *, asking: bool) -> Standing:
        """What is known of a request comes to this. `asking`: before it is asked, when `--retry-failed` has a say."""
        return standing(
            history,
            lambda reply: self.judge(context, reply),
            self.read,
            max_retries=self.max_retries,
            retry_failed=asking and self.retry_failed,
        )


@dataclass(slots=True)
class Passed:
    """What has gone by so far: rows, the requests they make, and how those stood before this run."""

    rows: int = 0
    requests: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    """Rows that could not even be drafted."""
    complete: bool = False
    pending: int = 0
    """Requests in open batches."""
    stopped: str = ""
    """Why the feed ended before the input did."""


class Feed:
    """The tasks of one step. Each row is noted in the worksheet with its requests, for the second pass.

    `only`: the indexes of the rows that are wanted; the others are drafted to tell those apart from their equals.
    """

    def __init__(
        self,
        step: str,
        rows: Iterator[Row],
        *,
        drafter: Drafter,
        worksheet: Worksheet,
        ledger: Ledger,
        policy: Policy,
        only: Container[int] | None = None,
    ) -> None:
        self._step = step
        self._rows = rows
        self._drafter = drafter
        self._worksheet = worksheet
        self._ledger = ledger
        self._policy = policy
        self._only = only
        self._stopping = False
        self._refusal = ""
        self.passed = Passed()
        self.pending: Set[bytes] = frozenset()
        """Of the requests that are passing now, those in open batches."""

    def __iter__(self) -> Iterator[Task]:
        self._stopping = self._policy.stop_on_failure
        for request, row, sample, history in self.requests():
            if request.id in self.pending:
                continue
            task = self._task(request, Context(row, sample), history)
            if self.passed.stopped:
                return
            if task is not None:
                yield task

    def requests(self) -> Iterator[tuple[Request, Row, int, History]]:
        """Every request with what is known of it, in input order."""
        while chunk := list(islice(self._rows, CHUNK)):
            yield from self._chunk(chunk)
            if self.passed.stopped:
                return
        self.passed.complete = True

    def _chunk(self, rows: Sequence[Row]) -> Iterator[tuple[Request, Row, int, History]]:
        drafted = self._before_refusal([(row, self._drafter.drafts(row)) for row in rows])
        drafts = [(row, draft) for row, made in drafted if not isinstance(made, Fault) for draft in made]
        requests = self._identify([draft for _, draft in drafts])
        if self._only is not None:
            drafted = [one for one in drafted if one[0].index in self._only]
            kept = [pair for pair in zip(drafts, requests, strict=True) if pair[0][0].index in self._only]
            drafts, requests = [one for one, _ in kept], [request for _, request in kept]
        refused = self._note(drafted, requests)
        ids = [request.id for request in requests]
        histories = self._ledger.histories(ids)
        passed = self.passed
        passed.rows += len(drafted)
        passed.refused += refused
        passed.requests += len(requests)
        self.pending = self._ledger.pending(ids) if self._policy.batches else frozenset()
        passed.pending += len(self.pending)
        for (row, draft), request in zip(drafts, requests, strict=True):
            yield request, row, draft.sample, histories.get(request.id, NOTHING)
        self.passed.stopped = self.passed.stopped or self._refusal

    def _before_refusal(
        self, drafted: list[tuple[Row, tuple[Draft, ...] | Fault]]
    ) -> list[tuple[Row, tuple[Draft, ...] | Fault]]:
        """All rows; or, where a failure stops the run, those up to and with the first that cannot be asked."""
        if self._stopping:
            for position, (row, made) in enumerate(drafted):
                if isinstance(made, Fault) and (self._only is None or row.index in self._only):
                    self._refusal = stopped_by(row, made)
                    return drafted[: position + 1]
        return drafted

    def _note(self, drafted: Sequence[tuple[Row, tuple[Draft, ...] | Fault]], requests: Sequence[Request]) -> int:
        """Writes the rows and what they became into the worksheet; returns how many could not be drafted."""
        worksheet, ids = self._worksheet, iter(requests)
        positions = worksheet.add([row for row, _ in drafted], step=self._step)
        bound, refused = [], []
        for position, (_, made) in zip(positions, drafted, strict=True):
            if isinstance(made, Fault):
                refused.append((position, made))
            else:
                bound.append((position, [next(ids).id for _ in made]))
        worksheet.bind(bound, step=self._step)
        if refused:
            worksheet.fail(refused, step=self._step)
        return len(refused)

    def _identify(self, drafts: Sequence[Draft]) -> list[Request]:
        contents = [draft.content(self._policy.epoch) for draft in drafts]
        draws = self._worksheet.tally(contents, space=self._step)
        return [identify(*three) for three in zip(drafts, contents, draws, strict=True)]

    def _task(self, request: Request, context: Context, history: History) -> Task | None:
        if history is NOTHING:
            return Task(request, context)
        stands = self._policy.standing(history, context, asking=True)
        if isinstance(stands, Answered):
            self.passed.answered += 1
            return None
        if isinstance(stands, Failed):
            self.passed.failed += 1
            if self._stopping:
                self.passed.stopped = stopped_by(context.row, stands.cause)
            return None
        return Task(
            request,
            context,
            attempt=history.tries + 1,
            counted=history.attempts,
            messages=self._messages(request, stands),
        )

    def _messages(self, request: Request, stands: Unanswered) -> tuple[Message, ...] | None:
        """A re-ask that was due when the last run ended is made again from what it knew."""
        if self._policy.reask is None or stands.invalid is None or stands.latest is None:
            return None
        reply = self._policy.read(stands.latest.answer)
        return self._policy.reask(request.messages, reply, stands.invalid)
