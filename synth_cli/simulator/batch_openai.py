"""OpenAI's files and batches, also at Azure's and Groq's paths.

https://platform.openai.com/docs/api-reference/files and …/batch; Azure
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch; Groq https://console.groq.com/docs/batch
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import BodyPartReader, web

from synth_cli.simulator.asked import Asked, Refused, missing, read_chat, read_completions, wrong
from synth_cli.simulator.batch import Batch, Dialect, Line, Problem, Stage
from synth_cli.simulator.calls import PIECE, own_headers
from synth_cli.simulator.model import Choice
from synth_cli.simulator.service import Service
from synth_cli.simulator.shelf import HIDDEN, StoredFile
from synth_cli.simulator.wire import chat_body, completion_body

ENDPOINTS = ("/chat/completions", "/completions")
ENDPOINT_NAMES = frozenset({"/v1/chat/completions", "/v1/completions", *ENDPOINTS})


def is_chat(batch: Batch) -> bool:
    return batch.endpoint.endswith("/chat/completions")


def read_line(value: Any, batch: Batch) -> Line:
    if not isinstance(value, dict):
        raise Problem("invalid_json_line", "This line is not a JSON object.")
    for name in ("custom_id", "method", "url", "body"):
        if name not in value:
            raise Problem("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    key, body = value["custom_id"], value["body"]
    if not isinstance(key, str) or not key:
        raise Problem("invalid_custom_id", "The custom_id must be a non-empty string.", "custom_id")
    if value["method"] != "POST":
        raise Problem("invalid_method", f"Invalid method: '{value['method']}'. Only POST is supported.", "method")
    if plain(str(value["url"])) != plain(batch.endpoint):
        message = "The URL provided for this request does not match the batch endpoint."
        raise Problem("invalid_url", message, "url")
    if not isinstance(body, dict):
        raise Problem("invalid_body", "The body must be a JSON object.", "body")
    model = body.get("model")
    if not isinstance(model, str) or model.rpartition("/")[2].startswith("unknown"):
        message = f"The provided model '{model}' is not supported by the Batch API."
        raise Problem("model_not_found", message, "body.model")
    if not batch.model:
        batch.model = model
    elif batch.model != model:
        message = f"All requests in a batch must have the same model. Expected '{batch.model}', got '{model}'."
        raise Problem("mismatched_model", message, "body.model")
    if "no-credit" in model:
        raise Problem("billing_hard_limit_reached", "Billing hard limit has been reached.")
    return Line(key, body)


def plain(endpoint: str) -> str:
    return endpoint.removeprefix("/v1")


def read_body(line: Line, batch: Batch) -> Sequence[Asked]:
    return (read_chat(line.body),) if is_chat(batch) else read_completions(line.body)


def answered(key: str, asked: Sequence[Asked], choices: Sequence[Choice], content: int) -> bytes:
    body = chat_body(asked[0], choices, content) if asked[0].chat else completion_body(asked, choices, content)
    number = f"{content:016x}".encode()
    return (
        b'{"id":"batch_req_%b","custom_id":%b,"response":{"status_code":200,"request_id":"%b","body":%b},"error":null}\n'
        % (
            number,
            orjson.dumps(key),
            number,
            body,
        )
    )


def refused(key: str, error: Refused, number: int) -> bytes:
    response = {"status_code": error.status, "request_id": f"{number:016x}", "body": orjson.loads(error.body())}
    line = {"id": f"batch_req_{number:016x}", "custom_id": key, "response": response, "error": None}
    return orjson.dumps(line) + b"\n"


DROPPED = {
    Stage.EXPIRED: ("batch_expired", "This request could not be executed before the completion window expired."),
    Stage.CANCELLED: ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


def dropped(key: str, stage: Stage, number: int) -> bytes:
    code, message = DROPPED[stage]
    error = {"code": code, "message": message}
    line = {"id": f"batch_req_{number:016x}", "custom_id": key, "response": None, "error": error}
    return orjson.dumps(line) + b"\n"


OPENAI = Dialect(
    "openai",
    line=read_line,
    read=read_body,
    answered=answered,
    refused=refused,
    dropped=dropped,
    make_id=lambda: f"batch_{secrets.token_hex(16)}",
    make_file=lambda: f"file-{secrets.token_hex(12)}",
    most=50_000,
)
DIALECTS = frozenset({OPENAI.name})


def batch_shape(batch: Batch) -> dict[str, Any]:
    times = {name: None if moment is None else int(moment) for name, moment in moments(batch).items()}
    problems = {"object": "list", "data": batch.problems} if batch.problems else None
    usage = None
    if batch.ended:
        usage = {
            "input_tokens": batch.tokens_in,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.tokens_in + batch.tokens_out,
        }
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": problems,
        "input_file_id": batch.input,
        "completion_window": batch.window,
        "status": batch.stage.value,
        "output_file_id": batch.output,
        "error_file_id": batch.errors,
        "created_at": int(batch.created),
        **times,
        "expires_at": int(batch.deadline),
        "request_counts": {"total": batch.total, "completed": batch.succeeded, "failed": batch.errored},
        "usage": usage,
        "metadata": batch.metadata or None,
    }


def moments(batch: Batch) -> dict[str, float | None]:
    stages = [stage for stage in Stage if stage is not Stage.VALIDATING]
    return {f"{stage.value}_at": batch.times.get(stage.value) for stage in stages}


def file_shape(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created),
        "expires_at": file.more.get("expires_at"),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def page(items: Sequence[dict[str, Any]], query: Mapping[str, str], *, limit: int, most: int) -> bytes:
    """One page of a list; `after` is the id of the last one before it."""
    wanted = query.get("limit", str(limit))
    if not wanted.isdigit() or not 1 <= int(wanted) <= most:
        raise wrong("limit", f"expected a value of at least 1 and at most {most}")
    after, start = query.get("after"), 0
    if after:
        start = next((place for place, item in enumerate(items, 1) if item["id"] == after), len(items))
    found = items[start : start + int(wanted)]
    return orjson.dumps(
        {
            "object": "list",
            "data": found,
            "first_id": found[0]["id"] if found else None,
            "last_id": found[-1]["id"] if found else None,
            "has_more": start + int(wanted) < len(items),
        }
    )


def numbered(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of a list whose pages have numbers, from 0."""
    number, size = query.get("page", "0"), query.get("page_size", "100")
    if not number.isdigit() or not size.isdigit() or not int(size):
        raise wrong("page", "expected whole numbers")
    start = int(number) * int(size)
    return {"data": items[start : start + int(size)], "total": len(items)}


