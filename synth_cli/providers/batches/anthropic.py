"""Anthropic's Message Batches: all requests in one call, results as lines when the whole batch has ended.

Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing (100,000 requests or 256 MB; a custom id
is 1 to 64 letters, digits, hyphens and underscores; a batch expires after 24 hours; results are kept for 29 days;
counts move when the batch ends) and https://platform.claude.com/docs/en/api/messages/batches.

A batch keeps nothing of ours but the custom ids, and shows these only in its results. So each custom id begins with a
tag of the batch's key, and a submit whose answer was lost is looked for so: of the batches that were created when ours
may have been, those that have ended are told by the first lines of their results; as long as one has not, nobody can
say whether it is ours, and `find` says just that instead of guessing. Nothing is lost meanwhile, as there are no
results before the end; a batch that was never made is asked for again when the last doubtful one has ended, which is
after 24 hours at the latest. Batches that this client has made or looked at, and those with another number of
requests, are not in doubt.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

from synth_cli.core.ports import (
    BatchError,
    BatchLimits,
    BatchLook,
    BatchResult,
    Exchange,
    FileTransport,
    HttpCall,
)
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Request, Terms
from synth_cli.providers.anthropic import MESSAGES, VERSION, Encoder, encoder, error_fault
from synth_cli.providers.batches.calls import GONE, UPLOAD_RATE, Calls
from synth_cli.providers.batches.lines import UNANSWERED
from synth_cli.providers.batches.marks import answered, broken, mark, object_of, parted
from synth_cli.providers.batches.tickets import (
    SLACK,
    Outcome,
    Ticket,
    count,
    kept_until,
    missing,
    moment,
    text,
    unknown,
)
from synth_cli.providers.bodies import size
from synth_cli.providers.clients import secrets
from synth_cli.providers.encoders import Encoders
from synth_cli.providers.resolve import Endpoint

ADDRESS = "https://api.anthropic.com"
LIMITS = BatchLimits(requests=100_000, bytes=250_000_000)
"""256 MB with what is put around the requests."""
PAGE, PAGES = 1000, 50
PEEK = 50
"""Lines of results that are looked at for a tag: one would do, if none were ever broken."""
TAG_CHARS = 23
"""With the id, two hyphens and how it is read, at most 64."""
LONGEST_SUBMIT = 120.0 + LIMITS.bytes / UPLOAD_RATE
"""Seconds after its beginning in which a submit may have made its batch."""
_PLAIN = re.compile(rf"[a-zA-Z0-9_-]{{1,{TAG_CHARS}}}")
_START = b'{"custom_id":"'
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_UNRUN: Mapping[str, str] = {"expired": "batch_expired", "canceled": "batch_cancelled"}


class AnthropicBatches:
    """A `BatchClient`. The transport is closed by whoever made it."""

    def __init__(self, endpoint: Endpoint, transport: FileTransport, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._calls = Calls(transport, headers(endpoint), secrets(endpoint), min(endpoint.timeout, 120.0), clock)
        self._batches = root(endpoint.base_url) + "/v1/messages/batches"
        self._encoders = Encoders(_encoder)
        self._tags: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    @property
    def limits(self) -> BatchLimits:
        return LIMITS

    def line(self, request: Request) -> bytes:
        encode, head = self._encoders.of(request.terms)
        return b"%b%b%b%b}\n" % (_START, request.id.hex().encode(), head, encode.encode(request))

    async def submit(self, key: str, file: Path, requests: int, metadata: Mapping[str, str]) -> Ticket:
        """Raises BatchError. There is no place for metadata."""
        tag = tag_of(key)
        self._sizes[tag] = requests
        joined = file.with_name(file.name + ".joined")
        try:
            await asyncio.to_thread(join, file, joined, tag)
            body = (b'{"requests":[', joined, b"]}")
            timeout = self._calls.timeout + size(body) / UPLOAD_RATE
            answer = await self._calls.send(HttpCall("POST", self._batches, {}, body, timeout))
        finally:
            joined.unlink(missing_ok=True)
        made = object_of(answer.body)
        return self._known(text(made, "id"), tag, made or {})

    async def find(self, key: str, since: float) -> Ticket | None:
        """Raises BatchError as long as a batch that may be the one has not ended."""
        tag, doubtful = tag_of(key), ""
        async for page in self._pages():
            ages = [moment(batch.get("created_at")) for batch in page]
            for batch, at in zip(page, ages, strict=True):
                name = text(batch, "id")
                if at is None or at < since - SLACK:
                    continue
                whose = self._tags.get(name)
                if whose is None and batch.get("processing_status") == "ended":
                    whose = await self._whose(name, batch, tag)
                if whose == tag:
                    return self._known(name, tag, batch)
                in_time = at <= since + LONGEST_SUBMIT + SLACK
                if whose is None and in_time and self._sizes.get(tag, _total(batch)) == _total(batch):
                    doubtful = name
            # the newest come first
            if ages and ages[-1] is not None and ages[-1] < since - SLACK:
                break
        if doubtful:
            message = f"whether {doubtful} is the batch that was submitted will be seen when it has ended"
            raise BatchError(Fault(FaultKind.MISSING, message))
        return None

    async def _whose(self, name: str, batch: Mapping[str, Any], tag: str) -> str | None:
        """The tag, if an ended batch has it on one of its first results; None where that cannot be seen yet."""
        seen = 0
        try:
            async with aclosing(self._calls.lines(self._url(name, "/results"))) as found:
                async for line in found:
                    data = object_of(line)
                    if data is not None and parted(str(data.get("custom_id")), MESSAGES)[0] == tag:
                        self._tags[name] = tag
                        return tag
                    seen += 1
                    if seen == PEEK:
                        break
        except BatchError as error:
            if error.fault.status not in GONE:
                raise
        if not seen and self._clock() < kept_until({"ended_at": moment(batch.get("ended_at"))}):
            return None
        # another's; or its results are gone, and whosever it was, it has none for us
        return ""

    async def look(self, ticket: Ticket) -> BatchLook:
        batch = await self._calls.found(self._url(str(ticket["id"])))
        if not isinstance(batch, dict):
            return unknown(ticket, self._clock())
        counts, state = batch.get("request_counts"), str(batch.get("processing_status") or "unknown")
        outcome = _outcome(batch)
        ended = state == "ended"
        unserved = [count(counts, name) or 0 for name in ("errored", "canceled", "expired")]
        return BatchLook(
            state,
            ended,
            outcome,
            count(counts, "succeeded"),
            sum(unserved) if isinstance(counts, dict) else None,
            _total(batch),
            ticket=self._known(str(ticket["id"]), str(ticket.get("tag") or ""), batch),
            fault=missing(outcome) if ended else None,
        )

    def results(self, ticket: Ticket) -> AsyncIterator[BatchResult]:
        urls = [self._url(str(ticket["id"]), "/results")]
        return self._calls.results(urls, kept_until=kept_until(ticket), read=result)

    async def cancel(self, ticket: Ticket) -> None:
        """A batch that has ended meanwhile is no error."""
        try:
            await self._calls.post(self._url(str(ticket["id"]), "/cancel"))
        except BatchError:
            if not (await self.look(ticket)).ended:
                raise

    async def discard(self, ticket: Ticket) -> None:
        """Deletes the batch with its results: there are no other files."""
        await self._calls.delete(self._url(str(ticket["id"])))

    async def sweep(self, key: str) -> None:
        """Nothing is uploaded that is not a batch."""

    async def close(self) -> None:
        """Nothing of its own is open."""

    def _known(self, name: str, tag: str, batch: Mapping[str, Any]) -> dict[str, Any]:
        self._tags[name] = tag
        times = {"created_at": moment(batch.get("created_at")), "ended_at": moment(batch.get("ended_at"))}
        return {"id": name, "tag": tag} | {name: at for name, at in times.items() if at is not None}

    async def _pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Newest first."""
        after = ""
        for _ in range(PAGES):
            query = f"?limit={PAGE}" + (f"&after_id={quote(after, safe='')}" if after else "")
            answer = await self._calls.get(self._batches + query)
            page = answer.get("data") if isinstance(answer, dict) else None
            page = [batch for batch in page if isinstance(batch, dict)] if isinstance(page, list) else []
            if page:
                yield page
            last = str(answer.get("last_id") or "") if isinstance(answer, dict) else ""
            if not page or not answer.get("has_more") or not last or last == after:
                return
            after = last

    def _url(self, name: str, path: str = "") -> str:
        return f"{self._batches}/{quote(name, safe='')}{path}"


