"""Valid answers → output rows: `each`, then `columns` or `parse`, then `keep_if`; and what becomes of a failed row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synth_cli.core.reply import Fault
from synth_cli.core.row import Finished, Row, Sampled, derived
from synth_cli.core.state import Invalid
from synth_cli.responses.columns import response_columns
from synth_cli.responses.parse import Parse, parsed
from synth_cli.responses.view import reply_view, usage_view
from synth_cli.spec.fields import fields_of
from synth_cli.spec.formats import METADATA
from synth_cli.spec.model import Step
from synth_cli.steps.outline import Made, Outline, ShapeError, fault, keep_apart
from synth_cli.template import Template, Templates

FIRST = frozenset((0,))


class Shaper:
    """Makes a step's output rows. Raises TemplateSyntaxError at once for a template that is wrong in itself.

    `parse` is the loaded function of `step.parse`; `metadata` adds the column `_synth`, which `simulated` marks.
    """

    def __init__(
        self,
        step: Step,
        templates: Templates,
        schema: Mapping[str, Any] | None,
        *,
        parse: Parse | None = None,
        metadata: bool = False,
        simulated: bool = False,
    ) -> None:
        self._keep_failed = step.on_failure == "keep"
        self._grouped = step.group_samples
        self._metadata, self._simulated = metadata, simulated
        self._outline = Outline(step, templates)
        self._fields = fields_of(schema)
        self._tools = step.tools is not None
        self._text = "response" if step.turns is None else "messages"
        self._parse = parse
        self._nulls = response_columns(step, schema) or ()
        used = self._outline.used
        self._sees_reply = any("reply" in template.reserved for template in used)
        self.needs_messages = metadata or any(_reads_messages(template) for template in used)
        """Whether anybody reads `Sampled.messages`."""
        self._make = self._maker()

    def finish(self, row: Row, sampled: Sequence[Sampled]) -> Finished:
        """What the row becomes, given all its samples."""
        if self._grouped:
            return self._finish_group(row, sampled)
        carried = self._outline.carry(row.values)
        rows: list[Mapping[str, Any]] = []
        ids: list[bytes] = []
        failures: list[tuple[int, Fault | Invalid]] = []
        nulls: set[int] = set()
        filtered = 0
        for one in sampled:
            cause = one.cause
            if cause is None:
                try:
                    made = self._make(row, one, carried)
                    kept = self._outline.kept(row, one.sample, carried, made)
                except ShapeError as error:
                    cause = error.fault
                else:
                    filtered += len(made) - len(kept)
                    places = None if len(made) == 1 else {id(columns): place for place, (columns, _) in enumerate(made)}
                    for columns, _ in kept:
                        out = {**carried, **columns}
                        ids.append(derived(one.request_id, 0 if places is None else places[id(columns)]))
                        if self._metadata:
                            out[METADATA] = self._about(row, one)
                        rows.append(out)
                    continue
            failures.append((one.sample, cause))
            if self._keep_failed:
                nulls.add(len(rows))
                rows.append(self._null(row, carried, self._about(row, one, cause) if self._metadata else None))
                ids.append(derived(row.id, one.sample))
        return Finished(tuple(rows), filtered, tuple(failures), tuple(ids), frozenset(nulls))

    def _finish_group(self, row: Row, sampled: Sequence[Sampled]) -> Finished:
        carried = self._outline.carry(row.values)
        good: list[tuple[Sampled, dict[str, Any]]] = []
        failures: list[tuple[int, Fault | Invalid]] = []
        for one in sampled:
            cause = one.cause
            if cause is None:
                try:
                    made = self._make(row, one, carried)
                    if len(made) == 1:
                        good.append((one, made[0][0]))
                        continue
                    cause = fault("group_samples", f"parse returned {len(made)} rows for one answer")
                except ShapeError as error:
                    cause = error.fault
            failures.append((one.sample, cause))
        if not good:
            about = [self._about(row, one, one.cause) for one in sampled] if self._metadata else None
            kept = (self._null(row, carried, about),) if self._keep_failed else ()
            return Finished(kept, 0, tuple(failures), nulls=FIRST)
        names = dict.fromkeys(name for _, columns in good for name in columns)
        columns = {name: [made.get(name) for _, made in good] for name in names}
        after: dict[str, Any] = {"response": [one.value for one, _ in good]}
        if self._sees_reply:
            after["reply"] = [_view(one) for one, _ in good]
        try:
            if not self._outline.kept(row, 0, carried, [(columns, after)]):
                return Finished((), 1, tuple(failures))
        except ShapeError as error:
            failures += [(one.sample, error.fault) for one, _ in good]
            kept = (self._null(row, carried, None),) if self._keep_failed else ()
            return Finished(kept, 0, tuple(sorted(failures, key=lambda failure: failure[0])), nulls=FIRST)
        out = {**carried, **columns}
        if self._metadata:
            out[METADATA] = [self._about(row, one) for one, _ in good]
        # one of the answers tells it from all other rows, and stays where others are added
        return Finished((out,), 0, tuple(failures), (derived(good[0][0].request_id, 0),))

    def _maker(self) -> Callable[[Row, Sampled, Mapping[str, Any]], list[Made]]:
        """The response columns of one answer's output rows, in the one way that this step makes them."""
        if self._parse is not None:
            return self._by_parse
        if self._outline.makes_items:
            return self._by_item
        if self._outline.has_columns:
            return self._by_columns
        return self._by_fields if self._fields else self._by_text

    def _by_text(self, row: Row, one: Sampled, carried: Mapping[str, Any]) -> list[Made]:
        return [(self._with_tools({self._text: one.value}, one), self._after(one))]

    def _by_fields(self, row: Row, one: Sampled, carried: Mapping[str, Any]) -> list[Made]:
        value = one.value
        if isinstance(value, Mapping):
            columns = {name: value.get(name) for name in self._fields}
        else:
            # a tool was called in place of an answer
            columns = dict.fromkeys(self._fields)
        keep_apart(columns, carried, "the answer")
        return [(self._with_tools(columns, one), self._after(one))]

    def _by_columns(self, row: Row, one: Sampled, carried: Mapping[str, Any]) -> list[Made]:
        after = self._after(one)
        return [(self._outline.computed(row, one.sample, after), after)]

    def _by_item(self, row: Row, one: Sampled, carried: Mapping[str, Any]) -> list[Made]:
        made = self._outline.by_item(row, one.sample, self._after(one), carried)
        if self._outline.has_columns:
            return made
        return [(self._with_tools(columns, one), seen) for columns, seen in made]

    def _by_parse(self, row: Row, one: Sampled, carried: Mapping[str, Any]) -> list[Made]:
        assert self._parse is not None
        given = parsed(self._parse, row.values, one.value)
        if isinstance(given, Fault):
            raise ShapeError(given)
        after = self._after(one)
        return [(columns, after) for columns in given]

    def _after(self, one: Sampled) -> dict[str, Any]:
        if self._sees_reply:
            return {"response": one.value, "reply": _view(one)}
        return {"response": one.value}

    def _with_tools(self, columns: dict[str, Any], one: Sampled) -> dict[str, Any]:
        if self._tools:
            columns["tool_calls"] = list(one.reply.tool_calls) if one.reply is not None else []
        return columns

    def _null(self, row: Row, carried: Mapping[str, Any], about: Any) -> dict[str, Any]:
        out = {**carried, **dict.fromkeys(self._nulls)}
        if self._metadata:
            out[METADATA] = about
        return out

    def _about(self, row: Row, one: Sampled, cause: Fault | Invalid | None = None) -> dict[str, Any]:
        reply = one.reply
        about: dict[str, Any] = {
            "row_id": row.id.hex(),
            "request_id": one.request_id.hex() or None,
            "model": reply and reply.model,
            "finish_reason": reply and reply.finish_reason,
            "usage": reply and usage_view(reply.usage),
            "cost": _cost(one),
            "attempts": one.attempts,
            "messages": list(one.messages),
            "raw": reply and reply.raw,
        }
        if cause is not None:
            about["error"] = str(cause)
        if self._simulated:
            about["simulated"] = True
        return about


def _view(one: Sampled) -> dict[str, Any]:
    assert one.reply is not None
    return reply_view(one.reply, cost=_cost(one), messages=one.messages)


def _cost(one: Sampled) -> float | None:
    if one.replied is not None and one.replied.cost is not None:
        return one.replied.cost
    return one.reply.cost if one.reply is not None else None


def _reads_messages(template: Template) -> bool:
    return "reply" in template.whole or ("reply", "messages") in template.members
