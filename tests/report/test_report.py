from __future__ import annotations

import io
from dataclasses import replace

import orjson
import pytest
from rich.console import Console

from synth_cli.core.figures import Latency, Traffic
from synth_cli.core.ports import RateLimits
from synth_cli.core.reply import FaultKind, Usage
from synth_cli.report.causes import Cause
from synth_cli.report.figures import Output, Report, Rows, Step
from synth_cli.report.headline import headline
from synth_cli.report.machine import dump, load
from synth_cli.report.markdown import markdown
from synth_cli.report.terminal import render, show

CAUSES = (
    Cause("answer does not fit the schema", 6, "", "$.steps[0].minutes: 'five' is not an integer, nor is it a float"),
    Cause("server error", 3, "HTTP 503", "upstream connect error | <html> [bold]"),
    Cause("template or expression failed", 1, "", "'response' has no 'titel'"),
)
FULL = Report(
    name="recipes",
    spec="recipes.yaml",
    exit_code=1,
    started=1_800_000_000.0,
    ended=1_800_000_072.0,
    exit_reason="10 of 1,000 rows failed",
    hint="see failed.jsonl, mend the spec and run again",
    run=3,
    round=2,
    description="Recipes for each cuisine",
    labels={"team": "data_x"},
    seed=7,
    model="openai/gpt-5-mini",
    rows=Rows(read=1000, out=987, filtered=3, failed=10, reused=400, causes=CAUSES),
    traffic=Traffic(
        replies=598,
        faults={FaultKind.RATE_LIMITED: 4, FaultKind.SERVER_ERROR: 9},
        retries=12,
        usage=Usage(input=61_200, output=120_400, cached=1_024, reasoning=40_000),
        cost=0.4211,
        finish_reasons={"stop": 590, "length": 8},
        models={"gpt-5-mini-2025-08-07": 598},
        latency=Latency(0.812, 1.9, 3.24),
        first=1_800_000_001.0,
        last=1_800_000_071.5,
    ),
    limits=RateLimits(requests_per_minute=5000, tokens_per_minute=2_000_000),
    outputs=(Output("out/recipes.jsonl", 987),),
    folder=".synth/recipes/runs/0003",
    versions={"synth-cli": "0.1.0"},
)
FEW = replace(
    FULL,
    exit_code=0,
    exit_reason="",
    hint="",
    simulated=True,
    limited=2,
    labels={},
    rows=Rows(read=2, out=2),
    traffic=Traffic(replies=2, usage=Usage(20, 40), unpriced=2, finish_reasons={"stop": 2}, models={"": 2}),
    limits=None,
    outputs=(
        Output("out/recipes.jsonl", 2, False, "it holds 987 real rows", ".synth/recipes.sim/runs/0001/recipes.jsonl"),
    ),
)

CHAIN = replace(
    FULL,
    rows=Rows(read=1000, out=1480, filtered=3012, failed=10),
    steps=(
        Step("topics", 1000, 4500, failed=8, traffic=Traffic(1000, usage=Usage(61_200, 120_400), cost=0.42)),
        Step("distinct", 4500, 3200, filtered=1300),
        Step(
            "judge-of-all",
            3200,
            1480,
            1712,
            2,
            6,
            Traffic(3195, {FaultKind.SERVER_ERROR: 5}, usage=Usage(900_000, 12_000), unpriced=3195),
        ),
    ),
)


def drawn(report: Report) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, markup=False, emoji=False, highlight=False).print(render(report))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_terminal() -> None:
    """The whole report fits 80 columns and shows a provider's words as they are."""
    assert (
        drawn(FULL)
        == """
recipes  exit 1 after 1m12s

Rows      1,000 in, 987 out, 3 filtered, 10 failed (1.0%) · 13.9 rows/s
Requests  611 sent · 598 answered · 12 retries · server error 9 · rate limited 4
          · 400 answers reused
Tokens    61.2k in (1,024 cached) · 120k out (40.0k reasoning) · 1,708 out/s
Cost      $0.42
Latency   p50 812 ms · p95 1.9 s · p99 3.2 s
Finish    stop 590 · length 8
Model     gpt-5-mini-2025-08-07 598
Limits    5,000 requests/min · 2,000,000 tokens/min
Wrote     out/recipes.jsonl (987 rows)
Details   .synth/recipes/runs/0003

Failed  Why                             For example
     6  answer does not fit the schema  $.steps[0].minutes: 'five' is not an in…
     3  server error (HTTP 503)         upstream connect error | <html> [bold]
     1  template or expression failed   'response' has no 'titel'

10 of 1,000 rows failed
see failed.jsonl, mend the spec and run again
"""
    )