def _encoder(terms: Terms) -> tuple[Encoder, bytes]:
    """(encoder, what stands between id and body)."""
    made = encoder(terms)
    return made, b'%b","params":' % mark(made.protocol).encode()


def result(line: bytes, *, now: float, secrets: tuple[str, ...] = ()) -> BatchResult | None:
    """What a line of results says; None for an empty one. What never ran was not charged."""
    if not line.strip():
        return None
    data = object_of(line)
    said = data.get("result") if data is not None else None
    if data is None or type(data.get("custom_id")) is not str or type(said) is not dict:
        return broken(line, "custom_id")
    _, id, protocol = parted(data["custom_id"], MESSAGES)
    kind = str(said.get("type"))
    if kind == "succeeded":
        return answered(id, protocol, said.get("message"), now=now, secrets=secrets)
    if kind in _UNRUN:
        return BatchResult(id, Exchange(fault=Fault(FaultKind.MISSING, UNANSWERED[_UNRUN[kind]])))
    if kind == "errored":
        return BatchResult(id, Exchange(fault=error_fault(said.get("error"), now=now, secrets=secrets)))
    return BatchResult(id, Exchange(fault=Fault(FaultKind.MISSING, f"the result is of a kind never heard of: {kind}")))


def join(file: Path, joined: Path, tag: str) -> None:
    """The requests of `file` as the elements of a list, their custom ids marked with the tag."""
    start = _START + tag.encode() + b"-"
    with file.open("rb") as lines, joined.open("wb") as out:
        for number, line in enumerate(lines):
            out.write(b"%b%b%b" % (b",\n" if number else b"", start, line.rstrip().removeprefix(_START)))


