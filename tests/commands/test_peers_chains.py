"""What breaks in other tools where calls follow one another: caches, joins, pools, pairs, lost and empty answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chains import BROKEN, chain, model, step
from command_line import failures, rows, synth, words, write
from scripted_server import Asked, Say, echo, serving

FIRST = step("first", "First {{ word }}", columns={"a": "{{ response }}"})
SECOND = step("second", "Second {{ a }}", columns={"b": "{{ response }}"})
ONCE = {"max_retries": 0}


def test_a_failed_call_is_no_null_in_the_next_prompt(tmp_path: Path) -> None:
    """Others cache the failure as a result: here its row waits, and the next run asks for it alone and goes on."""
    with serving(lambda asked: BROKEN if asked.user == "First two" else echo(asked)) as server:
        path = write(tmp_path, chain(server.url, FIRST, SECOND, backend_params=ONCE))
        assert synth("run", path).code == 1
        assert words(server.asked) == [
            "First one",
            "First three",
            "First two",
            "Second First one",
            "Second First three",
        ]
        server.script = echo
        server.asked.clear()
        assert synth("run", path).code == 0
    assert words(server.asked) == ["First two", "Second First two"]
    assert [row["b"] for row in rows(tmp_path / "job.jsonl")] == [
        f"Second First {word}" for word in ("one", "two", "three")
    ]


def test_changed_data_and_changed_answers_give_no_old_rows(tmp_path: Path) -> None:
    """A cache that ignores the data gives old rows: here what hangs on a changed row is asked anew, and only that."""
    with serving() as server:
        for word in ("two", "TWO"):
            made = chain(server.url, FIRST, SECOND, input={"rows": [{"word": "one"}, {"word": word}]})
            assert synth("run", write(tmp_path, made)).code == 0
    assert words(server.asked[4:]) == ["First TWO", "Second First TWO"]
    assert [row["b"] for row in rows(tmp_path / "job.jsonl")] == ["Second First one", "Second First TWO"]


def test_the_system_prompt_of_a_later_step_is_part_of_its_cache(tmp_path: Path) -> None:
    """Changed, that step is asked anew, and not the one before it."""
    with serving(lambda asked: Say(asked.body["messages"][0]["content"])) as server:
        for system in ("Brief.", "Long."):
            second = step("second", {"system": system, "user": "{{ a }}"})
            assert synth("run", write(tmp_path, chain(server.url, FIRST, second))).code == 0
    assert len(server.asked) == 3 + 3 + 3
    assert {row["response"] for row in rows(tmp_path / "job.jsonl")} == {"Long."}


def test_a_structured_row_that_fails_in_the_middle_fails_alone(tmp_path: Path) -> None:
    """The run goes on with the others and says 1; nothing crashes."""
    with serving(lambda asked: Say("{}" if "two" in asked.user else '{"n": 1}')) as server:
        made = chain(server.url, FIRST, step("second", "{{ word }}", response={"schema": {"n": "int"}}), SECOND)
        made["steps"][2]["name"] = "third"
        assert synth("run", write(tmp_path, {**made, "backend_params": {"max_retries": 1}})).code == 1
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "three"]
    assert [(line["step"], len(line["attempts"])) for line in failures(tmp_path)] == [("second", 2)]


def test_parse_runs_once_an_answer_and_its_failure_loses_none(tmp_path: Path) -> None:
    """In any step of a chain: an error keeps what was paid for; mended, nothing is asked but what hangs on it."""
    (tmp_path / "code.py").write_text("def made(row, response):\n    raise KeyError('oops')\n")
    with serving() as server:
        parsing = {"name": "first", "prompt": "First {{ word }}", "parse": "code.py:made"}
        second = step("second", "Second {{ row['a'] }}")
        path = write(tmp_path, chain(server.url, parsing, second))
        assert synth("run", path).code == 1
        assert words(server.asked) == ["First one", "First three", "First two"]
        (tmp_path / "code.py").write_text(
            "def made(row, response):\n"
            "    with open(__file__ + '.calls', 'a') as calls:\n"
            "        calls.write(row['word'] + '\\n')\n"
            "    return [{'a': response}, {'a': response}]\n"
        )
        assert synth("run", path).code == 0
    assert len(server.asked) == 3 + 6
    assert sorted((tmp_path / "code.py.calls").read_text().split()) == ["one", "three", "two"]


def test_an_aggregator_sees_answers_not_keys(tmp_path: Path) -> None:
    """A mixture of models: what several said goes into the next prompt as they said it, in the pool's order."""
    with serving(lambda asked: Say(f"{asked.body['model']} on {asked.user}" if asked.number < 2 else asked.user)) as it:
        made = chain(
            it.url,
            step("propose", "{{ word }}", model=[model(it.url, "x"), model(it.url, "y")], group_samples=True),
            step(
                "sum up",
                "{% for said in row['response'] %}- {{ said }}\n{% endfor %}",
                columns={"all": "{{ response }}"},
            ),
            input={"rows": [{"word": "tea"}]},
        )
        made["steps"][1]["name"] = "sum"
        assert synth("run", write(tmp_path, made)).code == 0
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "tea", "response": ["x on tea", "y on tea"], "all": "- x on tea\n- y on tea\n"}
    ]


