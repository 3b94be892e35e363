from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_office import Office, Said, fault, gathered, open_office, request, transport, written

from synth_cli.core.ports import BatchLook
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Constraint, Terms
from synth_cli.providers.batches import batch_client
from synth_cli.providers.batches.anthropic import AnthropicBatches, result, root, tag_of
from synth_cli.providers.resolve import Endpoint, resolve

KEY = "synth-recipes-0123456789ab"
TAG = tag_of(KEY)
BATCH = {
    "id": "msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "ended_at": None,
    "created_at": "2024-09-24T18:37:24.100435Z",
    "expires_at": "2024-09-25T18:37:24.100435Z",
    "cancel_initiated_at": None,
    "results_url": None,
}
CREATED, ENDED_AT = 1727203044.100435, 1727206644.0
ENDED = {
    **BATCH,
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0},
    "ended_at": "2024-09-24T19:37:24Z",
}
TICKET = {"id": BATCH["id"], "tag": TAG, "created_at": CREATED}
AT = f"/v1/messages/batches/{BATCH['id']}"
CREATE, LIST = "POST /v1/messages/batches", "GET /v1/messages/batches"
TERMS = Terms("anthropic", "claude-haiku-4-5", params={"max_tokens": 9})
ID = "0123456789abcdef0123456789abcdef"


def _endpoint(url: str, **given: Any) -> Endpoint:
    return resolve("anthropic/claude-haiku-4-5", base_url=url, api_key="sk-ant-secret", environ={}, **given)


def _message(text: str) -> dict[str, Any]:
    return {
        "id": "msg_014VwiXbi91y3JMjcpyGBHX5",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 11, "output_tokens": 36},
    }


def _refusal(kind: str, status: int, message: str = "m") -> Said:
    return Said(_error(kind, message), status)


def _error(kind: str, message: str = "m") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def _line(custom: str, **said: Any) -> bytes:
    return orjson.dumps({"custom_id": custom, "result": said}) + b"\n"


def _with(says: Mapping[str, Any], do: Any, **given: Any) -> tuple[Any, Office]:
    async def run() -> tuple[Any, Office]:
        async with open_office(says) as office, transport() as wire:
            client = AnthropicBatches(_endpoint(office.url, **given), wire, clock=lambda: ENDED_AT + 60)
            return await do(client), office

    return asyncio.run(run())


def test_the_table_has_it() -> None:
    """`backend: anthropic` is served by these calls."""

    async def run() -> None:
        async with transport() as wire:
            assert isinstance(batch_client(_endpoint("https://api.anthropic.com"), wire), AnthropicBatches)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("https://gateway/anthropic", "https://gateway/anthropic"),
    ],
)
def test_the_address(base: str, address: str) -> None:
    """With or without the version at its end."""
    assert root(base) == address


def test_a_batch_is_one_call_with_all_requests(tmp_path: Path) -> None:
    """Each custom id begins with the key's tag and fits into 64 characters; nothing is left beside the file."""
    first, second = request("a", TERMS), request("b", TERMS)

    async def do(client: AnthropicBatches) -> Any:
        return await client.submit(KEY, written(client, tmp_path, first, second), 2, {"team": "x"})

    ticket, office = _with({CREATE: BATCH}, do, headers={"anthropic-beta": "b1"})
    assert ticket == TICKET
    assert office.asked[0].json == {
        "requests": [
            {
                "custom_id": f"{TAG}-{each.id.hex()}",
                "params": {
                    "model": "claude-haiku-4-5",
                    "max_tokens": 9,
                    "messages": [{"role": "user", "content": text}],
                },
            }
            for each, text in ((first, "a"), (second, "b"))
        ]
    }
    assert {"x-api-key": "sk-ant-secret", "anthropic-version": "2023-06-01", "anthropic-beta": "b1"}.items() <= {
        name.lower(): value for name, value in office.asked[0].headers.items()
    }.items()
    assert [path.name for path in tmp_path.iterdir()] == ["batch.jsonl"]


