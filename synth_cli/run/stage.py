"""The steps of a job as its rows meet them: what a row asks in a step, and what is known of that.

A stage reads the ledger and decides nothing about asking: a pass over the job (`passage`) and the answers that come in
(`flow`) both ask it how a row stands.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias, TypedDict

from synth_cli.compile.plan import StepPlan
from synth_cli.compile.script import Past, Script
from synth_cli.core.ports import Ledger
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Draft, Draw, Message, Request, apart, identify
from synth_cli.core.row import Context, Finished, Row, Sampled
from synth_cli.core.state import NOTHING, Answered, Failed, History, Unanswered
from synth_cli.core.work import Rules
from synth_cli.responses.shape import Shaper
from synth_cli.run.policy import Policy
from synth_cli.steps import Each, Whole
from synth_cli.stores.spool import Spool
from synth_cli.stores.worksheet import Worksheet


@dataclass(frozen=True, slots=True)
class Open:
    """A request that is still to be asked, or is in an open batch (`pending`)."""

    request: Request
    draft: Draft
    history: History
    stands: Unanswered
    past: tuple[Past, ...] = ()
    pending: bool = False
    attempts: int = 0
    """Of the sample's earlier requests."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A row at a step with a model: each of its samples is settled, or open."""

    row: Row
    ids: tuple[bytes, ...]
    """Of the first request of each sample; none where the row cannot be asked."""
    samples: tuple[Sampled | Open, ...]
    refused: Fault | None = None
    requests: tuple[Request, ...] = ()
    """The first of each sample, where they were made for this pass."""

    @property
    def open(self) -> bool:
        return any(isinstance(one, Open) for one in self.samples)


@dataclass(frozen=True, slots=True)
class Begun:
    """A row and the first requests of its samples, told apart from their equals; or why there are none."""

    row: Row
    drafts: tuple[Draft, ...] = ()
    requests: tuple[Request, ...] = ()
    ids: tuple[bytes, ...] = ()
    refused: Fault | None = None


