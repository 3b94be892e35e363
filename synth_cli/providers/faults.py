"""What an error response means. The provider's own words decide first, its status second; both go into the message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.providers.limits import duration

LONGEST_WAIT = 86_400.0
SHOWN = 600
"""Characters of a provider's message that are kept."""


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_QUOTA = _any(
    "insufficient_quota", "credit_balance_exhausted", "spend_limit_exceeded", "organization_usage_limit_exceeded",
    "billing_error", "billing_hard_limit", "billing_not_active", "credit balance is too low", "insufficient balance",
    "insufficient credits", "insufficient_credits", "payment required",
)  # fmt: skip
_NONE_LEFT = _any(r"limit: ?0\b")
_CREDENTIALS = _any(
    "api_key_invalid", "invalid_api_key", "incorrect api key", "api key not valid", "api key expired",
    "authentication_error", "no auth credentials",
)  # fmt: skip
_MODEL = _any(
    "model_not_found", "model_not_supported", "deploymentnotfound", "model not exist", "unknown model",
    "invalid model:", "invalid_model", "not a valid model", "no endpoints found",
    r"model\b.{0,120}(does not exist|not found|is not available)",
    "model_decommissioned", "decommissioned",
)  # fmt: skip
_CONTEXT = _any(
    "context_length_exceeded", "maximum context length", "context length", "context window", "context size",
    "prompt is too long", "input is too long", "too many (input )?tokens", "reduce the length", "max_model_len",
    "input token count", "exceeds the maximum number of tokens", "string_above_max_length", "max_tokens_to_sample",
)  # fmt: skip
_LARGE = _any("request_too_large", "payload too large", "request entity too large")
_FILTER = _any(
    "content_filter", "content_policy", "responsibleaipolicy", "content management policy", "data_inspection_failed",
    "prohibited_content", "usage guidelines", "usage policies", "flagged", "moderation", r"\bsafety\b", "recitation",
    "safety system",
)  # fmt: skip
# Groq: the model's own output was not what was asked for; another try may be
_TRY_AGAIN = _any("json_validate_failed", "tool_use_failed", "output_parse_failed")
_BUSY = _any(
    "overloaded", "over capacity", "at capacity", "capacity exceeded", "server is busy", "too busy", "slow_down"
)
_RATE = _any("rate_limit", "rate limit", "too many requests", "resource_exhausted", "throttl")
_AGAIN_IN = re.compile(
    r"(?:try again|retry(?: after)?) in ((?:\d+h)?(?:\d+m(?!s))?(?:[\d.]+ ?s(?:ec(?:onds?)?)?)?(?:[\d.]+ms)?)",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(
    r"\b(sk|pk|gsk|xai|key|pplx|nvapi|csk|fw|tgp|AIza)[-_][A-Za-z0-9_\-*]{12,}|\bAIza[A-Za-z0-9_\-]{20,}"
)


@dataclass(frozen=True, slots=True)
class _Said:
    message: str
    code: str
    status: int | None
    detail: Any
    """The error object, where there is one."""


def fault_of(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, secrets: tuple[str, ...] = ()
) -> Fault:
    """What a response that is not an answer means. `now` in seconds since the epoch, for dates in Retry-After."""
    said = _said(body)
    if status < 400 and said.status is not None:
        status = said.status
    words = f"{said.code} {said.message}"
    named = {name.lower(): value for name, value in headers.items()}
    kind = _kind(status, words, said, named)
    wait = _wait(named, said, now) if kind in _WAITING else None
    return Fault(kind, _message(status, said, headers=named, secrets=secrets), status, wait)


_WAITING = frozenset({FaultKind.RATE_LIMITED, FaultKind.OVERLOADED, FaultKind.SERVER_ERROR, FaultKind.TIMEOUT})


_STATUS: Mapping[int, FaultKind] = {
    401: FaultKind.CREDENTIALS,
    402: FaultKind.QUOTA,
    404: FaultKind.UNKNOWN_MODEL,
    407: FaultKind.CREDENTIALS,
    408: FaultKind.TIMEOUT,
    409: FaultKind.SERVER_ERROR,
    410: FaultKind.UNKNOWN_MODEL,
    425: FaultKind.SERVER_ERROR,
    # Groq: no capacity left in its flex tier
    498: FaultKind.OVERLOADED,
    499: FaultKind.SERVER_ERROR,
    # Anthropic
    529: FaultKind.OVERLOADED,
}


def _kind(status: int, words: str, said: _Said, headers: Mapping[str, str]) -> FaultKind:
    if status in _STATUS:
        return _STATUS[status]
    if status == 429:
        return _limit_kind(words, said)
    if status == 403:
        if _QUOTA.search(words):
            return FaultKind.QUOTA
        return FaultKind.CONTENT_FILTER if _FILTER.search(words) else FaultKind.CREDENTIALS
    if status == 413:
        return FaultKind.CONTEXT_LENGTH if _CONTEXT.search(words) else FaultKind.TOO_LARGE
    if status >= 500:
        return _server_kind(status, words, headers)
    if status >= 400:
        return _request_kind(words, headers)
    return FaultKind.BAD_REQUEST if status >= 300 else _unnumbered_kind(words)


def _limit_kind(words: str, said: _Said) -> FaultKind:
    if _QUOTA.search(words) or _NONE_LEFT.search(words) or _no_quota(said):
        return FaultKind.QUOTA
    # OpenAI says so of an empty account, Gemini of each minute's limit, but with the details of it
    if "exceeded your current quota" in words.lower() and not _details(said) and "gemini" not in words.lower():
        return FaultKind.QUOTA
    return FaultKind.OVERLOADED if _BUSY.search(words) and not _RATE.search(words) else FaultKind.RATE_LIMITED


def _server_kind(status: int, words: str, headers: Mapping[str, str]) -> FaultKind:
    if _BUSY.search(words) or (status == 503 and ("retry-after" in headers or "retry-after-ms" in headers)):
        return FaultKind.OVERLOADED
    if headers.get("x-should-retry", "").lower() == "false":
        return FaultKind.BAD_REQUEST
    return FaultKind.TIMEOUT if status in (504, 522, 524) else FaultKind.SERVER_ERROR


def _request_kind(words: str, headers: Mapping[str, str]) -> FaultKind:
    for pattern, kind in _REQUEST:
        if pattern.search(words):
            return kind
    return FaultKind.SERVER_ERROR if headers.get("x-should-retry", "").lower() == "true" else FaultKind.BAD_REQUEST


_REQUEST = (
    (_TRY_AGAIN, FaultKind.SERVER_ERROR),
    (_QUOTA, FaultKind.QUOTA),
    (_CREDENTIALS, FaultKind.CREDENTIALS),
    (_CONTEXT, FaultKind.CONTEXT_LENGTH),
    (_LARGE, FaultKind.TOO_LARGE),
    (_FILTER, FaultKind.CONTENT_FILTER),
    (_MODEL, FaultKind.UNKNOWN_MODEL),
)


def _unnumbered_kind(words: str) -> FaultKind:
    """An error that came with a status of success and without a number of its own."""
    for pattern, kind in (*_REQUEST, (_BUSY, FaultKind.OVERLOADED), (_RATE, FaultKind.RATE_LIMITED)):
        if pattern.search(words):
            return kind
    return FaultKind.SERVER_ERROR


def _said(body: bytes) -> _Said:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:20000].decode("utf-8", "replace")
        if "<" in text:
            text = _TAG.sub(" ", text)
        return _Said(" ".join(text.split()), "", None, None)
    if isinstance(data, list) and data:
        # Gemini's OpenAI-compatible address wraps its errors in a list
        data = data[0]
    if not isinstance(data, dict):
        return _Said(str(data), "", None, None)
    choices = data.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and choices[0].get("error"):
        # OpenRouter: the provider behind it broke off
        data = choices[0]
    error = next((data[key] for key in ("error", "detail", "errors") if data.get(key)), data)
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, str):
        return _Said(error, str(data.get("code") or data.get("type") or ""), None, data)
    if not isinstance(error, dict):
        return _Said(str(error), "", None, data)
    message = error.get("message") or error.get("msg") or error.get("detail") or data.get("message")
    if isinstance(message, dict):
        message = message.get("message") or message.get("detail")
    code = [str(error[key]) for key in ("code", "type", "status") if error.get(key) is not None]
    inner = error.get("innererror")
    if isinstance(inner, dict) and inner.get("code"):
        code.append(str(inner["code"]))
    raw = error.get("metadata", {}).get("raw") if isinstance(error.get("metadata"), dict) else None
    if isinstance(raw, str) and raw:
        # OpenRouter: the words of the provider behind it
        message = f"{message}: {raw}"
    numbers = [error.get("code"), error.get("status"), data.get("code"), data.get("status")]
    number = next((int(str(n)) for n in numbers if str(n).isdigit() and 400 <= int(str(n)) < 600), None)
    text = message if isinstance(message, str) and message else orjson.dumps(error, default=str).decode()
    return _Said(" ".join(text.split()), " ".join(code), number, error)