@pytest.mark.parametrize("key", [KEY, "synth-a-0123456789ab", "synth-Äpfel und Birnen-0123456789ab", "k" * 200])
@pytest.mark.parametrize("constraint", [None, Constraint("choice", ["a"])])
def test_custom_ids_are_allowed(key: str, constraint: Constraint | None, tmp_path: Path) -> None:
    """Whatever the job is called, and however the answer is to be read."""
    one = request("a", Terms("anthropic", "claude-haiku-4-5", constraint=constraint))

    async def do(client: AnthropicBatches) -> Any:
        return await client.submit(key, written(client, tmp_path, one), 1, {})

    _, office = _with({CREATE: BATCH}, do)
    custom = office.asked[0].json["requests"][0]["custom_id"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", custom)
    found = result(_line(custom, type="succeeded", message=_message('{"answer":"a"}')), now=0.0)
    assert found is not None
    assert (found.custom_id, found.exchange.reply and found.exchange.reply.text) == (
        one.id.hex(),
        "a" if constraint else '{"answer":"a"}',
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (_refusal("rate_limit_error", 429), FaultKind.RATE_LIMITED),
        (_refusal("request_too_large", 413), FaultKind.TOO_LARGE),
        (_refusal("authentication_error", 401), FaultKind.CREDENTIALS),
        (_refusal("invalid_request_error", 400, "Your credit balance is too low"), FaultKind.QUOTA),
        (Said(b"nope"), FaultKind.MALFORMED),
    ],
)
def test_a_submit_that_is_refused(said: Said, kind: FaultKind, tmp_path: Path) -> None:
    """It says why, and leaves nothing behind."""

    async def do(client: AnthropicBatches) -> Fault:
        return await fault(client.submit(KEY, written(client, tmp_path, request("a", TERMS)), 1, {}))

    found, _ = _with({CREATE: said}, do)
    assert found.kind is kind
    assert [path.name for path in tmp_path.iterdir()] == ["batch.jsonl"]


@pytest.mark.parametrize(
    ("batch", "look"),
    [
        (BATCH, BatchLook("in_progress", False, "collected", 0, 0, 2, ticket=TICKET)),
        (
            {**BATCH, "processing_status": "canceling", "cancel_initiated_at": "2024-09-24T18:39:03.114875Z"},
            BatchLook("canceling", False, "cancelled", 0, 0, 2, ticket=TICKET),
        ),
        (
            {**BATCH, "processing_status": "of tomorrow"},
            BatchLook("of tomorrow", False, "collected", 0, 0, 2, ticket=TICKET),
        ),
        (
            ENDED,
            BatchLook(
                "ended", True, "collected", 1, 1, 2,
                ticket={**TICKET, "ended_at": ENDED_AT},
                fault=Fault(FaultKind.MISSING, "the batch ended without a result for this request"),
            ),
        ),
        (
            {**ENDED, "request_counts": {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 2}},
            BatchLook(
                "ended", True, "expired", 0, 2, 2,
                ticket={**TICKET, "ended_at": ENDED_AT},
                fault=Fault(
                    FaultKind.MISSING, "the batch expired before this request ran; it was not charged"
                ),
            ),
        ),
        (
            {**ENDED, "cancel_initiated_at": "2024-09-24T18:39:03.114875Z"},
            BatchLook(
                "ended", True, "cancelled", 1, 1, 2,
                ticket={**TICKET, "ended_at": ENDED_AT},
                fault=Fault(
                    FaultKind.MISSING, "the batch was cancelled before this request ran; it was not charged"
                ),
            ),
        ),
    ],
)  # fmt: skip
def test_how_a_batch_stands(batch: dict[str, Any], look: BatchLook) -> None:
    """Only `ended` is an end; what was cancelled or expired may have answers all the same."""
    found, _ = _with({f"GET {AT}": batch}, lambda client: client.look(TICKET))
    assert found == look


