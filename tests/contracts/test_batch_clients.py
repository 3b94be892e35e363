"""The same cases for every client of batches, against the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from synth_cli.core.ports import BatchClient, BatchError, BatchLook, BatchResult
from synth_cli.core.reply import Fault
from synth_cli.core.request import Constraint, Draft, Request, Terms, identify
from synth_cli.providers.batches import batch_client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.providers.resolve import resolve
from synth_cli.simulator.server import Simulator
from synth_cli.simulator.settings import Settings


@dataclass(frozen=True)
class Protocol:
    """`path` is where the simulator serves it."""

    name: str
    model: str
    path: str = "/v1"
    finds_unanswered: bool = True
    """Whether what never ran stands in the results, as an error."""
    keeps_expired: bool = True
    """Whether a batch that expired has the results that it had until then."""
    padding: int = 0
    """Bytes that each prompt is longer, for what a provider does with large batches only."""


PROTOCOLS = (
    Protocol("openai", "openai/gpt-5-mini"),
    Protocol("azure", "azure/gpt-5-mini", ""),
    Protocol("azure-v1", "azure/gpt-5-mini", "/openai/v1"),
    Protocol("groq", "groq/openai/gpt-oss-20b", "/openai/v1"),
    Protocol("together", "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "/together/v1"),
    Protocol("litellm", "litellm_proxy/gpt-5-mini"),
    Protocol("mistral", "mistral/mistral-small-latest", finds_unanswered=False),
    Protocol("anthropic", "anthropic/claude-haiku-4-5", ""),
    Protocol("gemini", "gemini/gemini-2.5-flash", "", finds_unanswered=False, keeps_expired=False),
    Protocol("gemini-file", "gemini/gemini-2.5-flash", "", False, False, padding=80_000),
)
every = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
KEY = "synth-job-0123456789ab"
COUNT = 30


@dataclass(frozen=True)
class Bench:
    simulator: Simulator
    client: BatchClient
    file: Path
    requests: tuple[Request, ...]

    @property
    def ids(self) -> set[str]:
        return {request.id.hex() for request in self.requests}

    async def submit(self, key: str = KEY, metadata: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        return await self.client.submit(key, self.file, len(self.requests), metadata or {"team": "x"})

    async def until(self, ticket: Mapping[str, Any], reached: Callable[[BatchLook], bool]) -> BatchLook:
        for _ in range(1000):
            look = await self.client.look(orjson.loads(orjson.dumps(ticket)))
            if reached(look):
                return look
            await asyncio.sleep(0.01)
        raise AssertionError(f"the batch stays {look}")

    async def ended(self, ticket: Mapping[str, Any]) -> BatchLook:
        return await self.until(ticket, lambda look: look.ended)

    async def results(self, look: BatchLook) -> list[BatchResult]:
        return [result async for result in self.client.results(orjson.loads(orjson.dumps(look.ticket)))]


def _requests(protocol: Protocol, constraint: Constraint | None = None) -> tuple[Request, ...]:
    backend, _, model = protocol.model.partition("/")
    terms = Terms(backend, model, params={"max_tokens": 50}, constraint=constraint)
    drafts = [
        Draft(terms, ({"role": "user", "content": f"Say {n}: é\n" + "x" * protocol.padding},)) for n in range(COUNT)
    ]
    return tuple(identify(draft, draft.content(0), 0) for draft in drafts)


@asynccontextmanager
async def _bench(
    protocol: Protocol, folder: Path, constraint: Constraint | None = None, key: str = "k", **settings: Any
) -> AsyncIterator[Bench]:
    async with Simulator(Settings(**settings)) as simulator:
        transport = AiohttpTransport(environ={})
        base = simulator.url.removesuffix("/v1") + protocol.path
        endpoint = resolve(protocol.model, base_url=base, api_key=key, environ={})
        client = batch_client(endpoint, transport)
        requests = _requests(protocol, constraint)
        file = folder / "batch.jsonl"
        file.write_bytes(b"".join(client.line(request) for request in requests))
        try:
            yield Bench(simulator, client, file, requests)
        finally:
            await client.close()
            await transport.close()


def _run(
    protocol: Protocol,
    folder: Path,
    do: Callable[[Bench], Awaitable[Any]],
    *,
    constraint: Constraint | None = None,
    key: str = "k",
    **settings: Any,
) -> Any:
    async def run() -> Any:
        async with _bench(protocol, folder, constraint, key, **settings) as bench:
            return await do(bench)

    return asyncio.run(run())


async def _fault(call: Awaitable[Any]) -> Fault:
    try:
        await call
    except BatchError as error:
        return error.fault
    raise AssertionError("the call succeeded")


@every
def test_every_request_comes_back_once(protocol: Protocol, tmp_path: Path) -> None:
    """With its reply and usage; the counts agree."""

    async def do(bench: Bench) -> None:
        look = await bench.ended(await bench.submit())
        results = await bench.results(look)
        assert (look.outcome, len(results), {result.custom_id for result in results}) == ("collected", COUNT, bench.ids)
        assert {look.done, look.total} <= {COUNT, None}
        for result in results:
            reply = result.exchange.reply
            assert reply is not None
            assert reply.text
            assert reply.usage
            assert result.exchange.answer is not None

    _run(protocol, tmp_path, do)


@every
def test_a_choice_is_read_as_one(protocol: Protocol, tmp_path: Path) -> None:
    """What the requests asked for is known to a client that never saw them."""

    async def do(bench: Bench) -> set[str | None]:
        results = await bench.results(await bench.ended(await bench.submit()))
        assert {result.custom_id for result in results} == bench.ids
        return {result.exchange.reply and result.exchange.reply.text for result in results}

    assert _run(protocol, tmp_path, do, constraint=Constraint("choice", ["yes", "no"])) <= {"yes", "no"}


@every
def test_lines_end_in_one_newline_and_carry_the_id(protocol: Protocol, tmp_path: Path) -> None:
    """Whatever stands in the messages."""

    async def do(bench: Bench) -> None:
        lines = bench.file.read_bytes().split(b"\n")
        assert (len(lines), lines[-1]) == (COUNT + 1, b"")
        for request, line in zip(bench.requests, lines, strict=False):
            assert request.id.hex() in line.decode()
            assert bench.client.line(request) == line + b"\n"
            assert isinstance(orjson.loads(line), dict)

    _run(protocol, tmp_path, do)


@every
def test_a_batch_is_found_by_its_key_and_no_other(protocol: Protocol, tmp_path: Path) -> None:
    """With a ticket that serves as well as the submit's own."""

    async def do(bench: Bench) -> None:
        ticket = await bench.submit()
        assert await bench.client.find("synth-job-ffffffffffff", 0.0) is None
        found = await bench.client.find(KEY, 0.0)
        assert found is not None
        assert (await bench.client.look(found)).ticket == (await bench.client.look(ticket)).ticket

    _run(protocol, tmp_path, do)


