"""What one sample of a row asks: usually one request; with `fallback`, `refine` or `turns` one after the other.

A script is pure: given what was asked and what became of it, it says what is asked next. So a run that goes on, and a
pass that only reads the ledger, come to the same requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from synth_cli.compile.parts import MessageError, text_of
from synth_cli.compile.plan import StepPlan
from synth_cli.compile.requests import Drafter, own_terms
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Draft, Message
from synth_cli.core.row import Row
from synth_cli.spec.model import Refine, Turns
from synth_cli.template import TemplateError, Templates, scope

OPENING = "Begin the conversation: write the first message."
"""What the user's side is told where the spec gives no first message."""


@dataclass(frozen=True, slots=True)
class Past:
    """One request of a sample that has come to its end: a valid `value`, or none."""

    draft: Draft
    valid: bool
    value: Any = None
    id: bytes = b""
    """The request's, where it matters."""


Following: TypeAlias = Draft | Fault | None
"""What is asked next; why that cannot be made; or nothing."""


class Script(Protocol):
    def drafts(self, row: Row) -> tuple[Draft, ...] | Fault:
        """The first request of each sample, or why the row cannot be asked."""

    def following(self, row: Row, past: Sequence[Past]) -> Following:
        """What the sample of these requests, of which there is at least one, asks next."""

    def rest(self, voice: int, answered: int) -> tuple[int, ...]:
        """Whom a sample that begins with `voice` asks after so many answers, at most, if none fails."""

    @property
    def may_end(self) -> bool:
        """Whether it may be fewer, as an answer decides."""

    def value(self, row: Row, past: Sequence[Past]) -> Any:
        """What a sample that ended with a valid answer came to: `response` for the row's templates."""


def script(plan: StepPlan, folder: Path) -> Script:
    """The script of a step with a model."""
    if plan.step.turns is not None:
        assert plan.sides is not None
        return Conversation(plan, plan.step.turns, plan.sides, plan.templates)
    drafter = Drafter(plan, folder)
    return Passes(drafter, plan.fallbacks, plan.step.refine, plan.templates)


class Passes:
    """One answer, improved as often as the spec says; whoever fails for good is followed by the next fallback."""

    def __init__(
        self, drafter: Drafter, fallbacks: tuple[int, ...], refine: Refine | None, templates: Templates
    ) -> None:
        self._drafter = drafter
        self._fallbacks = fallbacks
        self._times = 0 if refine is None else refine.times
        self._prompt = None if refine is None else templates.value(refine.prompt)
        self._until = None if refine is None or refine.until is None else templates.expression(refine.until)
        self.drafts = drafter.drafts
        self.may_end = self._until is not None

    def rest(self, voice: int, answered: int) -> tuple[int, ...]:
        return (voice,) * (1 + self._times - answered)

    def following(self, row: Row, past: Sequence[Past]) -> Following:
        last = past[-1]
        try:
            if not last.valid:
                failed = next((count for count, one in enumerate(reversed(past)) if one.valid), len(past))
                if failed > len(self._fallbacks):
                    return None
                return self._drafter.turned(row, last.draft, self._fallbacks[failed - 1])
            if self._prompt is None or sum(one.valid for one in past) > self._times:
                return None
            sample, first = last.draft.sample, past[0].draft.voice
            if self._until is not None and self._until.render(scope(row, sample=sample, response=last.value)):
                return None
            return self._drafter.refined(row, sample, first, self._prompt, last.value)
        except (TemplateError, MessageError) as error:
            return Fault(FaultKind.TEMPLATE, str(error))

    def value(self, row: Row, past: Sequence[Past]) -> Any:
        return past[-1].value


class Conversation:
    """Two prompts that talk. The user's side sees the roles swapped: its own messages as the assistant's."""

    def __init__(self, plan: StepPlan, turns: Turns, sides: tuple[int, int], templates: Templates) -> None:
        self._terms = tuple(voice.terms for voice in plan.voices)
        self._user, self._assistant = sides
        self._systems = [
            None if side.system is None else templates.value(side.system) for side in (turns.user, turns.assistant)
        ]
        self._start = None if turns.start is None else templates.value(turns.start)
        self._max = turns.max
        self._until = None if turns.until is None else templates.expression(turns.until)
        self._samples = plan.samples
        self.may_end = self._until is not None

    def rest(self, voice: int, answered: int) -> tuple[int, ...]:
        first = answered + (self._start is not None)
        return tuple((self._user, self._assistant)[place % 2] for place in range(first, self._max))

    def drafts(self, row: Row) -> tuple[Draft, ...] | Fault:
        try:
            return tuple(self._next(row, sample, self._opened(row, sample)) for sample in range(self._samples))
        except (TemplateError, MessageError) as error:
            return Fault(FaultKind.TEMPLATE, str(error))

    def following(self, row: Row, past: Sequence[Past]) -> Following:
        last, sample = past[-1], past[0].draft.sample
        if not last.valid:
            return None
        try:
            said = self._said(row, sample, past)
            if len(said) >= self._max:
                return None
            if self._until is not None and self._until.render(scope(row, sample=sample, response=last.value)):
                return None
            return self._next(row, sample, said)
        except (TemplateError, MessageError) as error:
            return Fault(FaultKind.TEMPLATE, str(error))

    def value(self, row: Row, past: Sequence[Past]) -> list[Message]:
        """The chat, with the assistant's system prompt."""
        sample = past[0].draft.sample
        system = self._system(row, sample, 1)
        return [*system, *self._messages(self._said(row, sample, past), user="user", assistant="assistant")]

    def _opened(self, row: Row, sample: int) -> list[str]:
        """The first message, where the spec says it."""
        if self._start is None:
            return []
        start = text_of(self._start.render(scope(row, sample=sample)))
        if not start.strip():
            raise MessageError("turns.start is empty for this row")
        return [start]

    def _said(self, row: Row, sample: int, past: Sequence[Past]) -> list[str]:
        """All messages so far: the user's at even places, the assistant's at odd ones."""
        return [*self._opened(row, sample), *(str(one.value).strip() for one in past)]

    def _next(self, row: Row, sample: int, said: list[str]) -> Draft:
        users = len(said) % 2 == 0
        system = self._system(row, sample, 0 if users else 1)
        if not users:
            messages = self._messages(said, user="user", assistant="assistant")
        else:
            # the models that play users expect to be spoken to first, as all chat models do
            opening: Message = {"role": "user", "content": OPENING}
            messages = [opening, *self._messages(said, user="assistant", assistant="user")]
        voice = self._user if users else self._assistant
        return Draft(own_terms(self._terms[voice], row), (*system, *messages), None, sample, voice)

    def _messages(self, said: list[str], *, user: str, assistant: str) -> list[Message]:
        roles = (user, assistant)
        return [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]

    def _system(self, row: Row, sample: int, side: int) -> list[Message]:
        template = self._systems[side]
        said = "" if template is None else text_of(template.render(scope(row, sample=sample)))
        return [{"role": "system", "content": said}] if said else []
