from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import aiohttp
import httpx
import openai
import pytest

from synth_cli.simulator import Settings, Simulator, serve
from synth_cli.simulator.limits import Limits, Refusal, spoken

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
HELLO: Any = [{"role": "user", "content": "Tell me about lighthouses."}]


def with_client(use: Callable[[openai.AsyncOpenAI, Simulator], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with Simulator(Settings(**settings)) as simulator:
            key = "a key"
            async with openai.AsyncOpenAI(base_url=simulator.url, api_key=key, max_retries=0, timeout=20) as client:
                await use(client, simulator)

    asyncio.run(run())


async def send(simulator: Simulator, text: str = "Hello", **headers: str) -> tuple[int, bytes, Any]:
    """(status, body, headers) of one chat request; header names are given with underscores."""
    body = {"model": "simulator", "messages": [{"role": "user", "content": text}]}
    own = {f"x-simulator-{name.replace('_', '-')}": value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{simulator.url}/chat/completions", json=body, headers=own) as response,
    ):
        return response.status, await response.read(), response.headers


def with_server(use: Callable[[Simulator], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with Simulator(Settings(**settings)) as simulator:
            await use(simulator)

    asyncio.run(run())


def test_the_official_client_chats() -> None:
    """OpenAI's own client reads answer, usage, log probabilities and choices."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        answer = await client.chat.completions.create(
            model="simulator", messages=HELLO, n=2, logprobs=True, top_logprobs=2
        )
        first = answer.choices[0]
        assert (len(answer.choices), first.finish_reason, first.message.role) == (2, "stop", "assistant")
        assert first.logprobs is not None
        assert first.logprobs.content is not None
        assert "".join(told.token for told in first.logprobs.content) == first.message.content
        assert {len(told.top_logprobs) for told in first.logprobs.content} == {2}
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == 0

    with_client(use)


def test_the_official_client_parses_a_schema_and_calls_a_tool() -> None:
    """Structured answers and tool calls come in the shapes that the client knows."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        form: Any = {"type": "json_schema", "json_schema": {"name": "book", "schema": SCHEMA, "strict": True}}
        answer = await client.chat.completions.create(model="simulator", messages=HELLO, response_format=form)
        assert list(json.loads(answer.choices[0].message.content or "")) == ["title"]
        tools: Any = [{"type": "function", "function": {"name": "find_lighthouse", "parameters": SCHEMA}}]
        answer = await client.chat.completions.create(model="simulator", messages=HELLO, tools=tools)
        (call,) = answer.choices[0].message.tool_calls or ()
        assert call.type == "function"
        assert call.function.name == "find_lighthouse"
        assert answer.choices[0].finish_reason == "tool_calls"

    with_client(use)


@pytest.mark.parametrize("model", ["simulator", "simulator-reason"])
def test_a_stream_says_what_the_whole_answer_says(model: str) -> None:
    """The chunks put together are the answer that is given whole, with its usage in the last."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        whole = await client.chat.completions.create(model=model, messages=HELLO)
        text, reasoning, finish, usage = "", "", None, None
        stream = await client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reasoning += getattr(choice.delta, "reasoning_content", "") or ""
                finish = choice.finish_reason or finish
        message = whole.choices[0].message
        assert (text, finish, usage) == (message.content, whole.choices[0].finish_reason, whole.usage)
        assert reasoning == (getattr(message, "reasoning_content", None) or "")

    with_client(use)


def test_tool_calls_are_streamed() -> None:
    """The pieces of the arguments add up to JSON."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        tools: Any = [{"type": "function", "function": {"name": "find_lighthouse", "parameters": SCHEMA}}]
        stream = await client.chat.completions.create(model="simulator", messages=HELLO, tools=tools, stream=True)
        name, arguments = "", ""
        async for chunk in stream:
            for call in chunk.choices[0].delta.tool_calls or ():
                assert call.function is not None
                name += call.function.name or ""
                arguments += call.function.arguments or ""
        assert (name, list(json.loads(arguments))) == ("find_lighthouse", ["title"])

    with_client(use)


def test_the_official_client_completes_and_lists_models() -> None:
    """Raw completions, several prompts, streams of them, and the list of models."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        answer = await client.completions.create(model="simulator", prompt=["One", "Two"], n=2, logprobs=1, echo=True)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert [choice.text[:3] for choice in answer.choices] == ["One", "One", "Two", "Two"]
        whole = await client.completions.create(model="simulator", prompt="One")
        stream = await client.completions.create(model="simulator", prompt="One", stream=True)
        text = "".join([chunk.choices[0].text async for chunk in stream])
        assert text == whole.choices[0].text
        assert "simulator" in [model.id async for model in client.models.list()]

    with_client(use)


def test_errors_are_the_ones_the_client_knows() -> None:
    """Unknown models, bad keys, empty accounts, bad requests and wrong addresses have OpenAI's statuses and codes."""

    async def use(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
        async def code(error: type[openai.APIStatusError], client: openai.AsyncOpenAI = client, **more: Any) -> Any:
            with pytest.raises(error) as caught:
                await client.chat.completions.create(**{"model": "simulator", "messages": HELLO, **more})
            return caught.value.code

        assert await code(openai.NotFoundError, model="unknown-7b") == "model_not_found"
        assert await code(openai.RateLimitError, model="gpt-no-credit") == "insufficient_quota"
        assert await code(openai.BadRequestError, temperature=7) == "invalid_value"
        assert await code(openai.AuthenticationError, client.with_options(api_key="bad")) == "invalid_api_key"
        with pytest.raises(openai.NotFoundError, match="Invalid URL"):
            await client.embeddings.create(model="simulator", input="x")
        assert simulator.counts["endpoints"] == {
            "chat": {"insufficient_quota": 1, "invalid_api_key": 1, "invalid_value": 1, "model_not_found": 1}
        }

    with_client(use)


def test_a_body_that_is_not_json_is_refused() -> None:
    """400 in OpenAI's shape, whatever comes."""

    async def use(simulator: Simulator) -> None:
        async with aiohttp.ClientSession() as session:
            for data in (b"{", b"[]", b"\xff"):
                async with session.post(f"{simulator.url}/chat/completions", data=data) as response:
                    assert response.status == 400
                    assert (await response.json())["error"]["type"] == "invalid_request_error"

    with_server(use)


def test_a_large_body_is_taken() -> None:
    """Images travel in the body: several megabytes are no trouble."""

    async def use(simulator: Simulator) -> None:
        body = json.dumps({"model": "simulator", "messages": [{"role": "user", "content": "x" * (3 << 20)}]})
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{simulator.url}/chat/completions", data=BytesIO(body.encode())) as response,
        ):
            assert response.status == 200

    with_server(use)


def test_shares_of_faults_are_kept_and_a_retry_can_succeed() -> None:
    """Over many requests each fault comes as often as set, the same ones in each run; another try is drawn anew."""

    async def outcomes() -> list[int]:
        async with Simulator(Settings(share_429=0.2, share_500=0.1)) as simulator, aiohttp.ClientSession() as session:
            found = []
            for number in range(300):
                body = {"model": "m", "messages": [{"role": "user", "content": f"Row {number}"}]}
                async with session.post(f"{simulator.url}/chat/completions", json=body) as response:
                    found.append(response.status)
                for _ in range(20):
                    async with session.post(f"{simulator.url}/chat/completions", json=body) as response:
                        if response.status == 200:
                            break
                else:
                    raise AssertionError("20 tries failed")
            return found

    first = asyncio.run(outcomes())
    assert first == asyncio.run(outcomes())
    counted = Counter(first)
    assert 30 <= counted[429] <= 90
    assert 12 <= counted[500] <= 50


def test_each_fault_by_header() -> None:
    """A request can ask for its own fault: statuses, bodies and connections go wrong as named."""

    async def use(simulator: Simulator) -> None:
        status, body, headers = await send(simulator, fault="429", retry_after="2.5")
        assert (status, headers["retry-after"], headers["retry-after-ms"]) == (429, "3", "2500")
        assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"
        assert (await send(simulator, fault="500"))[0] == 500
        assert (await send(simulator, fault="empty"))[:2] == (200, b"")
        status, body, _ = await send(simulator, fault="malformed")
        assert status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        for name, finish in (("length", "length"), ("filter", "content_filter")):
            answer = json.loads((await send(simulator, fault=name))[1])
            assert answer["choices"][0]["finish_reason"] == finish
        answer = json.loads((await send(simulator, "Answer with one of: a, b", fault="invalid"))[1])
        assert answer["choices"][0]["message"]["content"] not in ("a", "b")
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(simulator, fault="reset")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(simulator, fault="stall"), 0.2)
        assert (await send(simulator, falt="500"))[0] == 400
        assert (await send(simulator, "again", fault="500", fault_tries="1"))[0] == 500
        assert (await send(simulator, "again", fault="500", fault_tries="1"))[0] == 200
        assert (await send(simulator, share_500="1"))[0] == 500

    with_server(use)


def test_streams_break_off() -> None:
    """A reset or malformed stream begins well and does not end well."""

    async def use(client: openai.AsyncOpenAI, _: Simulator) -> None:
        for fault, error in (("reset", httpx.RemoteProtocolError), ("malformed", json.JSONDecodeError)):
            stream = await client.chat.completions.create(
                model="simulator", messages=HELLO, stream=True, extra_headers={"x-simulator-fault": fault}
            )
            seen = 0
            with pytest.raises(error):  # noqa: PT012
                async for _chunk in stream:
                    seen += 1
            assert seen > 0

    with_client(use)


def test_stalled_requests_do_not_keep_the_server() -> None:
    """The server ends although a request is never answered."""

    async def run() -> None:
        async with Simulator(Settings(share_stall=1)) as simulator:
            stalled = asyncio.create_task(send(simulator))
            while not simulator.counts["in_flight"]:  # noqa: ASYNC110 - the server has nothing to wait on
                await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientError):
            await stalled

    asyncio.run(asyncio.wait_for(run(), 20))


def test_answers_are_counted_and_repeated_ones_told() -> None:
    """Each sound answer counts; the second to the same content is a repeated one; a reset begins anew."""

    async def use(simulator: Simulator) -> None:
        for text in ("a", "b", "a"):
            await send(simulator, text)
        await send(simulator, "c", fault="500")
        async with aiohttp.ClientSession() as session:
            base = simulator.url.removesuffix("/v1")
            async with session.get(f"{base}/simulator/counts") as response:
                counts = await response.json()
            assert counts == simulator.counts
            assert counts.pop("tokens") > 0
            assert counts == {
                "endpoints": {"chat": {"answered": 3, "server_error": 1}},
                "requests": 4,
                "answered": 3,
                "distinct": 2,
                "repeated": 1,
                "paid": {"1": 1, "2": 1},
                "paid_again": ["a"],
                "in_flight": 0,
                "peak_in_flight": 1,
            }
            async with session.post(f"{base}/simulator/reset") as response:
                assert response.status == 200
        assert (simulator.counts["requests"], simulator.counts["distinct"]) == (0, 0)

    with_server(use)


def test_vary_answers_equal_requests_differently() -> None:
    """With `vary` the second answer is another one, without it the same."""

    async def texts(vary: bool) -> int:
        async with Simulator(Settings(vary=vary)) as simulator:
            return len({(await send(simulator))[1] for _ in range(3)})

    assert (asyncio.run(texts(False)), asyncio.run(texts(True))) == (1, 3)


def test_limits_are_enforced_and_told() -> None:
    """What is above the limit is refused with the time to wait; every answer says limit, rest and reset."""

    async def use(simulator: Simulator) -> None:
        status, _, headers = await send(simulator, "a")
        told = {name: headers[f"x-ratelimit-{name}"] for name in ("limit-requests", "remaining-requests")}
        assert (status, told) == (200, {"limit-requests": "60", "remaining-requests": "0"})
        status, body, headers = await send(simulator, "b")
        assert (status, headers["retry-after"]) == (429, "1")
        assert 0 < int(headers["retry-after-ms"]) <= 1000
        assert "requests per min (RPM): Limit 60" in json.loads(body)["error"]["message"]
        assert headers["x-ratelimit-reset-requests"].endswith(("ms", "s"))

    with_server(use, requests_per_minute=60)


def test_a_bucket_lets_in_exactly_the_rate() -> None:
    """Over two minutes of asking all the time, the limit and one burst are let in: requests and tokens alike."""
    for settings, cost, least, most in (
        (Settings(requests_per_minute=3000), 1, 6000, 6050),
        (Settings(tokens_per_minute=60_000), 100, 1200, 1210),
        (Settings(tokens_per_minute=600, burst_seconds=1), 300, 4, 5),
    ):
        limits = Limits(settings, 0.0)
        taken = sum(limits.take(cost, tick / 100) is None for tick in range(12_000))
        assert least <= taken <= most


def test_a_request_above_the_whole_limit_is_never_let_in() -> None:
    """It is refused without a time to wait."""
    limits = Limits(Settings(tokens_per_minute=100), 0.0)
    assert limits.take(101, 1000.0) == Refusal("tokens", 100, None, 101)


def test_times_are_written_as_openai_does() -> None:
    """Milliseconds, seconds, minutes and seconds."""
    assert [spoken(seconds) for seconds in (0, 0.0121, 1.5, 59, 360)] == ["0ms", "13ms", "1.5s", "59s", "6m0s"]


def test_settings_that_cannot_be_are_refused() -> None:
    """Shares above one, alone or together, and negative times."""
    for wrong in ({"share_429": 1.5}, {"share_429": 0.6, "share_500": 0.6}, {"latency": -1}, {"tokens_per_minute": 0}):
        with pytest.raises(ValueError, match=r"share|negative|more than 0"):
            Settings(**wrong)  # type: ignore[arg-type]


def test_serve_says_where_and_ends_when_cancelled() -> None:
    """`serve` calls back with its address and serves until it is cancelled."""

    async def run() -> None:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(Settings(), port=0, ready=ready.set_result))
        url = await ready
        async with aiohttp.ClientSession() as session, session.get(f"{url}/models") as response:
            assert response.status == 200
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
