from __future__ import annotations

import json
from typing import Any

import aiohttp
from batching import jsonl, looked, said, with_http

from synth_cli.simulator import Simulator

MODEL = "/v1beta/models/gemini-3-flash"
SCHEMA = {"type": "OBJECT", "properties": {"title": {"type": "STRING"}}, "required": ["title"]}


def content(number: int, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": f"Say {number}."}]}], **more}


def inline(count: int) -> dict[str, Any]:
    requests = [{"request": content(number), "metadata": {"key": f"r{number}"}} for number in range(count)]
    return {"batch": {"display_name": "mine", "input_config": {"requests": {"requests": requests}}}}


def over(operation: dict[str, Any]) -> bool:
    return bool(operation.get("done"))


async def uploaded(session: aiohttp.ClientSession, data: bytes) -> dict[str, Any]:
    """A file, uploaded in two pieces."""
    start = {
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Length": str(len(data)),
        "X-Goog-Upload-Header-Content-Type": "application/jsonl",
    }
    about = {"file": {"display_name": "in.jsonl"}}
    async with session.post("/upload/v1beta/files", json=about, headers=start) as response:
        url = response.headers["X-Goog-Upload-URL"]
    half = len(data) // 2
    first = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload"}
    async with session.post(url, data=data[:half], headers=first) as response:
        assert response.headers["X-Goog-Upload-Status"] == "active"
    last = {"X-Goog-Upload-Offset": str(half), "X-Goog-Upload-Command": "upload, finalize"}
    file: dict[str, Any] = (await said(session, "POST", url, data=data[half:], headers=last))["file"]
    return file


async def downloaded(session: aiohttp.ClientSession, name: str) -> list[dict[str, Any]]:
    async with session.get(f"/download/v1beta/{name}:download?alt=media") as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.text()).splitlines()]


def test_content_is_generated_in_its_shape() -> None:
    """Candidates of parts, a finish reason, usage; the answer is that to the same chat."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        body = content(1, systemInstruction={"parts": [{"text": "Be terse."}]})
        answer = await said(session, "POST", f"{MODEL}:generateContent", json=body)
        messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Say 1."}]
        chat = {"model": "gemini-3-flash", "messages": messages}
        online = await said(session, "POST", "/v1/chat/completions", json=chat)
        prompt = online["usage"]["prompt_tokens"]
        text = online["choices"][0]["message"]["content"]
        answer.pop("responseId")
        assert answer == {
            "candidates": [
                {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {
                "promptTokenCount": prompt,
                "candidatesTokenCount": online["usage"]["completion_tokens"],
                "totalTokenCount": online["usage"]["total_tokens"],
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
            },
            "modelVersion": "gemini-3-flash",
        }

    with_http(use)


def test_functions_schemas_and_lengths_are_understood() -> None:
    """Both kinds of schema hold, a function is called with an object, a cut answer says so."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        for name in ("responseSchema", "response_schema", "responseJsonSchema"):
            schema = SCHEMA if "Json" not in name else json.loads(json.dumps(SCHEMA).lower())
            body = content(1, generationConfig={"responseMimeType": "application/json", name: schema})
            answer = await said(session, "POST", f"{MODEL}:generateContent", json=body)
            assert list(json.loads(answer["candidates"][0]["content"]["parts"][0]["text"])) == ["title"]
        tools = [{"functionDeclarations": [{"name": "look", "parameters": SCHEMA}]}]
        config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}}
        body = content(1, tools=tools, toolConfig=config)
        answer = await said(session, "POST", f"{MODEL}:generateContent", json=body)
        called = answer["candidates"][0]["content"]["parts"][0]["functionCall"]
        assert (called["name"], list(called["args"])) == ("look", ["title"])
        body = content(1, generationConfig={"maxOutputTokens": 2})
        answer = await said(session, "POST", f"{MODEL}:generateContent", json=body)
        assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"

    with_http(use)


def test_an_inline_batch_answers_in_the_operation() -> None:
    """Pending, running, succeeded; responses in order with their keys, paid once."""

    async def use(session: aiohttp.ClientSession, simulator: Simulator) -> None:
        made = await said(session, "POST", f"{MODEL}:batchGenerateContent", json=inline(3))
        assert made["metadata"]["state"] == "BATCH_STATE_PENDING"
        assert "done" not in made
        simulator.advance(11)
        batch = await looked(session, f"/v1beta/{made['name']}", over)
        stats = {
            "requestCount": "3",
            "successfulRequestCount": "3",
            "failedRequestCount": "0",
            "pendingRequestCount": "0",
        }
        metadata = batch["metadata"]
        assert (metadata["state"], metadata["displayName"]) == ("BATCH_STATE_SUCCEEDED", "mine")
        assert (metadata["batchStats"], metadata["model"]) == (stats, "models/gemini-3-flash")
        responses = batch["response"]["inlinedResponses"]["inlinedResponses"]
        assert [one["metadata"]["key"] for one in responses] == ["r0", "r1", "r2"]
        online = await said(session, "POST", f"{MODEL}:generateContent", json=content(1))
        assert responses[1]["response"]["candidates"] == online["candidates"]
        (listed,) = (await said(session, "GET", "/v1beta/batches"))["operations"]
        assert (listed["name"], "response" in listed) == (batch["name"], False)
        assert await said(session, "DELETE", f"/v1beta/{made['name']}") == {}
        assert await said(session, "GET", "/v1beta/batches") == {}

    with_http(use, batch_seconds=10)