def test_steps() -> None:
    """A job of several steps has a line for each, with the columns in which there is anything."""
    assert (
        "\n" + drawn(CHAIN).split("\n\n")[2]
        == """
Step            In    Out  Filtered  Failed  Unasked   Sent      Tokens     Cost
topics       1,000  4,500         0       8        0  1,000  61.2k/120k    $0.42
distinct     4,500  3,200     1,300       0        0      0           -        -
judge-of-al  3,200  1,480     1,712       2        6  3,200  900k/12.0k  unknown
l"""
    )


def test_steps_whose_rows_were_not_counted() -> None:
    """A run that was interrupted asked without knowing how many rows came through: no zeros are shown for them."""
    cut = replace(CHAIN, steps=tuple(Step(step.name, traffic=step.traffic) for step in CHAIN.steps))
    none = replace(CHAIN, steps=tuple(Step(step.name) for step in CHAIN.steps))
    heads = [drawn(report).split("\n\n")[2].split("\n")[0].split() for report in (cut, none)]
    assert heads == [["Step", "Sent", "Tokens", "Cost"], ["Step", "In", "Out"]]


def test_steps_in_json_and_back() -> None:
    """A step's rows and traffic; read back they are the same, and a report of before there were steps has none."""
    said = orjson.loads(dump(CHAIN))
    assert said["steps"][1]["name"] == "distinct"
    assert said["steps"][1]["rows"] == {"in": 4500, "out": 3200, "filtered": 1300, "failed": 0, "unasked": 0}
    assert said["steps"][2]["traffic"]["faults"] == {"server error": 5}
    assert load(dump(CHAIN)) == CHAIN
    del said["steps"]
    assert load(orjson.dumps(said)) == replace(CHAIN, steps=())


def test_steps_in_markdown() -> None:
    """The same as a table."""
    table = markdown(CHAIN).split("## Steps\n\n")[1].split("\n\n")[0]
    assert table.splitlines() == [
        "| Step | In | Out | Filtered | Failed | Unasked | Sent | Tokens | Cost |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| topics | 1,000 | 4,500 | 0 | 8 | 0 | 1,000 | 61.2k/120k | $0.42 |",
        "| distinct | 4,500 | 3,200 | 1,300 | 0 | 0 | 0 | - | - |",
        "| judge-of-all | 3,200 | 1,480 | 1,712 | 2 | 6 | 3,200 | 900k/12.0k | unknown |",
    ]


def test_terminal_simulated() -> None:
    """A simulated run says so, costs nothing, and says where the rows are that it did not publish."""
    assert (
        drawn(FEW)
        == """
recipes  done in 1m12s
SIMULATED: every answer was made up by the simulator; no model was asked and
nothing was paid.

Rows         2 in, 2 out · 0.028 rows/s
Requests     2 sent · 2 answered
Tokens       20 in · 40 out
Cost         nothing (simulated)
Finish       stop 2
Model        not named 2
Not written  out/recipes.jsonl: it holds 987 real rows
Rows are in  .synth/recipes.sim/runs/0001/recipes.jsonl
Details      .synth/recipes/runs/0003
"""
    )


def test_terminal_nothing_asked() -> None:
    """A run that asked nothing does not speak of tokens, cost or latency."""
    report = Report("a", "a.yaml", 0, 0.0, 0.25, rows=Rows(read=3, out=3, reused=3), outputs=(Output("a.jsonl", 3),))
    assert (
        drawn(report)
        == """
a  done in 0.2s

Rows      3 in, 3 out
Requests  0 sent · 0 answered · 3 answers reused
Wrote     a.jsonl (3 rows)
"""
    )


