from __future__ import annotations

import json
from typing import Any

import aiohttp
from batching import looked, said, with_http

from synth_cli.simulator import Simulator

PLACE = "/v1/messages/batches"
TOOL = {"name": "find_lighthouse", "description": "", "input_schema": {"type": "object", "properties": {}}}
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}


def params(number: int, **more: Any) -> dict[str, Any]:
    return {
        "model": "claude-sonnet-4-5",
        "max_tokens": 300,
        "messages": [{"role": "user", "content": f"Say {number}."}],
        **more,
    }


def asked(count: int) -> dict[str, Any]:
    return {"requests": [{"custom_id": f"r{number}", "params": params(number)} for number in range(count)]}


async def results(session: aiohttp.ClientSession, batch: dict[str, Any]) -> dict[str, Any]:
    async with session.get(batch["results_url"]) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    found = {line["custom_id"]: line["result"] for line in lines}
    assert len(found) == len(lines)
    return found


def over(batch: dict[str, Any]) -> bool:
    return batch["processing_status"] == "ended"


def test_a_message_is_answered_in_its_shape() -> None:
    """Content in blocks, a stop reason, usage; the system's text and blocks count as in OpenAI's form."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        blocks = [{"type": "text", "text": "Say 1."}]
        body = params(1, system=[{"type": "text", "text": "Be terse."}], messages=[{"role": "user", "content": blocks}])
        message = await said(session, "POST", "/v1/messages", json=body)
        chat = {
            "model": "claude-sonnet-4-5",
            "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Say 1."}],
            "max_tokens": 300,
        }
        online = await said(session, "POST", "/v1/chat/completions", json=chat)
        assert message.pop("id").startswith("msg_")
        assert message == {
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "content": [{"type": "text", "text": online["choices"][0]["message"]["content"]}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": online["usage"]["prompt_tokens"],
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": online["usage"]["completion_tokens"],
            },
        }

    with_http(use)


def test_tools_schemas_and_lengths_are_understood() -> None:
    """A tool is called with an object, a schema holds, a cut answer says so."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        choice = {"type": "tool", "name": "find_lighthouse"}
        message = await said(session, "POST", "/v1/messages", json=params(1, tools=[TOOL], tool_choice=choice))
        (block,) = message["content"]
        assert (block["type"], block["name"], type(block["input"])) == ("tool_use", "find_lighthouse", dict)
        assert message["stop_reason"] == "tool_use"
        told = [
            {"role": "user", "content": "Find it."},
            {"role": "assistant", "content": message["content"]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block["id"], "content": "found"}]},
        ]
        message = await said(session, "POST", "/v1/messages", json=params(1, tools=[TOOL], messages=told))
        assert [block["type"] for block in message["content"]] == ["text"]
        form = {"format": {"type": "json_schema", "schema": SCHEMA}}
        message = await said(session, "POST", "/v1/messages", json=params(1, output_config=form))
        assert list(json.loads(message["content"][0]["text"])) == ["title"]
        message = await said(session, "POST", "/v1/messages", json=params(1, max_tokens=2))
        assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 2)

    with_http(use)


