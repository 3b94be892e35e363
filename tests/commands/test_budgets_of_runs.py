"""Money, tokens and time: reserved before they are spent, counted over the round, exit 4 and 75."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import rows, spec, synth, write
from scripted_server import Asked, Say, echo, serving

TEN = {"rows": [{"word": f"w{n}"} for n in range(10)]}
PRICED = {"in_mtok_cost": 0, "out_mtok_cost": 1_000_000, "max_concurrent_requests": 1}
"""A dollar for each token of an answer."""


def costly(url: str, **more: Any) -> dict[str, Any]:
    return spec(url, input=TEN, generation_params={"max_tokens": 8}, backend_params=PRICED, **more)


def test_a_cost_budget_is_never_passed(tmp_path: Path) -> None:
    """At $5 an answer and $8 at worst, $30 pay for five answers: the sixth's worst case would be too much."""
    with serving() as server:
        called = synth("run", write(tmp_path, costly(server.url, budget={"max_cost_usd": 30})), "--json")
    assert (called.code, len(server.asked)) == (4, 5)
    assert called.json["traffic"]["cost"]["usd"] == 25
    assert "budget" in called.err
    assert not (tmp_path / "job.jsonl").exists()


def test_a_cost_budget_holds_over_restarts(tmp_path: Path) -> None:
    """Running again with nothing left asks nothing; with more budget it goes on, and the round's cost is the sum."""
    with serving() as server:
        path = write(tmp_path, costly(server.url, budget={"max_cost_usd": 30}))
        assert synth("run", path).code == 4
        assert synth("run", path).code == 4
        assert len(server.asked) == 5
        more = synth("run", path, "--max-cost", "100", "--json")
    assert (more.code, len(server.asked)) == (0, 10)
    assert more.json["round_traffic"]["cost"]["usd"] == 50
    assert len(rows(tmp_path / "job.jsonl")) == 10


def test_publishing_in_between_does_not_renew_a_budget(tmp_path: Path) -> None:
    """`--no-calls`, `--limit` and previews of a job that is not finished leave its round, and what it spent."""
    with serving() as server:
        path = write(tmp_path, costly(server.url, budget={"max_cost_usd": 30}))
        assert synth("run", path).code == 4
        assert synth("run", path, "--no-calls").code == 1
        assert synth("run", path, "--limit", "2").code == 0
        assert synth("preview", path, "--run", "-n", "1").code == 0
        assert synth("run", path).code == 4
    assert len(server.asked) == 5


def test_the_next_round_has_its_whole_budget(tmp_path: Path) -> None:
    """A finished job's spending does not count against the next round."""
    with serving() as server:
        path = write(tmp_path, costly(server.url, budget={"max_cost_usd": 60}))
        assert synth("run", path).code == 0
        assert synth("run", path, "--fresh").code == 0
    assert len(server.asked) == 20


def test_max_cost_on_the_command_line(tmp_path: Path) -> None:
    """`--max-cost` takes the place of the spec's budget."""
    with serving() as server:
        path = write(tmp_path, costly(server.url, budget={"max_cost_usd": 1000}))
        assert synth("run", path, "--max-cost", "10").code == 4
    assert len(server.asked) == 1


def test_a_token_budget(tmp_path: Path) -> None:
    """`max_tokens` counts input and output, at worst the request's bytes and its `max_tokens`."""
    with serving() as server:
        path = write(tmp_path, costly(server.url, budget={"max_tokens": 100}))
        called = synth("run", path, "--json")
        tokens = called.json["traffic"]["tokens"]
    assert called.code == 4
    assert 0 < tokens["input"] + tokens["output"] <= 100


def test_an_answer_without_usage_stays_spent_at_its_worst(tmp_path: Path) -> None:
    """Nobody knows what it cost: $8 each, so that $30 pay for three."""
    with serving(lambda asked: Say("x", usage=None)) as server:
        called = synth("run", write(tmp_path, costly(server.url, budget={"max_cost_usd": 30})))
    assert (called.code, len(server.asked)) == (4, 3)


def test_a_broken_answer_may_have_been_paid_for(tmp_path: Path) -> None:
    """A connection that broke is spent at its worst case, a refusal is not."""

    def script(asked: Asked) -> Say:
        if asked.number == 0:
            return Say(drop=True)
        return Say(None, 500, {"error": {"message": "broken"}}) if asked.number == 1 else echo(asked)

    with serving(script) as server:
        called = synth("run", write(tmp_path, costly(server.url, budget={"max_cost_usd": 23})))
    # 8 lost and 0 for the refused one leave 15: two answers at 5, and the next one's worst case is 8
    assert (called.code, len(server.asked)) == (4, 4)


def test_an_unpriced_model_under_a_cost_budget_is_an_error_that_says_how_to_price_it(tmp_path: Path) -> None:
    """Found by validate, plan and run before anything is opened."""
    with serving() as server:
        made = spec(server.url, budget={"max_cost_usd": 1}, generation_params={"max_tokens": 800})
        path = write(tmp_path, made)
        called = [synth(command, path) for command in ("validate", "plan", "run")]
        simulated = synth("run", path, "--simulate")
    assert [one.code for one in called] == [2, 2, 2]
    for one in called:
        assert "the price of openai/m is not known" in one.err
        assert "in_mtok_cost" in one.err
    assert (server.asked, simulated.code) == ([], 0)