def test_outputs_not_written() -> None:
    """Outputs that stayed back for one reason are told together, and the reason only once."""
    outputs = [Output("a.csv", 2), *(Output(f"{n}.csv", 2, False, "why", f"runs/1/{n}.csv") for n in "bc")]
    report = Report("a", "a.yaml", 0, 0.0, 1.0, rows=Rows(2, 2), outputs=tuple(outputs), notes=("why", "also"))
    assert drawn(report).splitlines()[3:] == [
        "Rows         2 in, 2 out",
        "Wrote        a.csv (2 rows)",
        "Not written  b.csv, c.csv: why",
        "Rows are in  runs/1/b.csv, runs/1/c.csv",
        "Note         also",
    ]


def test_many_causes() -> None:
    """The table shows the commonest causes and counts the rest."""
    causes = tuple(Cause(f"cause {n}", 20 - n) for n in range(12))
    text = drawn(replace(FULL, exit_reason="", rows=replace(FULL.rows, causes=causes)))
    assert text[text.index("Failed") :].splitlines() == [
        "Failed  Why            For example",
        *(f"    {20 - n}  cause {n}" for n in range(8)),
        "    42  4 more causes  in report.json",
    ]


def test_stream_without_terminal() -> None:
    """Without a terminal the report has no colour and no trailing blanks, and is a little wider."""
    stream = io.StringIO()
    show(replace(FULL, folder="", exit_reason="", rows=replace(FULL.rows, causes=()), outputs=()), stream)
    assert (
        stream.getvalue()
        == """
recipes  exit 1 after 1m12s

Rows      1,000 in, 987 out, 3 filtered, 10 failed (1.0%) · 13.9 rows/s
Requests  611 sent · 598 answered · 12 retries · server error 9 · rate limited 4 · 400 answers
          reused
Tokens    61.2k in (1,024 cached) · 120k out (40.0k reasoning) · 1,708 out/s
Cost      $0.42
Latency   p50 812 ms · p95 1.9 s · p99 3.2 s
Finish    stop 590 · length 8
Model     gpt-5-mini-2025-08-07 598
Limits    5,000 requests/min · 2,000,000 tokens/min

"""
    )


def test_round() -> None:
    """Where the round took more than one run, its whole cost is told beside the run's."""
    whole = replace(FULL.traffic, replies=900, cost=1.5)
    assert [line for line in drawn(replace(FULL, round_traffic=whole)).splitlines() if line.startswith("Round")] == [
        "Round     913 requests over all its runs · 61.2k in (1,024 cached) · 120k out"
    ]


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (FULL, "1,000 rows in, 987 out, 3 filtered, 10 failed · $0.42 · 1m12s → out/recipes.jsonl"),
        (FEW, "SIMULATED · 2 rows in, 2 out · no cost · 1m12s → nothing published"),
        (
            replace(
                FULL,
                rows=Rows(read=1, out=1, unasked=1),
                traffic=Traffic(replies=1, unpriced=1),
                outputs=(Output("a.jsonl", 1), Output("b.csv", 1)),
            ),
            "1 row in, 1 out, 1 not asked yet · cost unknown · 1m12s → a.jsonl, b.csv",
        ),
    ],
)
def test_headline(report: Report, line: str) -> None:
    """One line says what came in, what came out, what it cost and where it is."""
    assert headline(report) == line


@pytest.mark.parametrize("report", [FULL, FEW, replace(FULL, round_traffic=FULL.traffic, notes=("a note",))])
def test_json_is_the_report(report: Report) -> None:
    """What is read back is the report that was written."""
    assert load(dump(report)) == report


