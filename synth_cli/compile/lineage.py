"""Which steps' rows may be the same ones: what is asked about them twice is told apart, and nothing else is.

An answer makes rows of its own; so do `group` and `python`. The other steps pass a row's identity on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synth_cli.compile.flow import INPUT
from synth_cli.compile.plan import StepPlan
from synth_cli.spec.model import Step

OWN = ("llm", "group", "python")
"""Types of steps whose rows are not those that came."""


class Lineage:
    """Of the steps of a job, in their order: each takes rows of earlier ones alone."""

    def __init__(self, steps: Sequence[StepPlan]) -> None:
        self._steps: Mapping[str, StepPlan] = {step.name: step for step in steps}
        self._tallied: dict[str, bool] = {INPUT: True}
        self._origins: dict[str, frozenset[str]] = {INPUT: frozenset((INPUT,))}
        """The steps, or the input, that gave the rows of a step who they are."""
        self._arriving: dict[str, frozenset[str]] = {}
        """The same of the rows that it takes."""
        for name, plan in self._steps.items():
            before = [source for source in plan.sources if source != INPUT]
            self._tallied[name] = not any(self._steps[one].voices or not self._tallied[one] for one in before)
            self._arriving[name] = frozenset().union(*(self._origins[source] for source in plan.sources))
            own = frozenset((name,)) if plan.step.type in OWN else frozenset[str]()
            # a row that is kept without an answer is the one that came
            passed = not own or plan.step.on_failure == "keep"
            self._origins[name] = own | self._arriving[name] if passed else own

    def tallied(self, name: str) -> bool:
        """Whether nothing is answered before the rows of a step."""
        return self._tallied[name]

    def ways(self, name: str) -> frozenset[str]:
        """Those sources of a step of which a row may have come to it from an earlier one already."""
        seen: frozenset[str] = frozenset()
        again: set[str] = set()
        for source in self._steps[name].sources:
            if self._origins[source] & seen:
                again.add(source)
            seen |= self._origins[source]
        return frozenset(again)

    def salt(self, name: str) -> int:
        """How many steps before this one may ask the very same of the same rows."""
        earlier = list(self._steps)[: list(self._steps).index(name)]
        return sum(self._alike(other, name) for other in earlier)

    def _alike(self, one: str, other: str) -> bool:
        left, right = self._steps[one], self._steps[other]
        models = {voice.terms.digest for voice in left.voices} & {voice.terms.digest for voice in right.voices}
        if not models or asks(left.step) != asks(right.step) or self._tallied[one] != self._tallied[other]:
            return False
        # rows of the input are counted by what is asked of them, whoever they are
        return self._tallied[one] or bool(self._arriving[one] & self._arriving[other])


def asks(step: Step) -> tuple[Any, ...]:
    """What a step's first requests are made of, besides the model."""
    response, turns = step.response, step.turns
    return (
        step.prompt,
        step.messages,
        step.prompt_format,
        step.tools,
        response.choice if response is not None else None,
        None if turns is None else (turns.user.system, turns.assistant.system, turns.start),
    )