def test_max_cost_with_an_unpriced_model_opens_nothing(tmp_path: Path) -> None:
    """The same for `--max-cost`: exit 2, and no state is made."""
    with serving() as server:
        path = write(tmp_path, spec(server.url, generation_params={"max_tokens": 8}))
        assert synth("run", path, "--max-cost", "1").code == 2
    assert (server.asked, list(tmp_path.glob(".synth"))) == ([], [])


def test_an_unknown_length_under_a_budget_is_an_error(tmp_path: Path) -> None:
    """Without `max_tokens` and in no table: the worst case is not known."""
    with serving() as server:
        path = write(tmp_path, spec(server.url, budget={"max_tokens": 1000}))
        called = synth("run", path)
    assert (called.code, server.asked) == (2, [])
    assert "generation_params.max_tokens" in called.err


def test_what_costs_nothing_fits_into_any_cost_budget(tmp_path: Path) -> None:
    """The simulated model under a cost budget needs no `max_tokens`; under a token budget it does."""
    path = write(tmp_path, {"model": "simulator", "input": {"count": 2}, "prompt": "Hi {{ index }}."})
    assert synth("run", path, "--max-cost", "0").code == 0
    assert synth("run", path, "--set", "budget.max_tokens=100").code == 2


def test_a_model_of_the_table_needs_neither(tmp_path: Path) -> None:
    """A priced model's own maximum is its worst case: too much for a cent, enough for a hundred dollars."""
    with serving() as server:
        made = spec(server.url, budget={"max_cost_usd": 0.01})
        made["model"]["name"] = "openai/gpt-5-mini"
        path = write(tmp_path, made)
        assert synth("run", path).code == 4
        assert server.asked == []
        assert synth("run", path, "--max-cost", "100").code == 0
    assert len(server.asked) == 3


def test_plan_says_when_a_budget_makes_a_run_slow(tmp_path: Path) -> None:
    """A budget that few worst cases fit into lets few requests run at once: plan says so, before it is felt."""
    made = spec("http://127.0.0.1:9/v1", input={"count": 50}, prompt="Hi {{ index }}.", budget={"max_tokens": 1000})
    path = write(tmp_path, made)
    slow = synth("plan", path, "--set", "generation_params.max_tokens=200").out
    quick = synth("plan", path, "--set", "generation_params.max_tokens=200", "--set", "budget.max_tokens=90_000").out
    none = synth("plan", path, "--set", "generation_params.max_tokens=2000").out
    assert "worst case (200 tokens out) is held against the budget, so 4 may be under way at once" in slow
    assert "worst case (2,000 tokens out) is held against the budget, so not one can be sent" in none
    assert "worst case" not in quick


@pytest.mark.parametrize(
    ("length", "basis"),
    [
        ("max_tokens: 40", "out 32-80 (max_tokens)"),
        ("max_output_tokens: 40", "out 32-80 (max_tokens)"),
        ("max_tokens: 4e1", "out 32-80 (max_tokens)"),
        ("max_tokens: many", "a guess: max_tokens is not set"),
    ],
)
def test_plan_reads_a_length_however_it_is_written(tmp_path: Path, length: str, basis: str) -> None:
    """Each name of it and a number with an exponent count; what is no number is the provider's to refuse."""
    made = spec("http://127.0.0.1:9/v1", input={"count": 2}, prompt="Hi {{ index }}.")
    path = write(tmp_path, made)
    called = synth("plan", path, "--set", f"generation_params={{{length}}}")
    assert called.code == 0
    assert basis in called.out


@pytest.mark.parametrize("by", ["option", "spec"])
def test_max_time_ends_a_run_with_75(tmp_path: Path, by: str) -> None:
    """The deadline stops new requests, lets those in flight settle, and the next run goes on."""
    made = spec("", input=TEN, backend_params={"max_concurrent_requests": 1})
    with serving(lambda asked: Say(asked.user, after=0.1)) as server:
        made["model"]["base_url"] = server.url
        if by == "spec":
            made["budget"] = {"max_time": 0.35}
        path = write(tmp_path, made)
        called = synth("run", path, *(["--max-time", "0.35s"] if by == "option" else []))
        first = len(server.asked)
        again = synth("run", path, "--set", "budget=null")
    assert (called.code, again.code) == (75, 0)
    assert 1 <= first < 10
    assert len(server.asked) == 10
    assert "run again" in called.err


def test_max_time_does_not_wait_for_a_long_retry_after(tmp_path: Path) -> None:
    """A server that asks for an hour's patience does not keep a run beyond its time."""
    with serving(lambda _: Say(None, 429, {"error": {"message": "later"}}, {"retry-after": "3600"})) as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path, "--max-time", "0.3s").code == 75
    assert len(server.asked) == 3


@pytest.mark.parametrize("time", ["soon", "5 hours later", "-1s"])
def test_a_time_that_is_none(tmp_path: Path, time: str) -> None:
    """`--max-time soon` is exit 2 and shows how to write it."""
    called = synth("run", write(tmp_path, spec("http://x/v1")), f"--max-time={time}")
    assert called.code == 2
    assert "1h30m" in called.err
