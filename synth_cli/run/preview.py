"""`synth preview`: what would be sent for some rows, and with `--run` what comes back."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from synth_cli.compile.inputs import Tally
from synth_cli.compile.plan import Plan, Voice
from synth_cli.core.reply import Fault
from synth_cli.core.request import Request
from synth_cli.core.row import Finished, Row, Sampled
from synth_cli.engines.vllm.params import ParamError
from synth_cli.errors import AuthError, SynthError, UsageError
from synth_cli.outputs.encode import readable
from synth_cli.outputs.formats import Formatter
from synth_cli.outputs.turns import Dropped
from synth_cli.providers.batches import batch_client
from synth_cli.providers.clients import body
from synth_cli.providers.http import AiohttpTransport
from synth_cli.providers.resolve import Endpoint
from synth_cli.report.live import Display
from synth_cli.run.again import again
from synth_cli.run.asking import ask
from synth_cli.run.explain import known, scratch, spools
from synth_cli.run.finish import Passing
from synth_cli.run.job import closing, code_of, ended_by
from synth_cli.run.local import call
from synth_cli.run.opening import opened
from synth_cli.run.options import RunOptions
from synth_cli.run.passage import Chain
from synth_cli.run.prepare import prepare
from synth_cli.run.stage import EachStage, ModelStage, Open, Seen, WholeStage
from synth_cli.run.wire import chain_of, endpoint, input_rows, simulated, until, wire

NO_KEY = "no-key-needed-for-a-preview"


@dataclass(frozen=True, slots=True)
class Look:
    """One row: what is sent for it (the first sample), or why nothing can be; and with `--run` its output rows."""

    row: Row
    step: str = ""
    """Where there are several."""
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
    path: Path,
    options: RunOptions,
    *,
    rows: int,
    only: int | None,
    ask: bool,
    environ: Mapping[str, str],
    display: Callable[[Plan], Display],
) -> list[Look]:
    """The first rows, or the one with index `only`; `display` shows what goes on while they are asked."""
    options = replace(options, only=only) if only is not None else replace(options, limit=rows)
    looks = _looks(path, options, environ)
    if only is not None and not looks:
        raise UsageError(
            f"there is no row {only}", hint="rows count from 0; `where`, `skip` and `take` may leave it out"
        )
    if not ask:
        return looks
    made = _answers(path, options, environ, display)
    if len({one.step for one in looks}) > 1 or any(one.step for one in looks):
        # what was not known before may be now
        looks = _looks(path, options, environ)
    last = {one.row.index: place for place, one in enumerate(looks)}
    return [
        replace(one, output=made[one.row.index][0], fault=made[one.row.index][1])
        if last[one.row.index] == place and one.row.index in made
        else one
        for place, one in enumerate(looks)
    ]


def _looks(path: Path, options: RunOptions, environ: Mapping[str, str]) -> list[Look]:
    plan = prepare(path, options, environ)
    shown = {
        (step.name, place): _shown(voice, options, environ)
        for step in plan.steps
        for place, voice in enumerate(step.voices)
    }
    with known(plan, options) as (ledger, epoch), scratch(plan) as worksheet:

        def rows(tally: Tally) -> Iterator[Row]:
            source = input_rows(plan, tally)
            return source if options.only is None else until(source, options.only)

        spool = spools(plan, options, ledger, worksheet)
        chain = chain_of(plan, options, ledger, worksheet, epoch=epoch, rows=rows, spool=spool)
        showing = Showing(chain, shown)
        for _ in chain.first(showing).rows():
            pass
        return list(showing.looks.values())


class Showing:
    """A `Visitor` that keeps the first request of each row in each step, as far as the answers before it are known."""

    asking = True

    def __init__(self, chain: Chain, shown: Mapping[tuple[str, int], Shown]) -> None:
        self._chain = chain
        self._shown = shown
        self.looks: dict[tuple[int, str], Look] = {}

    def read(self, rows: Sequence[Row]) -> None:
        """Rows are shown where they meet a model."""

    def gap(self, stage: WholeStage, rows: int) -> bool:
        return False

    def each(self, stage: EachStage, row: Row, finished: Finished) -> None:
        """Only requests are shown."""

    def whole(self, stage: WholeStage, rows: int, made: int, left_out: int) -> None:
        """Only requests are shown."""

    def model(self, stage: ModelStage, seen: Seen) -> Finished | None:
        key = (seen.row.index, stage.name)
        if key not in self.looks:
            step = stage.name if len(self._chain.stages) > 1 else ""
            shown = self._shown[stage.name, stage.plan.members[0]]
            if isinstance(seen.samples[0], Open):
                shown = self._shown[stage.name, seen.samples[0].draft.voice]
            self.looks[key] = _look(seen.row, seen.refused, seen.requests, shown, step)
        if seen.open:
            return None
        samples = [one for one in seen.samples if isinstance(one, Sampled)]
        return stage.shaper.finish(seen.row, samples)


class Gathering(Passing):
    """Keeps what failed, by the row's index."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[int, list[str]] = defaultdict(list)

    def note(self, row: Row, finished: Finished) -> None:
        self.failures[row.index] += [str(cause) for _, cause in finished.failures]


