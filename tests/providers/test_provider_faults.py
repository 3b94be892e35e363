from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.faults import SHOWN, fault_of

NOW = 1_767_225_600.0


def _error(message: str = "m", **fields: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, **fields}})


GOOGLE_LIMIT = [
    {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaValue": "15"}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"},
            ],
        }
    }
]
GOOGLE_NONE = [
    {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota",
            "details": [{"violations": [{"quotaMetric": "x", "quotaValue": "0"}]}],
        }
    }
]
QUOTA_TEXT = "You exceeded your current quota, please check your plan and billing details."


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, _error("Rate limit reached", code="rate_limit_exceeded"), FaultKind.RATE_LIMITED),
        (429, b"", FaultKind.RATE_LIMITED),
        (429, b"<html><title>Too Many</title></html>", FaultKind.RATE_LIMITED),
        (429, orjson.dumps(GOOGLE_LIMIT), FaultKind.RATE_LIMITED),
        (429, _error("The engine is currently overloaded, please try again later"), FaultKind.OVERLOADED),
        (429, _error(QUOTA_TEXT, code="insufficient_quota", type="insufficient_quota"), FaultKind.QUOTA),
        (429, _error(QUOTA_TEXT), FaultKind.QUOTA),
        (429, _error(code="credit_balance_exhausted"), FaultKind.QUOTA),
        (429, _error(code="project_spend_limit_exceeded"), FaultKind.QUOTA),
        (429, _error(code="organization_usage_limit_exceeded"), FaultKind.QUOTA),
        (429, orjson.dumps(GOOGLE_NONE), FaultKind.QUOTA),
        (429, _error("Quota exceeded for metric: x, limit: 0, model: y"), FaultKind.QUOTA),
        (429, _error("Quota exceeded for metric: x, limit: 05"), FaultKind.RATE_LIMITED),
        (402, _error("Insufficient Balance"), FaultKind.QUOTA),
        (400, _error("Your credit balance is too low to access the API", type="billing_error"), FaultKind.QUOTA),
        (403, _error("billing_not_active"), FaultKind.QUOTA),
        (401, _error("Incorrect API key provided"), FaultKind.CREDENTIALS),
        (403, _error("Country not supported"), FaultKind.CREDENTIALS),
        (407, b"", FaultKind.CREDENTIALS),
        (400, _error("API key not valid.", status="INVALID_ARGUMENT"), FaultKind.CREDENTIALS),
        (403, _error("Your input was flagged", metadata={"reasons": ["x"]}), FaultKind.CONTENT_FILTER),
        (404, _error("The model `x` does not exist", code="model_not_found"), FaultKind.UNKNOWN_MODEL),
        (404, b"404 page not found", FaultKind.UNKNOWN_MODEL),
        (404, _error(code="DeploymentNotFound"), FaultKind.UNKNOWN_MODEL),
        (400, _error("Model Not Exist"), FaultKind.UNKNOWN_MODEL),
        (400, orjson.dumps({"message": "Invalid model: x", "code": "1500"}), FaultKind.UNKNOWN_MODEL),
        (400, _error("x/y is not a valid model ID"), FaultKind.UNKNOWN_MODEL),
        (400, _error("This model's maximum context length is 8192 tokens"), FaultKind.CONTEXT_LENGTH),
        (400, _error(code="context_length_exceeded"), FaultKind.CONTEXT_LENGTH),
        (400, _error("prompt is too long: 210000 tokens > 200000 maximum"), FaultKind.CONTEXT_LENGTH),
        (400, orjson.dumps({"object": "error", "message": "please reduce the length of it"}), FaultKind.CONTEXT_LENGTH),
        (413, _error("Request too large"), FaultKind.TOO_LARGE),
        (413, _error("input is too long"), FaultKind.CONTEXT_LENGTH),
        (400, _error("x", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
         FaultKind.CONTENT_FILTER),
        (400, _error("rejected by our safety system", code="content_policy_violation"), FaultKind.CONTENT_FILTER),
        (400, _error("Failed to generate JSON", code="json_validate_failed"), FaultKind.SERVER_ERROR),
        (400, _error("Unknown parameter: 'x'"), FaultKind.BAD_REQUEST),
        (422, orjson.dumps({"detail": [{"loc": ["body"], "msg": "field required"}]}), FaultKind.BAD_REQUEST),
        (405, b"", FaultKind.BAD_REQUEST),
        (308, b"", FaultKind.BAD_REQUEST),
        (408, b"", FaultKind.TIMEOUT),
        (409, b"", FaultKind.SERVER_ERROR),
        (500, b"oops", FaultKind.SERVER_ERROR),
        (500, _error("Overloaded", type="overloaded_error"), FaultKind.OVERLOADED),
        (502, b"<html></html>", FaultKind.SERVER_ERROR),
        (503, b"<html></html>", FaultKind.SERVER_ERROR),
        (503, _error("The server is overloaded or not ready yet"), FaultKind.OVERLOADED),
        (504, b"", FaultKind.TIMEOUT),
        (524, b"", FaultKind.TIMEOUT),
        (498, b"", FaultKind.OVERLOADED),
        (529, _error("Overloaded"), FaultKind.OVERLOADED),
        (200, _error("m", code=429), FaultKind.RATE_LIMITED),
        (200, _error("m", code=502), FaultKind.SERVER_ERROR),
        (200, _error("Overloaded", type="overloaded_error"), FaultKind.OVERLOADED),
        (200, _error("rate limit"), FaultKind.RATE_LIMITED),
        (200, _error("m"), FaultKind.SERVER_ERROR),
    ],
)  # fmt: skip
def test_an_error_means_what_the_provider_says(status: int, body: bytes, kind: FaultKind) -> None:
    """Words decide where a status is used for several things."""
    assert fault_of(status, {}, body, now=NOW).kind is kind


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (400, {"X-Should-Retry": "true"}, FaultKind.SERVER_ERROR),
        (500, {"x-should-retry": "false"}, FaultKind.BAD_REQUEST),
        (503, {"Retry-After": "3"}, FaultKind.OVERLOADED),
    ],
)
def test_a_server_may_say_whether_to_try_again(status: int, headers: dict[str, str], kind: FaultKind) -> None:
    """`x-should-retry` decides where nothing else does; a 503 with a time to wait asks for patience."""
    assert fault_of(status, headers, b"", now=NOW).kind is kind


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, b"", None),
        ({"Retry-After": "7"}, b"", 7.0),
        ({"retry-after": "0.5"}, b"", 0.5),
        ({"retry-after": "-3"}, b"", None),
        ({"retry-after": "soon"}, b"", None),
        ({"retry-after-ms": "250", "retry-after": "7"}, b"", 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:20 GMT"}, b"", 20.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:20 GMT", "date": "Thu, 01 Jan 2026 00:00:15 GMT"}, b"", 5.0),
        ({"retry-after": "Wed, 31 Dec 2025 00:00:20 GMT"}, b"", 0.0),
        ({}, orjson.dumps(GOOGLE_LIMIT), 37.5),
        ({}, _error("Please try again in 6m0s. Contact us"), 360.0),
        ({}, _error("Please try again in 20ms."), 0.02),
        ({}, _error("Please try again in 1.242s. Visit"), 1.242),
        ({}, _error("Please retry in 34.07s."), 34.07),
        ({}, _error("try again in 20 seconds"), 20.0),
        ({}, _error("try again in a moment"), None),
    ],
)
def test_the_time_to_wait_is_read_wherever_it_stands(
    headers: dict[str, str], body: bytes, seconds: float | None
) -> None:
    """Milliseconds, seconds, a date by the server's own clock, Google's RetryInfo, or the message's words."""
    waits = fault_of(429, headers, body, now=NOW).retry_after
    assert waits == (None if seconds is None else pytest.approx(seconds))


