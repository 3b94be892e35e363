from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from batch_office import answer, request

from synth_cli.core.ports import BatchResult
from synth_cli.core.reply import Answer, FaultKind, Usage
from synth_cli.core.request import Constraint, Terms
from synth_cli.providers.batches import lines
from synth_cli.providers.encoders import MOST
from synth_cli.providers.hosts import HOSTS
from synth_cli.providers.openai import CHAT, encoder

ID = "0123456789abcdef0123456789abcdef"


def _read(line: Any) -> BatchResult:
    found = lines.result(line if isinstance(line, bytes) else orjson.dumps(line), now=0.0, secrets=("sk-secret",))
    assert found is not None
    return found


def _said(**changes: Any) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": "req_c187", "body": answer("Hello.")}
    return {"id": "batch_req_wnaD", "custom_id": ID, "response": response, "error": None, **changes}


def test_a_line_of_results_as_openai_documents_it() -> None:
    """The reply is what the same body says online, the body is kept."""
    result = _read(_said())
    reply = result.exchange.reply
    assert (result.custom_id, reply and (reply.text, reply.usage, reply.model)) == (
        ID,
        ("Hello.", Usage(22, 2), "gpt-5-mini-2025-08-07"),
    )
    assert result.exchange.answer == Answer(CHAT, orjson.dumps(answer("Hello.")))


@pytest.mark.parametrize(
    "response",
    [
        answer("Hello."),
        {"body": answer("Hello.")},
        {"status_code": 200, "body": orjson.dumps(answer("Hello.")).decode()},
        {"status_code": "200", "body": answer("Hello.")},
    ],
)
def test_other_envelopes_are_read_too(response: Any) -> None:
    """Without a status, without an envelope, as text."""
    reply = _read({"custom_id": ID, "response": response}).exchange.reply
    assert reply is not None
    assert reply.text == "Hello."


EXPIRED = {"code": "batch_expired", "message": "This request could not be executed before the completion window."}


@pytest.mark.parametrize(
    ("line", "kind", "words", "retryable"),
    [
        (_said(response=None, error=EXPIRED), FaultKind.MISSING, "expired before", True),
        (_said(response=None, error={"code": "batch_cancelled"}), FaultKind.MISSING, "cancelled before", True),
        (_said(response=None), FaultKind.MISSING, "neither an answer", True),
        (_said(response=None, error={"code": "server_error", "message": "x"}), FaultKind.SERVER_ERROR, "x", True),
        (_said(response=None, error={"code": "invalid_request", "message": "no"}), FaultKind.BAD_REQUEST, "no", False),
        (_said(response=None, error="it broke"), FaultKind.SERVER_ERROR, "it broke", True),
        (
            _said(response={"status_code": 400, "body": {"error": {"message": "bad", "code": "invalid_value"}}}),
            FaultKind.BAD_REQUEST,
            "invalid_value: bad",
            False,
        ),
        (
            _said(response={"status_code": 400, "body": {"error": {"code": "context_length_exceeded"}}}),
            FaultKind.CONTEXT_LENGTH,
            "context_length_exceeded",
            False,
        ),
        (_said(response={"status_code": 429, "body": {}}), FaultKind.RATE_LIMITED, "429", True),
        (_said(response={"status_code": 500, "body": None}), FaultKind.SERVER_ERROR, "500", True),
        (_said(response={"status_code": 500, "body": {"e": "sk-secret"}}), FaultKind.SERVER_ERROR, "***", True),
        (_said(response={"status_code": 200, "body": {"choices": []}}), FaultKind.MALFORMED, "no choices", True),
        (
            _said(response={"status_code": 200, "body": {"error": {"message": "over capacity"}}}),
            FaultKind.OVERLOADED,
            "over capacity",
            True,
        ),
    ],
)
def test_what_went_wrong_is_a_fault_of_its_request(line: Any, kind: FaultKind, words: str, retryable: bool) -> None:
    """In the provider's words, masked; what never ran may be asked again."""
    result = _read(line)
    fault = result.exchange.fault
    assert fault is not None
    kept = result.exchange.answer.body if result.exchange.answer else b""
    assert (result.custom_id, fault.kind, words in fault.message, fault.retryable, b"sk-secret" in kept) == (
        ID, kind, True, retryable, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "id"),
    [
        (orjson.dumps(_said())[:-40], ID),
        (b'{"custom_id": "' + ID.encode() + b'-choice", "resp', ID),
        (b"\xff\xfe garbage", ""),
        (b"[1, 2]", ""),
        (b'{"custom_id": 7}', ""),
        (b"null", ""),
        (b'{"response":null}', ""),
    ],
)
def test_a_broken_line_is_a_fault_of_the_id_that_can_be_seen(line: bytes, id: str) -> None:
    """Or of none."""
    result = _read(line)
    assert (result.custom_id, result.exchange.fault and result.exchange.fault.kind) == (id, FaultKind.MALFORMED)


