"""What a provider must not do, done over real connections: never a crash, and what was paid for is kept."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest
from loopback import Asked, End, Step, completion, error, fine, response, serving
from whole_runs import Failure, failures, rows, spec, synth

import synth_cli.core.retry

ROWS = 4
ANSWER = completion("fine")
CHOICE = orjson.loads(ANSWER)["choices"][0]
EVENTS = (
    b'data: {"model": "m", "choices": [{"index": 0, "delta": {"content": "half of"}}]}\n\n'
    b'data: {"model": "m", "choices": [{"index": 0, "delta": {"content": " it"}}]}\n\n'
)
STREAM = "Content-Type: text/event-stream"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once: how long they wait is measured elsewhere."""
    monkeypatch.setattr(synth_cli.core.retry, "UNKNOWN_PACE", 0.0)
    monkeypatch.setattr(synth_cli.core.retry, "SHORTEST", 0.001)


def job(folder: Path, url: str, **changes: Any) -> Path:
    settings = {"max_retries": 1, "request_timeout": 5, "seconds_to_pause_on_rate_limit": 0.01}
    settings |= changes.pop("backend_params", {})
    return spec(folder, url, **{"input": {"count": ROWS}, "backend_params": settings, **changes})


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


def usage(**counts: Any) -> Sequence[Step]:
    return [response(200, completion("fine", usage=counts))]


def message(said: Any) -> Sequence[Step]:
    return [response(200, completion("", choices=[{**CHOICE, "message": said}]))]


def choices(said: Any) -> Sequence[Step]:
    return [response(200, completion("", choices=said))]


STRANGE_BUT_SOUND: dict[str, Sequence[Step]] = {
    "another content type": [response(200, ANSWER, "Content-Type: text/plain; charset=latin-1")],
    "an image by its content type": [response(200, ANSWER, "Content-Type: image/png")],
    "a content type that is none": [response(200, ANSWER, "Content-Type: ;;==")],
    "another success": [response(299, ANSWER)],
    "gzip that nobody asked for": [response(200, gzip.compress(ANSWER), "Content-Encoding: gzip")],
    "deflate": [response(200, zlib.compress(ANSWER), "Content-Encoding: deflate")],
    "raw deflate": [response(200, zlib.compress(ANSWER)[2:-4], "Content-Encoding: deflate")],
    "chunks": [response(200, chunked(ANSWER[:5], ANSWER[5:]), "Transfer-Encoding: chunked", length=False)],
    "chunks apart": [
        response(200, b"", "Transfer-Encoding: chunked", length=False),
        *(chunked(ANSWER)[at : at + 50] for at in range(0, len(chunked(ANSWER)), 50)),
    ],
    "HTTP/1.0 until the end": [b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER, End.CLOSE],
    "no length, no end but the connection's": [response(200, ANSWER, length=False), End.CLOSE],
    "a slow drip": [
        response(200, b"", f"Content-Length: {len(ANSWER)}", length=False),
        *(step for at in range(0, len(ANSWER), 60) for step in (0.004, ANSWER[at : at + 60])),
    ],
    "100 first": [b"HTTP/1.1 100 Continue\r\n\r\n", response(200, ANSWER)],
    "no id": [response(200, completion("fine", id=None))],
    "an id of another kind": [response(200, completion("fine", id=[1, {"x": None}], object=7, created="now"))],
    "another model's name": [response(200, completion("fine", model={"name": "x"}))],
    "no usage": [response(200, completion("fine", usage=None))],
    "usage in words": usage(prompt_tokens="many", completion_tokens=[], total_tokens=None),
    "usage beyond all bounds": usage(prompt_tokens=2**64 - 1, completion_tokens=10**300, total_tokens=-1),
    "usage below nothing": usage(
        prompt_tokens=-5, completion_tokens=-(2**63), prompt_tokens_details={"cached_tokens": 9}
    ),
    "details of another kind": usage(
        prompt_tokens=1, completion_tokens=1, prompt_tokens_details=[1], completion_tokens_details="x"
    ),
    "a cost in words": usage(prompt_tokens=1, completion_tokens=1, cost="free"),
    "a cost beyond all bounds": usage(prompt_tokens=1, completion_tokens=1, cost=1e308),
    "content in parts": message({"content": [{"type": "text", "text": "fi"}, {"type": "x"}, 5, {"text": "ne"}]}),
    "tool calls that are none": message({"content": "fine", "tool_calls": {"function": 1}}),
    "tool calls of nothing": message({"content": "fine", "tool_calls": [None, {}, {"function": None}]}),
    "reasoning of another kind": message({"content": "fine", "reasoning_content": 5, "refusal": {"no": 1}}),
    "a second choice": choices([CHOICE, None, 7]),
    "log probabilities that are none": choices([{**CHOICE, "logprobs": 5}]),
    "a null error beside it": [response(200, completion("fine", error=None))],
    "rate headers of nonsense": [
        response(
            200,
            ANSWER,
            "x-ratelimit-limit-requests: lots",
            "x-ratelimit-remaining-requests: -1",
            "x-ratelimit-reset-requests: \xff",
            "x-ratelimit-limit-tokens: 0",
            "x-ratelimit-remaining-tokens: nan",
            "x-ratelimit-reset-tokens: 1e400s",
        )
    ],
    "a large body": [response(200, completion("fine", padding="x" * 8_000_000))],
    "many headers": [response(200, ANSWER, *(f"X-{n}: {n}" for n in range(90)))],
}