def test_json() -> None:
    """The keys for programs are those that are promised."""
    assert orjson.loads(dump(FULL)) == {
        "version": 1,
        "job": {
            "name": "recipes",
            "description": "Recipes for each cuisine",
            "spec": "recipes.yaml",
            "labels": {"team": "data_x"},
            "seed": 7,
            "model": "openai/gpt-5-mini",
            "engine": "online",
            "simulated": False,
            "limit": None,
        },
        "run": {
            "number": 3,
            "round": 2,
            "started": "2027-01-15T08:00:00+00:00",
            "ended": "2027-01-15T08:01:12+00:00",
            "seconds": 72.0,
            "exit_code": 1,
            "exit_reason": "10 of 1,000 rows failed",
            "hint": "see failed.jsonl, mend the spec and run again",
            "folder": ".synth/recipes/runs/0003",
            "output_tokens_per_second": 120_400 / 70.5,
        },
        "rows": {
            "in": 1000,
            "out": 987,
            "filtered": 3,
            "dropped": 0,
            "failed": 10,
            "kept": 0,
            "unasked": 0,
            "reused": 400,
            "error_rate": 0.01,
            "per_second": 1000 / 72,
            "causes": [
                {"cause": cause.what, "detail": cause.detail, "count": cause.count, "example": cause.example}
                for cause in CAUSES
            ],
            "drops": [],
        },
        "traffic": {
            "requests": 611,
            "replies": 598,
            "faults": {"rate limited": 4, "server error": 9},
            "rate_limited": 4,
            "retries": 12,
            "tokens": {
                "input": 61200,
                "output": 120400,
                "cached": 1024,
                "cache_written": 0,
                "reasoning": 40000,
                "unmetered": 0,
            },
            "cost": {"usd": 0.4211, "known_usd": 0.4211, "unpriced": 0},
            "finish_reasons": {"stop": 590, "length": 8},
            "models": {"gpt-5-mini-2025-08-07": 598},
            "latency_seconds": {"p50": 0.812, "p95": 1.9, "p99": 3.24},
            "first_token_seconds": None,
            "first": "2027-01-15T08:00:01+00:00",
            "last": "2027-01-15T08:01:11.500000+00:00",
        },
        "round_traffic": None,
        "steps": [],
        "limits": {
            "requests_per_minute": 5000,
            "tokens_per_minute": 2000000,
            "input_tokens_per_minute": None,
            "output_tokens_per_minute": None,
            "remaining_requests": None,
            "remaining_tokens": None,
            "reset_requests": None,
            "reset_tokens": None,
        },
        "outputs": [{"path": "out/recipes.jsonl", "rows": 987, "published": True, "note": "", "candidate": ""}],
        "notes": [],
        "versions": {"synth-cli": "0.1.0"},
    }


def test_times_to_the_first_token() -> None:
    """Where answers say them, people see them and programs read them back."""
    local = replace(FULL, traffic=replace(FULL.traffic, first_token=Latency(0.012, 0.2, 1.5)))
    assert "First token  p50 12 ms · p95 200 ms · p99 1.5 s" in drawn(local)
    assert orjson.loads(dump(local))["traffic"]["first_token_seconds"] == {"p50": 0.012, "p95": 0.2, "p99": 1.5}
    assert load(dump(local)) == local


def test_a_report_from_before_first_tokens_were_told() -> None:
    """It is still one."""
    old = orjson.loads(dump(FULL))
    del old["traffic"]["first_token_seconds"], old["run"]["output_tokens_per_second"]
    assert load(orjson.dumps(old)) == FULL


def test_batches_have_no_speed() -> None:
    """A provider's own pace says nothing of a model's."""
    batch = replace(FULL, engine="batch")
    assert orjson.loads(dump(batch))["run"]["output_tokens_per_second"] is None
    assert "out/s" not in drawn(batch)


