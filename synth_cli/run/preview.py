"""`synth preview`: what would be sent for some rows, and with `--run` what comes back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from synth_cli.compile.plan import StepPlan
from synth_cli.compile.requests import Drafter
from synth_cli.core.reply import Fault
from synth_cli.core.request import Request
from synth_cli.core.row import Finished, Row
from synth_cli.engines.vllm.params import ParamError
from synth_cli.errors import AuthError, SynthError, UsageError
from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.turns import Dropped
from synth_cli.providers.batches import batch_client
from synth_cli.providers.clients import body
from synth_cli.providers.http import AiohttpTransport
from synth_cli.providers.resolve import Endpoint
from synth_cli.report.live import Quiet
from synth_cli.run.again import again
from synth_cli.run.asking import ask
from synth_cli.run.explain import known, scratch
from synth_cli.run.feed import Feed
from synth_cli.run.job import closing, code_of, ended_by
from synth_cli.run.local import call
from synth_cli.run.opening import opened
from synth_cli.run.options import RunOptions
from synth_cli.run.prepare import prepare
from synth_cli.run.wire import endpoint, input_rows, policy_of, simulated, until, wire

NO_KEY = "no-key-needed-for-a-preview"


@dataclass(frozen=True, slots=True)
class Look:
    """One row: what is sent for it (the first sample), or why nothing can be; and with `--run` its output rows."""

    row: Row
    request_id: str = ""
    way: str = ""
    """How the body goes out: where it is posted to, or into what it is put."""
    url: str = ""
    messages: Sequence[Mapping[str, Any]] = ()
    prompt: str | None = None
    body: Mapping[str, Any] | None = None
    fault: str = ""
    output: Sequence[Mapping[str, Any]] | None = None


def look(
    path: Path, options: RunOptions, *, rows: int, only: int | None, ask: bool, environ: Mapping[str, str]
) -> list[Look]:
    """The first rows, or the one with index `only`."""
    options = replace(options, only=only) if only is not None else replace(options, limit=rows)
    looks = _looks(path, options, environ)
    if only is not None and not looks:
        raise UsageError(
            f"there is no row {only}", hint="rows count from 0; `where`, `skip` and `take` may leave it out"
        )
    if not ask:
        return looks
    made = _answers(path, options, environ)
    return [replace(one, output=made[one.row.index][0], fault=made[one.row.index][1]) for one in looks]


def _looks(path: Path, options: RunOptions, environ: Mapping[str, str]) -> list[Look]:
    plan = prepare(path, options, environ)
    step = plan.steps[0]
    shown = _shown(step, options, environ)
    with known(plan, options) as (ledger, epoch), scratch(plan) as worksheet:
        source = input_rows(plan, worksheet.tally)
        if options.only is not None:
            source = until(source, options.only)
        policy = policy_of(step, epoch, options)
        drafter, only = Drafter(step, plan.folder), options.part
        feed = Feed(step.name, source, drafter=drafter, worksheet=worksheet, ledger=ledger, policy=policy, only=only)
        requests = {row.index: request for request, row, sample, _ in feed.requests() if sample == 0}
        return [_look(row, fault, requests.get(row.index), shown) for row, _, fault in worksheet.rows(step.name)]


Shown = Callable[[Request], tuple[str, str, Mapping[str, Any]]]
"""How a request goes out, its address where it is posted by us, and as what."""


def _shown(step: StepPlan, options: RunOptions, environ: Mapping[str, str]) -> Shown:
    if step.engine == "vllm" and not simulated(step, options):
        return lambda request: ("vLLM is called with:", "", call(request, step.step.samples))
    url = "http://127.0.0.1/v1" if simulated(step, options) else None
    try:
        place = endpoint(step, environ, url)
    except AuthError:
        # what would be sent can be shown without the key that sends it
        place = endpoint(replace(step, settings=step.settings.model_copy(update={"api_key": NO_KEY})), environ)
    return _line_of(place) if step.engine == "batch" else _body_of(place)


def _body_of(place: Endpoint) -> Shown:
    if place.host.litellm:
        # it is LiteLLM that makes the provider's body of this, and knows its address
        return lambda request: ("LiteLLM's arguments:", "", body(place, request))

    def posted(request: Request) -> tuple[str, str, Mapping[str, Any]]:
        url = place.url(completion=request.terms.completion)
        return f"POST {url}", url, body(place, request)

    return posted


def _line_of(place: Endpoint) -> Shown:
    """A request of a batch is a line of a file."""
    client = batch_client(place, AiohttpTransport())
    return lambda request: ("as a line of a batch:", "", orjson.loads(client.line(request)))


def _look(row: Row, fault: Fault | None, request: Request | None, shown: Shown) -> Look:
    if request is None:
        return Look(row, fault="no request" if fault is None else str(fault))
    try:
        way, url, sent = shown(request)
    except ParamError as error:
        return Look(row, fault=str(error))
    return Look(row, request.id.hex(), way, url, request.messages, request.prompt, sent)


def _answers(
    path: Path, options: RunOptions, environ: Mapping[str, str]
) -> dict[int, tuple[Sequence[Mapping[str, Any]], str]]:
    """Asks for these rows. The answers go into the ledger, so that a run does not pay for them again."""
    error: SynthError | None = None
    with opened(path, options, environ) as running, wire(running) as wired:
        try:
            asked = ask(wired, running, Quiet(), environ, chance=random.random)
            error = ended_by(asked, again(running.plan, options))
        except SynthError as raised:
            error = raised
        running.ledger.append(closing(running, code_of(error), time.time(), part=True))
        if error is not None:
            raise error
        formatter = Formatter(running.plan.loaded.spec.output)
        return {row.index: _made(finished, formatter) for row, _, finished in wired.second.rows()}


def _made(finished: Finished, formatter: Formatter) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The output rows as a run would write them, and what is not among them and why."""
    rows = [formatter.shape(row) for row in finished.rows]
    dropped = [f"dropped by the format: {row.reason}" for row in rows if isinstance(row, Dropped)]
    why = [*(str(cause) for _, cause in finished.failures), *dropped]
    return [row for row in rows if not isinstance(row, Dropped)], "; ".join(why)


def as_json(looks: Sequence[Look]) -> bytes:
    said = [
        {
            "index": one.row.index,
            "row": one.row.values,
            "request_id": one.request_id or None,
            "url": one.url or None,
            "messages": one.messages,
            "prompt": one.prompt,
            "body": one.body,
            "error": one.fault or None,
            "output": one.output,
        }
        for one in looks
    ]
    return orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str)


def as_text(looks: Sequence[Look]) -> str:
    """For people: the messages as they read, then the body as it is sent."""
    return "\n".join(_text(one) for one in looks) if looks else "no rows\n"


def _text(one: Look) -> str:
    lines = [f"── row {one.row.index} {'─' * 60}"]
    if one.prompt is not None:
        lines += ["[prompt]", one.prompt]
    for message in one.messages:
        content = message.get("content")
        said = content if isinstance(content, str) else orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
        lines += [f"[{message['role']}]", said]
    if one.body is not None:
        sent = {key: value for key, value in one.body.items() if key not in ("messages", "prompt")}
        lines += [
            "",
            one.way,
            orjson.dumps(sent, option=orjson.OPT_INDENT_2, default=str).decode(),
        ]
    if one.fault:
        lines += ["", f"cannot be asked: {one.fault}" if one.output is None else f"failed: {one.fault}"]
    for row in one.output or ():
        lines += ["", "→ " + orjson.dumps(row, option=orjson.OPT_INDENT_2, default=str).decode()]
    return "\n".join(lines) + "\n"
