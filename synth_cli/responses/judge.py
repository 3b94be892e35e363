"""Says whether a reply is what the spec asked for: today's spec, whatever was asked when the reply came."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import orjson

from synth_cli.core.cost import Price, charged
from synth_cli.core.depth import DEEPEST, too_deep
from synth_cli.core.reply import Reply
from synth_cli.core.row import Context
from synth_cli.core.state import Invalid, Valid, Verdict
from synth_cli.errors import UsageError
from synth_cli.responses.grammar import Grammar
from synth_cli.responses.repair import NotJsonError, json_of
from synth_cli.responses.schema import Checker, InexactError, shortened
from synth_cli.responses.view import reply_view
from synth_cli.spec.backend import BackendParams
from synth_cli.spec.model import Response, Step
from synth_cli.template import Template, TemplateError, Templates, scope
from synth_cli.template import text as as_text

Accept: TypeAlias = Callable[[Context, str], Verdict]
"""Judges the text of an answer that is not empty."""
EMPTY = Invalid("empty", "the answer is empty")
CHOICES_SHOWN = 20


class Judge:
    """Satisfies `core.ports.Judge`.

    In turn: the finish reason, a refusal, the response's constraint, then the checks. Raises UsageError at once for
    a schema, a regular expression or a grammar that is wrong in itself, TemplateSyntaxError for a check that is.
    """

    def __init__(
        self, step: Step, templates: Templates, schema: Mapping[str, Any] | None, *, price: Price | None = None
    ) -> None:
        """`price` is what `reply.cost` is made of in checks, where the provider states none."""
        self._price = price
        response = step.response or Response.model_validate({})
        params = step.backend_params or BackendParams.model_validate({})
        self._unwanted = frozenset(params.invalid_finish_reasons)
        own = step.generation_params or {}
        self._short = step.prompt_format != "chat" and not any("max_" in name for name in own)
        self._tools = step.tools is not None
        self._accept = _acceptor(response, templates, schema)
        self._without_text = Valid(None if schema is not None else "")
        written = response.check if isinstance(response.check, list) else [response.check]
        self._checks = [(str(check), templates.expression(check)) for check in written if check is not None]
        self._sees_reply = any("reply" in check.reserved for _, check in self._checks)

    def __call__(self, context: Context, reply: Reply) -> Verdict:
        if reply.finish_reason in self._unwanted:
            return _ended(reply.finish_reason, short=self._short)
        if reply.refusal:
            return Invalid("refusal", f"the model refused: {shortened(reply.refusal)}", retry=False)
        text = reply.text
        if not text or text.isspace():
            verdict: Verdict = self._without_text if self._tools and reply.tool_calls else EMPTY
        else:
            verdict = self._accept(context, text)
        if self._checks and type(verdict) is Valid:
            return self._checked(context, reply, verdict)
        return verdict

    def _checked(self, context: Context, reply: Reply, valid: Valid) -> Verdict:
        after = {"response": valid.value}
        if self._sees_reply:
            after["reply"] = reply_view(reply, cost=charged(reply, self._price))
        seen = scope(context.row, sample=context.sample, **after)
        for written, check in self._checks:
            try:
                passed = check.render(seen)
            except TemplateError as error:
                return Invalid("check", f"the check `{written}` failed: {error}")
            if not passed:
                return Invalid("check", f"the check `{written}` is not true")
        return valid


def _ended(reason: str | None, *, short: bool) -> Invalid:
    """`short`: a raw completion for which no length was asked, so that the server's own applies."""
    if reason == "content_filter":
        return Invalid("finish reason", "the provider's content filter ended the answer", retry=False)
    if reason == "length":
        why = "the answer was cut off at the longest length allowed (finish reason 'length')"
        hint = "; servers end a raw completion after 16 tokens unless generation_params.max_tokens says more"
        return Invalid("finish reason", why + hint * short)
    return Invalid("finish reason", f"the answer ended with the finish reason '{reason}'")


