"""What providers of batches do wrong, from spec to file: every row is accounted for, none is paid for in vain."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from provider_apart import failures, job, report, rows, run_folder, serving, synth

from synth_cli.engines.batch import BatchSettings

HOUR = 3600.0
EXPIRED = "no result: the batch expired before this request ran; it was not charged"
MISSING = "no result: the batch ended without a result for this request"
SERVER_ERROR = "server error: HTTP 500: server_error: The server had an error while processing your request."
REFUSED = "bad request: invalid_json_line: This line is not parseable as valid JSON."


@pytest.mark.parametrize("host", ["openai", "mistral", "anthropic", "gemini", "together"])
def test_what_a_batch_did_not_come_to_is_asked_again(host: str, tmp_path: Path) -> None:
    """It expired in the middle: its answers are kept, the others come in the next one."""
    with serving(batch_expire=0.5, batch_first=1) as provider:
        path = job(tmp_path, provider.url, host)
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 2, 8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_expire": 0}, EXPIRED),
        ({"batch_share_missing": 1}, MISSING),
        ({"batch_share_error": 1}, SERVER_ERROR),
    ],
)
def test_failed_jsonl_tells_the_real_error_of_each_attempt(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Of a request that expires, is missing, or errs each time; nobody paid."""
    with serving(**settings) as provider:
        path = job(tmp_path, provider.url, params={"max_retries": 1}, input={"count": 2})
        assert synth("run", path, "--quiet") == 1
        assert provider.paid == {}
    assert failures(path) == [(f"row {index}", said, [said, said]) for index in range(2)]


def test_a_line_that_breaks_off_is_asked_again(tmp_path: Path) -> None:
    """Its answer was paid for and cannot be read: that one alone is paid twice."""
    with serving(batch_malformed=1) as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, len(rows(path))) == ({"1": 7, "2": 1}, 8)


def test_a_line_that_the_provider_refuses_fails_alone(tmp_path: Path) -> None:
    """The others come in the next file."""
    with serving(batch_refuse=True, batch_first=1) as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--quiet") == 1
        assert (provider.paid, len(rows(path))) == ({"1": 7}, 7)
    assert failures(path) == [("row 0", REFUSED, [REFUSED])]


@pytest.mark.parametrize("lag", [0.0, 0.3])
@pytest.mark.parametrize("host", ["openai", "groq", "mistral", "anthropic", "gemini"])
def test_a_submit_whose_answer_is_lost_is_found_again(host: str, lag: float, tmp_path: Path) -> None:
    """Also where the provider's list lags behind: no second batch is made."""
    with serving(batch_share_lost=1, batch_list_lag=lag) as provider:
        path = job(tmp_path, provider.url, host)
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 1, 8)


@pytest.mark.parametrize("host", ["openai", "mistral", "anthropic", "gemini", "together"])
@pytest.mark.parametrize(
    "settings", [{"share_500": 0.4}, {"share_429": 0.4, "retry_after": 0.01}, {"share_reset": 0.3}]
)
def test_calls_that_fail_now_and_then_lose_nothing(
    host: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call may: upload, submit, look, results, list. What is looked for is missed soon, here."""
    monkeypatch.setattr("synth_cli.run.batch.BatchSettings", partial(BatchSettings, grace=0.1))
    with serving(**settings) as provider:
        path = job(tmp_path, provider.url, host, params={"batch_size": 3})
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 3, 8)


def test_a_provider_that_always_fails_is_waited_for_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the time is over, with what it said last; and a tick says it at once."""
    with serving(share_500=1) as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--quiet", "--max-time", "2s") == 75
        assert "server" in capsys.readouterr().err
        assert synth("run", path, "--quiet", "--no-wait") == 75
        assert "server" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["openai", "mistral", "anthropic", "gemini"])
def test_a_batch_that_never_moves_is_left_open(host: str, tmp_path: Path) -> None:
    """`max_time` ends the run with 75; when it moves at last, a later run collects it."""
    with serving(batch_halt=0, batch_seconds=HOUR) as provider:
        path = job(tmp_path, provider.url, host, budget={"max_time": "0.2s"})
        assert [synth("run", path, "--quiet") for _ in range(2)] == [75, 75]
        assert (provider.paid, provider.made, rows(path)) == ({}, 1, [])
        # it expires: nothing was done, nobody is charged
        provider.behave()
        provider.advance(48 * HOUR)
        assert synth("run", path, "--quiet", "--max-time", "1m") == 0
        assert (provider.paid, provider.made, len(rows(path))) == ({"1": 8}, 2, 8)


def test_a_model_that_nobody_knows_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So does an account without credit: it would come again with each request."""
    with serving() as provider:
        for name in ("unknown-model", "no-credit"):
            path = job(tmp_path / name, provider.url)
            path.write_text(path.read_text().replace("gpt-5-mini", name))
            assert synth("run", path, "--quiet") in (1, 3)
            assert capsys.readouterr().err
            assert provider.paid == {}


def test_more_than_may_be_queued_waits_its_turn(tmp_path: Path) -> None:
    """A batch that was not begun because too much is queued costs no attempt; it comes when another has ended."""
    with serving(batch_queued_tokens=500, batch_seconds=0.2) as provider:
        path = job(tmp_path, provider.url, params={"batch_size": 3, "max_retries": 0})
        assert synth("run", path, "--quiet") == 0
        assert (provider.paid, len(rows(path))) == ({"1": 8}, 8)


def test_a_state_never_heard_of_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be any; the results come when it has ended."""
    import synth_cli.providers.batches.openai as codec

    seen: list[str] = []
    plain = codec._batch

    def strange(entry: Any) -> dict[str, Any]:
        batch = dict(plain(entry))
        if batch.get("object") == "batch" and len(seen) < 5:
            batch["status"] = "pondering"
            seen.append(batch["status"])
        return batch

    monkeypatch.setattr(codec, "_batch", strange)
    with serving() as provider:
        path = job(tmp_path, provider.url)
        assert synth("run", path, "--quiet") == 0
        assert (len(seen), provider.paid, provider.made) == (5, {"1": 8}, 1)


def test_an_answer_that_is_cut_off_is_a_failure_as_it_is_online(tmp_path: Path) -> None:
    """`length` is asked again and counted; the report has each attempt's price."""
    with serving(share_length=1) as provider:
        path = job(tmp_path, provider.url, params={"max_retries": 1}, input={"count": 3})
        assert synth("run", path, "--quiet") == 1
        assert provider.paid == {"2": 3}
    said = report(path)["traffic"]
    assert (said["retries"], said["replies"], said["cost"]["usd"] > 0) == (3, 6, True)
    assert run_folder(path).is_dir()
