from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cli.core.reply import Reply, Usage
from synth_cli.providers.openai import StatedError, read_chat, read_completion
from synth_cli.providers.sse import BrokenStreamError, assemble, is_stream

DONE = b"data: [DONE]\n\n"


def _events(*events: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)


def _delta(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {"model": "m", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


def _said(body: bytes) -> Reply:
    reply = read_chat(assemble(body))
    return Reply(**{name: getattr(reply, name) for name in Reply.__slots__ if name != "raw"})


def test_a_stream_says_what_the_whole_answer_would() -> None:
    """Text, reasoning, refusal, finish reason, model and usage come out as from one body."""
    body = _events(
        _delta(role="assistant", content=""),
        _delta(reasoning_content="be"),
        _delta(reasoning_content="cause"),
        _delta(content="Hel"),
        _delta(content="lo"),
        _delta("stop"),
        USAGE,
    )
    assert _said(body + DONE) == Reply("Hello", "stop", "m", Usage(1, 2), "because")
    assert _said(_events(_delta(refusal="n"), _delta("stop", refusal="o")) + DONE) == Reply(
        finish_reason="stop", model="m", refusal="no"
    )


def test_tool_calls_are_put_together_by_their_index() -> None:
    """Names come once, arguments in pieces, several calls interleaved."""
    body = _events(
        _delta(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        _delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": "[]"}}]),
        _delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x":'}}, "odd"]),
        _delta(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        _delta("tool_calls"),
    )
    assert _said(body + DONE).tool_calls == (
        {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}, "id": "a"},
        {"type": "function", "function": {"name": "g", "arguments": []}, "id": "b"},
    )


def test_logprobs_are_joined() -> None:
    """Each piece brings those of its own tokens."""
    pieces = [{"choices": [{"delta": {"content": t}, "logprobs": {"content": [{"token": t}]}}]} for t in "ab"]
    reply = read_chat(assemble(_events(*pieces) + DONE))
    assert reply.logprobs == {"content": [{"token": "a"}, {"token": "b"}]}


def test_a_streamed_completion_is_a_completion() -> None:
    """Text completions come as `text`."""
    body = _events(
        {"model": "m", "choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "length"}]}, USAGE
    )
    reply = read_completion(assemble(body + DONE))
    assert (reply.text, reply.finish_reason, reply.usage) == ("ab", "length", Usage(1, 2))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b": keep-alive\n\n",
        _events(_delta(content="Hel")),
        _events(_delta(content="Hel")) + b'data: {"choices": [{"del',
        _events(_delta(content="Hel")) + b"event: ping\n\n",
    ],
)
def test_a_stream_that_breaks_off_is_not_an_answer(body: bytes) -> None:
    """Neither a finish reason nor `[DONE]` came: half an answer is none."""
    with pytest.raises(BrokenStreamError):
        assemble(body)


def test_a_finish_reason_is_enough() -> None:
    """Some servers close without `[DONE]`, or leave out the blank line at the end."""
    assert _said(_events(_delta("stop", content="a")).rstrip()) == Reply("a", "stop", "m")


@pytest.mark.parametrize(
    "event",
    [{"error": {"message": "overloaded"}}, {"choices": [{"error": {"message": "x"}, "delta": {"content": ""}}]}],
)
def test_an_error_in_the_stream_is_an_error(event: Any) -> None:
    """Whatever came before it."""
    with pytest.raises(StatedError):
        read_chat(assemble(_events(_delta(content="a"), event) + DONE))


@pytest.mark.parametrize(
    "body",
    [
        b'event: x\r\nid: 1\r\ndata: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\r\n\r\n',
        b'data:{"choices":[{"delta":{"content":"a"}}]}\ndata:{"choices":[{"delta":{},"finish_reason":"stop"}]}\n',
        (
            b': hi\n\ndata: garbage\n\ndata: 5\n\ndata: {"choices":5}\n\n'
            b'data: {"choices":[{"message":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
        ),
    ],
)
def test_streams_are_read_as_servers_write_them(body: bytes) -> None:
    """Carriage returns, comments, missing blank lines, whole messages in place of deltas, and noise."""
    assert read_chat(assemble(body)).text == "a"


def test_an_empty_stream_that_ends_properly_is_an_empty_body() -> None:
    """`[DONE]` alone says nothing; reading it is malformed like any empty body."""
    assert assemble(DONE) == b""


def test_a_stream_is_known_by_its_type_or_its_start() -> None:
    """Some servers send events as text/plain."""
    assert is_stream("text/event-stream; charset=utf-8", b"")
    assert is_stream("text/plain", b"data: {}")
    assert not is_stream("application/json", b"{}")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    """Noise is passed over or a broken stream, never another error."""
    try:
        assemble(noise + b"\n" + _events(_delta("stop", content="a")) + noise)
    except BrokenStreamError:
        pytest.fail("the answer's event was lost")