@pytest.mark.parametrize("case", STRANGE_BUT_SOUND)
def test_a_strange_but_sound_answer_is_taken(case: str, tmp_path: Path) -> None:
    """Each row is asked once, and nothing of what surrounds the answer matters."""
    with serving(lambda asked: STRANGE_BUT_SOUND[case]) as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--quiet") == 0
        assert (rows(path), provider.requests) == ([{"index": n, "response": "fine"} for n in range(ROWS)], ROWS)
        assert synth("run", path, "--quiet") == 0
        assert provider.requests == ROWS


@dataclass(frozen=True)
class Case:
    """What is said, and what an attempt's error is then (a pattern). `code`: of a run that gets nothing else."""

    said: Sequence[Step]
    error: str
    code: int = 1
    again: bool = True
    """Whether asking again helps."""
    stream: bool = False
    timeout: float = 5


def _late(*steps: Step) -> Case:
    return Case([*steps, End.SILENCE], "^timeout: no answer within 0.15 s", timeout=0.15)


BROKEN: dict[str, Case] = {
    "an empty body": Case([response(200, b"")], "malformed body: the answer is empty"),
    "204": Case([b"HTTP/1.1 204 No Content\r\n\r\n"], "malformed body: the answer is empty"),
    "white space": Case([response(200, b" \r\n ")], "malformed body: the answer is empty"),
    "HTML": Case(
        [response(200, b"<html><body>Sign in</body>", "Content-Type: text/html")], "malformed body: .*Sign in"
    ),
    "truncated JSON": Case([response(200, ANSWER[:60])], "malformed body: the answer is not JSON: .*chatcmpl"),
    "bytes that are no text": Case(
        [response(200, b'{"choices": "\xff\xfe"}')], "malformed body: the answer is not JSON"
    ),
    "half a character": Case([response(200, completion("@").replace(b"@", b"\\ud800"))], "malformed body"),
    "a list": Case([response(200, b"[1]")], "malformed body: the answer is not an object"),
    "null": Case([response(200, b"null")], "malformed body: the answer is not an object"),
    "nothing in it": Case([response(200, b"{}")], "malformed body: the answer has no choices"),
    "bottomless": Case([response(200, b'{"choices": ' + b"[" * 100_000)], "malformed body: the answer is not JSON"),
    "null choices": Case(choices(None), "malformed body: the answer has no choices"),
    "no choices": Case(choices([]), "malformed body: the answer has no choices"),
    "choices of null": Case(choices([None]), "malformed body: the answer has no choices"),
    "an empty choice": Case(choices([{}]), "malformed body: the answer's choice has no message"),
    "a null message": Case(message(None), "malformed body: the answer's choice has no message"),
    "null content": Case(message({"content": None}), "^empty: "),
    "blank content": Case(message({"content": " \n"}), "^empty: "),
    "cut off": Case(choices([{**CHOICE, "finish_reason": "length"}]), "^finish reason: .*length"),
    "closed at once": Case([End.CLOSE], "^connection: "),
    "reset at once": Case([End.RESET], "^connection: "),
    "closed in the headers": Case([b"HTTP/1.1 200 OK\r\nContent-Le", End.CLOSE], "^connection: "),
    "reset in the headers": Case([b"HTTP/1.1 200 OK\r\nContent-Le", 0.01, End.RESET], "^connection: "),
    "closed in the body": Case([response(200, ANSWER)[:-9], End.CLOSE], "^connection: "),
    "reset in the body": Case([response(200, ANSWER)[:-9], 0.01, End.RESET], "^connection: "),
    "closed in a chunk": Case(
        [response(200, chunked(ANSWER)[:-30], "Transfer-Encoding: chunked", length=False), End.CLOSE], "^connection: "
    ),
    "a chunk of no size": Case(
        [response(200, b"zz\r\n{}\r\n", "Transfer-Encoding: chunked", length=False), End.CLOSE], "^connection: "
    ),
    "a length of no number": Case(
        [response(200, ANSWER, "Content-Length: x", length=False), End.CLOSE], "^connection: "
    ),
    "a length below nothing": Case(
        [response(200, ANSWER, "Content-Length: -3", length=False), End.CLOSE], "^connection: "
    ),
    "gzip that is none": Case([response(200, ANSWER, "Content-Encoding: gzip"), End.CLOSE], "^connection: "),
    "gzip cut off": Case(
        [response(200, gzip.compress(ANSWER)[:-20], "Content-Encoding: gzip")], "^(connection|malformed body): "
    ),
    "an unknown encoding": Case(
        [response(200, ANSWER[::-1], "Content-Encoding: rot13")], "^(connection|malformed body): "
    ),
    "not HTTP": Case([b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End.CLOSE], "^connection: "),
    "a header without end": Case([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000, End.CLOSE], "^connection: "),
    "a header of no name": Case([b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n{}", End.CLOSE], "^connection: "),
    "silence": _late(),
    "silence in the headers": _late(b"HTTP/1.1 200 OK\r\n"),
    "silence in the body": _late(response(200, ANSWER)[:-9]),
    "a drip that is too slow": Case(
        [response(200, b"", "Content-Length: 900", length=False), *(s for _ in range(60) for s in (b" ", 0.01))],
        "^timeout: no answer within 0.15 s",
        timeout=0.15,
    ),
    "a stream that breaks off": Case([response(200, EVENTS, STREAM)], "^connection: .*broke off", stream=True),
    "a stream that is cut": Case(
        [response(200, EVENTS, STREAM, "Content-Length: 5000", length=False), End.CLOSE], "^connection: ", stream=True
    ),
    "a stream of nothing": Case([response(200, b": ping\n\n", STREAM)], "^connection: .*broke off", stream=True),
    "a stream of nonsense": Case(
        [response(200, b"data: {nope\n\ndata: 7\n\ndata: [DONE]\n\n", STREAM)], "^malformed body: ", stream=True
    ),
    "an error in the stream": Case(
        [response(200, EVENTS + b'data: {"error": {"message": "engine died", "code": 500}}\n\n', STREAM)],
        "^server error: HTTP 500: engine died",
        stream=True,
    ),
    "an error for success": Case([error(200, "engine died")], "^server error: engine died"),
    "an error in a choice": Case(
        choices([{"error": {"message": "gone", "code": 502}}]), "^server error: HTTP 502: gone"
    ),
    "an error in words": Case([response(200, b'{"error": "broken"}')], "^server error: broken"),
    "408": Case([error(408, "too slow")], "^timeout: HTTP 408: too slow"),
    "409": Case([error(409, "conflict")], "^server error: HTTP 409: conflict"),
    "500": Case([error(500, "oops")], "^server error: HTTP 500: oops"),
    "500 without a body": Case([response(500, b"")], "^server error: HTTP 500"),
    "502 in HTML": Case([response(502, b"<h1>Bad Gateway</h1>")], "^server error: HTTP 502: Bad Gateway"),
    "503": Case([error(503, "scaling")], "^server error: HTTP 503: scaling"),
    "504": Case([error(504, "upstream")], "^timeout: HTTP 504: upstream"),
    "a status that does not exist": Case([response(999, b"?")], "^(server error: HTTP 999|connection: )"),
    "400": Case([error(400, "no such parameter")], "^bad request: HTTP 400: no such parameter", again=False),
    "422 in FastAPI's words": Case(
        [response(422, b'{"detail": [{"loc": ["body"], "msg": "field required"}]}')],
        "^bad request: HTTP 422: field required",
        again=False,
    ),
    "too long": Case([error(400, "maximum context length is 9")], "^context length: HTTP 400: maximum", again=False),
    "413": Case([response(413, b"")], "^too large: HTTP 413", again=False),
    "filtered": Case([error(400, "no", code="content_filter")], "^content filter: HTTP 400: ", again=False),
    "a redirect": Case(
        [response(307, b"", "Location: https://elsewhere.test/v2")],
        "^bad request: HTTP 307: redirected to https://elsewhere.test/v2; put the final address into base_url",
        again=False,
    ),
    "a redirect to bytes": Case(
        [b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n"],
        "^bad request: HTTP 302",
        again=False,
    ),
    "401": Case(
        [error(401, "Incorrect API key provided: sk-abcdefghijklmnop")],
        "^credentials: HTTP 401: Incorrect API key provided: [*]{3}",
        code=3,
    ),
    "401 in HTML": Case([response(401, b"<h1>Who are you?</h1>")], "^credentials: HTTP 401: Who are you", code=3),
    "402": Case([error(402, "pay first")], "^quota: HTTP 402: pay first", code=3),
    "403": Case([error(403, "not your model")], "^credentials: HTTP 403: not your model", code=3),
    "404": Case(
        [error(404, "The model `m` does not exist", code="model_not_found")], "^unknown model: HTTP 404: ", code=3
    ),
    "429 of an empty account": Case(
        [error(429, "You are out of it", code="insufficient_quota")],
        "^quota: HTTP 429: insufficient_quota: You are out of it",
        code=3,
    ),
}


def hostile_job(folder: Path, url: str, case: Case) -> Path:
    return job(folder, url, backend_params={"request_timeout": case.timeout, "stream": case.stream})


def good(case: Case, asked: Asked) -> Sequence[Step]:
    if not case.stream:
        return fine(asked)
    said = {"choices": [{"delta": {"content": asked.prompt.upper()}, "finish_reason": "stop"}]}
    return [response(200, b"data: " + orjson.dumps(said) + b"\n\ndata: [DONE]\n\n", STREAM)]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_now_and_then_costs_an_attempt(name: str, tmp_path: Path) -> None:
    """The same row's next attempt may succeed; what cannot help the row or the run is not asked again."""
    case = BROKEN[name]

    def say(asked: Asked) -> Sequence[Step]:
        return case.said if asked.prompt == "row 2" and asked.turn == 1 else good(case, asked)

    with serving(say) as provider:
        path = hostile_job(tmp_path, provider.url, case)
        code = synth("run", path, "--quiet")
        whole = [{"index": n, "response": f"ROW {n}"} for n in range(ROWS)]
        if case.code == 3:
            # the run ends at once, what was answered is kept, and the next run asks for the rest alone
            assert (code, rows(path)) == (3, [])
            assert synth("run", path, "--quiet") == 0
            assert (rows(path), provider.asked["row 2"], provider.requests) == (whole, 2, ROWS + 1)
        elif case.again:
            assert (code, rows(path), failures(path)) == (0, whole, [])
            assert (provider.asked["row 2"], provider.requests) == (2, ROWS + 1)
        else:
            assert (code, rows(path), provider.requests) == (1, whole[:2] + whole[3:], ROWS)
            (failure,) = failures(path)
            assert (failure.prompt, len(failure.attempts)) == ("row 2", 1)
            assert re.search(case.error, failure.error)


@pytest.mark.parametrize("name", BROKEN)
def test_a_provider_that_says_nothing_else_fails_in_order(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The right exit code, the error of each attempt in failed.jsonl, no output, and nothing asked once too often."""
    case = BROKEN[name]
    with serving(lambda asked: case.said) as provider:
        path = hostile_job(tmp_path, provider.url, case)
        assert (synth("run", path, "--quiet"), rows(path)) == (case.code, [])
        assert "Traceback" not in capfd.readouterr().err
        attempts = 2 if case.again and case.code == 1 else 1
        assert provider.requests == ROWS * attempts
        found = failures(path)
        assert [failure.prompt for failure in found] == [f"row {n}" for n in range(ROWS)]
        for failure in found:
            assert len(failure.attempts) == attempts
            for said in (*failure.attempts, failure.error):
                assert said is not None
                assert re.search(case.error, said), said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("401", "HTTP 401: Incorrect API key provided: ***"),
        ("401 in HTML", "HTTP 401: Who are you?"),
        ("402", "HTTP 402: pay first"),
        ("403", "HTTP 403: not your model"),
        ("404", "The model `m` does not exist"),
        ("429 of an empty account", "insufficient_quota: You are out of it"),
    ],
)
def test_what_stops_the_run_is_said_in_the_providers_words(
    name: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """At once: of a thousand rows only those are asked that were under way."""
    with serving(lambda asked: BROKEN[name].said) as provider:
        path = job(tmp_path, provider.url, input={"count": 1000}, backend_params={"max_concurrent_requests": 8})
        assert synth("run", path, "--quiet") == 3
        assert words in capfd.readouterr().err
        assert provider.requests <= 16


def _retry_after(*headers: str) -> Sequence[Step]:
    return [error(429, "slow down", *headers)]


@pytest.mark.parametrize(
    "said",
    [
        _retry_after(),
        _retry_after("Retry-After: 0"),
        _retry_after("Retry-After: 0.01"),
        _retry_after("retry-after-ms: 5"),
        _retry_after("retry-after-ms: 5", "Retry-After: 3000"),
        _retry_after("retry-after-ms: much", "Retry-After: 0"),
        _retry_after(f"Retry-After: {formatdate(0, usegmt=True)}"),
        _retry_after(f"Retry-After: {formatdate(1e9, usegmt=True)}", f"Date: {formatdate(1e9, usegmt=True)}"),
        _retry_after("Retry-After: "),
        _retry_after("Retry-After: soon"),
        _retry_after("Retry-After: -20"),
        _retry_after("Retry-After: 1e300"),
        _retry_after("Retry-After: inf"),
        _retry_after("Retry-After: 99999999999"),
        _retry_after("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"),
        _retry_after("Retry-After: Mon, 01 Jan 0001 00:00:00 -0000"),
        _retry_after("Retry-After: Wed, 99 Foo 2026 99:99:99 GMT"),
        [response(429, b"")],
        [response(429, b"<h1>Too many</h1>", "Content-Type: text/html")],
        [error(429, "Please try again in 7ms.")],
        [error(429, "slow_down", type="overloaded")],
        [error(529, "Overloaded")],
        [error(498, "no flex capacity")],
        [error(503, "model is overloaded, come back", "Retry-After: 0")],
    ],
    ids=lambda said: " ".join(said[0].decode("latin-1").split("\r\n", 1)[1].split())[:60],
)
def test_a_refusal_for_now_is_waited_out(said: Sequence[Step], tmp_path: Path) -> None:
    """In whatever words it says when to come back, or none, or absurd ones; it does not use up `max_retries`."""
    with serving(lambda asked: said if asked.turn <= 3 else fine(asked)) as provider:
        path = job(tmp_path, provider.url, backend_params={"max_retries": 0})
        assert synth("run", path, "--quiet") == 0
        assert (len(rows(path)), provider.requests) == (ROWS, 4 * ROWS)


def test_an_answer_behind_the_answer_is_not_the_next_rows(tmp_path: Path) -> None:
    """Two answers to one request: the second is nobody's."""

    def say(asked: Asked) -> Sequence[Step]:
        return [b"".join([*fine(asked), response(200, completion("of another"))])]

    with serving(say) as provider:
        path = job(tmp_path, provider.url, input={"count": 8}, backend_params={"max_concurrent_requests": 1})
        assert synth("run", path, "--quiet") == 0
        assert rows(path) == [{"index": n, "response": f"ROW {n}"} for n in range(8)]


def test_an_answer_without_bounds_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not the server's to fill: with a length, without one, or out of a few compressed bytes."""
    monkeypatch.setattr("synth_cli.providers.http.LARGEST", 1 << 20)
    bodies: list[Sequence[Step]] = [
        [response(200, b"", f"Content-Length: {1 << 40}", length=False), b" " * 100_000, End.SILENCE],
        [response(200, b"", length=False), *[b" " * 100_000] * 40, End.CLOSE],
        [response(200, gzip.compress(b" " * (64 << 20)), "Content-Encoding: gzip")],
    ]
    with serving(lambda asked: bodies[int(asked.prompt[4:])]) as provider:
        path = job(tmp_path, provider.url, input={"count": 3}, backend_params={"max_retries": 0})
        assert synth("run", path, "--quiet") == 1
        assert [failure.error for failure in failures(path)] == ["connection: the answer is larger than 1 MiB"] * 3


@pytest.mark.parametrize(
    "text", ["[" * 20_000, '{"a":' * 20_000, "{" * 500 + "}" * 500, "\x00\x01", "```json\n" * 3000]
)
def test_content_that_is_no_json_is_a_fault_of_its_row(text: str, tmp_path: Path) -> None:
    """However deep or odd: it is judged, asked again, and kept with its raw text."""
    with serving(lambda asked: [response(200, completion(text))]) as provider:
        path = job(tmp_path, provider.url, response={"schema": {"a": "str"}})
        assert synth("run", path, "--quiet") == 1
        assert [len(failure.attempts) for failure in failures(path)] == [2] * ROWS


@pytest.mark.parametrize("depth", [190, 300, 900, 5000])
def test_an_answer_of_any_depth_is_an_output_or_a_fault(depth: int, tmp_path: Path) -> None:
    """Deeper than a writer can go, it fails its row and no more."""
    deep = '{"a": ' + "[" * depth + "]" * depth + "}"
    say = {"row 1": deep}
    with serving(lambda asked: [response(200, completion(say.get(asked.prompt, '{"a": 1}')))]) as provider:
        path = job(tmp_path, provider.url, response={"schema": {"a": "any"}})
        assert synth("run", path, "--quiet") == (0 if depth == 190 else 1)
        assert [row["index"] for row in rows(path)] == ([0, 1, 2, 3] if depth == 190 else [0, 2, 3])
        assert [failure.prompt for failure in failures(path)] == ([] if depth == 190 else ["row 1"])


def test_paid_answers_outlive_whatever_comes_after(tmp_path: Path) -> None:
    """Answers that came before the provider broke down are not asked for again; each row is paid for once."""
    broken = [End.CLOSE]

    def say(asked: Asked) -> Sequence[Step]:
        return broken if int(asked.prompt[4:]) % 3 == 0 and asked.turn <= 2 else fine(asked)

    with serving(say) as provider:
        path = job(tmp_path, provider.url, input={"count": 30})
        assert (synth("run", path, "--quiet"), len(rows(path)), len(failures(path))) == (1, 20, 10)
        assert failures(path)[0] == Failure("row 0", failures(path)[0].error, failures(path)[0].attempts)
        assert synth("run", path, "--quiet") == 0
        assert [row["response"] for row in rows(path)] == [f"ROW {n}" for n in range(30)]
        assert set(provider.asked.values()) == {1, 3}
