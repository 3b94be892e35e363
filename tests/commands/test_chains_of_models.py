"""Several models, and several requests for one row: pools, fallbacks, refinement, conversations, grouped samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chains import BROKEN, NO, model, said
from command_line import failures, rows, spec, synth, words, write
from scripted_server import Asked, Say, echo, serving

POOL = ["x", "y", "z"]


def named(asked: Asked) -> Say:
    """Answers with the model's name."""
    return Say(f"{asked.body['model']}")


def pool(url: str, names: list[str], **more: Any) -> dict[str, Any]:
    return spec(url, {"model": [model(url, name) for name in names]}, **more)


def test_a_pool_asks_each_member_once_for_a_row(tmp_path: Path) -> None:
    """Without `samples`, one generation of each; answers stay in the pool's order, and `reply.model` says whose."""
    with serving(lambda asked: Say(named(asked).text, after=0.1 if asked.body["model"] == "x" else 0)) as server:
        made = pool(server.url, POOL, columns={"by": "{{ reply.model }}", "said": "{{ response }}"})
        assert synth("run", write(tmp_path, made)).code == 0
    assert rows(tmp_path / "job.jsonl") == [
        {"word": word, "by": name, "said": name} for word in ("one", "two", "three") for name in POOL
    ]


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 7, 8])
def test_a_pool_splits_its_samples(tmp_path: Path, samples: int) -> None:
    """Each member gives n // k, the rest go to members drawn once: the same for each row, in the pool's order."""
    with serving(named) as server:
        made = pool(server.url, POOL, samples=samples, group_samples=True)
        path = write(tmp_path, made)
        assert synth("run", path).code == 0
        found = [row["response"] for row in rows(tmp_path / "job.jsonl")]
        assert len(server.asked) == 3 * samples
        assert synth("run", path).code == 0
        assert len(server.asked) == 3 * samples
    counts = Counter(found[0])
    assert found[0] == sorted(found[0])
    assert found == [found[0]] * 3
    assert all(counts[name] - samples // 3 in (0, 1) for name in POOL)
    assert sum(counts.values()) == samples


def test_which_members_give_more_is_drawn_by_the_seed(tmp_path: Path) -> None:
    """Over seeds, every member has its turn."""
    with serving(named) as server:
        drawn = set()
        for seed in range(12):
            folder = tmp_path / f"{seed}"
            folder.mkdir()
            made = pool(server.url, POOL, samples=1, seed=seed, input={"count": 1}, prompt="Hi.")
            assert synth("run", write(folder, made)).code == 0
            drawn |= {row["response"] for row in rows(folder / "job.jsonl")}
    assert drawn == set(POOL)


def test_a_member_that_fails_leaves_the_others_answers(tmp_path: Path) -> None:
    """One failed sample is missing; the row counts as failed, and the others' answers are rows."""
    with serving(lambda asked: NO if asked.body["model"] == "y" else named(asked)) as server:
        called = synth("run", write(tmp_path, pool(server.url, POOL, input={"rows": [{"word": "one"}]})), "--json")
    assert called.code == 1
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == ["x", "z"]
    assert [(line["sample"], line["error"]) for line in failures(tmp_path)] == [
        (1, "bad request: HTTP 400: no such word")
    ]
    assert called.json["rows"]["failed"] == 1


def test_failed_samples_are_missing_from_all_lists_alike(tmp_path: Path) -> None:
    """`group_samples`: the lists of a row are equally long, whoever failed."""
    with serving(lambda asked: NO if asked.body["model"] == "y" else named(asked)) as server:
        made = pool(
            server.url,
            POOL,
            group_samples=True,
            columns={"said": "{{ response }}", "by": "{{ reply.model }}", "n": "{{ sample }}"},
        )
        assert synth("run", write(tmp_path, made)).code == 1
    assert rows(tmp_path / "job.jsonl") == [
        {"word": word, "said": ["x", "z"], "by": ["x", "z"], "n": [0, 2]} for word in ("one", "two", "three")
    ]


def test_a_grouped_row_of_which_nothing_came_is_dropped(tmp_path: Path) -> None:
    """No list at all is no row of empty lists; kept, it has nulls."""
    with serving(lambda asked: NO if "two" in asked.user else echo(asked)) as server:
        made = spec(server.url, samples=2, group_samples=True)
        assert synth("run", write(tmp_path, made)).code == 1
        assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "three"]
        assert synth("run", write(tmp_path, {**made, "on_failure": "keep"})).code == 1
    assert rows(tmp_path / "job.jsonl")[1] == {"word": "two", "response": None}


# fallback


def falling(url: str, *names: str, **more: Any) -> dict[str, Any]:
    return spec(url, fallback=[model(url, name) for name in names], backend_params={"max_retries": 1}, **more)


