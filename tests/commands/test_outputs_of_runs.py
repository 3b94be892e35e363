"""Where rows go, when files appear, and the exit code that says so."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from command_line import failures, last_run, rows, spec, synth, write
from scripted_server import Asked, Say, echo, serving

ROWS = [
    {"word": "one", "response": "Say one."},
    {"word": "two", "response": "Say two."},
    {"word": "three", "response": "Say three."},
]


def refuse(*refused: str) -> Any:
    """A script that fails some words for good and echoes the others."""

    def script(asked: Asked) -> Say:
        if any(word in asked.user for word in refused):
            return Say(None, 400, {"error": {"message": "no such word"}})
        return echo(asked)

    return script


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [dict(row) for row in csv.DictReader(file)]
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_table(path).to_pylist())
    return [orjson.loads(line) for line in data.splitlines()]


def test_a_list_of_paths_writes_each_format_in_input_order(tmp_path: Path) -> None:
    """The suffix decides; each file has all rows in the order of the input."""
    paths = [f"out/rows{suffix}" for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".csv")]
    with serving(lambda asked: Say(asked.user, after=0.1 if "one" in asked.user else 0.0)) as server:
        called = synth("run", write(tmp_path, spec(server.url, output={"path": paths})))
    assert called.code == 0
    assert {path: read(tmp_path / path) for path in paths} == dict.fromkeys(paths, ROWS)


def test_without_a_path_the_output_is_the_jobs_name(tmp_path: Path) -> None:
    """`<name>.jsonl` beside the spec, `name` being the file's stem or what the spec says."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url), "words.yaml")).code == 0
        assert synth("run", write(tmp_path, spec(server.url, name="other"), "more.yaml")).code == 0
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["other.jsonl", "words.jsonl"]


def test_a_url_of_fsspec_is_written(tmp_path: Path) -> None:
    """An output may be a URL; here the file system in memory."""
    import fsspec

    with serving() as server:
        assert (
            synth("run", write(tmp_path, spec(server.url, output={"path": "memory://commands/outputs/a.jsonl"}))).code
            == 0
        )
    with fsspec.open("memory://commands/outputs/a.jsonl", "rb") as file:
        assert [orjson.loads(line) for line in file.read().splitlines()] == ROWS


def test_a_format_nobody_writes_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    """`.txt` in the spec and on the command line are exit 2 without a request."""
    with serving() as server:
        in_spec = synth("run", write(tmp_path, spec(server.url, output={"path": "a.txt"})))
        on_line = synth("run", write(tmp_path, spec(server.url)), "--output", tmp_path / "a.txt")
    assert (in_spec.code, on_line.code, server.asked) == (2, 2, [])
    assert ".jsonl" in in_spec.err
    assert ".jsonl" in on_line.err