def _details(said: _Said) -> list[dict[str, Any]]:
    details = said.detail.get("details") if isinstance(said.detail, dict) else None
    return [entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else []


def _retry_info(said: _Said) -> float | None:
    """Google's RetryInfo: https://cloud.google.com/apis/design/errors"""
    for entry in _details(said):
        if str(entry.get("@type", "")).endswith("RetryInfo"):
            return duration(str(entry.get("retryDelay", "")))
    return None


def _no_quota(said: _Said) -> bool:
    """Google's QuotaFailure with a limit of 0: the account has no right to this model at all."""
    for entry in _details(said):
        violations = entry.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict) and str(violation.get("quotaValue")) == "0":
                return True
    return False


def _wait(headers: Mapping[str, str], said: _Said, now: float) -> float | None:
    """Seconds to wait; what asks for more than a day is a mistake, and says nothing."""
    wait = _stated_wait(headers, said, now)
    return wait if wait is not None and wait <= LONGEST_WAIT else None


def _stated_wait(headers: Mapping[str, str], said: _Said, now: float) -> float | None:
    """`retry-after-ms`, Retry-After in seconds or as a date, RetryInfo, or the message's own words."""
    millis = _float(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000
    after = headers.get("retry-after")
    if after:
        seconds = duration(after)
        if seconds is not None:
            return seconds
        # a server's date is by its own clock
        at, clock = _date(after), _date(headers.get("date"))
        if at is not None:
            return max(0.0, at - (now if clock is None else clock))
    info = _retry_info(said)
    if info is not None:
        return info
    match = _AGAIN_IN.search(said.message)
    if match is not None and match[1]:
        return duration(re.sub(r" |ec(onds?)?", "", match[1].rstrip(".").lower()))
    return None


def _float(text: str | None) -> float | None:
    try:
        value = float(text) if text else -1.0
    except ValueError:
        return None
    return value if 0 <= value < 1e7 else None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, OverflowError):
        return None


def _message(status: int, said: _Said, *, headers: Mapping[str, str], secrets: tuple[str, ...]) -> str:
    text = masked(said.message, secrets)
    if len(text) > SHOWN:
        text = text[: SHOWN - 1] + "…"
    if 300 <= status < 400:
        place = masked(headers.get("location", "nowhere"), secrets)
        text = f"redirected to {place}; put the final address into base_url"
    code = next((word for word in said.code.split() if word.lower() not in text.lower() and not word.isdigit()), "")
    named = f"{code}: {text}" if code and text else code or text
    number = f"HTTP {status}" if status >= 300 else ""
    return f"{number}: {named}" if number and named else number or named or "an error without a message"


def masked(text: str, secrets: tuple[str, ...]) -> str:
    """The text without keys: those that are known, and what looks like one. Bytes that are no text become '?'."""
    text = text.encode(errors="replace").decode()
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return _SECRET.sub("***", text)