def known_file(service: Service, file_id: str) -> StoredFile:
    file = service.shelf.known.get(file_id)
    if file is None:
        raise Refused(404, f"No such File object: {file_id}", param="id")
    return file


def known_batch(service: Service, batch_id: str, dialects: frozenset[str]) -> Batch:
    batch = service.batches.get(batch_id)
    if batch is None or batch.dialect not in dialects:
        raise Refused(404, f"No batch found with id '{batch_id}'.", code="not_found")
    return batch


async def upload(service: Service, request: web.BaseRequest, file_id: str) -> StoredFile:
    """Keeps the file of a multipart form, piece by piece."""
    if not request.content_type.startswith("multipart/"):
        raise Refused(400, "Expected a multipart/form-data body.")
    fields: dict[str, str] = {}
    token, name = None, "file.jsonl"
    try:
        async for part in await request.multipart():
            if part is None or not isinstance(part, BodyPartReader):
                continue
            if part.name == "file":
                name = part.filename or name
                token, target = service.shelf.open()
                with target:
                    while piece := await part.read_chunk(PIECE):
                        target.write(piece)
            else:
                fields[part.name or ""] = (await part.read()).decode()
        if token is None:
            raise missing("file")
        if not fields.get("purpose"):
            raise missing("purpose")
        more = {}
        if fields.get("expires_after[seconds]", "").isdigit():
            more["expires_at"] = int(service.batches.now()) + int(fields["expires_after[seconds]"])
        name = fields.get("file_name", name)
        return service.shelf.keep(
            token, name, file_id=file_id, purpose=fields["purpose"], created=service.batches.now(), more=more
        )
    finally:
        if token is not None:
            service.shelf.drop(token)


def seen_files(service: Service) -> list[StoredFile]:
    """Newest first, without those that lists do not show yet."""
    seen = service.batches.now() - service.settings.batch_list_lag
    files = reversed(service.shelf.known.values())
    return [file for file in files if file.purpose not in HIDDEN and file.created <= seen]


def made(service: Service, dialect: Dialect, body: Mapping[str, Any], request: web.BaseRequest) -> Batch:
    """Raises `Refused`."""
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not body.get(name):
            raise missing(name)
    endpoint = body["endpoint"]
    if endpoint not in ENDPOINT_NAMES:
        raise wrong("endpoint", f"supported values are {', '.join(sorted(ENDPOINT_NAMES))}")
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict) or len(metadata) > 16:
        raise wrong("metadata", "expected an object with at most 16 keys")
    for key, value in metadata.items():
        if len(key) > 64 or not isinstance(value, str) or len(value) > 512:
            raise wrong("metadata", "expected keys of at most 64 characters and strings of at most 512")
    known_file(service, body["input_file_id"])
    return service.batches.create(
        dialect,
        body["input_file_id"],
        endpoint=endpoint,
        window=body["completion_window"],
        metadata=metadata,
        headers=own_headers(request),
    )