def tag_of(key: str) -> str:
    """The key itself where it may stand in a custom id, or a hash of it."""
    return key if _PLAIN.fullmatch(key) else "s" + blake2b(key.encode(), digest_size=11).hexdigest()


def headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers of every call, the user's own last."""
    sent = {"content-type": "application/json", "user-agent": "synth-cli", "anthropic-version": VERSION}
    if endpoint.api_key:
        sent["x-api-key"] = endpoint.api_key
    return sent | {name.lower(): value for name, value in endpoint.headers.items()}


def root(base_url: str) -> str:
    """The address before `/v1`."""
    base = base_url.rstrip("/").removesuffix("/messages").removesuffix("/v1")
    return base or ADDRESS


def _outcome(batch: Mapping[str, Any]) -> Outcome:
    if batch.get("cancel_initiated_at"):
        return "cancelled"
    return "expired" if count(batch.get("request_counts"), "expired") else "collected"


def _total(batch: Mapping[str, Any]) -> int | None:
    """The sum of all counts is the number of requests from the first moment."""
    counts = [count(batch.get("request_counts"), name) for name in _COUNTS]
    return None if None in counts else sum(number or 0 for number in counts)


def client(endpoint: Endpoint, transport: FileTransport, *, window: str = "24h") -> AnthropicBatches:
    """A batch is given 24 hours, whatever `window` says."""
    return AnthropicBatches(endpoint, transport)