def test_a_batch_that_nobody_knows_is_asked_for_again() -> None:
    """It may be another workspace's key: what was paid for is not given up."""

    async def do(client: AnthropicBatches) -> Fault:
        return await fault(client.look({**TICKET, "created_at": ENDED_AT}))

    found, _ = _with({}, do)
    assert (found.kind, found.scope) == (FaultKind.MISSING, "attempt")


def test_results_come_in_any_order_and_kind() -> None:
    """Answers, errors with the status that their type stands for, and what never ran and was not charged."""
    ids = [f"{number:032x}" for number in range(7)]
    lines = [
        b"{broken\n",
        _line(f"{TAG}-{ids[1]}", type="succeeded", message=_message("Hello again!")),
        b'{"custom_id":"%b-%b","result":{"type":"succ\n' % (TAG.encode(), ids[6].encode()),
        _line(
            f"{TAG}-{ids[0]}",
            type="errored",
            error=_error("invalid_request_error", "max_tokens: too large"),
        ),
        _line(
            f"{TAG}-{ids[2]}", type="errored", error={"type": "error", "error": {"type": "api_error", "message": "m"}}
        ),
        _line(f"{TAG}-{ids[3]}", type="expired"),
        b"\n",
        _line(f"{TAG}-{ids[4]}", type="canceled"),
        _line(f"{TAG}-{ids[5]}", type="of tomorrow"),
        _line("somebody else's", type="succeeded", message=_message("x")),
    ]

    found, _ = _with({f"GET {AT}/results": b"".join(lines)}, lambda client: gathered(client.results(TICKET)))
    assert found == {
        ids[1]: ["Hello again!"],
        ids[0]: [Fault(FaultKind.BAD_REQUEST, "HTTP 400: invalid_request_error: max_tokens: too large", 400)],
        ids[2]: [Fault(FaultKind.SERVER_ERROR, "HTTP 500: api_error: m", 500)],
        ids[3]: [Fault(FaultKind.MISSING, "the batch expired before this request ran; it was not charged")],
        ids[4]: [Fault(FaultKind.MISSING, "the batch was cancelled before this request ran; it was not charged")],
        ids[5]: [Fault(FaultKind.MISSING, "the result is of a kind never heard of: of tomorrow")],
        "somebody else's": ["x"],
        "": [Fault(FaultKind.MALFORMED, "a broken line in the batch's results: {broken")],
        ids[6]: [
            Fault(
                FaultKind.MALFORMED,
                "a broken line in the batch's results: " + lines[2].decode()[:80],
            )
        ],
    }


def test_an_answer_that_cannot_be_written_again_is_malformed() -> None:
    """Its row goes on, and so do all others."""
    deep = b'{"x":' * 300 + b"1" + b"}" * 300
    line = b'{"custom_id":"t-%b","result":{"type":"succeeded","message":%b}}' % (ID.encode(), deep)
    found = result(line, now=0.0)
    assert found is not None
    assert found.custom_id == ID
    assert found.exchange.fault is not None
    assert found.exchange.fault.kind is FaultKind.MALFORMED


def _page(*batches: Mapping[str, Any], more: bool = False) -> dict[str, Any]:
    return {"data": list(batches), "has_more": more, "first_id": "x", "last_id": batches[-1]["id"] if batches else None}


def _other(name: str, batch: Mapping[str, Any] = ENDED, **changes: Any) -> dict[str, Any]:
    return {**batch, "id": name, **changes}