def test_errors_have_their_shape() -> None:
    """A missing field, a wrong key, a model that is not there."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        body = {"model": "claude-sonnet-4-5", "messages": []}
        error = await said(session, "POST", "/v1/messages", 400, json=body)
        assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
        assert error["error"]["message"] == "max_tokens: Field required"
        error = await said(session, "POST", "/v1/messages", 401, json=params(1), headers={"x-api-key": "bad"})
        assert error["error"]["type"] == "authentication_error"
        error = await said(session, "POST", "/v1/messages", 404, json=params(1, model="unknown"))
        assert error["error"]["type"] == "not_found_error"
        error = await said(session, "GET", f"{PLACE}/msgbatch_x", 404)
        assert error["error"]["type"] == "not_found_error"

    with_http(use)


def test_a_batch_is_answered_in_another_order() -> None:
    """Counts move only at the end; each result is the message that would be answered online, paid once."""

    async def use(session: aiohttp.ClientSession, simulator: Simulator) -> None:
        batch = await said(session, "POST", PLACE, json=asked(30))
        counts = {"processing": 30, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        assert (batch["processing_status"], batch["request_counts"]) == ("in_progress", counts)
        assert batch["results_url"] is None
        await said(session, "GET", f"{PLACE}/{batch['id']}/results", 404)
        simulator.advance(50)
        batch = await said(session, "GET", f"{PLACE}/{batch['id']}")
        assert batch["request_counts"] == counts
        simulator.advance(51)
        batch = await looked(session, f"{PLACE}/{batch['id']}", over)
        assert batch["request_counts"] == counts | {"processing": 0, "succeeded": 30}
        found = await results(session, batch)
        assert list(found) != sorted(found, key=lambda key: int(key[1:]))
        assert sorted(found) == sorted(f"r{number}" for number in range(30))
        assert simulator.counts["paid"] == {"1": 30}
        online = await said(session, "POST", "/v1/messages", json=params(7))
        assert found["r7"]["message"]["content"] == online["content"]

    with_http(use, batch_seconds=100)


def test_each_request_ends_in_its_own_way() -> None:
    """Errored ones carry their error, expired and cancelled ones their state; only what was done is paid."""

    async def use(session: aiohttp.ClientSession, simulator: Simulator) -> None:
        body = asked(2)
        body["requests"].append({"custom_id": "bad", "params": params(3, temperature=7)})
        batch = await said(session, "POST", PLACE, json=body)
        found = await results(session, await looked(session, f"{PLACE}/{batch['id']}", over))
        assert found["bad"]["type"] == "errored"
        assert found["bad"]["error"]["error"]["type"] == "invalid_request_error"
        batch = await said(session, "POST", PLACE, json=asked(4), headers={"x-simulator-batch-expire": "0.5"})
        batch = await looked(session, f"{PLACE}/{batch['id']}", over)
        assert sorted(result["type"] for result in (await results(session, batch)).values()) == [
            *["expired"] * 2,
            *["succeeded"] * 2,
        ]
        assert (batch["request_counts"]["expired"], batch["request_counts"]["succeeded"]) == (2, 2)
        batch = await said(session, "POST", PLACE, json=asked(4), headers={"x-simulator-batch-halt": "0"})
        cancelled = await said(session, "POST", f"{PLACE}/{batch['id']}/cancel")
        assert cancelled["processing_status"] == "canceling"
        batch = await looked(session, f"{PLACE}/{batch['id']}", over)
        assert {result["type"] for result in (await results(session, batch)).values()} == {"canceled"}
        await said(session, "POST", f"{PLACE}/{batch['id']}/cancel", 400)
        deleted = await said(session, "DELETE", f"{PLACE}/{batch['id']}")
        assert deleted == {"id": batch["id"], "type": "message_batch_deleted"}

    with_http(use)


def test_what_cannot_be_a_batch_is_refused() -> None:
    """Doubled or impossible ids and empty batches are errors at once."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        twice = [{"custom_id": "a", "params": params(1)}] * 2
        for requests in ([], twice, [{"custom_id": "not good", "params": params(1)}], [{"custom_id": "a"}]):
            await said(session, "POST", PLACE, 400, json={"requests": requests})

    with_http(use)


def test_lists_are_paged_by_ids() -> None:
    """Newest first, after one id or before another."""

    async def use(session: aiohttp.ClientSession, _: Simulator) -> None:
        made = [(await said(session, "POST", PLACE, json=asked(1)))["id"] for _ in range(3)][::-1]
        page = await said(session, "GET", f"{PLACE}?limit=2")
        assert ([one["id"] for one in page["data"]], page["has_more"], page["last_id"]) == (made[:2], True, made[1])
        page = await said(session, "GET", f"{PLACE}?limit=2&after_id={made[1]}")
        assert ([one["id"] for one in page["data"]], page["has_more"]) == (made[2:], False)
        page = await said(session, "GET", f"{PLACE}?limit=2&before_id={made[2]}")
        assert [one["id"] for one in page["data"]] == made[:2]

    with_http(use)