@dataclass(frozen=True)
class ModelStage:
    """A step that asks models. `policies` and `rules` are those of the plan's voices, in their order.

    `tallied`: nothing was answered before its rows, so that equal requests are told apart by counting them in the
    order of the input. `wanted` has the indexes of the rows that this run is about; the others are only counted.
    """

    plan: StepPlan
    script: Script
    policies: tuple[Policy, ...]
    rules: tuple[Rules, ...]
    shaper: Shaper
    ledger: Ledger
    worksheet: Worksheet
    epoch: int
    tallied: bool
    batches: bool
    """Whether requests may be in open batches."""
    wanted: Container[int] | None = None
    salt: int = 0
    """How many steps before this one may ask the very same of the same rows."""
    ways: frozenset[str] = frozenset()
    """Sources of which a row may have come from an earlier one already."""

    @cached_property
    def name(self) -> str:
        return self.plan.name

    @cached_property
    def stops(self) -> bool:
        """Whether the first failed row ends the run."""
        return self.plan.step.on_failure == "stop"

    def begin(self, rows: Sequence[Row], *, space: str) -> list[Begun]:
        """The first requests of these rows. Those of tallied rows are counted under `space`, and come in order."""
        drafted = [(row, self.script.drafts(row)) for row in rows]
        drafts = [(row, draft) for row, made in drafted if not isinstance(made, Fault) for draft in made]
        contents = [draft.content(self.epoch) for _, draft in drafts]
        draws: Sequence[Draw] = [row.id for row, _ in drafts]
        if self.tallied:
            draws = self.worksheet.tally(contents, space=space)
        if self.salt:
            draws = [apart(draw, self.salt) for draw in draws]
        pairs = zip(drafts, contents, draws, strict=True)
        made = iter([identify(draft, content, draw) for (_, draft), content, draw in pairs])
        begun: list[Begun] = []
        for row, own in drafted:
            if isinstance(own, Fault):
                begun.append(Begun(row, refused=own))
                continue
            requests = tuple([next(made) for _ in own])
            begun.append(Begun(row, own, requests, tuple([request.id for request in requests])))
        if self.wanted is not None:
            begun = [one for one in begun if one.row.index in self.wanted]
        return begun

    def look(self, begun: Sequence[Begun], *, asking: bool) -> list[Seen]:
        """How these rows stand. `asking`: before they are asked, when `--retry-failed` has a say."""
        ids = [id for one in begun for id in one.ids]
        histories = self.ledger.histories(ids)
        pending = self.ledger.pending(ids) if self.batches else frozenset()
        seen: list[Seen] = []
        for one in begun:
            if one.refused is not None:
                seen.append(Seen(one.row, (), (Sampled(b"", 0, cause=one.refused),), one.refused))
                continue
            whole = self._drafted(one) if self.plan.several and not one.drafts else one
            samples = [
                self._sample(whole, sample, histories.get(id, NOTHING), pending, asking)
                for sample, id in enumerate(whole.ids)
            ]
            seen.append(Seen(one.row, one.ids, tuple(samples), None, one.requests))
        return seen

    def _drafted(self, begun: Begun) -> Begun:
        """A row of which only the ids were kept."""
        drafts = self.script.drafts(begun.row)
        if isinstance(drafts, Fault):
            return replace(begun, ids=(), refused=drafts)
        requests = [
            Request(id, draft.terms, draft.messages, draft.prompt) for id, draft in zip(begun.ids, drafts, strict=True)
        ]
        return replace(begun, drafts=drafts, requests=tuple(requests))

    def _sample(self, begun: Begun, sample: int, history: History, pending: Set[bytes], asking: bool) -> Sampled | Open:
        if self.plan.several:
            return self.walk(begun.row, begun.drafts[sample], begun.requests[sample], history, asking=asking)
        id, row = begun.ids[sample], begun.row
        if history is NOTHING:
            stands: Answered | Failed | Unanswered = NEVER
        else:
            policy = self.policies[self.plan.members[sample]]
            stands = policy.standing(history, Context(row, sample), asking=asking)
        attempts = len(history.replies) + len(history.faults)
        if isinstance(stands, Answered):
            messages = self._sent(begun, sample, stands) if self.shaper.needs_messages else ()
            return Sampled(id, sample, stands.value, stands.reply, stands.replied, attempts=attempts, messages=messages)
        if isinstance(stands, Failed):
            return Sampled(id, sample, cause=stands.cause, attempts=attempts)
        if not begun.requests:
            begun = self._drafted(begun)
        return Open(begun.requests[sample], begun.drafts[sample], history, stands, pending=id in pending)

    def _sent(self, begun: Begun, sample: int, stands: Answered) -> tuple[Message, ...]:
        if stands.replied.messages is not None:
            return stands.replied.messages
        drafts = begun.drafts or self.script.drafts(begun.row)
        return () if isinstance(drafts, Fault) else written(drafts[sample])

    def walk(
        self,
        row: Row,
        draft: Draft,
        request: Request,
        history: History | None,
        *,
        past: tuple[Past, ...] = (),
        attempts: int = 0,
        asking: bool,
    ) -> Sampled | Open:
        """From one request of a sample on, as far as its answers are known."""
        while True:
            if history is None:
                history = self.ledger.histories([request.id]).get(request.id, NOTHING)
            stands = self._standing(row, draft, request, history, past, asking=asking)
            if isinstance(stands, Unanswered):
                pending = self.batches and bool(self.ledger.pending([request.id]))
                return Open(request, draft, history, stands, past, pending, attempts)
            attempts += len(history.replies) + len(history.faults)
            valid = isinstance(stands, Answered)
            past = (*past, Past(draft, valid, stands.value if isinstance(stands, Answered) else None, request.id))
            following = self.script.following(row, past)
            if following is None:
                return self._ended(row, request, draft, stands, past=past, attempts=attempts)
            if isinstance(following, Fault):
                sent = written(draft)
                return Sampled(
                    request.id, draft.sample, cause=following, attempts=attempts, messages=sent, **gone_through(past)
                )
            draft, history = following, None
            request = identify(draft, draft.content(self.epoch), request.id)

    def _standing(
        self, row: Row, draft: Draft, request: Request, history: History, past: tuple[Past, ...], *, asking: bool
    ) -> Answered | Failed | Unanswered:
        if history is NOTHING:
            return NEVER
        stands = self.policies[draft.voice].standing(history, Context(row, draft.sample), asking=asking)
        if isinstance(stands, Unanswered) and self.plan.fallbacks and self._stood_in(row, draft, request, past):
            # somebody else has answered since: that is not to be paid for again
            return Failed(stands.invalid or STOOD_IN, history)
        return stands

    def _stood_in(self, row: Row, draft: Draft, request: Request, past: tuple[Past, ...]) -> bool:
        """Whether a fallback has a valid answer to this."""
        while True:
            past = (*past, Past(draft, False))
            following = self.script.following(row, past)
            if not isinstance(following, Draft) or following.voice not in self.plan.fallbacks:
                return False
            request, draft = identify(following, following.content(self.epoch), request.id), following
            known = self.ledger.histories([request.id]).get(request.id, NOTHING)
            if known is not NOTHING:
                stands = self.policies[draft.voice].standing(known, Context(row, draft.sample), asking=False)
                if isinstance(stands, Answered):
                    return True

    def _ended(
        self,
        row: Row,
        request: Request,
        draft: Draft,
        stands: Answered | Failed,
        *,
        past: tuple[Past, ...],
        attempts: int,
    ) -> Sampled:
        if isinstance(stands, Failed):
            return Sampled(
                request.id,
                draft.sample,
                cause=stands.cause,
                attempts=attempts,
                messages=written(draft),
                **gone_through(past),
            )
        sent = stands.replied.messages
        return Sampled(
            request.id,
            draft.sample,
            self.script.value(row, past),
            stands.reply,
            stands.replied,
            attempts=attempts,
            messages=written(draft) if sent is None else sent,
            **gone_through(past),
        )

    def messages(self, row: Row, sampled: Sampled) -> tuple[Message, ...]:
        """What is sent for a sample, as far as that can be made again."""
        if sampled.messages:
            return sampled.messages
        drafts = self.script.drafts(row)
        return () if isinstance(drafts, Fault) else written(drafts[sampled.sample])


