"""Each parameter of the online engine has its effect, seen from a server."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from command_line import failures, rows, spec, synth, words, write
from scripted_server import Asked, Say, echo, serving

ROWS = [{"word": f"w{n}"} for n in range(12)]


def fail(status: int, message: str = "sorry", **headers: str) -> Say:
    return Say(None, status, {"error": {"message": message}}, {k.replace("_", "-"): v for k, v in headers.items()})


def test_max_retries_is_the_number_of_attempts_after_the_first(tmp_path: Path) -> None:
    """A server that always fails is asked once and `max_retries` times more, and each error is kept."""
    with serving(lambda _: fail(500, "broken")) as server:
        path = write(tmp_path, spec(server.url, input={"rows": [{"word": "one"}]}, backend_params={"max_retries": 2}))
        called = synth("run", path)
    assert called.code == 1
    assert len(server.asked) == 3
    (failure,) = failures(tmp_path)
    assert [(one["attempt"], one["error"]) for one in failure["attempts"]] == [
        (n, "server error: HTTP 500: broken") for n in (1, 2, 3)
    ]


def test_no_retries_at_all(tmp_path: Path) -> None:
    """`max_retries: 0` asks once."""
    with serving(lambda _: fail(500)) as server:
        path = write(tmp_path, spec(server.url, input={"rows": [{"word": "one"}]}, backend_params={"max_retries": 0}))
        assert synth("run", path).code == 1
    assert len(server.asked) == 1


def test_a_429_uses_up_no_retries(tmp_path: Path) -> None:
    """More answers 429 than `max_retries` and the row still arrives."""

    def script(asked: Asked) -> Say:
        return fail(429, "slow down", retry_after_ms="5") if asked.again < 4 else echo(asked)

    with serving(script) as server:
        path = write(tmp_path, spec(server.url, input={"rows": [{"word": "one"}]}, backend_params={"max_retries": 0}))
        assert synth("run", path).code == 0
    assert len(server.asked) == 5
    assert rows(tmp_path / "job.jsonl") == [{"word": "one", "response": "Say one."}]


def test_overloaded_uses_up_no_retries(tmp_path: Path) -> None:
    """529 'overloaded' is patience asked for, not a failed attempt."""

    def script(asked: Asked) -> Say:
        return fail(529, "overloaded", retry_after_ms="5") if asked.again < 2 else echo(asked)

    with serving(script) as server:
        path = write(tmp_path, spec(server.url, input={"rows": [{"word": "one"}]}, backend_params={"max_retries": 0}))
        assert synth("run", path).code == 0
    assert len(server.asked) == 3


def test_require_all_responses_publishes_nothing_when_a_row_failed(tmp_path: Path) -> None:
    """It is `accept: {max_error_rate: 0}`: exit 1, and the old file stays."""
    with serving(lambda asked: fail(400) if "two" in asked.user else echo(asked)) as server:
        path = write(tmp_path, spec(server.url, backend_params={"require_all_responses": True}))
        (tmp_path / "job.jsonl").write_text("old\n")
        called = synth("run", path)
    assert called.code == 1
    assert (tmp_path / "job.jsonl").read_text() == "old\n"
    assert "1 of 3 rows failed (33.33%), and accept allows 0.00%; the old output stays" in called.err


def test_base_url_api_key_and_headers_reach_the_server(tmp_path: Path) -> None:
    """The address, the key as a bearer and extra headers are what is sent."""
    made = {
        "model": "openai/gpt-5-mini",
        "input": {"count": 1},
        "prompt": "Hi.",
        "backend_params": {"api_key": "sk-mine", "headers": {"X-Team": "blue"}},
    }
    with serving() as server:
        made["backend_params"]["base_url"] = server.url  # type: ignore[index]
        assert synth("run", write(tmp_path, made)).code == 0
    (asked,) = server.asked
    assert (asked.path, asked.headers["authorization"], asked.headers["x-team"]) == (
        "/v1/chat/completions",
        "Bearer sk-mine",
        "blue",
    )


def test_shorthands_in_a_model_mapping_win_over_the_steps_backend_params(tmp_path: Path) -> None:
    """`base_url`, `api_key` and `headers` beside `name` are backend_params of that model."""
    with serving() as server:
        made = spec(server.url, input={"count": 1}, prompt="Hi.")
        made["model"]["headers"] = {"x-a": "own"}
        made["backend_params"] = {"base_url": "http://127.0.0.1:9/v1", "api_key": "sk-other", "headers": {"x-b": "no"}}
        assert synth("run", write(tmp_path, made)).code == 0
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer sk-quite-secret"
    assert asked.headers["x-a"] == "own"


def test_the_key_comes_from_the_providers_own_variable(tmp_path: Path) -> None:
    """Without `api_key` OPENAI_API_KEY is taken; without that the run ends with exit 3 that names it."""
    with serving() as server:
        made = {"model": "openai/gpt-5-mini", "input": {"count": 1}, "prompt": "Hi."}
        path = write(tmp_path, made)
        without = synth("run", path)
        env = {"OPENAI_API_KEY": "sk-env", "OPENAI_BASE_URL": server.url}
        assert synth("run", path, env=env).code == 0
    assert (without.code, without.out) == (3, "")
    assert "OPENAI_API_KEY" in without.err
    assert [one.headers["authorization"] for one in server.asked] == ["Bearer sk-env"]


def test_request_timeout_ends_an_attempt(tmp_path: Path) -> None:
    """A stalled answer is a timeout after `request_timeout` seconds, and is asked again."""
    with serving(lambda asked: Say("late", after=0.0 if asked.again else 30.0)) as server:
        made = spec(server.url, input={"count": 1}, prompt="Hi.", backend_params={"request_timeout": 0.2})
        assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == 2
    assert rows(tmp_path / "job.jsonl") == [{"index": 0, "response": "late"}]


def test_prices_with_decimals(tmp_path: Path) -> None:
    """`in_mtok_cost` and `out_mtok_cost` are USD per million tokens and may be fractions."""
    with serving(lambda asked: Say("x", usage=(1000, 500))) as server:
        made = spec(server.url, backend_params={"in_mtok_cost": 0.15, "out_mtok_cost": 0.6})
        called = synth("run", write(tmp_path, made), "--json")
    assert called.json["traffic"]["cost"] == {
        "usd": pytest.approx(3 * (1000 * 0.15e-6 + 500 * 0.6e-6)),
        "known_usd": pytest.approx(3 * (1000 * 0.15e-6 + 500 * 0.6e-6)),
        "unpriced": 0,
    }


def test_an_unknown_price_is_unknown(tmp_path: Path) -> None:
    """A model in no table has no cost, rather than $0."""
    with serving() as server:
        called = synth("run", write(tmp_path, spec(server.url)), "--json")
    assert called.json["traffic"]["cost"] == {"usd": None, "known_usd": 0.0, "unpriced": 3}
    assert "unknown" in called.err


@pytest.mark.parametrize(("reasons", "code", "asked"), [(None, 1, 2), (["content_filter"], 0, 1), ([], 0, 1)])
def test_invalid_finish_reasons(tmp_path: Path, reasons: list[str] | None, code: int, asked: int) -> None:
    """By default an answer cut off by `length` is asked again and then failed; the list decides."""
    params = {"max_retries": 1} if reasons is None else {"max_retries": 1, "invalid_finish_reasons": reasons}
    with serving(lambda one: Say("cut", finish="length")) as server:
        made = spec(server.url, input={"count": 1}, prompt="Hi.", backend_params=params)
        assert synth("run", write(tmp_path, made)).code == code
    assert len(server.asked) == asked


def test_any_finish_reason_can_be_made_invalid(tmp_path: Path) -> None:
    """A reason that is listed fails the answer, with the reason in its error."""
    with serving() as server:
        params = {"max_retries": 0, "invalid_finish_reasons": ["stop"]}
        made = spec(server.url, input={"count": 1}, prompt="Hi.", backend_params=params)
        assert synth("run", write(tmp_path, made)).code == 1
    (failure,) = failures(tmp_path)
    assert failure["error"].startswith("finish reason:")
    assert "stop" in failure["error"]


def test_max_concurrent_requests_is_never_passed(tmp_path: Path) -> None:
    """No more than so many requests are under way at once, and so many are."""
    with serving(lambda asked: Say("x", after=0.03)) as server:
        made = spec(server.url, input={"rows": ROWS}, backend_params={"max_concurrent_requests": 3})
        assert synth("run", write(tmp_path, made)).code == 0
    assert server.most == 3


LIMITS = [
    ("max_requests_per_minute", 1200, 1.0),
    ("max_tokens_per_minute", 60_000, 50.0),
    ("max_input_tokens_per_minute", 60_000, 50.0),
    ("max_output_tokens_per_minute", 60_000, 50.0),
]


@pytest.mark.parametrize(("name", "per_minute", "each"), LIMITS)
def test_a_limit_per_minute_paces_requests(tmp_path: Path, name: str, per_minute: float, each: float) -> None:
    """Requests are spread so that the server never sees more than the limit's pace, a second's worth aside."""
    usage = (50, 0) if "input" in name else (0, 50) if "output" in name else (25, 25)
    with serving(lambda asked: Say("x", usage=usage)) as server:
        made = spec(
            server.url,
            input={"rows": [{"word": f"w{n:02}" + " x" * 80} for n in range(45)]},
            generation_params={"max_tokens": 50},
            backend_params={name: per_minute},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    span = server.asked[-1].at - server.asked[0].at
    per_second = per_minute / 60 / each
    assert len(server.asked) == 45
    # of 45 requests at 20 a second all but what one second may save up must wait its turn
    assert span >= (45 - 1) / per_second - 1.5


def test_a_request_beyond_the_whole_limit_fails_instead_of_waiting_forever(tmp_path: Path) -> None:
    """A request larger than `max_tokens_per_minute` is a failure that says so; the others arrive."""
    with serving() as server:
        made = spec(
            server.url,
            input={"rows": [{"word": "one"}, {"word": "long " * 5000}]},
            generation_params={"max_tokens": 50},
            backend_params={"max_tokens_per_minute": 2000},
        )
        called = synth("run", write(tmp_path, made))
    assert called.code == 1
    assert words(server.asked) == ["Say one."]
    (failure,) = failures(tmp_path)
    assert failure["error"].startswith("too large:")
    assert "2,000" in failure["error"]


def test_a_429_without_retry_after_waits_the_seconds_given(tmp_path: Path) -> None:
    """`seconds_to_pause_on_rate_limit` counts where the server names no time."""
    with serving(lambda asked: echo(asked) if asked.again else fail(429)) as server:
        made = spec(
            server.url, input={"count": 1}, prompt="Hi.", backend_params={"seconds_to_pause_on_rate_limit": 0.6}
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert 0.55 <= server.asked[1].at - server.asked[0].at < 5


def test_retry_after_wins_over_the_seconds_given(tmp_path: Path) -> None:
    """A server's Retry-After is what is waited, not the default ten seconds."""
    with serving(lambda asked: echo(asked) if asked.again else fail(429, retry_after="0.3")) as server:
        made = spec(server.url, input={"count": 1}, prompt="Hi.")
        assert synth("run", write(tmp_path, made)).code == 0
    assert 0.28 <= server.asked[1].at - server.asked[0].at < 5