def test_json_unknown_cost() -> None:
    """A cost that is not wholly known is null in JSON, never 0."""
    unpriced = replace(FULL, traffic=replace(FULL.traffic, unpriced=3))
    costs = [orjson.loads(dump(report))["traffic"]["cost"] for report in (FEW, unpriced)]
    assert costs == [
        {"usd": None, "known_usd": 0.0, "unpriced": 2},
        {"usd": None, "known_usd": 0.4211, "unpriced": 3},
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version":2}', b'{"version":1,"job":{}}'])
def test_json_that_is_no_report(data: bytes) -> None:
    """What is no report of ours is a ValueError, not a crash."""
    with pytest.raises(ValueError, match=r"report|unexpected|empty"):
        load(data)


def test_markdown() -> None:
    """Markdown has it all, and nothing in it is taken for Markdown or HTML."""
    assert (
        markdown(FULL)
        == """\
# recipes: exit 1 after 1m12s

Recipes for each cuisine

1,000 rows in, 987 out, 3 filtered, 10 failed · $0.42 · 1m12s → out/recipes.jsonl

**10 of 1,000 rows failed; see failed.jsonl, mend the spec and run again**

|  |  |
| --- | --- |
| Rows | 1,000 in, 987 out, 3 filtered, 10 failed (1.0%) · 13.9 rows/s |
| Requests | 611 sent · 598 answered · 12 retries · server error 9 · rate limited 4 · 400 answers reused |
| Tokens | 61.2k in (1,024 cached) · 120k out (40.0k reasoning) · 1,708 out/s |
| Cost | $0.42 |
| Latency | p50 812 ms · p95 1.9 s · p99 3.2 s |
| Finish | stop 590 · length 8 |
| Model | gpt-5-mini-2025-08-07 598 |
| Limits | 5,000 requests/min · 2,000,000 tokens/min |
| Wrote | out/recipes.jsonl (987 rows) |
| Details | .synth/recipes/runs/0003 |

## Why rows failed

| Failed | Why | For example |
| --- | --- | --- |
| 6 | answer does not fit the schema | $.steps\\[0\\].minutes: 'five' is not an integer, nor is it a float |
| 3 | server error (HTTP 503) | upstream connect error &#124; &#60;html&#62; \\[bold\\] |
| 1 | template or expression failed | 'response' has no 'titel' |

## Job

|  |  |
| --- | --- |
| Spec | recipes.yaml |
| Model asked | openai/gpt-5-mini (online) |
| Seed | 7 |
| Started | 2027-01-15 08:00:00 UTC |
| Ended | 2027-01-15 08:01:12 UTC |
| Run, round | 3, 2 |
| Label team | data\\_x |
| synth-cli | 0.1.0 |
"""
    )


def test_markdown_simulated() -> None:
    """A simulated run's Markdown says so before anything else."""
    assert markdown(FEW).splitlines()[:7] == [
        "# recipes: done in 1m12s",
        "",
        "> **SIMULATED: every answer was made up by the simulator; no model was asked and nothing was paid.**",
        "",
        "Recipes for each cuisine",
        "",
        "SIMULATED · 2 rows in, 2 out · no cost · 1m12s → nothing published",
    ]


@pytest.mark.parametrize(
    ("rows", "speed"),
    [
        (Rows(read=60, out=60), 6.0),
        (Rows(read=60, filtered=60), 6.0),
        (Rows(read=60, failed=60), 6.0),
        (Rows(), None),
        (Rows(read=60), None),
        (Rows(read=60, failed=8), None),
        (Rows(read=60, out=20, unasked=40), None),
    ],
)
def test_rows_a_second_are_of_rows_that_were_gone_through(rows: Rows, speed: float | None) -> None:
    """A run that ended early has read more rows than it made; that is no speed."""
    assert replace(FULL, started=0.0, ended=10.0, rows=rows).rows_per_second == speed


def test_a_round_without_an_answer_has_no_cost() -> None:
    """What timed out may have been charged: $0 would be a guess."""
    silent = replace(FULL, round_traffic=Traffic(faults={FaultKind.TIMEOUT: 12}))
    assert [line for line in drawn(silent).splitlines() if line.startswith("Round")] == [
        "Round     12 requests over all its runs"
    ]


def test_what_the_format_dropped_is_told_with_its_reasons() -> None:
    """Dropped rows are counted apart from failed ones: on the terminal, in Markdown, in one line and in JSON."""
    drops = (Cause("chosen and rejected are the same", 40, "", "row 7"), Cause("response is null", 10, "", "row 31"))
    rows = Rows(read=1000, out=950, dropped=50, drops=drops)
    report = replace(FULL, exit_code=0, exit_reason="", hint="", rows=rows)
    assert drawn(report).splitlines()[-4:] == [
        "",
        "Dropped  Why                               For example",
        "     40  chosen and rejected are the same  row 7",
        "     10  response is null                  row 31",
    ]
    assert headline(report).startswith("1,000 rows in, 950 out, 50 dropped · ")
    assert "| 40 | chosen and rejected are the same | row 7 |" in markdown(report)
    assert load(dump(report)) == report