def test_a_fallback_answers_what_the_first_model_failed_for_good(tmp_path: Path) -> None:
    """It is asked the same, only for those rows, and only once the first one's attempts are used up."""
    with serving(lambda asked: BROKEN if asked.body["model"] == "m" and "two" in asked.user else echo(asked)) as server:
        made = falling(server.url, "b", columns={"by": "{{ reply.model }}"})
        called = synth("run", write(tmp_path, made), "--json")
    assert called.code == 0
    assert [one for one in said(server.asked) if "two" in one[1]] == [("m", "Say two.")] * 2 + [("b", "Say two.")]
    assert [name for name, _ in said(server.asked)].count("b") == 1
    assert [row["by"] for row in rows(tmp_path / "job.jsonl")] == ["m", "b", "m"]
    assert [called.json["rows"][key] for key in ("in", "out", "failed")] == [3, 3, 0]


def test_an_answer_that_is_never_valid_is_a_failure_for_fallbacks_too(tmp_path: Path) -> None:
    """Each fallback in turn, with attempts of its own, until one is valid."""
    with serving(lambda asked: Say("yes" if asked.body["model"] == "c" else "hm")) as server:
        made = falling(server.url, "b", "c", response={"choice": ["yes", "no"]}, input={"rows": [{"word": "one"}]})
        assert synth("run", write(tmp_path, made)).code == 0
    assert [name for name, _ in said(server.asked)] == ["m", "m", "b", "b", "c"]
    assert rows(tmp_path / "job.jsonl") == [{"word": "one", "response": "yes"}]


def test_the_next_round_pays_neither_again(tmp_path: Path) -> None:
    """What a fallback answered stays answered: the first model is not asked again, though its failure was passing."""
    with serving(lambda asked: BROKEN if asked.body["model"] == "m" else echo(asked)) as server:
        path = write(tmp_path, falling(server.url, "b"))
        assert synth("run", path).code == 0
        asked = len(server.asked)
        before = (tmp_path / "job.jsonl").read_bytes()
        server.script = echo
        called = synth("run", path, "--json")
    assert (called.code, called.json["traffic"]["requests"], called.json["rows"]["reused"]) == (0, 0, 3)
    assert (len(server.asked), (tmp_path / "job.jsonl").read_bytes()) == (asked, before)


def test_when_all_fail_the_row_fails_with_the_last_ones_error(tmp_path: Path) -> None:
    """And the next round begins with the first model again, if its failure was passing."""
    with serving(lambda asked: BROKEN if asked.body["model"] == "m" else NO) as server:
        path = write(tmp_path, falling(server.url, "b", input={"rows": [{"word": "one"}]}))
        called = synth("run", path, "--json")
        assert (called.code, called.json["rows"]["failed"]) == (1, 1)
        assert [line["error"] for line in failures(tmp_path)] == ["bad request: HTTP 400: no such word"]
        server.script = echo
        server.asked.clear()
        assert synth("run", path).code == 0
    assert said(server.asked) == [("m", "Say one.")]


def test_failed_jsonl_has_the_attempts_of_all_models(tmp_path: Path) -> None:
    """Those of the first one too, each judged by what is asked of that model."""
    lenient = model("", "b", backend_params={"invalid_finish_reasons": []})
    with serving(lambda asked: Say("hm", finish="length")) as server:
        made = falling(server.url, response={"choice": ["yes"]}, input={"rows": [{"word": "one"}]})
        made["fallback"] = [{**lenient, "base_url": server.url}]
        assert synth("run", write(tmp_path, made)).code == 1
    (line,) = failures(tmp_path)
    attempts = [(one["model"], one["attempt"], one["error"].partition(":")[0]) for one in line["attempts"]]
    assert attempts == [
        ("openai/m", 1, "finish reason"),
        ("openai/m", 2, "finish reason"),
        ("openai/b", 1, "choice"),
        ("openai/b", 2, "choice"),
    ]


def test_failed_jsonl_has_the_attempts_of_all_passes(tmp_path: Path) -> None:
    """An answer that a later pass could not improve, and what that pass was told."""
    with serving(lambda asked: NO if "Improve" in asked.user else echo(asked)) as server:
        refine = {"times": 1, "prompt": "Improve {{ response }}"}
        made = spec(server.url, refine=refine, input={"rows": [{"word": "one"}]})
        assert synth("run", write(tmp_path, made)).code == 1
    (line,) = failures(tmp_path)
    assert [(one.get("answer"), one["error"]) for one in line["attempts"]] == [
        ("Say one.", None),
        (None, "bad request: HTTP 400: no such word"),
    ]