def test_an_empty_line_says_nothing() -> None:
    """Files may end in one."""
    assert [lines.result(line, now=0.0) for line in (b"", b"  ", b"\r")] == [None] * 3


def test_no_line_raises() -> None:
    """Whatever bytes, whatever types stand where."""
    draw = random.Random(3)
    whole = orjson.dumps(_said())
    odd: list[Any] = [None, 1, "x", [], {}, [1], {"a": 1}, True, 1.5, "", {"message": None}, [[{}]]]
    for _ in range(2000):
        cut = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            cut[draw.randrange(len(cut))] = draw.randrange(256)
        lines.result(bytes(cut), now=0.0)
        response = {"status_code": draw.choice([*odd, 200, 400, 99, -1]), "body": draw.choice(odd)}
        lines.result(orjson.dumps(_said(response=draw.choice([response, *odd]), error=draw.choice(odd))), now=0.0)
        body = answer("x") | {draw.choice(["choices", "usage", "model", "id"]): draw.choice(odd)}
        lines.result(orjson.dumps(_said(response={"status_code": 200, "body": body})), now=0.0)


@pytest.mark.parametrize(
    ("terms", "mark"),
    [
        (Terms("openai", "m"), ""),
        (Terms("openai", "m", completion=True), "-completion"),
        (Terms("openai", "m", constraint=Constraint("choice", ["a", "b"])), "-choice"),
    ],
)
def test_the_id_says_how_the_answer_is_read(terms: Terms, mark: str) -> None:
    """A file of results is read by a process that has not seen the requests."""
    host = HOSTS["openai"]
    line = orjson.loads(lines.Writer(host, lambda completion: "").line(request(terms=terms)))
    assert line["custom_id"] == request(terms=terms).id.hex() + mark
    assert lines.read_id(line["custom_id"]) == (request(terms=terms).id.hex(), encoder(terms, host).protocol)


def test_a_line_holds_the_body_that_is_sent_online() -> None:
    """Byte for byte, behind the id and the address."""
    asked = request('say "hi"\n', seed=4)
    writer = lines.Writer(HOSTS["openai"], lambda completion: '"method":"POST","url":"/v1/chat/completions",')
    online = encoder(asked.terms, HOSTS["openai"]).encode(asked)
    head = b'{"custom_id":"%b","method":"POST","url":"/v1/chat/completions","body":' % asked.id.hex().encode()
    assert writer.line(asked) == head + online + b"}\n"


def test_the_model_can_be_left_to_the_job() -> None:
    """All else stays."""
    asked = request(terms=Terms("fireworks_ai", 'm"x', params={"temperature": 0.5}))
    line = orjson.loads(lines.Writer(HOSTS["fireworks_ai"], lambda completion: "", model=False).line(asked))
    assert line["body"] == {"temperature": 0.5, "messages": list(asked.messages)}


def test_terms_of_each_row_do_not_pile_up() -> None:
    """Encoders are kept for a few terms only, and each line is that of its own terms."""
    writer = lines.Writer(HOSTS["openai"], lambda completion: "")
    for number in range(3 * MOST):
        asked = request(terms=Terms("openai", "m", params={"top_k": number}))
        assert orjson.loads(writer.line(asked))["body"]["top_k"] == number
