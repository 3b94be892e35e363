"""Gemini's files: the resumable upload, and what is asked about them.

https://ai.google.dev/api/files and https://ai.google.dev/gemini-api/docs/files
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from synth_cli.simulator.asked import Refused, body_of
from synth_cli.simulator.batch import iso, token
from synth_cli.simulator.calls import PIECE, Act, Sent, base_of, elsewhere
from synth_cli.simulator.gemini import field
from synth_cli.simulator.service import Service
from synth_cli.simulator.shelf import GEMINI_FILE, StoredFile

VERSION = "/v1beta"
KEPT = 48 * 3600.0
"""Uploaded files are gone after two days."""


def file_shape(file: StoredFile, base: str) -> dict[str, Any]:
    # a file of results is made by the service, and downloaded by its own address
    made = "GENERATED" if file.id.startswith("files/batch-") else "UPLOADED"
    return {
        "name": file.id,
        "displayName": file.name,
        "mimeType": file.more.get("mimeType", "application/jsonl"),
        "sizeBytes": str(file.size),
        "createTime": iso(file.created),
        "updateTime": iso(file.created),
        "expirationTime": iso(file.created + KEPT),
        "sha256Hash": file.more.get("sha256Hash", ""),
        "uri": f"{base}{VERSION}/{file.id}",
        "downloadUri": f"{base}/download{VERSION}/{file.id}:download?alt=media",
        "state": "ACTIVE",
        "source": made,
    }


def known_file(service: Service, name: str) -> StoredFile:
    file = service.shelf.known.get(name)
    if file is None or file.purpose != GEMINI_FILE:
        message = f"You do not have permission to access the File {name} or it may not exist."
        raise Refused(403, message)
    return file


def page(items: Sequence[Any], query: Mapping[str, str], name: str, most: int) -> bytes:
    size, start = query.get("pageSize", "50"), query.get("pageToken", "0")
    if not size.isdigit() or not start.isdigit():
        raise Refused(400, "Invalid pageSize or pageToken.")
    end = int(start) + min(int(size) or 50, most)
    found: dict[str, Any] = {name: items[int(start) : end]} if items[int(start) : end] else {}
    if end < len(items):
        found["nextPageToken"] = str(end)
    return orjson.dumps(found)


def file_acts(service: Service) -> Mapping[tuple[str, str], tuple[str, Act]]:
    uploads: dict[str, dict[str, Any]] = {}

    async def start(request: web.BaseRequest) -> Sent:
        command = request.headers.get("X-Goog-Upload-Command", "")
        if "upload_id" in request.query:
            return await go_on(request, command)
        if request.headers.get("X-Goog-Upload-Protocol") != "resumable" or command != "start":
            raise Refused(400, "Expected the resumable upload protocol and the command 'start'.")
        data = await request.read()
        about = (body_of(data) if data else {}).get("file") or {}
        upload_id, (name, target) = token(32), service.shelf.open()
        target.close()
        uploads[upload_id] = {
            "token": name,
            "displayName": field(about, "displayName") or "",
            "name": about.get("name") or f"files/{token(12)}",
            "mimeType": request.headers.get("X-Goog-Upload-Header-Content-Type", "application/octet-stream"),
        }
        url = f"{base_of(request)}/upload{VERSION}/files?upload_id={upload_id}&upload_protocol=resumable"
        headers = (("X-Goog-Upload-URL", url), ("X-Goog-Upload-Status", "active"))
        return Sent(b"", headers=headers)

    async def go_on(request: web.BaseRequest, command: str) -> Sent:
        state = uploads.get(request.query["upload_id"])
        if state is None:
            raise Refused(404, "There is no such upload.")
        path = service.shelf.path(state["token"])
        size = path.stat().st_size
        if "query" in command:
            received = ("X-Goog-Upload-Size-Received", str(size))
            return Sent(b"", headers=(received, ("X-Goog-Upload-Status", "active")))
        if "upload" in command:
            if request.headers.get("X-Goog-Upload-Offset", "0") != str(size):
                raise Refused(400, f"The upload goes on at byte {size}.")
            with path.open("ab") as target:
                async for piece in request.content.iter_chunked(PIECE):
                    target.write(piece)
        if "finalize" not in command:
            return Sent(b"", headers=(("X-Goog-Upload-Status", "active"),))
        del uploads[request.query["upload_id"]]
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        stored = service.shelf.keep(
            state["token"],
            state["displayName"],
            file_id=state["name"],
            purpose=GEMINI_FILE,
            created=service.batches.now(),
            more={"mimeType": state["mimeType"], "sha256Hash": digest},
        )
        body = orjson.dumps({"file": file_shape(stored, base_of(request))})
        return Sent(body, headers=(("X-Goog-Upload-Status", "final"),))

    async def listed(request: web.BaseRequest) -> Sent:
        seen = service.batches.now() - service.settings.batch_list_lag
        known = [file for file in reversed(service.shelf.known.values()) if file.purpose == GEMINI_FILE]
        shapes = [file_shape(file, base_of(request)) for file in known if file.created <= seen]
        return Sent(page(shapes, request.query, "files", 100))

    async def one(request: web.BaseRequest) -> Sent:
        name, _, verb = request.path.partition(f"{VERSION}/")[2].partition(":")
        stored = known_file(service, name)
        if verb == "download":
            return Sent(service.shelf.path(name), content_type="application/octet-stream")
        if verb:
            raise elsewhere(request)
        return Sent(orjson.dumps(file_shape(stored, base_of(request))))

    async def delete(request: web.BaseRequest) -> Sent:
        name = request.path.partition(f"{VERSION}/")[2]
        known_file(service, name)
        service.shelf.delete(name)
        return Sent(b"{}")

    return {
        ("POST", f"/upload{VERSION}/files"): ("files.create", start),
        ("PUT", f"/upload{VERSION}/files"): ("files.create", start),
        ("GET", f"{VERSION}/files"): ("files.list", listed),
        ("GET", f"{VERSION}/files/*"): ("files.get", one),
        ("GET", f"/download{VERSION}/files/*"): ("files.get", one),
        ("DELETE", f"{VERSION}/files/*"): ("files.delete", delete),
    }