def test_a_file_is_uploaded_in_pieces_and_answered_in_a_file() -> None:
    """The resumable upload as documented; results and errors by key in one file."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        lines = [{"key": f"r{number}", "request": content(number)} for number in range(3)]
        lines.append({"key": "bad", "request": content(3, generationConfig={"temperature": 9})})
        file = await uploaded(session, jsonl(lines))
        assert (file["state"], file["displayName"], file["sizeBytes"]) == ("ACTIVE", "in.jsonl", str(len(jsonl(lines))))
        assert await said(session, "GET", f"/v1beta/{file['name']}") == file
        config = {"displayName": "mine", "inputConfig": {"fileName": file["name"]}}
        batch = await said(session, "POST", f"{MODEL}:batchGenerateContent", json={"batch": config})
        batch = await looked(session, f"/v1beta/{batch['name']}", over)
        results = await downloaded(session, batch["response"]["responsesFile"])
        assert [(line["key"], "response" in line) for line in results] == [
            ("r0", True),
            ("r1", True),
            ("r2", True),
            ("bad", False),
        ]
        assert results[3]["error"]["code"] == 3
        assert batch["metadata"]["batchStats"]["failedRequestCount"] == "1"
        names = [one["name"] for one in (await said(session, "GET", "/v1beta/files"))["files"]]
        assert names == [batch["response"]["responsesFile"], file["name"]]
        page = await said(session, "GET", "/v1beta/files?pageSize=1")
        assert [one["name"] for one in page["files"]] == names[:1]
        page = await said(session, "GET", f"/v1beta/files?pageSize=1&pageToken={page['nextPageToken']}")
        assert ([one["name"] for one in page["files"]], "nextPageToken" in page) == (names[1:], False)
        assert await said(session, "DELETE", f"/v1beta/{file['name']}") == {}
        await said(session, "GET", f"/v1beta/{file['name']}", 403)

    with_http(use)


def test_batches_that_expire_have_no_results_and_cost_nothing() -> None:
    """An error says how it ended; cancelled ones keep what was done."""

    async def use(session: aiohttp.ClientSession, simulator: Simulator) -> None:
        headers = {"x-simulator-batch-expire": "0.5"}
        batch = await said(session, "POST", f"{MODEL}:batchGenerateContent", json=inline(4), headers=headers)
        batch = await looked(session, f"/v1beta/{batch['name']}", over)
        assert batch["metadata"]["state"] == "BATCH_STATE_EXPIRED"
        assert (batch["error"]["code"], "output" in batch["metadata"]) == (4, False)
        assert simulator.counts["paid"] == {}
        headers = {"x-simulator-batch-halt": "0.5"}
        batch = await said(session, "POST", f"{MODEL}:batchGenerateContent", json=inline(4), headers=headers)
        name = f"/v1beta/{batch['name']}"
        await looked(session, name, lambda one: one["metadata"]["batchStats"]["successfulRequestCount"] == "2")
        assert await said(session, "POST", f"{name}:cancel") == {}
        batch = await looked(session, name, over)
        assert (batch["metadata"]["state"], batch["error"]["code"]) == ("BATCH_STATE_CANCELLED", 1)
        assert len(batch["metadata"]["output"]["inlinedResponses"]["inlinedResponses"]) == 2

    with_http(use)


def test_gemini_errors_have_their_shape() -> None:
    """What is wrong, what is not there, which key is refused."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        error = await said(session, "POST", f"{MODEL}:generateContent", 400, json={})
        assert error["error"]["status"] == "INVALID_ARGUMENT"
        headers = {"x-goog-api-key": "bad"}
        error = await said(session, "POST", f"{MODEL}:generateContent", 401, json=content(1), headers=headers)
        assert error["error"]["status"] == "UNAUTHENTICATED"
        error = await said(session, "GET", "/v1beta/batches/none", 404)
        assert error["error"] == {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}
        error = await said(session, "POST", "/v1beta/models/unknown:batchGenerateContent", 404, json=inline(1))
        assert error["error"]["status"] == "NOT_FOUND"

    with_http(use)
