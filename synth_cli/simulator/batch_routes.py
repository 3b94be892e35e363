"""The paths of files and batches in OpenAI's way: OpenAI's own, Azure's, Groq's and Together's."""

from __future__ import annotations

import orjson
from aiohttp import web

from synth_cli.simulator import batch_openai, batch_together
from synth_cli.simulator.asked import Refused, body_of
from synth_cli.simulator.batch import ENDED, Stage
from synth_cli.simulator.batch_openai import (
    OPENAI,
    batch_shape,
    file_shape,
    known_batch,
    known_file,
    made,
    numbered,
    page,
    seen_files,
    upload,
)
from synth_cli.simulator.batch_together import TOGETHER, job_shape, together_file
from synth_cli.simulator.calls import Act, Sent, elsewhere, handler, lost
from synth_cli.simulator.service import Handler, Routes, Service

PREFIXES = ("/v1", "/openai/v1", "/openai")
"""OpenAI's; Groq's and Azure's newer one; Azure's older one."""
MOST_FILES = 10_000
BOTH = batch_openai.DIALECTS | batch_together.DIALECTS


def routes(service: Service) -> Routes:
    service.batches.dialects |= {OPENAI.name: OPENAI, TOGETHER.name: TOGETHER}
    own = {**files(service), **batches(service)}
    theirs = {**own, **together(service)}
    found: dict[tuple[str, str], Handler] = {}
    for prefix, acts in (*((prefix, own) for prefix in PREFIXES), (batch_together.PREFIX, theirs)):
        for (method, path), (name, act) in acts.items():
            found[method, prefix + path] = handler(service, name, act)
    return found


def files(service: Service) -> dict[tuple[str, str], tuple[str, Act]]:
    async def create(request: web.BaseRequest) -> Sent:
        return Sent(orjson.dumps(file_shape(await upload(service, request, OPENAI.make_file()))))

    async def create_theirs(request: web.BaseRequest) -> Sent:
        return Sent(orjson.dumps(together_file(await upload(service, request, TOGETHER.make_file()))))

    async def listed(request: web.BaseRequest) -> Sent:
        purpose = request.query.get("purpose")
        found = [file_shape(file) for file in seen_files(service) if purpose in (None, file.purpose)]
        if request.query.get("order") == "asc":
            found.reverse()
        if "page" in request.query:
            # Mistral counts pages, from 0
            return Sent(orjson.dumps({"object": "list", **numbered(found, request.query)}))
        return Sent(page(found, request.query, limit=MOST_FILES, most=MOST_FILES))

    async def one(request: web.BaseRequest) -> Sent:
        file_id, _, what = request.path.rpartition("/files/")[2].partition("/")
        stored = known_file(service, file_id)
        if what == "content":
            return Sent(service.shelf.path(file_id), content_type="application/octet-stream")
        if what:
            raise elsewhere(request)
        return Sent(orjson.dumps(file_shape(stored)))

    async def delete(request: web.BaseRequest) -> Sent:
        file_id = request.path.rpartition("/files/")[2]
        known_file(service, file_id)
        service.shelf.delete(file_id)
        return Sent(orjson.dumps({"id": file_id, "object": "file", "deleted": True}))

    return {
        ("POST", "/files"): ("files.create", create),
        ("POST", "/files/upload"): ("files.create", create_theirs),
        ("GET", "/files"): ("files.list", listed),
        ("GET", "/files/*"): ("files.get", one),
        ("DELETE", "/files/*"): ("files.delete", delete),
    }


def batches(service: Service) -> dict[tuple[str, str], tuple[str, Act]]:
    async def create(request: web.BaseRequest) -> Sent:
        body = body_of(await request.read())
        file = service.shelf.known.get(str(body.get("input_file_id")))
        if file is not None and file.purpose == batch_together.PURPOSE:
            return batch_together.create(service, body, request)
        batch = made(service, OPENAI, body, request)
        return Sent(orjson.dumps(batch_shape(batch)), lost=lost(service, service.batches.settings_of(batch)))

    async def listed(request: web.BaseRequest) -> Sent:
        found = [batch_shape(batch) for batch in service.batches.listed(batch_openai.DIALECTS)]
        if not found and (theirs := service.batches.listed(batch_together.DIALECTS)):
            return Sent(orjson.dumps([job_shape(service, batch) for batch in theirs]))
        return Sent(page(found, request.query, limit=20, most=100))

    async def one(request: web.BaseRequest) -> Sent:
        batch = known_batch(service, request.path.rpartition("/batches/")[2], BOTH)
        shape = job_shape(service, batch) if batch.dialect == TOGETHER.name else batch_shape(batch)
        return Sent(orjson.dumps(shape))

    async def cancel(request: web.BaseRequest) -> Sent:
        batch_id, _, what = request.path.rpartition("/batches/")[2].partition("/")
        if what != "cancel":
            raise elsewhere(request)
        batch = known_batch(service, batch_id, BOTH)
        if batch.dialect == TOGETHER.name:
            return batch_together.cancel(service, batch)
        if batch.stage in ENDED - {Stage.CANCELLED}:
            message = f"Cannot cancel a batch with status '{batch.stage.value}'."
            raise Refused(409, message, code="batch_not_cancellable")
        service.batches.cancel(batch)
        return Sent(orjson.dumps(batch_shape(batch)))

    return {
        ("POST", "/batches"): ("batches.create", create),
        ("GET", "/batches"): ("batches.list", listed),
        ("GET", "/batches/*"): ("batches.get", one),
        ("POST", "/batches/*"): ("batches.cancel", cancel),
    }


def together(service: Service) -> dict[tuple[str, str], tuple[str, Act]]:
    """What is answered otherwise below Together's own path."""

    async def list_files(_request: web.BaseRequest) -> Sent:
        return Sent(orjson.dumps({"data": [together_file(file) for file in seen_files(service)]}))

    async def create(request: web.BaseRequest) -> Sent:
        return batch_together.create(service, body_of(await request.read()), request)

    async def listed(_request: web.BaseRequest) -> Sent:
        return Sent(
            orjson.dumps([job_shape(service, batch) for batch in service.batches.listed(batch_together.DIALECTS)])
        )

    return {
        ("GET", "/files"): ("files.list", list_files),
        ("POST", "/batches"): ("batches.create", create),
        ("GET", "/batches"): ("batches.list", listed),
    }