Shown = Callable[[Sequence[Request]], tuple[str, str, Mapping[str, Any]]]
"""How the first of a row's requests goes out, its address where it is posted by us, and as what."""


def _body_of(place: Endpoint) -> Shown:
    if place.host.litellm:
        # it is LiteLLM that makes the provider's body of this, and knows its address
        return lambda requests: ("LiteLLM's arguments:", "", body(place, requests[0]))

    def posted(requests: Sequence[Request]) -> tuple[str, str, Mapping[str, Any]]:
        request = requests[0]
        url = place.url(completion=request.terms.completion)
        return f"POST {url}", url, body(place, request)

    return posted


def _line_of(place: Endpoint) -> Shown:
    """A request of a batch is a line of a file."""
    client = batch_client(place, AiohttpTransport())
    return lambda requests: ("as a line of a batch:", "", orjson.loads(client.line(requests[0])))


def _shown(voice: Voice, options: RunOptions, environ: Mapping[str, str]) -> Shown:
    if voice.engine == "vllm" and not simulated(voice, options):
        return lambda requests: ("vLLM is called with:", "", call(requests))
    url = "http://127.0.0.1/v1" if simulated(voice, options) else None
    try:
        place = endpoint(voice, environ, url)
    except AuthError:
        # what would be sent can be shown without the key that sends it
        settings = voice.settings.model_copy(update={"api_key": NO_KEY})
        place = endpoint(replace(voice, settings=settings), environ)
    return _line_of(place) if voice.engine == "batch" else _body_of(place)


def _look(row: Row, fault: Fault | None, requests: Sequence[Request], shown: Shown, step: str) -> Look:
    if not requests:
        return Look(row, step, fault="no request" if fault is None else str(fault))
    try:
        way, url, sent = shown(requests)
    except ParamError as error:
        return Look(row, step, fault=str(error))
    request = requests[0]
    return Look(row, step, request.id.hex(), way, url, request.messages, request.prompt, sent)


def _answers(
    path: Path, options: RunOptions, environ: Mapping[str, str], display: Callable[[Plan], Display]
) -> dict[int, tuple[Sequence[Mapping[str, Any]], str]]:
    """Asks for these rows. The answers go into the ledger, so that a run does not pay for them again."""
    error: SynthError | None = None
    with opened(path, options, environ) as running, wire(running) as wired:
        try:
            asked = ask(wired, running, display(running.plan), environ, chance=random.random)
            error = ended_by(asked, again(running.plan, options))
        except SynthError as raised:
            error = raised
        running.ledger.append(closing(running, code_of(error), time.time(), part=True))
        if error is not None:
            raise error
        gathering = Gathering()
        made: dict[int, list[Mapping[str, Any]]] = {}
        formatter = Formatter(running.plan.loaded.spec.output)
        for chunk in wired.chain.again(gathering).rows():
            for row in chunk:
                shaped = formatter.shape(row.values)
                if isinstance(shaped, Dropped):
                    gathering.failures[row.index].append(f"dropped by the format: {shaped.reason}")
                else:
                    made.setdefault(row.index, []).append(shaped)
        return {
            index: (made.get(index, ()), "; ".join(gathering.failures.get(index, ())))
            for index in {*made, *gathering.failures}
        }


def as_json(looks: Sequence[Look]) -> bytes:
    said = [
        {
            "index": one.row.index,
            **({"step": one.step} if one.step else {}),
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
    return readable(said, str, orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)


def as_text(looks: Sequence[Look]) -> str:
    """For people: the messages as they read, then the body as it is sent."""
    return "\n".join(_text(one) for one in looks) if looks else "no rows\n"


def _text(one: Look) -> str:
    step = f", step {one.step}" if one.step else ""
    lines = [f"── row {one.row.index}{step} {'─' * 60}"]
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
        lines += ["", "→ " + readable(row, str, orjson.OPT_INDENT_2).decode()]
    return "\n".join(lines) + "\n"
