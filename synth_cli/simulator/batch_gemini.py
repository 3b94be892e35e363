"""Gemini's generateContent and its batches.

https://ai.google.dev/api/batch-api and https://ai.google.dev/gemini-api/docs/batch-api. A batch that expires has no
results, as the guide says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from synth_cli.simulator.asked import Asked, Refused, body_of
from synth_cli.simulator.batch import Batch, Dialect, Line, Problem, Stage, iso, token
from synth_cli.simulator.calls import Act, Sent, elsewhere, handler, lost, own_headers
from synth_cli.simulator.gemini import CODES, content_body, error_body, field, read_content
from synth_cli.simulator.gemini_files import VERSION, file_acts, known_file, page
from synth_cli.simulator.model import Choice
from synth_cli.simulator.service import Endpoint, Handler, Routes, Service, check_model
from synth_cli.simulator.shelf import GEMINI_FILE, INTERNAL

WINDOW = 48 * 3600.0
STATES = {
    Stage.VALIDATING: "BATCH_STATE_PENDING",
    Stage.RUNNING: "BATCH_STATE_RUNNING",
    Stage.FINALIZING: "BATCH_STATE_RUNNING",
    Stage.CANCELLING: "BATCH_STATE_RUNNING",
    Stage.COMPLETED: "BATCH_STATE_SUCCEEDED",
    Stage.FAILED: "BATCH_STATE_FAILED",
    Stage.EXPIRED: "BATCH_STATE_EXPIRED",
    Stage.CANCELLED: "BATCH_STATE_CANCELLED",
}
ENDINGS = {
    Stage.FAILED: (3, ""),
    Stage.EXPIRED: (4, "The batch expired before it was completed."),
    Stage.CANCELLED: (1, "The batch was cancelled."),
}
TYPES = "type.googleapis.com/google.ai.generativelanguage.v1main."


def read_line(value: Any, _batch: Batch) -> Line:
    request = value.get("request") if isinstance(value, dict) else None
    if not isinstance(request, dict):
        raise Problem("invalid_json_line", "The line is not an object with a key and a request.")
    return Line(str(value.get("key") or ""), request)


def answered(key: str, asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    return b'{"key":%b,"response":%b}\n' % (orjson.dumps(key), content_body(asked, choices, content))


def refused(key: str, error: Refused, _number: int) -> bytes:
    status = {"code": CODES.get(error.status, 2), "message": error.message}
    return orjson.dumps({"key": key, "error": status}) + b"\n"


GEMINI = Dialect(
    "gemini",
    line=read_line,
    read=lambda line, batch: (read_content(line.body, batch.model),),
    answered=answered,
    refused=refused,
    dropped=lambda _key, _stage, _number: b"",
    make_id=lambda: f"batches/{token(38)}",
    make_file=lambda: f"files/batch-{token(24)}",
    most=1_000_000,
    one_file=True,
    keeps_expired=False,
    purpose=GEMINI_FILE,
)
DIALECTS = frozenset({GEMINI.name})


def operation(service: Service, batch: Batch) -> dict[str, Any]:
    finished = batch.succeeded + batch.errored
    metadata: dict[str, Any] = {
        "@type": f"{TYPES}GenerateContentBatch",
        "model": f"models/{batch.model}",
        "displayName": batch.more["displayName"],
        "createTime": iso(batch.created),
        "updateTime": iso(max(batch.times.values())),
        "batchStats": {
            "requestCount": str(batch.total),
            "successfulRequestCount": str(batch.succeeded),
            "failedRequestCount": str(batch.errored),
            "pendingRequestCount": str(batch.total - finished),
        },
        "state": STATES[batch.stage],
        "name": batch.id,
    }
    if not batch.more["inline"]:
        metadata["inputConfig"] = {"fileName": batch.input}
    found: dict[str, Any] = {"name": batch.id, "metadata": metadata}
    if not batch.ended:
        return found
    metadata["endTime"] = iso(batch.times[batch.stage])
    found["done"] = True
    output = output_of(service, batch)
    if output:
        metadata["output"] = output
    if batch.stage is Stage.COMPLETED:
        found["response"] = {"@type": f"{TYPES}GenerateContentBatchOutput", **output}
    else:
        code, message = ENDINGS[batch.stage]
        message = message or "; ".join(each["message"] for each in batch.problems)
        found["error"] = {"code": code, "message": message}
    return found


def output_of(service: Service, batch: Batch) -> dict[str, Any]:
    if batch.output is None:
        return {}
    if not batch.more["inline"]:
        return {"responsesFile": batch.output}
    responses: list[dict[str, Any]] = []
    for line in service.shelf.path(batch.output).read_bytes().splitlines():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            responses.append({})  # a line that broke off: an object with nothing in it
        else:
            responses.append({**value, "metadata": {"key": value.pop("key")}})
    return {"inlinedResponses": {"inlinedResponses": responses}}


def known_batch(service: Service, name: str) -> Batch:
    batch = service.batches.get(name)
    if batch is None or batch.dialect != GEMINI.name:
        raise Refused(404, "Requested entity was not found.")
    return batch


def made(service: Service, model: str, body: Mapping[str, Any], request: web.BaseRequest) -> Batch:
    """Raises `Refused`."""
    check_model(model)
    given = body.get("batch")
    config = field(given, "inputConfig") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(config, Mapping):
        raise Refused(400, "* BatchGenerateContentRequest.batch.input_config: input_config is not specified")
    name = field(config, "fileName")
    inline = field(config, "requests")
    if name is not None:
        known_file(service, str(name))
        file_id = str(name)
    else:
        requests = inline.get("requests") if isinstance(inline, Mapping) else None
        if not isinstance(requests, list) or not requests:
            raise Refused(400, "* BatchGenerateContentRequest.batch.input_config.requests: requests is not specified")
        opened, target = service.shelf.open()
        with target:
            for place, one in enumerate(requests):
                metadata = one.get("metadata") if isinstance(one, Mapping) else None
                key = metadata.get("key") if isinstance(metadata, Mapping) else None
                line = {"key": str(place) if key is None else key, "request": one.get("request")}
                target.write(orjson.dumps(line) + b"\n")
        now = service.batches.now()
        keep = service.shelf.keep
        file_id = keep(opened, "requests.jsonl", file_id=f"inline-{opened}", purpose=INTERNAL, created=now).id
    return service.batches.create(
        GEMINI,
        file_id,
        model=model,
        seconds=WINDOW,
        headers=own_headers(request),
        more={"displayName": field(given, "displayName") or "", "inline": name is None},
    )


def routes(service: Service) -> Routes:
    service.batches.dialects[GEMINI.name] = GEMINI
    found: dict[tuple[str, str], Handler] = {("POST", f"{VERSION}/models/*"): models(service)}
    for place, (name, act) in {**file_acts(service), **batches(service)}.items():
        found[place] = handler(service, name, act, error_body)
    return found


def models(service: Service) -> Handler:
    async def create(request: web.BaseRequest) -> Sent:
        model = request.path.removeprefix(f"{VERSION}/models/").rpartition(":")[0]
        batch = made(service, model, body_of(await request.read()), request)
        return Sent(orjson.dumps(operation(service, batch)), lost=lost(service, service.batches.settings_of(batch)))

    submit = handler(service, "batches.create", create, error_body)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        model, _, verb = request.path.removeprefix(f"{VERSION}/models/").rpartition(":")
        if verb == "batchGenerateContent":
            return await submit(request)
        if verb != "generateContent":
            return web.Response(status=404, body=error_body(elsewhere(request)), content_type="application/json")
        endpoint = Endpoint(
            "generateContent",
            read=lambda data: (read_content(body_of(data), model),),
            whole=content_body,
            error=error_body,
        )
        return await service.exchange(request, endpoint)

    return handle


def batches(service: Service) -> Mapping[tuple[str, str], tuple[str, Act]]:
    async def listed(request: web.BaseRequest) -> Sent:
        # a list tells how batches stand, not what came of them
        found = []
        for batch in service.batches.listed(DIALECTS):
            shape = operation(service, batch) if not batch.more["inline"] else told(service, batch)
            found.append(shape)
        return Sent(page(found, request.query, "operations", 100))

    async def one(request: web.BaseRequest) -> Sent:
        return Sent(orjson.dumps(operation(service, known_batch(service, name_of(request)))))

    async def cancel(request: web.BaseRequest) -> Sent:
        name, _, verb = name_of(request).partition(":")
        if verb != "cancel":
            raise elsewhere(request)
        service.batches.cancel(known_batch(service, name))
        return Sent(b"{}")

    async def delete(request: web.BaseRequest) -> Sent:
        batch = known_batch(service, name_of(request))
        if batch.ended:
            service.batches.delete(batch)
        else:
            raise Refused(400, f"The batch {batch.id} is still under way: cancel it first.")
        return Sent(b"{}")

    return {
        ("GET", f"{VERSION}/batches"): ("batches.list", listed),
        ("GET", f"{VERSION}/batches/*"): ("batches.get", one),
        ("POST", f"{VERSION}/batches/*"): ("batches.cancel", cancel),
        ("DELETE", f"{VERSION}/batches/*"): ("batches.delete", delete),
    }


def name_of(request: web.BaseRequest) -> str:
    return request.path.removeprefix(f"{VERSION}/")


def told(service: Service, batch: Batch) -> dict[str, Any]:
    shape = operation(service, batch)
    shape.pop("response", None)
    shape["metadata"].pop("output", None)
    return shape