def test_only_what_may_be_asked_again_waits() -> None:
    """A Retry-After on a refusal says nothing."""
    assert fault_of(401, {"retry-after": "7"}, b"", now=NOW).retry_after is None


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, _error("Bad thing", code="bad_thing_code"), "HTTP 400: bad_thing_code: Bad thing"),
        (400, _error("bad", type="t", code="c"), "HTTP 400: c: bad"),
        (500, b"", "HTTP 500"),
        (502, b"<html><head><style>a{}</style><title>502</title></head><body>Bad\n gateway</body></html>",
         "HTTP 502: 502 Bad gateway"),
        (422, orjson.dumps({"detail": "no such thing"}), "HTTP 422: no such thing"),
        (422, orjson.dumps({"detail": [{"msg": "field required", "type": "missing"}]}),
         "HTTP 422: missing: field required"),
        (500, orjson.dumps({"error": "it broke"}), "HTTP 500: it broke"),
        (500, orjson.dumps("text"), "HTTP 500: text"),
        (500, orjson.dumps({"a": 1}), 'HTTP 500: {"a":1}'),
        (500, orjson.dumps({"message": {"detail": "deep"}}), "HTTP 500: deep"),
        (400, _error("Provider returned error", metadata={"raw": "its own words"}),
         "HTTP 400: Provider returned error: its own words"),
    ],
)  # fmt: skip
def test_the_message_is_the_providers(status: int, body: bytes, message: str) -> None:
    """In whatever shape it came, on one line, with its code where that says more."""
    assert fault_of(status, {}, body, now=NOW).message == message


def test_a_redirect_says_where_to() -> None:
    """It is not followed: a key is sent nowhere else than to the address that the user gave."""
    fault = fault_of(307, {"Location": "https://x.test/v1"}, b"", now=NOW)
    assert fault.message == "HTTP 307: redirected to https://x.test/v1; put the final address into base_url"


def test_long_messages_are_cut() -> None:
    """A page of HTML does not fill the log."""
    assert len(fault_of(500, {}, b"x" * 10_000, now=NOW).message) <= SHOWN + 20


def test_keys_are_masked() -> None:
    """The key that was sent, and what looks like one."""
    body = _error("Incorrect API key provided: my-key-123. Not sk-proj-abcdefghijklmnop or AIzaSyA1234567890abcdefghij")
    message = fault_of(401, {}, body, now=NOW, secrets=("my-key-123",)).message
    assert message == "HTTP 401: Incorrect API key provided: ***. Not *** or ***"


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "details", "metadata", "detail", "violations", "status"]),
            inner,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([200, 400, 403, 429, 500, 503]), _json | st.binary(max_size=30))
def test_no_body_breaks_the_reader(status: int, body: Any) -> None:
    """Whatever a server sends is a fault with a message."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    fault = fault_of(status, {}, sent, now=NOW)
    assert isinstance(fault, Fault)
    assert fault.message
