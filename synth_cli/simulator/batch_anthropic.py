"""Anthropic's messages and message batches.

https://platform.claude.com/docs/en/api/creating-message-batches, …/retrieving-message-batches,
…/retrieving-message-batch-results, …/listing-message-batches and …/canceling-message-batches
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from synth_cli.simulator.anthropic import error_body, message_body, read_message
from synth_cli.simulator.asked import Asked, Refused, body_of
from synth_cli.simulator.batch import Batch, Dialect, Line, Stage, iso, token
from synth_cli.simulator.batch_openai import known_batch
from synth_cli.simulator.calls import Act, Sent, base_of, elsewhere, handler, lost, own_headers
from synth_cli.simulator.model import Choice
from synth_cli.simulator.service import Endpoint, Handler, Routes, Service
from synth_cli.simulator.shelf import INTERNAL

KEY = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST = 100_000
PLACE = "/v1/messages/batches"
DROPPED = {Stage.EXPIRED: b"expired", Stage.CANCELLED: b"canceled"}


def answered(key: str, asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    message = message_body(asked, choices, content)
    return b'{"custom_id":%b,"result":{"type":"succeeded","message":%b}}\n' % (orjson.dumps(key), message)


def refused(key: str, error: Refused, _number: int) -> bytes:
    return b'{"custom_id":%b,"result":{"type":"errored","error":%b}}\n' % (orjson.dumps(key), error_body(error))


def dropped(key: str, stage: Stage, _number: int) -> bytes:
    return b'{"custom_id":%b,"result":{"type":"%b"}}\n' % (orjson.dumps(key), DROPPED[stage])


def read(line: Line, _batch: Batch) -> Sequence[Asked]:
    model = str(line.body.get("model"))
    if model.rpartition("/")[2].startswith("unknown"):
        raise Refused(404, f"model: {model}")
    return (read_message(line.body),)


ANTHROPIC = Dialect(
    "anthropic",
    line=lambda value, _batch: Line(value["custom_id"], value["params"]),
    read=read,
    answered=answered,
    refused=refused,
    dropped=dropped,
    make_id=lambda: f"msgbatch_{token(24)}",
    make_file=lambda: f"results_{token(24)}",
    most=MOST,
    one_file=True,
    shuffled=True,
    purpose=INTERNAL,
)
DIALECTS = frozenset({ANTHROPIC.name})


MESSAGES = Endpoint(
    "messages",
    read=lambda data: (read_message(body_of(data)),),
    whole=message_body,
    error=error_body,
)


def shape(batch: Batch, base: str) -> dict[str, Any]:
    """The counts move only at the end."""
    cancelled = batch.times.get(Stage.CANCELLING)
    ended = batch.times[batch.stage] if batch.ended else None
    status = "canceling" if batch.stage is Stage.CANCELLING else "in_progress"
    dropped_as = "expired" if batch.stage is Stage.EXPIRED else "canceled"
    counts = {"processing": batch.total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if batch.ended:
        counts |= {"processing": 0, "succeeded": batch.succeeded, "errored": batch.errored, dropped_as: batch.dropped}
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if batch.ended else status,
        "request_counts": counts,
        "ended_at": None if ended is None else iso(ended),
        "created_at": iso(batch.created),
        "expires_at": iso(batch.deadline),
        "archived_at": None,
        "cancel_initiated_at": None if cancelled is None else iso(cancelled),
        "results_url": f"{base}{PLACE}/{batch.id}/results" if batch.ended else None,
    }


def wrong(message: str) -> Refused:
    return Refused(400, message)


def checked(requests: Any) -> Sequence[Mapping[str, Any]]:
    """Raises `Refused`."""
    if not isinstance(requests, list) or not requests:
        raise wrong("requests: List should have at least 1 item")
    if len(requests) > MOST:
        raise wrong(f"requests: List should have at most {MOST} items")
    keys: set[str] = set()
    for place, one in enumerate(requests):
        if not isinstance(one, dict) or not isinstance(one.get("params"), dict):
            raise wrong(f"requests.{place}.params: Field required")
        key = one.get("custom_id")
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise wrong(f"requests.{place}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if key in keys:
            raise wrong(f"requests.{place}.custom_id: '{key}' is not unique in this batch")
        keys.add(key)
    return requests


def page(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> bytes:
    """One page; `after_id` and `before_id` are cursors."""
    limit = query.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        raise wrong("limit: Input should be between 1 and 1000")
    places = {item["id"]: place for place, item in enumerate(items)}
    size = int(limit)
    if query.get("before_id"):
        end = places.get(query["before_id"], 0)
        start = max(0, end - size)
        more = start > 0
    else:
        start = places.get(query.get("after_id", ""), -1) + 1
        end = start + size
        more = end < len(items)
    found = items[start:end]
    first, last = (found[0]["id"], found[-1]["id"]) if found else (None, None)
    return orjson.dumps({"data": found, "has_more": more, "first_id": first, "last_id": last})


def routes(service: Service) -> Routes:
    service.batches.dialects[ANTHROPIC.name] = ANTHROPIC

    async def messages(request: web.BaseRequest) -> web.StreamResponse:
        return await service.exchange(request, MESSAGES)

    async def create(request: web.BaseRequest) -> Sent:
        requests = checked(body_of(await request.read()).get("requests"))
        if service.settings_for(request)[0].batch_refuse:
            raise wrong("requests: the batch is refused")
        name, target = service.shelf.open()
        with target:
            target.writelines(orjson.dumps(one) + b"\n" for one in requests)
        now = service.batches.now()
        file = service.shelf.keep(name, "requests.jsonl", file_id=f"inline-{name}", purpose=INTERNAL, created=now)
        batch = service.batches.create(ANTHROPIC, file.id, headers=own_headers(request))
        batch.total = len(requests)
        lost_now = lost(service, service.batches.settings_of(batch))
        return Sent(orjson.dumps(shape(batch, base_of(request))), lost=lost_now)

    async def listed(request: web.BaseRequest) -> Sent:
        found = [shape(batch, base_of(request)) for batch in service.batches.listed(DIALECTS)]
        return Sent(page(found, request.query))

    async def one(request: web.BaseRequest) -> Sent:
        batch_id, _, what = request.path.removeprefix(PLACE + "/").partition("/")
        batch = known_batch(service, batch_id, DIALECTS)
        if what == "results":
            if not batch.ended:
                raise Refused(404, f"Message Batch {batch.id} has no available results.")
            if batch.output is None:
                return Sent(b"", content_type="application/x-jsonl")
            return Sent(service.shelf.path(batch.output), content_type="application/x-jsonl")
        if what:
            raise elsewhere(request)
        return Sent(orjson.dumps(shape(batch, base_of(request))))

    async def cancel(request: web.BaseRequest) -> Sent:
        batch_id, _, what = request.path.removeprefix(PLACE + "/").partition("/")
        if what != "cancel":
            raise elsewhere(request)
        batch = known_batch(service, batch_id, DIALECTS)
        if batch.ended:
            raise wrong(f"Message Batch {batch.id} has ended and cannot be canceled.")
        service.batches.cancel(batch)
        return Sent(orjson.dumps(shape(batch, base_of(request))))

    async def delete(request: web.BaseRequest) -> Sent:
        batch = known_batch(service, request.path.removeprefix(PLACE + "/"), DIALECTS)
        if not batch.ended:
            raise wrong(f"Message Batch {batch.id} is still in progress: cancel it first.")
        service.batches.delete(batch)
        return Sent(orjson.dumps({"id": batch.id, "type": "message_batch_deleted"}))

    acts: Mapping[tuple[str, str], tuple[str, Act]] = {
        ("POST", PLACE): ("batches.create", create),
        ("GET", PLACE): ("batches.list", listed),
        ("GET", PLACE + "/*"): ("batches.get", one),
        ("POST", PLACE + "/*"): ("batches.cancel", cancel),
        ("DELETE", PLACE + "/*"): ("batches.delete", delete),
    }
    found: dict[tuple[str, str], Handler] = {("POST", "/v1/messages"): messages}
    for place, (name, act) in acts.items():
        found[place] = handler(service, name, act, error_body)
    return found
