"""How a whole run copes with a provider in trouble: everything arrives, or it ends early and says why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from loopback import Asked, End, Step, completion, error, fine, response, serving
from whole_runs import rows, spec, synth

ALWAYS = {
    "500": ([error(500, "the cluster is down")], "server error: HTTP 500: the cluster is down"),
    "closed": ([End.CLOSE], "connection: "),
    "malformed": ([response(200, b"<html>maintenance</html>")], "malformed body: .*maintenance"),
    "400": ([error(400, "bad schema")], "bad request: HTTP 400: bad schema"),
    "invalid": ([response(200, completion("not in the list"))], "choice: "),
    "cut off": (
        [response(200, completion("", choices=[{"message": {"content": "a"}, "finish_reason": "length"}]))],
        "finish reason: .*length",
    ),
}


def whole(count: int) -> list[Any]:
    return [{"index": n, "response": f"ROW {n}"} for n in range(count)]


def test_in_a_mix_of_faults_every_row_arrives(tmp_path: Path) -> None:
    """10% 429, 5% 500, 1% malformed and the default `max_retries`: all rows, with at most a quarter more requests."""
    count = 400

    def say(asked: Asked) -> Sequence[Step]:
        drawn = Random(f"{asked.prompt} {asked.turn}").random()
        if drawn < 0.1:
            return [0.01, error(429, "slow down", "Retry-After: 0.05")]
        if drawn < 0.15:
            return [0.01, error(500, "oops")]
        if drawn < 0.16:
            return [0.01, response(200, completion("cut")[:40])]
        return [0.01, *fine(asked)]

    with serving(say) as provider:
        path = spec(tmp_path, provider.url, input={"count": count})
        assert synth("run", path, "--quiet") == 0
        assert rows(path) == whole(count)
        assert provider.requests <= 1.25 * count
        # a steady tenth of refusals is everyday life: concurrency does not collapse
        assert provider.most_in_flight >= 32


@pytest.mark.parametrize("name", ALWAYS)
def test_if_everything_fails_it_ends_early_and_says_why(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of ten thousand rows at most a few hundred requests are made; the commonest error is in the last words."""
    said, words = ALWAYS[name]
    with serving(lambda asked: said) as provider:
        path = spec(tmp_path, provider.url, input={"count": 10_000}, response={"choice": ["yes", "no"]})
        assert synth("run", path, "--quiet") == 1
        assert re.search(words, capfd.readouterr().err)
        assert 64 <= provider.requests <= 256
        assert rows(path) == []


def test_the_commonest_error_is_the_one_that_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not the first, nor the last."""

    def say(asked: Asked) -> Sequence[Step]:
        return [error(500, "rare") if int(asked.prompt[4:]) % 5 == 0 else error(500, "common")]

    with serving(say) as provider:
        path = spec(tmp_path, provider.url, input={"count": 1000})
        assert synth("run", path, "--quiet") == 1
        assert "HTTP 500: common" in capfd.readouterr().err


def test_a_storm_of_refusals_does_not_end_a_run(tmp_path: Path) -> None:
    """Nothing but 429 at first, for more attempts than would end a run that fails: it waits, and all arrive."""
    count = 150

    def say(asked: Asked) -> Sequence[Step]:
        return [error(429, "slow down", "Retry-After: 0.02")] if asked.turn <= 3 else fine(asked)

    with serving(say) as provider:
        path = spec(tmp_path, provider.url, input={"count": count}, backend_params={"max_retries": 0})
        assert synth("run", path, "--quiet") == 0
        assert (rows(path), provider.requests) == (whole(count), 4 * count)


def test_a_few_lost_rows_do_not_end_a_run(tmp_path: Path) -> None:
    """One success among the first attempts is enough to go on to the end."""

    def say(asked: Asked) -> Sequence[Step]:
        return fine(asked) if int(asked.prompt[4:]) % 10 == 7 else [error(400, "no")]

    with serving(say) as provider:
        path = spec(tmp_path, provider.url, input={"count": 300}, backend_params={"max_concurrent_requests": 8})
        assert synth("run", path, "--quiet") == 1
        assert [row["index"] for row in rows(path)] == list(range(7, 300, 10))
        assert provider.requests == 300


def test_a_server_that_says_no_limits_is_used_at_full_speed(tmp_path: Path) -> None:
    """Without rate headers and without settings, as many are under way as it pays: not a fixed few."""
    with serving(lambda asked: [0.05, *fine(asked)]) as provider:
        path = spec(tmp_path, provider.url, input={"count": 1200})
        assert synth("run", path, "--quiet") == 0
        assert provider.most_in_flight >= 96
        assert provider.requests == 1200


def test_never_more_under_way_than_the_spec_allows(tmp_path: Path) -> None:
    """`max_concurrent_requests` holds from the first request to the last, retries included."""

    def say(asked: Asked) -> Sequence[Step]:
        return [0.002, *([error(500, "oops")] if asked.turn == 1 and asked.prompt.endswith("3") else fine(asked))]

    with serving(say) as provider:
        path = spec(tmp_path, provider.url, input={"count": 100}, backend_params={"max_concurrent_requests": 5})
        assert synth("run", path, "--quiet") == 0
        assert (provider.most_in_flight, provider.requests) == (5, 110)