def test_a_fallback_in_a_pool_stands_in_for_the_member_that_failed(tmp_path: Path) -> None:
    """The answer takes the member's place."""
    with serving(lambda asked: NO if asked.body["model"] == "y" else named(asked)) as server:
        made = pool(server.url, POOL, fallback=[model(server.url, "b")], group_samples=True)
        assert synth("run", write(tmp_path, made)).code == 0
    assert [row["response"] for row in rows(tmp_path / "job.jsonl")] == [["x", "b", "z"]] * 3


# refinement


REFINE = {"times": 3, "prompt": "Improve {{ response }} of {{ word }}", "until": "response | length > 8"}


def longer(asked: Asked) -> Say:
    return Say(f"{asked.user.split()[1].strip('.')}+x")


def test_an_answer_is_fed_back_until_it_is_good(tmp_path: Path) -> None:
    """Each pass is a request with the same system turn and the latest answer; the last answer is the row's."""
    with serving(longer) as server:
        made = spec(server.url, prompt={"system": "Be good.", "user": "Say {{ word }}."}, refine=REFINE)
        path = write(tmp_path, made)
        called = synth("run", path, "--json")
        assert called.code == 0
        bodies = [one.body["messages"] for one in server.asked if "three" in str(one.body)]
        assert synth("run", path).code == 0
        assert len(server.asked) == 3 + 3 + 2
    assert rows(tmp_path / "job.jsonl") == [
        {"word": "one", "response": "one+x+x+x"},
        {"word": "two", "response": "two+x+x+x"},
        {"word": "three", "response": "three+x+x"},
    ]
    system = {"role": "system", "content": "Be good."}
    assert bodies == [
        [system, {"role": "user", "content": "Say three."}],
        [system, {"role": "user", "content": "Improve three+x of three"}],
    ]


def test_refinement_ends_after_its_times(tmp_path: Path) -> None:
    """At most 1 + times requests, whatever `until` says."""
    with serving(longer) as server:
        made = spec(server.url, refine={**REFINE, "until": "false"}, input={"rows": [{"word": "one"}]})
        assert synth("run", write(tmp_path, made)).code == 0
    assert len(server.asked) == 4
    assert rows(tmp_path / "job.jsonl") == [{"word": "one", "response": "one+x+x+x+x"}]


def test_constraints_hold_for_each_pass(tmp_path: Path) -> None:
    """An invalid answer is asked again in its own pass; one that never is valid fails the row."""

    def script(asked: Asked) -> Say:
        bad = asked.user.startswith("Improve") and ("two" in asked.user or not asked.again)
        return Say("?" if bad else '{"n": 1}')

    with serving(script) as server:
        made = spec(
            server.url,
            response={"schema": {"n": "int"}},
            refine={"times": 1, "prompt": "Improve {{ response.n }} of {{ word }}"},
            backend_params={"max_retries": 1},
        )
        assert synth("run", write(tmp_path, made)).code == 1
    assert rows(tmp_path / "job.jsonl") == [{"word": "one", "n": 1}, {"word": "three", "n": 1}]
    assert all(one.body["response_format"]["type"] == "json_schema" for one in server.asked)
    assert [line["messages"][-1]["content"] for line in failures(tmp_path)] == ["Improve 1 of two"]


def test_a_pass_that_fails_falls_back_and_goes_on(tmp_path: Path) -> None:
    """The fallback answers that pass; the next one begins with the first model again."""
    with serving(
        lambda asked: NO if asked.body["model"] == "m" and asked.user.startswith("Improve Say") else echo(asked)
    ) as server:
        made = spec(
            server.url,
            fallback=[model(server.url, "b")],
            refine={"times": 2, "prompt": "Improve {{ response }}"},
            input={"rows": [{"word": "one"}]},
        )
        path = write(tmp_path, made)
        assert synth("run", path).code == 0
        assert said(server.asked) == [
            ("m", "Say one."),
            ("m", "Improve Say one."),
            ("b", "Improve Say one."),
            ("m", "Improve Improve Say one."),
        ]
        assert synth("run", path).code == 0
    assert len(server.asked) == 4
    assert rows(tmp_path / "job.jsonl") == [{"word": "one", "response": "Improve Improve Say one."}]


# conversations


def talk(url: str, **changes: Any) -> dict[str, Any]:
    turns = {
        "user": {"model": model(url, "asker"), "system": "You ask about {{ word }}."},
        "assistant": {"model": model(url, "helper"), "system": "You help."},
        "start": "Tell me of {{ word }}.",
        "max": 4,
    }
    made: dict[str, Any] = {"input": {"rows": [{"word": "one"}]}, "turns": {**turns, **changes}}
    return made


def counted(asked: Asked) -> Say:
    return Say(f"{asked.body['model']} {len(asked.body['messages'])}")