@dataclass(frozen=True)
class EachStage:
    """A step that makes rows of each row, without a model."""

    plan: StepPlan
    each: Each
    ways: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def stops(self) -> bool:
        return self.plan.step.on_failure == "stop"

    def finish(self, row: Row) -> Finished:
        return self.each.finish(row)


@dataclass(frozen=True)
class WholeStage:
    """A step that needs all rows of the steps before it. `whole` goes over them anew in each pass.

    `kept` says where the rows are kept that it made of those of this digest, for the passes, ticks and runs of a round:
    a function of the user's may give other rows the second time, and those would be paid for again.
    """

    plan: StepPlan
    whole: Whole
    ways: frozenset[str] = frozenset()
    kept: Callable[[bytes], Spool] | None = None

    @property
    def name(self) -> str:
        return self.plan.name


Stage: TypeAlias = ModelStage | EachStage | WholeStage
NEVER = Unanswered()
STOOD_IN = Fault(FaultKind.MISSING, "a fallback answered in its place")


class Through(TypedDict):
    asked: tuple[tuple[int, bool], ...]
    requests: tuple[bytes, ...]


def gone_through(past: tuple[Past, ...]) -> Through:
    """Which requests these were, whom each asked, and whether it was answered."""
    return {
        "asked": tuple([(one.draft.voice, one.valid) for one in past]),
        "requests": tuple([one.id for one in past]),
    }


def written(draft: Draft) -> tuple[Message, ...]:
    """What a draft sends; a raw prompt as a user's message."""
    return draft.messages if draft.prompt is None else ({"role": "user", "content": draft.prompt},)
