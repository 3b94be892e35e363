"""Mistral's batch jobs; its files are OpenAI's.

https://docs.mistral.ai/api/endpoint/batch and https://docs.mistral.ai/capabilities/batch
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from synth_cli.simulator.asked import Refused, body_of, missing, wrong
from synth_cli.simulator.batch import Batch, Line, Problem, Stage
from synth_cli.simulator.batch_openai import OPENAI, known_batch, known_file, numbered
from synth_cli.simulator.calls import Sent, elsewhere, handler, lost, own_headers
from synth_cli.simulator.service import Routes, Service, check_model
from synth_cli.simulator.shelf import INTERNAL

STATES = {
    Stage.VALIDATING: "QUEUED",
    Stage.RUNNING: "RUNNING",
    Stage.FINALIZING: "RUNNING",
    Stage.CANCELLING: "CANCELLATION_REQUESTED",
    Stage.COMPLETED: "SUCCESS",
    Stage.FAILED: "FAILED",
    Stage.EXPIRED: "TIMEOUT_EXCEEDED",
    Stage.CANCELLED: "CANCELLED",
}
LONGEST_HOURS = 168


def read_line(value: Any, batch: Batch) -> Line:
    if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
        raise Problem("invalid_json_line", "This line is not an object with a body.")
    key = value.get("custom_id")
    if not isinstance(key, str):
        raise Problem("invalid_custom_id", "The custom_id must be a string.", "custom_id")
    # the job's model is every request's
    return Line(key, {**value["body"], "model": batch.model})


MISTRAL = replace(
    OPENAI,
    name="mistral",
    line=read_line,
    dropped=lambda _key, _stage, _number: b"",
    make_id=lambda: str(uuid.uuid4()),
    make_file=lambda: str(uuid.uuid4()),
    most=1_000_000,
)
DIALECTS = frozenset({MISTRAL.name})


def job_shape(batch: Batch) -> dict[str, Any]:
    started = batch.times.get(Stage.RUNNING)
    return {
        "id": batch.id,
        "object": "batch",
        "input_files": batch.more["input_files"],
        "metadata": batch.metadata or None,
        "endpoint": batch.endpoint,
        "model": batch.model,
        "agent_id": None,
        "output_file": batch.output,
        "error_file": batch.errors,
        "errors": [{"message": each["message"], "count": 1} for each in batch.problems],
        "outputs": None,
        "status": STATES[batch.stage],
        "created_at": int(batch.created),
        "total_requests": batch.total,
        "completed_requests": batch.succeeded + batch.errored,
        "succeeded_requests": batch.succeeded,
        "failed_requests": batch.errored,
        "started_at": None if started is None else int(started),
        "completed_at": int(batch.times[batch.stage]) if batch.ended else None,
    }


def input_of(service: Service, body: Mapping[str, Any]) -> str:
    """The id of the one file that holds all requests."""
    files, inline = body.get("input_files") or [], body.get("requests")
    for file_id in files:
        known_file(service, file_id)
    if len(files) == 1 and not inline:
        only: str = files[0]
        return only
    if not files and not isinstance(inline, list):
        raise missing("input_files")
    token, target = service.shelf.open()
    with target:
        for file_id in files:
            target.write(service.shelf.path(file_id).read_bytes().rstrip(b"\n") + b"\n")
        for one in inline or ():
            target.write(orjson.dumps(one) + b"\n")
    now = service.batches.now()
    return service.shelf.keep(token, "requests.jsonl", file_id=f"joined-{token}", purpose=INTERNAL, created=now).id


def routes(service: Service) -> Routes:
    service.batches.dialects[MISTRAL.name] = MISTRAL

    async def create(request: web.BaseRequest) -> Sent:
        body = body_of(await request.read())
        for name in ("model", "endpoint"):
            if not isinstance(body.get(name), str):
                raise missing(name)
        if body["endpoint"] != "/v1/chat/completions":
            raise wrong("endpoint", "supported is /v1/chat/completions")
        check_model(body["model"])
        hours = body.get("timeout_hours", 24)
        if not isinstance(hours, int) or not 1 <= hours <= LONGEST_HOURS:
            raise wrong("timeout_hours", f"expected a whole number of at least 1 and at most {LONGEST_HOURS}")
        metadata = body.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise wrong("metadata", "expected an object")
        batch = service.batches.create(
            MISTRAL,
            input_of(service, body),
            endpoint=body["endpoint"],
            model=body["model"],
            window=f"{hours}h",
            metadata=metadata,
            headers=own_headers(request),
            more={"input_files": body.get("input_files") or []},
        )
        return Sent(orjson.dumps(job_shape(batch)), lost=lost(service, service.batches.settings_of(batch)))

    async def listed(request: web.BaseRequest) -> Sent:
        query = request.query
        states = query.getall("status", [])
        jobs = [job_shape(batch) for batch in service.batches.listed(DIALECTS)]
        jobs = [
            job
            for job in jobs
            if job["status"] in (states or (job["status"],)) and query.get("model", job["model"]) == job["model"]
        ]
        return Sent(orjson.dumps({"object": "list", **numbered(jobs, query)}))

    async def one(request: web.BaseRequest) -> Sent:
        return Sent(orjson.dumps(job_shape(known_batch(service, request.path.rpartition("/jobs/")[2], DIALECTS))))

    async def cancel(request: web.BaseRequest) -> Sent:
        batch_id, _, what = request.path.rpartition("/jobs/")[2].partition("/")
        if what != "cancel":
            raise elsewhere(request)
        batch = known_batch(service, batch_id, DIALECTS)
        if batch.ended:
            raise Refused(400, f"The job {batch.id} cannot be cancelled: it is {STATES[batch.stage]}.")
        service.batches.cancel(batch)
        return Sent(orjson.dumps(job_shape(batch)))

    return {
        ("POST", "/v1/batch/jobs"): handler(service, "batches.create", create),
        ("GET", "/v1/batch/jobs"): handler(service, "batches.list", listed),
        ("GET", "/v1/batch/jobs/*"): handler(service, "batches.get", one),
        ("POST", "/v1/batch/jobs/*"): handler(service, "batches.cancel", cancel),
    }
