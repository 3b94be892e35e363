"""A row → the drafts of its requests: templates rendered, files inlined, per-row parameters merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from synth_cli.compile.parts import MessageError, messages_of, sendable, text_of
from synth_cli.compile.plan import StepPlan
from synth_cli.compile.tools import tools_of
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Constraint, Draft, Message, Terms
from synth_cli.core.row import Row
from synth_cli.spec.hints import NOT_PARAMS
from synth_cli.spec.model import OVERRIDE, ChatMessage, Prompt
from synth_cli.template import Scope, Template, TemplateError, Templates, scope, text

FORMATS: Mapping[str, tuple[str, str]] = {
    # (with a system prompt, without one), byte for byte what models of these families were trained on
    "none": ("{system}\n{user}", "{user}"),
    "chatml": (
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama2": ("<s>[INST] <<SYS>>\n{system}<</SYS>>\n\n{user} [/INST]", "<s>[INST] {user} [/INST]"),
    "zephyr": (
        "<|system|>\n{system}</s>\n<|user|>\n{user}</s>\n<|assistant|>\n",
        "<|user|>\n{user}</s>\n<|assistant|>\n",
    ),
}


class Drafter:
    """Drafts the requests of one step. Templates are compiled here, once."""

    def __init__(self, plan: StepPlan, folder: Path) -> None:
        step, templates = plan.step, plan.templates
        self._folder = folder
        self._members = plan.members
        self._terms = tuple(voice.terms for voice in plan.voices)
        self._system, self._user, self._messages = turns_of(step.prompt, step.messages, templates)
        self._format = raw_format(step.prompt_format, templates)
        self._tools = templates.value(step.tools) if isinstance(step.tools, str) else None
        choice = step.response.choice if step.response is not None else None
        self._choice = templates.value(choice) if isinstance(choice, str) else None
        parts = (self._system, self._user, self._messages, self._tools, self._choice)
        self._each_apart = len(set(plan.members)) > 1 or any(
            part is not None and "sample" in part.reserved for part in parts
        )

    def drafts(self, row: Row) -> tuple[Draft, ...] | Fault:
        """One draft for each sample, or why the row cannot be asked."""
        members = self._members
        try:
            first = self._draft(row, 0)
            if len(members) == 1:
                return (first,)
            if self._each_apart:
                return (first, *(self._draft(row, sample) for sample in range(1, len(members))))
        except (TemplateError, MessageError) as error:
            return Fault(FaultKind.TEMPLATE, str(error))
        return (first, *(replace(first, sample=sample) for sample in range(1, len(members))))

    def turned(self, row: Row, draft: Draft, voice: int) -> Draft:
        """The same request to another of the step's models. Raises MessageError or TemplateError as drafting does."""
        return replace(draft, terms=self.terms_for(row, scope(row, sample=draft.sample), voice), voice=voice)

    def refined(self, row: Row, sample: int, voice: int, prompt: Template, response: Any) -> Draft:
        """A pass that shows an answer to the model: the same system prompt, another user turn."""
        view = scope(row, sample=sample)
        said = text_of(prompt.render(scope(row, sample=sample, response=response)))
        return self._turns(row, view, voice, self._system_of(view), said)

    def _draft(self, row: Row, sample: int) -> Draft:
        view, voice = scope(row, sample=sample), self._members[sample]
        if self._messages is not None:
            terms = self.terms_for(row, view, voice)
            return Draft(terms, messages_of(self._messages.render(view), self._folder), None, sample, voice)
        assert self._user is not None
        system = self._system_of(view)
        return self._turns(row, view, voice, system, text_of(self._user.render(view)))

    def _system_of(self, view: Scope) -> str | None:
        return None if self._system is None else text_of(self._system.render(view))

    def _turns(self, row: Row, view: Scope, voice: int, system: str | None, user: str) -> Draft:
        terms, sample = self.terms_for(row, view, voice), view.sample
        if self._format is not None:
            return Draft(terms, (), self._raw(system, user, row), sample, voice)
        turn: Message = {"role": "user", "content": user}
        if system:
            return Draft(terms, ({"role": "system", "content": system}, turn), None, sample, voice)
        return Draft(terms, (turn,), None, sample, voice)

    def _raw(self, system: str | None, user: str, row: Row) -> str:
        shape = self._format
        if isinstance(shape, tuple):
            # not str.format: a prompt may hold braces of its own
            whole = shape[0] if system else shape[1]
            before, _, after = whole.partition("{user}")
            return before.replace("{system}", system or "") + user + after
        assert shape is not None
        return text_of(shape.render(scope(Row(row.index, row.id, {"system": system or "", "user": user}))))

    def terms_for(self, row: Row, view: Scope, voice: int) -> Terms:
        """The voice's terms with what this row has of its own."""
        terms = own_terms(self._terms[voice], row)
        if self._tools is None and self._choice is None:
            return terms
        if self._tools is not None:
            terms = replace(terms, tools=tools_of(self._tools.render(view)))
        if self._choice is not None:
            terms = replace(terms, constraint=Constraint("choice", choice_of(self._choice.render(view))))
        return terms


def own_terms(terms: Terms, row: Row) -> Terms:
    """The terms with the row's own sampling parameters."""
    over = row.values.get(OVERRIDE)
    return terms if over is None else replace(terms, params={**terms.params, **params_of(over)})


def turns_of(
    prompt: str | Prompt | None, messages: str | list[ChatMessage] | None, templates: Templates
) -> tuple[Template | None, Template | None, Template | None]:
    """(system, user, messages), of which either the user turn or the messages are there."""
    if messages is not None:
        node = messages if isinstance(messages, str) else [m.model_dump(exclude_unset=True) for m in messages]
        return None, None, templates.value(node)
    if isinstance(prompt, Prompt):
        system = None if prompt.system is None else templates.value(prompt.system)
        return system, templates.value(prompt.user), None
    return None, templates.value(prompt or ""), None


def raw_format(name: str, templates: Templates) -> tuple[str, str] | Template | None:
    """How system and user become one raw prompt; None for chat."""
    if name == "chat":
        return None
    return FORMATS.get(name) or templates.value(name)


def params_of(over: Any) -> Mapping[str, Any]:
    """A row's own sampling parameters, a mapping or its JSON text."""
    if isinstance(over, str):
        if not over.strip():
            return {}
        try:
            over = orjson.loads(over)
        except orjson.JSONDecodeError as error:
            raise MessageError(f"the column {OVERRIDE} is not JSON: {error}") from None
    if over is None:
        return {}
    if not isinstance(over, Mapping):
        raise MessageError(f"the column {OVERRIDE} must be a mapping, not {type(over).__name__}")
    for name in over:
        if name in NOT_PARAMS:
            right = NOT_PARAMS[name]
            hint = f"; write {right}" if right != name else ""
            raise MessageError(f"the column {OVERRIDE} has '{name}', which is not a sampling parameter{hint}")
    return sendable({key: value for key, value in over.items() if value is not None}, f"the column {OVERRIDE}")


def choice_of(value: Any) -> list[str]:
    """A row's list of allowed answers."""
    if not isinstance(value, list) or not value:
        raise MessageError("response.choice must give a list of texts that is not empty")
    # as they are compared with the answer
    return [text(item) for item in value]