def scored(asked: Asked) -> Say:
    """Two models answer; a judge likes x's answers better, and cannot decide about the rows two and three."""
    if asked.body["model"] != "judge":
        return Say("the same" if "two" in asked.user else f"{asked.body['model']} says {asked.user}")
    undecided = "the same" in asked.user or "three" in asked.user
    score = 3 if undecided else int("x says" in asked.user)
    return Say(f'{{"score": {score}}}')


PAIRS: tuple[dict[str, Any], ...] = (
    {"name": "rate", "model": "judge", "prompt": "{{ a }}", "response": {"schema": {"score": "int"}}},
    {"name": "together", "type": "group", "by": "word"},
    {
        "name": "pair",
        "type": "map",
        "columns": {
            "prompt": "{{ word }}",
            "chosen": "{{ a[score.index(score | max)] }}",
            "rejected": "{{ a[score.index(score | min)] }}",
        },
    },
)


def test_ties_make_no_pairs(tmp_path: Path) -> None:
    """Chosen is never rejected: equal answers and equal scores are left out, and counted with their reason."""
    with serving(scored) as server:
        made = chain(
            server.url,
            step(
                "answer",
                "{{ word }}",
                model=[model(server.url, "x"), model(server.url, "y")],
                columns={"a": "{{ response }}"},
            ),
            *PAIRS,
            models={"judge": model(server.url, "judge")},
            output={"format": "dpo"},
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert [(row["chosen"], row["rejected"]) for row in rows(tmp_path / "job.jsonl")] == [("x says one", "y says one")]
    assert called.json["rows"]["dropped"] == 2


def test_equal_items_of_one_answer_keep_their_own_answers(tmp_path: Path) -> None:
    """Two equal blocks of one text: what is made of the second does not land at the place of the first."""
    with serving(lambda asked: Say("a b a" if "list" in asked.user else f"{asked.user}{asked.again}")) as server:
        made = chain(
            server.url,
            step("list", "list {{ word }}", each="response.split()", columns={"block": "{{ item }}"}),
            step("run", "{{ block }}", columns={"ran": "{{ response }}"}),
            input={"rows": [{"word": "one"}]},
            backend_params={"max_concurrent_requests": 1},
        )
        path = write(tmp_path, made)
        assert synth("run", path).code == 0
        found = [(row["block"], row["ran"]) for row in rows(tmp_path / "job.jsonl")]
        assert synth("run", path).code == 0
    assert [block for block, _ in found] == ["a", "b", "a"]
    assert {ran for _, ran in found} == {"a0", "a1", "b0"}
    assert [(row["block"], row["ran"]) for row in rows(tmp_path / "job.jsonl")] == found
    assert len(server.asked) == 4


def test_tokens_are_counted_once_a_call_in_pools_and_passes(tmp_path: Path) -> None:
    """The report's tokens are the sums of what was said, over samples, members, passes and steps."""
    with serving(lambda asked: Say("x", usage=(100, 7))) as server:
        made = chain(
            server.url,
            step(
                "a", "{{ word }}", model=[model(server.url, "x"), model(server.url, "y")], samples=3, group_samples=True
            ),
            step("b", "B {{ word }}", refine={"times": 1, "prompt": "more"}),
        )
        called = synth("run", write(tmp_path, made), "--json")
    tokens = called.json["traffic"]["tokens"]
    assert (len(server.asked), tokens["input"], tokens["output"]) == (15, 1500, 105)
    assert [one["traffic"]["tokens"]["input"] for one in called.json["steps"]] == [900, 600]


@pytest.mark.parametrize(
    "middle",
    [
        {"type": "map"},
        {"type": "sample", "columns": {"n": {"uniform": {"min": 0, "max": 1}}}},
        {"type": "dedup"},
        {"type": "dedup", "method": "minhash", "by": "a"},
        {"type": "group", "by": "a"},
        {"type": "python", "function": "code.py:same"},
    ],
    ids=lambda middle: " ".join(map(str, middle.values()))[:14],
)
def test_an_empty_input_goes_through_every_kind_of_step(tmp_path: Path, middle: dict[str, Any]) -> None:
    """No rows are no failure, and neither are rows that are all filtered."""
    (tmp_path / "code.py").write_text("def same(rows):\n    yield from rows\n")
    with serving() as server:
        steps = (FIRST, {"name": "middle", **middle}, SECOND)
        made = chain(server.url, *steps, input={"rows": []})
        assert [synth(command, write(tmp_path, made)).code for command in ("plan", "preview", "run", "report")] == [
            0
        ] * 4
        assert (tmp_path / "job.jsonl").read_bytes() == b""
        filtered = chain(server.url, {**FIRST, "keep_if": "false"}, *steps[1:])
        assert synth("run", write(tmp_path, filtered)).code == 0
    assert (tmp_path / "job.jsonl").read_bytes() == b""


@pytest.mark.parametrize("place", [0, 1])
def test_most_rows_fail_in_some_step_and_it_is_not_exit_0(tmp_path: Path, place: int) -> None:
    """34 of 40 rows failed: exit 1, the six are published, and each failure is named with its step."""
    name = ("First", "Second")[place]

    def script(asked: Asked) -> Say:
        number = int(asked.user.split()[-1])
        return (
            Say(None, 400, {"error": {"message": "no"}}) if asked.user.startswith(name) and number >= 6 else echo(asked)
        )

    with serving(script) as server:
        made = chain(
            server.url,
            step("first", "First {{ index }}", columns={"a": "{{ response }}"}),
            SECOND,
            input={"count": 40},
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert (called.code, called.json["rows"]["failed"], len(rows(tmp_path / "job.jsonl"))) == (1, 34, 6)
    assert {line["step"] for line in failures(tmp_path)} == {name.lower()}
    assert [row["index"] for row in rows(tmp_path / "job.jsonl")] == list(range(6))


def test_a_fault_mix_delivers_every_row_of_a_chain(tmp_path: Path) -> None:
    """10% 429, 5% 500, a malformed body: every row arrives, in order, with few requests more than calls."""

    def script(asked: Asked) -> Say:
        if asked.again == 0 and asked.number % 10 == 3:
            return Say(None, 429, {"error": {"message": "rate limit reached"}}, {"retry-after-ms": "20"})
        if asked.again == 0 and asked.number % 20 == 5:
            return BROKEN
        if asked.number == 77:
            return Say(None, 200, b'{"choices": [')
        return echo(asked)

    with serving(script) as server:
        made = chain(
            server.url,
            step("first", "First {{ index }}", columns={"a": "{{ response }}"}),
            SECOND,
            input={"count": 100},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    assert [row["b"] for row in rows(tmp_path / "job.jsonl")] == [f"Second First {n}" for n in range(100)]
    assert len(server.asked) <= 250