@every
def test_a_submit_whose_answer_was_lost_is_found(protocol: Protocol, tmp_path: Path) -> None:
    """Nothing is asked twice."""

    async def do(bench: Bench) -> None:
        since = time.time()
        assert (await _fault(bench.submit())).retryable
        # some providers tell only when it has ended: until then it is not said to be absent
        found = await _again(lambda: bench.client.find(KEY, since), pause=0.02)
        assert found is not None
        results = await bench.results(await bench.ended(found))
        assert {result.custom_id for result in results} == bench.ids
        assert await bench.client.find(KEY, 0.0) is not None

    _run(protocol, tmp_path, do, batch_share_lost=1.0)


@every
def test_a_list_that_lags_shows_it_later(protocol: Protocol, tmp_path: Path) -> None:
    """Until then it is as if there were none; no call fails."""

    async def do(bench: Bench) -> None:
        await bench.submit()
        assert await bench.client.find(KEY, 0.0) is None
        bench.simulator.advance(100.0)
        assert await bench.client.find(KEY, 0.0) is not None

    _run(protocol, tmp_path, do, batch_list_lag=60.0)


@every
def test_a_cancelled_batch_keeps_what_was_done(protocol: Protocol, tmp_path: Path) -> None:
    """The rest says that it never ran, or nothing."""

    async def do(bench: Bench) -> None:
        ticket = await bench.submit()
        await bench.until(ticket, lambda look: look.state.lower() in ("in_progress", "running", "batch_state_running"))
        await bench.client.cancel(ticket)
        look = await bench.ended(ticket)
        await bench.client.cancel(look.ticket)
        _partly(bench, await bench.results(look), protocol)
        assert look.fault is None or look.fault.retryable

    _run(protocol, tmp_path, do, batch_halt=0.5)


@every
def test_an_expired_batch_keeps_what_was_done(protocol: Protocol, tmp_path: Path) -> None:
    """Its outcome says so; with some providers nothing was done then."""

    async def do(bench: Bench) -> None:
        look = await bench.ended(await bench.submit())
        assert look.outcome == "expired"
        if protocol.keeps_expired:
            _partly(bench, await bench.results(look), protocol)
        else:
            assert await bench.results(look) == []
        assert look.fault is None or look.fault.retryable

    _run(protocol, tmp_path, do, batch_expire=0.5)


