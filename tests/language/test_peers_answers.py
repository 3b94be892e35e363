"""What breaks in other tools: templates, answers, parsing, samples and schemas. Each must not happen here."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from desk import Desk, Say, Server, serving

SCHEMA = {"schema": {"title": "str"}}


def spec(server: Server, **more: Any) -> dict[str, Any]:
    return {"model": server.model(), "input": {"matrix": {"a": ["p", "bad", "q"]}}, "prompt": "{{ a }}", **more}


def titled(body: dict[str, Any]) -> Say:
    text = body["messages"][-1]["content"]
    return "no json" if "bad" in text else json.dumps({"title": text})


def test_a_structured_row_that_fails_for_good_does_not_end_the_run(desk: Desk) -> None:
    """Curator's run crashes: here the others are published, and the exit is 1."""
    with serving(titled) as server:
        rows = desk.says(spec(server, response=SCHEMA)).rows(code=1)
    assert rows == [{"a": "p", "title": "p"}, {"a": "q", "title": "q"}]


def test_an_answer_that_was_paid_for_is_kept_when_parsing_fails(desk: Desk) -> None:
    """Curator drops it: here it is in the ledger and failed.jsonl, and a mended parse asks for nothing."""
    with serving(lambda body: "hi") as server:
        desk.write(how__py="def parse(row, response):\n    raise KeyError('x')\n")
        assert desk.says(spec(server, parse="how.py:parse")).run().code == 1
        assert [failed["attempts"][0]["answer"] for failed in desk.failed()] == ["hi"] * 3
        desk.write(mended__py="def parse(row, response):\n    return {'said': response}\n")
        rows = desk.says(spec(server, parse="mended.py:parse")).rows()
        assert len(server.bodies) == 3
    assert [row["said"] for row in rows] == ["hi"] * 3


def test_parse_runs_once_an_answer(desk: Desk) -> None:
    """Curator runs it twice a row; here once, whatever is written: two outputs and metadata."""
    desk.write(
        how__py="def parse(row, response):\n    with open('calls', 'a') as calls:\n"
        "        calls.write(row['a'] + ' ')\n    return {'r': response}\n"
    )
    with serving(lambda body: "hi") as server:
        output = {"path": ["one.jsonl", "two.csv"], "metadata": True}
        assert desk.says(spec(server, parse="how.py:parse", output=output)).run().code == 0
    assert (desk.folder / "calls").read_text() == "p bad q "


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": {"system": "Other.", "user": "{{ a }}"}},
        {"generation_params": {"temperature": 0.3}},
        {"response": {"schema": {"title": {"type": "str", "description": "Short."}}}},
        {"input": {"matrix": {"a": ["p2", "bad2", "q2"]}}},
        {"tools": [{"name": "f"}]},
    ],
)
def test_what_changes_the_question_is_asked_anew(desk: Desk, change: dict[str, Any]) -> None:
    """Curator's cache forgets the system prompt, distilabel's the data: both give old answers for new questions."""
    with serving(lambda body: '{"title": "t"}') as server:
        base = spec(server, prompt={"system": "One.", "user": "{{ a }}"}, response=SCHEMA)
        assert desk.says(base).run().code == 0
        assert desk.says({**base, **change}).run().code == 0
        assert len(server.bodies) == 6


def test_an_empty_input_is_no_crash(desk: Desk) -> None:
    """Curator crashes: here nothing is asked and an empty file is written."""
    desk.write(none__csv="a\n")
    with serving(lambda body: "hi") as server:
        assert desk.says(spec(server, input={"path": "none.csv"})).rows() == []
        assert server.bodies == []
    assert (desk.folder / "out.jsonl").read_text() == ""


def test_prices_may_have_decimals(desk: Desk) -> None:
    """Curator's in_mtok_cost takes whole numbers only."""
    with serving(lambda body: "hi") as server:
        params = {"in_mtok_cost": 0.075, "out_mtok_cost": 0.3}
        told = desk.says(spec(server, backend_params=params)).run("--json")
    assert json.loads(told.out)["traffic"]["cost"]["usd"] == pytest.approx(3 * (7 * 0.075 + 5 * 0.3) / 1e6)


