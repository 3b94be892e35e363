"""Together's batches, which are almost OpenAI's.

https://docs.together.ai/reference/batch-create, …/batch-get, …/batch-list, …/batch-cancel and …/upload-file. Served
below `/together/v1`; a file that was uploaded the way of Together makes Together's batches below `/v1` too.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from synth_cli.simulator import batch_openai
from synth_cli.simulator.batch import ENDED, Batch, Line, Problem, Stage, iso
from synth_cli.simulator.batch_openai import OPENAI, file_shape, made
from synth_cli.simulator.calls import Sent, lost
from synth_cli.simulator.service import Service
from synth_cli.simulator.shelf import StoredFile

PREFIX = "/together/v1"
PURPOSE = "batch-api"


def read_line(value: Any, batch: Batch) -> Line:
    if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
        raise Problem("invalid_json_line", "This line is not an object with a body.")
    return batch_openai.read_line({**value, "method": "POST", "url": batch.endpoint}, batch)


TOGETHER = replace(OPENAI, name="together", line=read_line, make_id=lambda: str(uuid.uuid4()))
DIALECTS = frozenset({TOGETHER.name})
STATES = {stage: stage.value.upper() for stage in Stage} | {
    Stage.FINALIZING: "IN_PROGRESS",
    Stage.CANCELLING: "IN_PROGRESS",
}


def job_shape(service: Service, batch: Batch) -> dict[str, Any]:
    file = service.shelf.known.get(batch.input)
    finished = batch.succeeded + batch.errored
    return {
        "id": batch.id,
        "user_id": "user_simulator",
        "input_file_id": batch.input,
        "file_size_bytes": file.size if file else 0,
        "status": STATES[batch.stage],
        "job_deadline": iso(batch.deadline),
        "created_at": iso(batch.created),
        "endpoint": batch.endpoint,
        "progress": 100.0 * finished / batch.total if batch.total else 0.0,
        "model_id": batch.model,
        "output_file_id": batch.output,
        "error_file_id": batch.errors,
        "error": "; ".join(each["message"] for each in batch.problems) or None,
        "completed_at": iso(batch.times[batch.stage]) if batch.ended else None,
    }


def together_file(file: StoredFile) -> dict[str, Any]:
    return {**file_shape(file), "FileType": "jsonl", "Processed": True, "LineCount": 0}


def create(service: Service, body: Mapping[str, Any], request: web.BaseRequest) -> Sent:
    batch = made(service, TOGETHER, {"completion_window": "24h", **body}, request)
    answer = {"job": job_shape(service, batch), "warning": ""}
    return Sent(orjson.dumps(answer), status=201, lost=lost(service, service.batches.settings_of(batch)))


def cancel(service: Service, batch: Batch) -> Sent:
    if batch.stage not in ENDED:
        service.batches.cancel(batch)
    return Sent(orjson.dumps(job_shape(service, batch)))