def test_output_on_the_command_line_is_relative_to_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--output x.jsonl` writes into the current folder, a path in the spec is relative to the spec."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url)), "--output", "x.jsonl").code == 0
    assert rows(here / "x.jsonl") == ROWS
    assert not (tmp_path / "job.jsonl").exists()


def test_the_output_may_not_be_the_input(tmp_path: Path) -> None:
    """A job that would replace its own input is refused, also by the default output's name."""
    (tmp_path / "job.jsonl").write_text('{"word": "one"}\n')
    with serving() as server:
        by_default = synth("run", write(tmp_path, spec(server.url, input={"path": "job.jsonl"})))
        named = synth(
            "run",
            write(tmp_path, spec(server.url, input={"path": "job.jsonl"}, name="x")),
            "--output",
            tmp_path / "job.jsonl",
        )
    assert (by_default.code, named.code, server.asked) == (2, 2, [])
    assert "the output job.jsonl is also what 'input.path' reads; give the output another name" in by_default.err
    assert rows(tmp_path / "job.jsonl") == [{"word": "one"}]


@pytest.mark.parametrize(
    ("pattern", "code"), [("*.jsonl", 2), ("**/*.jsonl", 2), ("in/*.jsonl", 0), ("in/*", 0), ("in/../*.jsonl", 2)]
)
def test_the_output_may_not_be_among_the_files_of_an_input_glob(tmp_path: Path, pattern: str, code: int) -> None:
    """The next run would read what this one wrote: `validate` finds it."""
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        (folder / "a.jsonl").write_text('{"word": "one"}\n')
    assert synth("validate", write(tmp_path, spec("http://x/v1", input={"path": pattern}))).code == code


def test_metadata_says_how_each_row_came_to_be(tmp_path: Path) -> None:
    """`_synth` has the row and request ids, model, finish reason, usage, cost, attempts, messages and raw answer."""

    def script(asked: Asked) -> Say:
        return echo(asked) if asked.again else Say(None, 500, {"error": {"message": "once"}})

    with serving(script) as server:
        made = spec(
            server.url,
            input={"rows": [{"word": "one"}]},
            prompt={"system": "Be brief.", "user": "Say {{ word }}."},
            output={"metadata": True},
            backend_params={"in_mtok_cost": 1, "out_mtok_cost": 2},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    (row,) = rows(tmp_path / "job.jsonl")
    about = row.pop("_synth")
    assert row == {"word": "one", "response": "Say one."}
    assert about["model"] == "m"
    assert about["finish_reason"] == "stop"
    assert (about["usage"]["input"], about["usage"]["output"]) == (10, 5)
    assert about["cost"] == pytest.approx(20e-6)
    assert about["attempts"] == 2
    assert about["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say one."}]
    assert about["raw"]["choices"][0]["message"]["content"] == "Say one."
    assert len(about["row_id"]) == len(about["request_id"]) == 32


def test_rows_that_succeeded_are_published_and_the_exit_code_is_1(tmp_path: Path) -> None:
    """Without `accept`: some failed, so exit 1, but the others are there."""
    with serving(refuse("two")) as server:
        called = synth("run", write(tmp_path, spec(server.url)))
    assert called.code == 1
    assert rows(tmp_path / "job.jsonl") == [ROWS[0], ROWS[2]]
    assert "1 of 3 rows failed" in called.err


@pytest.mark.parametrize("on_failure", ["drop", "keep"])
def test_when_no_row_succeeded_nothing_is_published(tmp_path: Path, on_failure: str) -> None:
    """Every row failed: exit 1, and the old file stays; also where failed rows would be kept with nulls."""
    (tmp_path / "job.jsonl").write_text("old\n")
    with serving(refuse("Say")) as server:
        called = synth("run", write(tmp_path, spec(server.url, on_failure=on_failure)))
    assert called.code == 1
    assert (tmp_path / "job.jsonl").read_text() == "old\n"
    assert [one["error"] for one in failures(tmp_path)] == ["bad request: HTTP 400: no such word"] * 3


def test_an_empty_input_gives_an_empty_output(tmp_path: Path) -> None:
    """No rows, no failures: exit 0 and an empty file."""
    (tmp_path / "none.jsonl").write_text("")
    with serving() as server:
        made = spec(server.url, input={"path": "none.jsonl"}, output={"path": ["a.jsonl", "a.csv", "a.parquet"]})
        assert synth("run", write(tmp_path, made)).code == 0
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert read(tmp_path / "a.parquet") == []


def test_filtered_rows_are_not_failed(tmp_path: Path) -> None:
    """`keep_if` leaves rows out: exit 0, counted as filtered."""
    with serving() as server:
        called = synth("run", write(tmp_path, spec(server.url, keep_if="word != 'two'")), "--json")
    assert called.code == 0
    assert rows(tmp_path / "job.jsonl") == [ROWS[0], ROWS[2]]
    assert {key: called.json["rows"][key] for key in ("in", "out", "filtered", "failed")} == {
        "in": 3,
        "out": 2,
        "filtered": 1,
        "failed": 0,
    }


@pytest.mark.parametrize(
    ("accept", "code"),
    [
        ({"min_rows": 2}, 0),
        ({"min_rows": 3}, 1),
        ({"max_error_rate": 0.34}, 0),
        ({"max_error_rate": 0.33}, 1),
        ({"min_rows": 2, "max_error_rate": 0.5}, 0),
        ({"min_rows": 3, "max_error_rate": 0.5}, 1),
    ],
)
def test_accept_publishes_only_what_meets_it(tmp_path: Path, accept: dict[str, Any], code: int) -> None:
    """Met: exit 0 although a row failed. Not met: exit 1, the old file stays, the rows are in the state folder."""
    (tmp_path / "job.jsonl").write_text("old\n")
    with serving(refuse("two")) as server:
        called = synth("run", write(tmp_path, spec(server.url, accept=accept)))
    assert called.code == code
    if code == 0:
        assert rows(tmp_path / "job.jsonl") == [ROWS[0], ROWS[2]]
    else:
        assert (tmp_path / "job.jsonl").read_text() == "old\n"
        (kept,) = [path for path in last_run(tmp_path).iterdir() if "job.jsonl" in path.name]
        assert rows(kept) == [ROWS[0], ROWS[2]]
        assert str(kept.name) in called.err


def test_the_error_rate_counts_input_rows(tmp_path: Path) -> None:
    """A row of which one sample failed is one failed row of three, and gives its other samples."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if asked.number == 0 else echo(asked)

    with serving(script) as server:
        made = spec(
            server.url, samples=2, accept={"max_error_rate": 0.34}, backend_params={"max_concurrent_requests": 1}
        )
        called = synth("run", write(tmp_path, made), "--json")
    assert (called.code, called.json["rows"]["failed"], called.json["rows"]["error_rate"]) == (
        0,
        1,
        pytest.approx(1 / 3),
    )
    assert len(rows(tmp_path / "job.jsonl")) == 5


def test_rows_of_which_only_some_samples_came_are_published(tmp_path: Path) -> None:
    """Each row failed, and none for good: what came is there, the exit code is 1, and nothing is said of nulls."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if asked.number % 2 else echo(asked)

    with serving(script) as server:
        made = spec(server.url, samples=2, backend_params={"max_concurrent_requests": 1})
        called = synth("run", write(tmp_path, made), "--json")
    counts = {key: called.json["rows"][key] for key in ("in", "out", "failed", "kept")}
    assert (called.code, counts) == (1, {"in": 3, "out": 3, "failed": 3, "kept": 0})
    assert rows(tmp_path / "job.jsonl") == ROWS


def test_what_failed_before_a_step_that_needs_all_rows_is_told(tmp_path: Path) -> None:
    """The rows of a group are there without it, and the exit code is 1 all the same; running again says the same."""
    with serving(refuse("two")) as server:
        made = spec(server.url)
        steps = [
            {"name": "say", "prompt": made.pop("prompt"), "samples": 2},
            {"name": "all", "type": "group", "by": "word"},
        ]
        path = write(tmp_path, {**made, "steps": steps})
        called = [synth("run", path, "--json"), synth("run", path, "--json", "--no-calls")]
    figures = [{key: one.json["rows"][key] for key in ("in", "out", "failed")} for one in called]
    assert [one.code for one in called] == [1, 1]
    assert figures == [{"in": 3, "out": 2, "failed": 1}] * 2
    assert [row["word"] for row in rows(tmp_path / "job.jsonl")] == ["one", "three"]
    assert len(failures(tmp_path)) == 2


def test_a_simulated_run_never_replaces_a_real_output(tmp_path: Path) -> None:
    """After a real run `--simulate` leaves the file, says why, and keeps its own rows apart."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 0
        called = synth("run", path, "--simulate")
    assert called.code == 0
    assert rows(tmp_path / "job.jsonl") == ROWS
    assert "holds 3 real rows: a simulated run does not replace it" in called.err
    assert len(server.asked) == 3


def test_a_simulated_run_replaces_no_file_of_unknown_origin(tmp_path: Path) -> None:
    """A file that some other program made is real as far as anybody knows."""
    (tmp_path / "job.jsonl").write_text("mine\n")
    called = synth("run", write(tmp_path, spec("http://127.0.0.1:9/v1")), "--simulate")
    assert called.code == 0
    assert (tmp_path / "job.jsonl").read_text() == "mine\n"


def test_a_real_run_replaces_a_simulated_output(tmp_path: Path) -> None:
    """What `--simulate` wrote makes room for the real rows, and its answers are not taken for real ones."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path, "--simulate").code == 0
        assert len(rows(tmp_path / "job.jsonl")) == 3
        assert synth("run", path).code == 0
    assert rows(tmp_path / "job.jsonl") == ROWS
    assert len(server.asked) == 3


def test_a_limited_run_never_replaces_a_fuller_output(tmp_path: Path) -> None:
    """`--limit 2` writes where nothing is, is replaced by `--limit 3`, and leaves a whole output alone."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        lengths = []
        for options in (["--limit", "2"], ["--limit", "1"], [], ["--limit", "2"]):
            assert synth("run", path, *options).code == 0
            lengths.append(len(rows(tmp_path / "job.jsonl")))
    assert lengths == [2, 2, 3, 3]
    assert len(server.asked) == 3


def test_columns_of_parquet_and_csv_are_those_of_all_rows(tmp_path: Path) -> None:
    """A column that only the last row has is a column of all, and int beside float is float."""
    answers = {"one": '{"n": 1}', "two": '{"n": 2.5}', "three": '{"n": 3, "late": "x"}'}
    with serving(lambda asked: Say(answers[asked.user[4:-1]])) as server:
        made = spec(
            server.url,
            response={
                "schema": {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "type": "object",
                    "properties": {"n": {"type": "number"}},
                }
            },
            columns={"n": "{{ response.n }}", "all": "{{ response }}"},
            carry=False,
            output={"path": ["a.parquet", "a.csv"]},
        )
        assert synth("run", write(tmp_path, made)).code == 0
    table = read(tmp_path / "a.parquet")
    assert [row["n"] for row in table] == [1.0, 2.5, 3.0]
    assert [row["all"] for row in table] == [
        {"n": 1.0, "late": None},
        {"n": 2.5, "late": None},
        {"n": 3.0, "late": "x"},
    ]
    assert [row["n"] for row in read(tmp_path / "a.csv")] == ["1", "2.5", "3"]


def test_a_row_that_fails_after_its_answer_is_never_bought_twice(tmp_path: Path) -> None:
    """An error in `columns` fails the row; mended, the kept answer is used and nothing is asked."""
    with serving() as server:
        broken = synth("run", write(tmp_path, spec(server.url, columns={"x": "{{ response | from_json }}"})))
        mended = synth("run", write(tmp_path, spec(server.url, columns={"x": "{{ response }}"})))
    assert (broken.code, mended.code, len(server.asked)) == (1, 0, 3)
    assert [row["x"] for row in rows(tmp_path / "job.jsonl")] == ["Say one.", "Say two.", "Say three."]


def test_labels_seed_and_description_are_in_the_report(tmp_path: Path) -> None:
    """`labels`, `seed` and `description` go into report.json."""
    with serving() as server:
        made = spec(server.url, labels={"team": "x"}, seed=7, description="Words.")
        called = synth("run", write(tmp_path, made), "--json")
    job = called.json["job"]
    assert (job["labels"], job["seed"], job["description"]) == ({"team": "x"}, 7, "Words.")
    assert orjson.loads((last_run(tmp_path) / "report.json").read_bytes()) == called.json


def test_profiles_extends_and_set_merge_replace_and_remove(tmp_path: Path) -> None:
    """Mappings merge, lists replace, null removes; `--set` is on top of the profile, which is on top of the base."""
    with serving() as server:
        write(
            tmp_path,
            spec(server.url, generation_params={"temperature": 0.1, "top_p": 0.9, "stop": ["a", "b"]}),
            "base.yaml",
        )
        path = write(
            tmp_path,
            {
                "extends": "base.yaml",
                "generation_params": {"temperature": 0.2},
                "profiles": {
                    "ci": {"input": {"rows": [{"word": "few"}]}, "generation_params": {"stop": ["c"], "top_p": None}}
                },
            },
        )
        assert synth("run", path, "--profile", "ci", "--set", "generation_params.max_tokens=5").code == 0
        unknown = synth("run", path, "--profile", "cl")
    (asked,) = server.asked
    assert {key: asked.body.get(key) for key in ("temperature", "top_p", "stop", "max_tokens")} == {
        "temperature": 0.2,
        "top_p": None,
        "stop": ["c"],
        "max_tokens": 5,
    }
    assert asked.user == "Say few."
    assert unknown.code == 2
    assert "ci" in unknown.err


def test_set_of_vars_changes_the_prompt(tmp_path: Path) -> None:
    """`--set vars.tone=dry` is what templates see, and asks anew."""
    with serving() as server:
        path = write(
            tmp_path, spec(server.url, vars={"tone": "friendly"}, input={"count": 1}, prompt="Be {{ vars.tone }}.")
        )
        assert synth("run", path).code == 0
        assert synth("run", path, "--set", "vars.tone=dry").code == 0
    assert [one.user for one in server.asked] == ["Be friendly.", "Be dry."]


def test_the_old_output_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """While a run asks, the file of the run before is untouched, and no half file is beside it."""
    seen = []

    def script(asked: Asked) -> Say:
        seen.append(sorted((path.name, path.read_text()) for path in tmp_path.glob("*.jsonl*")))
        return echo(asked)

    (tmp_path / "job.jsonl").write_text("old\n")
    with serving(script) as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
    assert seen == [[("job.jsonl", "old\n")]] * 3
    assert rows(tmp_path / "job.jsonl") == ROWS