def _partly(bench: Bench, results: list[BatchResult], protocol: Protocol) -> None:
    answered = [result for result in results if result.exchange.reply is not None]
    faults = [result.exchange.fault for result in results if result.exchange.fault is not None]
    assert 0 < len(answered) < COUNT
    assert {result.custom_id for result in results} <= bench.ids
    assert all(fault.retryable and fault.kind.value == "no result" for fault in faults)
    assert len(faults) == (COUNT - len(answered) if protocol.finds_unanswered else 0)


@every
def test_what_is_wrong_with_results_is_passed_on(protocol: Protocol, tmp_path: Path) -> None:
    """Broken lines, unknown ids, ids twice, any order, errors, gaps: none stops the reading."""

    async def do(bench: Bench) -> None:
        results = await bench.results(await bench.ended(await bench.submit()))
        kinds = {result.exchange.fault.kind.value for result in results if result.exchange.fault is not None}
        ids = [result.custom_id for result in results]
        assert "malformed body" in kinds
        assert len(kinds) > 1
        assert len(ids) > len(set(ids))
        assert set(ids) - bench.ids
        assert bench.ids - set(ids)

    shares = {f"batch_share_{name}": 0.2 for name in ("error", "missing", "duplicate", "unknown")}
    _run(protocol, tmp_path, do, **shares, batch_malformed=2, batch_shuffle=True)


@every
def test_a_batch_that_is_refused_says_why(protocol: Protocol, tmp_path: Path) -> None:
    """At the submit, or at a look; its requests may be asked again."""

    async def do(bench: Bench) -> None:
        try:
            look = await bench.ended(await bench.submit())
        except BatchError as error:
            refused = error.fault
        else:
            refused = None
        if refused is not None:
            assert refused.scope in ("row", "attempt")
            return
        assert (look.outcome, bool(look.message)) == ("failed", True)
        assert look.fault is None or look.fault.message
        assert [result for result in await bench.results(look) if result.exchange.reply] == []

    _run(protocol, tmp_path, do, batch_refuse=True)


@every
def test_a_batch_that_never_moves_goes_on(protocol: Protocol, tmp_path: Path) -> None:
    """It is not taken for one that ended."""

    async def do(bench: Bench) -> list[bool]:
        ticket = await bench.submit()
        return [(await bench.client.look(ticket)).ended for _ in range(3)]

    assert _run(protocol, tmp_path, do, batch_halt=0.0) == [False] * 3


@every
@pytest.mark.parametrize("trouble", ["share_429", "share_500", "share_reset", "share_malformed"])
def test_calls_that_fail_in_passing_may_be_made_again(protocol: Protocol, trouble: str, tmp_path: Path) -> None:
    """Each one, and nothing else is raised."""

    async def do(bench: Bench) -> None:
        ticket = await _again(bench.submit)
        found = await _again(lambda: bench.client.find(KEY, 0.0))
        assert found is not None

        async def ended() -> BatchLook:
            return await bench.ended(ticket)

        look = await _again(ended)
        results = await _again(lambda: bench.results(look))
        assert {result.custom_id for result in results} == bench.ids
        await _again(lambda: bench.client.cancel(look.ticket))
        await _again(lambda: bench.client.discard(look.ticket))
        await _again(lambda: bench.client.sweep(KEY))

    _run(protocol, tmp_path, do, **{trouble: 0.4})


async def _again(call: Callable[[], Awaitable[Any]], *, pause: float = 0.0) -> Any:
    for _ in range(200):
        try:
            return await call()
        except BatchError as error:
            if not error.fault.retryable:
                raise
        await asyncio.sleep(pause)
    raise AssertionError("it never succeeded")


@every
def test_a_wrong_key_ends_the_run(protocol: Protocol, tmp_path: Path) -> None:
    """Whichever call meets it; it is not told."""

    async def do(bench: Bench) -> list[str]:
        faults = [await _fault(bench.submit()), await _fault(bench.client.find(KEY, 0.0))]
        return [fault.scope for fault in faults]

    assert _run(protocol, tmp_path, do, key="bad") == ["run", "run"]


@every
def test_what_was_discarded_is_gone_and_may_be_discarded_again(protocol: Protocol, tmp_path: Path) -> None:
    """Also where there are no files to speak of."""

    async def do(bench: Bench) -> None:
        look = await bench.ended(await bench.submit())
        assert len(await bench.results(look)) == COUNT
        await bench.client.discard(look.ticket)
        await bench.client.discard(look.ticket)

    _run(protocol, tmp_path, do)


@every
def test_a_sweep_of_nothing_is_no_error(protocol: Protocol, tmp_path: Path) -> None:
    """And leaves the files of another key alone."""

    async def do(bench: Bench) -> None:
        ticket = await bench.submit()
        await bench.client.sweep("synth-job-ffffffffffff")
        look = await bench.ended(ticket)
        assert len(await bench.results(look)) == COUNT

    _run(protocol, tmp_path, do)
