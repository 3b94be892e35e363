"""Which models a step asks, wherever a spec may name one."""

from __future__ import annotations

from collections.abc import Iterator

from synth_cli.spec.model import Model, ModelRef, Spec, Step
from synth_cli.spec.places import Where


def refs_of(step: Step) -> Iterator[tuple[Where, ModelRef]]:
    """(place within the step, model as written): the pool or the one model, the fallbacks, the sides of a conversation.

    Sides that name no model speak with the step's own.
    """
    if isinstance(step.model, list):
        yield from ((("model", position), ref) for position, ref in enumerate(step.model))
    elif step.model is not None:
        yield ("model",), step.model
    yield from ((("fallback", position), ref) for position, ref in enumerate(step.fallback or ()))
    if step.turns is not None:
        sides = {"user": step.turns.user, "assistant": step.turns.assistant}
        yield from ((("turns", name, "model"), side.model) for name, side in sides.items() if side.model is not None)


def members_of(step: Step, spec: Spec) -> tuple[Model, ...]:
    """The models among which a step's samples are split, in pool order: one where there is no pool."""
    refs = step.model if isinstance(step.model, list) else [step.model]
    return tuple(spec.named(ref) for ref in refs if ref is not None)
