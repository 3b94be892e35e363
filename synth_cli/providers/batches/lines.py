"""Lines of a batch's files in OpenAI's shape: ids out, results in. Pure; reading one never raises.

Source: https://platform.openai.com/docs/api-reference/batch/request-output. Read tolerantly: some hosts leave out
`status_code`, put the answer where its envelope should be, or write the body as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from synth_cli.core.ports import BatchResult, Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind
from synth_cli.core.request import Request, Terms
from synth_cli.providers.codecs import exchange, without
from synth_cli.providers.encoders import Encoders
from synth_cli.providers.faults import fault_of
from synth_cli.providers.hosts import Host
from synth_cli.providers.openai import CHAT, COMPLETION, Encoder, encoder

MARKS: Mapping[str, str] = {"choice": CHAT + ".choice", "tool": CHAT + ".tool", "completion": COMPLETION}
"""What stands behind a custom id's dash where the answer is not read as a plain chat: files outlive processes."""
_MARK = {protocol: f"-{mark}" for mark, protocol in MARKS.items()}

UNANSWERED: Mapping[str, str] = {
    "batch_expired": "the batch expired before this request ran; it was not charged",
    "batch_cancelled": "the batch was cancelled before this request ran; it was not charged",
}
"""Codes of requests that were never run."""
_CANCELLED = frozenset({"batch_cancelled", "batch_canceled", "request_cancelled", "cancelled", "canceled"})
_REFUSED = re.compile(r"invalid|bad_request|validation|malformed", re.IGNORECASE)
_ID = re.compile(rb'"custom_id"\s*:\s*"([^"\\]{1,128})"')


class Writer:
    """Requests in, lines out; what all requests of one `Terms` share is encoded once.

    `between` is what stands between the id and the body (method and address), given whether it is a raw completion.
    """

    __slots__ = ("_between", "_encoders", "_host", "_model")

    def __init__(self, host: Host, between: Callable[[bool], str], *, model: bool = True) -> None:
        self._host, self._between, self._model = host, between, model
        self._encoders = Encoders(self._encoder)

    def line(self, request: Request) -> bytes:
        """Ends in a newline."""
        encode, head, model = self._encoders.of(request.terms)
        body = encode.encode(request)
        if model:
            body = b"{" + body.removeprefix(model)
        return b'{"custom_id":"%b%b%b}\n' % (request.id.hex().encode(), head, body)

    def _encoder(self, terms: Terms) -> tuple[Encoder, bytes, bytes]:
        """(encoder, what stands between id and body, what a body begins with that does not name its model)."""
        made = encoder(terms, self._host)
        head = f'{_MARK.get(made.protocol, "")}",{self._between(made.completion)}"body":'.encode()
        model = b"" if self._model else b'{"model":%b,' % orjson.dumps(terms.model)
        return made, head, model


def read_id(custom: str) -> tuple[str, str]:
    """(id in hex, protocol)."""
    id, _, mark = custom.partition("-")
    protocol = MARKS.get(mark)
    return (custom, CHAT) if protocol is None else (id, protocol)


def result(line: bytes, *, now: float, secrets: tuple[str, ...] = ()) -> BatchResult | None:
    """What a line says; None for an empty one. A broken one is a fault of the id that can still be seen in it."""
    if not line.strip():
        return None
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _broken(line)
    custom = data.get("custom_id") if type(data) is dict else None
    if type(custom) is not str:
        return _broken(line)
    id, protocol = read_id(custom)
    response, error = data.get("response"), data.get("error")
    if type(response) is dict:
        status = response.get("status_code")
        status = status if type(status) is int else 200
        body = response.get("body", response)
        try:
            said = _bytes(body or {"error": error})
        except orjson.JSONEncodeError as deep:
            # more levels than can be written
            return BatchResult(id, Exchange(fault=Fault(FaultKind.MALFORMED, f"the answer cannot be kept: {deep}")))
        if 200 <= status < 300 and not error:
            return BatchResult(id, exchange(protocol, said, now=now, secrets=secrets))
        if status >= 300:
            fault = fault_of(status, {}, said, now=now, secrets=secrets)
            return BatchResult(id, Exchange(None, Answer(protocol, without(said, secrets)), fault))
    return BatchResult(id, Exchange(fault=error_fault(error, now=now, secrets=secrets)))


def error_fault(error: Any, *, now: float, secrets: tuple[str, ...] = ()) -> Fault:
    """What an error object without a response means."""
    if not error:
        return Fault(FaultKind.MISSING, "the provider's file has neither an answer nor an error for this request")
    code = str((error.get("code") or error.get("type") or "") if isinstance(error, dict) else "")
    code = "batch_cancelled" if code in _CANCELLED else code
    if code in UNANSWERED:
        return Fault(FaultKind.MISSING, UNANSWERED[code])
    body = orjson.dumps({"error": error if isinstance(error, dict) else str(error)})
    return fault_of(400 if _REFUSED.search(code) else 200, {}, body, now=now, secrets=secrets)


def _broken(line: bytes) -> BatchResult:
    match = _ID.search(line)
    id = read_id(match[1].decode("utf-8", "replace"))[0] if match else ""
    return BatchResult(id, Exchange(fault=broken(line)))


def broken(line: bytes) -> Fault:
    """What is recorded for a line that cannot be read."""
    shown = " ".join(line[:80].decode("utf-8", "replace").split())
    return Fault(FaultKind.MALFORMED, f"a broken line in the batch's results: {shown}")


def _bytes(body: Any) -> bytes:
    return body.encode() if type(body) is str else orjson.dumps(body)