def test_stream_reads_server_sent_events(tmp_path: Path) -> None:
    """With `stream: true` the answer is put together from its events, usage included."""
    with serving() as server:
        made = spec(server.url, backend_params={"stream": True})
        called = synth("run", write(tmp_path, made), "--json")
    assert {one.body["stream"] for one in server.asked} == {True}
    assert rows(tmp_path / "job.jsonl")[0] == {"word": "one", "response": "Say one."}
    assert called.json["traffic"]["tokens"]["input"] == 30
    assert called.json["traffic"]["tokens"]["output"] == 15


def test_a_parameter_of_another_engine_says_which(tmp_path: Path) -> None:
    """`tensor_parallel_size` in an online spec is an error with place and engine."""
    path = write(tmp_path, spec("http://127.0.0.1:9/v1", backend_params={"tensor_parallel_size": 2}))
    assert (synth("run", path).code, synth("validate", path).err) == (
        2,
        f"{path}:12:25: 'tensor_parallel_size' belongs to the engine vllm; this step's is online\n",
    )


def test_numeric_parameters_accept_numeric_strings_of_the_environment(tmp_path: Path) -> None:
    """`max_retries: ${TRIES}` is a number."""
    with serving(lambda _: fail(500)) as server:
        made = spec(server.url, input={"count": 1}, prompt="Hi.", backend_params={"max_retries": "${TRIES}"})
        assert synth("run", write(tmp_path, made), env={"TRIES": "1"}).code == 1
    assert len(server.asked) == 2


def test_a_proxy_of_the_environment_is_used(tmp_path: Path) -> None:
    """HTTP_PROXY is where requests go, unless NO_PROXY names the host."""
    with serving() as server:
        proxy = server.url.removesuffix("/v1")
        path = write(tmp_path, spec("http://models.invalid/v1", input={"count": 1}, prompt="Hi."))
        assert synth("run", path, env={"HTTP_PROXY": proxy, "NO_PROXY": ""}).code == 0
    assert [one.headers["host"] for one in server.asked] == ["models.invalid"]


def test_the_body_is_what_preview_says(tmp_path: Path) -> None:
    """`preview --json` shows exactly the body that `run` sends, and the address."""
    with serving() as server:
        made = spec(server.url, generation_params={"temperature": 0.5, "max_tokens": 7, "seed": 3})
        path = write(tmp_path, made)
        shown = synth("preview", path, "-n", "1", "--json").json[0]
        assert synth("run", path, "--limit", "1").code == 0
    assert orjson.loads(orjson.dumps(server.asked[0].body)) == shown["body"]
    assert shown["url"] == f"{server.url}/chat/completions"