def test_bytes_of_an_image_arrive_as_they_are(desk: Desk) -> None:
    """Curator corrupts them: here every byte value survives."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    pq.write_table(pa.table({"image": [content]}), desk.folder / "in.parquet")
    part = {"type": "image", "source": "{{ image }}"}
    with serving(lambda body: "hi") as server:
        desk.says(
            {
                "model": server.model(),
                "input": {"path": "in.parquet"},
                "messages": [{"role": "user", "content": [part]}],
                "carry": False,
            }
        )
        desk.rows()
        url = server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == content


def test_an_undefined_variable_is_never_empty_text(desk: Desk) -> None:
    """distilabel renders it empty: here validate finds it, or that row fails."""
    with serving(lambda body: "hi") as server:
        assert desk.says(spec(server, prompt="About {{ missing }}")).run().code == 2
        rows = {"rows": [{"a": "x"}, {"a": "y", "b": 1}]}
        assert desk.says(spec(server, input=rows, prompt="About {{ b }}")).rows(code=1) == [
            {"a": "y", "b": 1, "response": "hi"}
        ]
        assert server.asked == ["About 1"]


def test_filters_are_allowed(desk: Desk) -> None:
    """distilabel refuses `{{ col | upper }}`."""
    with serving(lambda body: "hi") as server:
        desk.says(spec(server, prompt="{{ a | upper }}")).rows()
        assert sorted(server.asked) == ["BAD", "P", "Q"]


def test_one_failed_request_costs_only_its_own_row(desk: Desk) -> None:
    """distilabel nulls its whole batch and caches the nulls: here the next run asks only for what failed."""
    broken = [True]

    def answer(body: dict[str, Any]) -> Say:
        if "bad" in body["messages"][-1]["content"] and broken[0]:
            return {"status": 400, "body": {"error": {"message": "cannot"}}}
        return "hi"

    with serving(answer) as server:
        rows = desk.says(spec(server)).rows(code=1)
        assert [row["a"] for row in rows] == ["p", "q"]
        broken[0] = False
        rows = desk.rows("--retry-failed")
        assert (len(server.bodies), [row["a"] for row in rows]) == (4, ["p", "bad", "q"])


def test_a_null_turn_is_no_empty_turn(desk: Desk) -> None:
    """distilabel sends user, user, assistant: here the row fails and says which message has no content."""
    talk = [{"role": "user", "content": "a"}, {"role": "user", "content": None}]
    with serving(lambda body: "hi") as server:
        desk.says(spec(server, input={"rows": [{"t": talk}]}, messages="{{ t }}", prompt=None))
        assert desk.run().code == 1
        assert server.bodies == []
    assert desk.failed()[0]["error"] == "template: message 2 (user) has no content"


def test_a_spec_is_never_evaluated(desk: Desk) -> None:
    """distilabel evals a config file: tags of YAML are problems here, and nothing is run by validate."""
    desk.write(how__py="open('ran', 'w').close()\n\ndef parse(row, response):\n    return {}\n")
    desk.says("model: simulator\nprompt: !!python/object/apply:os.system 'touch ran'\nparse: how.py:parse\n")
    assert ["tags like" in problem for problem in desk.validate()] == [True]
    desk.says("model: simulator\nprompt: hi\nparse: how.py:parse\n")
    assert desk.validate() == []
    assert not (desk.folder / "ran").exists()


def test_failed_rows_are_not_exit_0(desk: Desk) -> None:
    """Data Designer loses 34 of 40 rows and exits 0, synthetic-data-kit every file."""
    with serving(lambda body: "not json") as server:
        told = desk.says(spec(server, response=SCHEMA, backend_params={"max_retries": 0})).run()
    assert (told.code, desk.lines("spec.jsonl")) == (1, [])
    assert "3 of 3 rows failed" in told.err


def test_an_answer_that_is_not_json_is_no_empty_list(desk: Desk) -> None:
    """synthetic-data-kit turns it into []: here it is that row's failure, its text kept."""
    with serving(lambda body: "I would rather not.") as server:
        node = {"schema": {"items": ["str"]}}
        desk.says(
            spec(
                server,
                input={"rows": [{"a": 1}]},
                response=node,
                each="response.items",
                backend_params={"max_retries": 0},
            )
        )
        assert desk.run().code == 1
    assert desk.failed()[0]["attempts"][0]["answer"] == "I would rather not."


def test_a_failed_answer_is_not_kept_as_a_result(desk: Desk) -> None:
    """DocETL caches failed calls: here today's spec judges every answer, so a looser schema takes it, unasked."""
    with serving(lambda body: '{"title": "t", "n": "5"}') as server:
        strict = {"schema": {"title": "str", "n": "int"}}
        one = {"input": {"rows": [{"a": 1}]}, "backend_params": {"max_retries": 0, "max_concurrent_requests": 1}}
        check = {"check": "response.n == 5"}
        assert desk.says(spec(server, response=strict, **one)).run().code == 1
        loose: dict[str, Any] = {"schema": {"title": "str", "n": "str"}}
        assert desk.says(spec(server, response={**loose, **check}, **one)).run().code == 1
        asked = len(server.bodies)
        assert desk.says(spec(server, response=loose, **one)).rows() == [{"a": 1, "title": "t", "n": "5"}]
        assert len(server.bodies) == asked


def test_the_tokens_of_a_prompt_are_counted_as_charged(desk: Desk) -> None:
    """distilabel counts them once per generation of one call: here each request has its own usage."""
    with serving(lambda body: "hi") as server:
        told = desk.says(spec(server, samples=2)).run("--json")
        assert len(server.bodies) == 6
    tokens = json.loads(told.out)["traffic"]["tokens"]
    assert (tokens["input"], tokens["output"]) == (6 * 7, 6 * 5)


def test_an_old_field_that_servers_ignore_is_not_sent(desk: Desk) -> None:
    """vLLM silently ignores `guided_choice`: `structured_outputs` is sent, and the answer is checked here."""
    with serving(lambda body: "maybe") as server:
        model = {"name": "m", "backend": "vllm", "base_url": server.url}
        one = {"input": {"rows": [{"a": 1}]}, "backend_params": {"max_retries": 0}}
        desk.says(spec(server, model=model, response={"choice": ["yes", "no"]}, **one))
        assert desk.run().code == 1
        assert server.bodies[0]["structured_outputs"] == {"choice": ["yes", "no"]}
    assert desk.failed()[0]["error"] == "choice: 'maybe' is not one of: yes, no"