def test_a_lost_batch_is_found_by_its_results() -> None:
    """Those of other keys and other times are not taken for it, and only what may be it is looked into."""
    theirs, early = _other("msgbatch_1"), _other("msgbatch_0", created_at="2024-09-20T18:37:24Z")
    says = {
        LIST: [_page(theirs, more=True), _page(ENDED, early)],
        "GET /v1/messages/batches/msgbatch_1/results": _line(f"synth-other-{ID}", type="expired"),
        f"GET {AT}/results": _line(f"{TAG}-{ID}", type="expired") + _line("x", type="expired"),
    }
    found, office = _with(says, lambda client: client.find(KEY, CREATED - 5))
    assert found == {**TICKET, "ended_at": ENDED_AT}
    assert office.lines == [
        "GET /v1/messages/batches?limit=1000",
        "GET /v1/messages/batches/msgbatch_1/results",
        "GET /v1/messages/batches?limit=1000&after_id=msgbatch_1",
        f"GET {AT}/results",
    ]


def test_what_is_not_there_is_not_found() -> None:
    """Nothing, or only what was made long before, or long after and has not ended."""
    late = _other("msgbatch_2", BATCH, created_at="2024-09-26T18:37:24Z")
    early = _other("msgbatch_0", BATCH, created_at="2024-09-20T18:37:24Z")
    for page in (_page(), _page(late, early, more=True)):
        found, office = _with({LIST: page}, lambda client: client.find(KEY, CREATED - 5))
        assert (found, len(office.lines)) == (None, 1)


def test_as_long_as_a_batch_may_be_the_lost_one_it_is_not_said_to_be_absent() -> None:
    """Before its end nobody can tell; to ask for it all again might pay twice."""

    async def do(client: AnthropicBatches) -> Fault:
        return await fault(client.find(KEY, CREATED - 5))

    found, _ = _with({LIST: _page(BATCH)}, do)
    assert (found.scope, found.message) == (
        "attempt",
        f"whether {BATCH['id']} is the batch that was submitted will be seen when it has ended",
    )


def test_results_that_are_not_seen_yet_leave_a_batch_in_doubt() -> None:
    """Only a day after its end is a batch without results nobody's."""

    async def soon(client: AnthropicBatches) -> Fault:
        return await fault(client.find(KEY, CREATED - 5))

    assert _with({LIST: _page(ENDED)}, soon)[0].kind is FaultKind.MISSING
    old = {**ENDED, "ended_at": "2024-09-22T19:37:24Z"}
    assert _with({LIST: _page(old)}, lambda client: client.find(KEY, CREATED - 5))[0] is None


def test_batches_that_are_known_are_not_in_doubt(tmp_path: Path) -> None:
    """Another of ours, and one with another number of requests than was submitted."""
    ours = _other("msgbatch_1", BATCH)
    bigger = _other("msgbatch_2", BATCH, request_counts={**BATCH["request_counts"], "processing": 3})  # type: ignore[dict-item]
    says = {
        CREATE: _refusal("api_error", 500),
        LIST: _page(ours, bigger),
        "GET /v1/messages/batches/msgbatch_1": ours,
    }

    async def do(client: AnthropicBatches) -> Any:
        await client.look({"id": "msgbatch_1", "tag": "another"})
        await fault(client.submit(KEY, written(client, tmp_path, request("a", TERMS)), 2, {}))
        return await client.find(KEY, CREATED - 5)

    assert _with(says, do)[0] is None


def test_cancelling_and_discarding() -> None:
    """A batch that has ended meanwhile, or is gone, is no error."""
    says = {
        f"POST {AT}/cancel": [BATCH, Said({"type": "error", "error": {"type": "invalid_request_error"}}, 400)],
        f"GET {AT}": [ENDED, BATCH],
        f"DELETE {AT}": [{"id": BATCH["id"], "type": "message_batch_deleted"}, Said({}, 404)],
    }

    async def do(client: AnthropicBatches) -> Fault:
        await client.cancel(TICKET)
        await client.cancel(TICKET)
        await client.discard(TICKET)
        await client.discard(TICKET)
        await client.sweep(KEY)
        return await fault(client.cancel(TICKET))

    found, office = _with(says, do)
    assert found.kind is FaultKind.BAD_REQUEST
    assert len(office.lines) == 7