def _acceptor(response: Response, templates: Templates, schema: Mapping[str, Any] | None) -> Accept:
    if schema is not None:
        return _by_schema(Checker(schema))
    if isinstance(response.choice, str):
        return _by_row_choice(templates.value(response.choice))
    if response.choice is not None:
        return _by_choice(response.choice)
    if response.regex is not None:
        return _by_regex(response.regex)
    if response.grammar is not None:
        return _by_grammar(Grammar(response.grammar))
    return lambda context, text: Valid(text)


def _by_schema(checker: Checker) -> Accept:
    def accept(context: Context, text: str) -> Verdict:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            try:
                value = json_of(text)
            except NotJsonError as error:
                return Invalid("schema", str(error))
        if too_deep(value, text):
            return Invalid("schema", f"nested more than {DEEPEST} levels deep")
        wrong = checker.wrong(value)
        if wrong is not None and isinstance(value, str):
            # JSON within a JSON text: some servers encode an answer twice
            inner = value
            try:
                value = json_of(inner)
            except NotJsonError:
                return Invalid("schema", wrong)
            if too_deep(value, inner):
                return Invalid("schema", f"nested more than {DEEPEST} levels deep")
            wrong = checker.wrong(value)
        if wrong is not None:
            return Invalid("schema", wrong)
        try:
            return Valid(checker.mended(value))
        except InexactError as error:
            return Invalid("schema", str(error))

    return accept


def _by_choice(choices: list[str]) -> Accept:
    allowed = frozenset(choices)
    return lambda context, text: _chosen(text, allowed, choices)


def _by_row_choice(template: Template) -> Accept:
    def accept(context: Context, text: str) -> Verdict:
        try:
            listed = template.render(scope(context.row, sample=context.sample))
            if not isinstance(listed, list) or not listed:
                return Invalid("choice", "`response.choice` gives no list for this row", retry=False)
            choices = [as_text(choice) for choice in listed]
        except TemplateError as error:
            return Invalid("choice", f"`response.choice` failed: {error}", retry=False)
        return _chosen(text, frozenset(choices), choices)

    return accept


def _chosen(text: str, allowed: frozenset[str], choices: list[str]) -> Verdict:
    """Exactly one of them; space around it and the quotes of a JSON text are not part of the answer."""
    if text in allowed:
        return Valid(text)
    chosen = text.strip()
    if chosen not in allowed and chosen.startswith('"'):
        with suppress(orjson.JSONDecodeError):
            chosen = str(orjson.loads(chosen)).strip()
    if chosen in allowed:
        return Valid(chosen)
    shown = ", ".join(choices[:CHOICES_SHOWN]) + (", …" if len(choices) > CHOICES_SHOWN else "")
    return Invalid("choice", f"{shortened(text.strip(), 80)!r} is not one of: {shown}")


def regex_problem(pattern: str) -> str | None:
    """What is wrong with a regular expression of `response.regex`; None when it is one."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


def _by_regex(pattern: str) -> Accept:
    problem = regex_problem(pattern)
    if problem is not None:
        raise UsageError(f"response.regex is not a regular expression: {problem}")
    compiled = re.compile(pattern)

    def accept(context: Context, text: str) -> Verdict:
        if compiled.fullmatch(text):
            return Valid(text)
        if compiled.fullmatch(text.strip()):
            return Valid(text.strip())
        return Invalid("regex", f"{shortened(text.strip(), 80)!r} does not match {pattern}")

    return accept


def _by_grammar(grammar: Grammar) -> Accept:
    def accept(context: Context, text: str) -> Verdict:
        wrong = grammar.wrong(text)
        if wrong is None:
            return Valid(text)
        stripped = text.strip()
        if stripped != text:
            wrong = grammar.wrong(stripped)
            if wrong is None:
                return Valid(stripped)
        return Invalid("grammar", f"{shortened(stripped, 80)!r} {wrong}")

    return accept