def test_two_prompts_talk(tmp_path: Path) -> None:
    """`max` counts messages, the first one included; the user's model sees the roles swapped."""
    with serving(counted) as server:
        assert synth("run", write(tmp_path, talk(server.url))).code == 0
    system = {"role": "system", "content": "You help."}
    assert rows(tmp_path / "job.jsonl") == [
        {
            "word": "one",
            "messages": [
                system,
                {"role": "user", "content": "Tell me of one."},
                {"role": "assistant", "content": "helper 2"},
                {"role": "user", "content": "asker 4"},
                {"role": "assistant", "content": "helper 4"},
            ],
        }
    ]
    assert [(one.body["model"], [message["role"] for message in one.body["messages"]]) for one in server.asked] == [
        ("helper", ["system", "user"]),
        ("asker", ["system", "user", "assistant", "user"]),
        ("helper", ["system", "user", "assistant", "user"]),
    ]
    swapped = server.asked[1].body["messages"]
    assert [message["content"] for message in (swapped[0], *swapped[2:])] == [
        "You ask about one.",
        "Tell me of one.",
        "helper 2",
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_roles_alternate_up_to_the_last_message(tmp_path: Path, most: int) -> None:
    """Whatever the number of messages: user, assistant, user …, and no more than are wanted."""
    with serving(counted) as server:
        made = talk(server.url, max=most)
        made["turns"].pop("start")
        assert synth("run", write(tmp_path, made)).code == 0
    (row,) = rows(tmp_path / "job.jsonl")
    roles = [message["role"] for message in row["messages"][1:]]
    assert roles == (["user", "assistant"] * 3)[:most]
    assert len(server.asked) == most


def test_a_conversation_ends_when_its_expression_is_true(tmp_path: Path) -> None:
    """`until` sees the latest message as `response`, whoever said it."""
    with serving(lambda asked: Say("BYE" if asked.number == 1 else "go on")) as server:
        made = talk(server.url, max=8, until="'BYE' in response")
        assert synth("run", write(tmp_path, made)).code == 0
    (row,) = rows(tmp_path / "job.jsonl")
    assert [message["content"] for message in row["messages"][1:]] == ["Tell me of one.", "go on", "BYE"]


@pytest.mark.parametrize("empty", ["", "   \n", None], ids=repr)
def test_an_empty_turn_is_no_turn(tmp_path: Path, empty: str | None) -> None:
    """It is asked again; a side that says nothing at all fails the row: there is never user, user, assistant."""

    def script(asked: Asked) -> Say:
        if asked.body["model"] != "asker":
            return counted(asked)
        message = {"role": "assistant", "content": empty}
        body = {"model": "asker", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        return Say(None, 200, body)

    with serving(script) as server:
        made = {**talk(server.url), "backend_params": {"max_retries": 1}}
        assert synth("run", write(tmp_path, made)).code == 1
    assert not (tmp_path / "job.jsonl").exists()
    assert [name for name, _ in said(server.asked)] == ["helper", "asker", "asker"]
    assert [line["error"].split(":")[0] for line in failures(tmp_path)] == ["empty"]


def test_a_conversation_that_died_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was said is not said again."""
    with serving(lambda asked: BROKEN if asked.number == 2 else counted(asked)) as server:
        path = write(tmp_path, {**talk(server.url), "backend_params": {"max_retries": 0}})
        assert synth("run", path).code == 1
        assert synth("run", path).code == 0
    assert [name for name, _ in said(server.asked)] == ["helper", "asker", "helper", "helper"]
    assert len(rows(tmp_path / "job.jsonl")[0]["messages"]) == 5


def test_samples_of_a_conversation_are_conversations_of_their_own(tmp_path: Path) -> None:
    """Two samples: two conversations, which never see each other's messages."""
    with serving(lambda asked: Say(f"{asked.body['model']} {asked.number}")) as server:
        made = {**talk(server.url, max=3), "samples": 2}
        assert synth("run", write(tmp_path, made)).code == 0
    first, second = ([message["content"] for message in row["messages"][2:]] for row in rows(tmp_path / "job.jsonl"))
    assert not set(first) & set(second)
    assert len(server.asked) == 4


def test_a_conversation_feeds_the_next_step(tmp_path: Path) -> None:
    """Its `messages` are a column like any other: a judge reads them as messages."""
    with serving(lambda asked: Say("good") if asked.body["model"] == "m" else counted(asked)) as server:
        made = talk(server.url, max=2)
        steps = [
            {"name": "talk", "turns": made["turns"]},
            {
                "name": "judge",
                "prompt": "Rate: {% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}",
                "columns": {"rating": "{{ response }}"},
            },
        ]
        job = {"model": model(server.url), "input": made["input"], "steps": steps}
        assert synth("run", write(tmp_path, job)).code == 0
    assert words(server.asked[1:]) == ["Rate: system=You help.;user=Tell me of one.;assistant=helper 2;"]
    assert rows(tmp_path / "job.jsonl")[0]["rating"] == "good"
