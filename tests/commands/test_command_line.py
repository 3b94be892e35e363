"""Every command and option, its streams and exit codes, as a user or a script meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import typer
from command_line import rows, spec, started, synth, write
from scripted_server import Asked, Say, echo, serving

from synth_cli.cli.app import app
from synth_cli.cli.reference import documented

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "init", "validate", "schema", "plan", "preview", "run", "status", "cancel", "report", "diff", "merge", "serve",
    "simulator",
)  # fmt: skip
HOT = {"model": "simulator", "input": {"count": 2}, "prompt": "Hi {{ index }}."}


def test_every_command_and_option_is_documented_as_it_is() -> None:
    """README.md has the reference that `python -m synth_cli.cli.reference` makes now."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert documented(text) == text, "run: python -m synth_cli.cli.reference"
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    assert tuple(commands) == COMMANDS
    missing = [
        f"{name} {option}"
        for name, command in [("", group), *commands.items()]
        for param in command.params
        for option in param.opts
        if option.startswith("-") and option not in text
    ]
    assert missing == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """`-h` and `--help` go to stdout with exit 0."""
    long, short = synth(command, "--help"), synth(command, "-h")
    assert (long.code, long.err, short.out) == (0, "", long.out)
    assert f"synth {command}" in long.out


def test_no_arguments_show_the_help() -> None:
    """`synth` alone lists the commands."""
    called = synth()
    assert all(command in called.out + called.err for command in COMMANDS)


def test_version() -> None:
    """`--version` is one line on stdout."""
    called = synth("--version")
    assert (called.code, called.out, called.err) == (0, "synth 0.1.0\n", "")


def test_help_and_version_load_nothing_heavy() -> None:
    """`synth --help` imports none of litellm, datasets, pyarrow, aiohttp."""
    code = (
        "import sys; sys.argv = ['synth', '--help']\n"
        "from synth_cli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'litellm', 'datasets', 'pyarrow', 'aiohttp', 'pydantic', 'rich.live', 'sqlalchemy', 'vllm', 'ray'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_completion_of_the_shell() -> None:
    """A shell that asks for completions of `synth pl` gets `plan`."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'synth'; from synth_cli.cli.app import main; main()"],
        env={"_SYNTH_COMPLETE": "complete_bash", "COMP_WORDS": "synth pl", "COMP_CWORD": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plan"]


def test_init_writes_a_spec_that_runs_and_never_replaces_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init NAME` writes NAME.yaml; it validates, runs and publishes; a second init of the name is exit 2."""
    monkeypatch.chdir(tmp_path)
    assert synth("init", "mine").code == 0
    before = (tmp_path / "mine.yaml").read_text()
    assert synth("validate", "mine.yaml").code == 0
    assert synth("run", "mine.yaml").code == 0
    assert len(rows(tmp_path / "mine.jsonl")) == 6
    again = synth("init", "mine")
    assert (again.code, (tmp_path / "mine.yaml").read_text()) == (2, before)
    assert synth("init").code == 0
    assert (tmp_path / "dataset.yaml").exists()


def test_validate_names_every_problem_of_every_spec_with_its_place(tmp_path: Path) -> None:
    """All problems at once, one a line, on stderr; nothing else is said, and good specs are silent."""
    good = write(tmp_path, HOT, "good.yaml")
    bad = write(
        tmp_path,
        "model: simulator\ntemprature: 1\ninput: {count: 1}\nprompt: Hi {{ indx }}.\nresponse: {regex: '('}\n",
        "bad.yaml",
    )
    worse = write(tmp_path, "model: [\n", "worse.yaml")
    called = synth("validate", good, bad, worse)
    assert (called.code, called.out) == (2, "")
    lines = called.err.splitlines()
    assert lines[0] == (
        f"{bad}:2:1: unknown key 'temprature'; did you mean 'temperature'? It stands under 'generation_params'"
    )
    assert lines[1].startswith(f"{bad}:4:9: nothing provides 'indx'; did you mean 'index'")
    assert any(line.startswith(f"{bad}:5:") for line in lines)
    assert any(line.startswith(f"{worse}:") for line in lines)
    assert not any("good.yaml" in line for line in lines)
    assert (synth("validate", good).code, synth("validate", good).out, synth("validate", good).err) == (0, "", "")


def test_validate_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is exit 2 with its name, not a traceback."""
    called = synth("validate", tmp_path / "none.yaml")
    assert called.code == 2
    assert "none.yaml" in called.err


def test_validate_uses_no_network_and_no_key(tmp_path: Path) -> None:
    """A spec of a real provider validates on a machine without its key."""
    path = write(tmp_path, {**HOT, "model": "anthropic/claude-haiku-4-5"})
    assert synth("validate", path).code == 0


def test_schema_is_json_on_stdout() -> None:
    """`synth schema` is a JSON Schema that names every top-level key."""
    called = synth("schema")
    assert (called.code, called.err) == (0, "")
    assert {"model", "input", "prompt", "output", "budget", "accept"} <= set(
        called.json["definitions"]["Spec"]["properties"]
    )


def test_plan_says_what_a_run_would_do_without_a_call(tmp_path: Path) -> None:
    """Rows, requests by how they stand, tokens and cost low to high, engine, limits."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if "two" in asked.user else echo(asked)

    with serving(script) as server:
        made = spec(
            server.url,
            generation_params={"max_tokens": 100},
            backend_params={"in_mtok_cost": 1, "out_mtok_cost": 10, "max_requests_per_minute": 500},
        )
        path = write(tmp_path, made)
        before = synth("plan", path, "--json").json
        assert synth("run", path, "--limit", "2").code == 1
        asked = len(server.asked)
        after = synth("plan", path, "--json").json
        text = synth("plan", path)
        retried = synth("plan", path, "--limit", "1", "--json").json
    assert asked == len(server.asked) == 2
    assert [before[key] for key in ("rows", "requests", "new", "answered", "failed_before")] == [3, 3, 3, 0, 0]
    assert [after[key] for key in ("rows", "requests", "new", "answered", "failed_before")] == [3, 3, 1, 1, 1]
    assert [retried[key] for key in ("rows", "requests", "new", "answered")] == [1, 1, 0, 1]
    assert before["cost"]["low"] < before["cost"]["high"]
    assert before["output_tokens"]["high"] == 300
    assert before["limits"]["max_requests_per_minute"] == 500
    assert (text.code, text.err) == (0, "")
    assert "3: 1 new, 1 already answered, 1 failed before" in text.out


def test_preview_shows_messages_and_body_and_with_run_the_rows(tmp_path: Path) -> None:
    """`-n`, `--row`, `--run`; a row that is not there is exit 2."""
    with serving() as server:
        path = write(tmp_path, spec(server.url, prompt={"system": "Be brief.", "user": "Say {{ word }}."}))
        first = synth("preview", path, "-n", "1")
        assert server.asked == []
        second = synth("preview", path, "--row", "1", "--json").json
        asked = synth("preview", path, "--row", "1", "--run")
        none = synth("preview", path, "--row", "7")
    assert (first.code, first.err) == (0, "")
    assert "[system]\nBe brief.\n[user]\nSay one." in first.out
    assert "Say two." not in first.out
    assert f"POST {server.url}/chat/completions" in first.out
    assert [one["index"] for one in second] == [1]
    assert second[0]["messages"][1] == {"role": "user", "content": "Say two."}
    assert '"response": "Say two."' in asked.out
    assert none.code == 2


def test_preview_works_without_a_key(tmp_path: Path) -> None:
    """What would be sent can be seen before there is a key; asking needs it."""
    path = write(tmp_path, {**HOT, "model": "openai/gpt-5-mini"})
    assert synth("preview", path).code == 0
    assert synth("preview", path, "--run").code == 3


def test_preview_of_a_request_that_litellm_makes(tmp_path: Path) -> None:
    """What LiteLLM is given, and no address that it may not post to."""
    path = write(tmp_path, {**HOT, "model": "cohere/command-r", "input": {"count": 1}})
    called, json = synth("preview", path), synth("preview", path, "--json").json
    assert "LiteLLM's arguments:\n{" in called.out
    assert "POST" not in called.out
    assert json[0]["url"] is None


def test_data_and_json_go_to_stdout_and_the_rest_to_stderr(tmp_path: Path) -> None:
    """`run` writes nothing to stdout; with `--json` the report alone; with `--quiet` nothing at all."""
    path = write(tmp_path, HOT)
    plain, json, quiet, both = (synth("run", path, *options) for options in ([], ["--json"], ["-q"], ["-q", "--json"]))
    assert (plain.out, "done in" in plain.err) == ("", True)
    assert (json.json["rows"]["out"], "done in" in json.err) == (2, True)
    assert (quiet.out, quiet.err) == ("", "")
    assert (both.json["rows"]["out"], both.err) == (2, "")


def test_quiet_says_errors(tmp_path: Path) -> None:
    """With `--quiet` what kept a run from being accepted is still said."""
    with serving(lambda _: Say(None, 400, {"error": {"message": "no"}})) as server:
        called = synth("run", write(tmp_path, spec(server.url)), "-q")
    assert (called.code, called.out) == (1, "")
    assert called.err.startswith("synth: 3 of 3 rows failed\n")


def test_a_plain_line_now_and_then_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is no terminal the progress is plain lines, no control codes."""
    from synth_cli.report import live

    monkeypatch.setattr(live, "FIRST_LINE", 0.1)
    monkeypatch.setattr(live, "NEXT_LINE", 0.1)
    with serving(lambda asked: Say("x", after=0.3)) as server:
        called = synth("run", write(tmp_path, spec(server.url, backend_params={"max_concurrent_requests": 1})))
    lines = [line for line in called.err.splitlines() if line.startswith("job: ")]
    assert len(lines) >= 2
    assert "\x1b" not in called.err
    assert "in flight" in lines[0]


def test_report_again_as_text_json_and_markdown(tmp_path: Path) -> None:
    """The last run's report, in each shape; before any run it is exit 2."""
    path = write(tmp_path, HOT)
    none = synth("report", path)
    ran = synth("run", path, "--json")
    text, json, md = (
        synth("report", path),
        synth("report", path, "--json"),
        synth("report", path, "--md", tmp_path / "r.md"),
    )
    assert (none.code, "synth run" in none.err) == (2, True)
    assert (text.code, text.out, text.err) == (0, "", ran.err)
    assert json.json == ran.json
    assert (md.code, md.out) == (0, "")
    assert "2 in, 2 out" in (tmp_path / "r.md").read_text()


def test_status_before_while_and_after(tmp_path: Path) -> None:
    """Not run yet; finished with figures; nothing is asked."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        before = synth("status", path)
        assert synth("run", path).code == 0
        after, json = synth("status", path), synth("status", path, "--json").json
    assert (before.code, before.out) == (0, "job: not run yet\n")
    assert after.out.startswith("job: finished\n")
    assert (json["answers"], json["runs"], json["last_exit_code"], json["round_open"]) == (3, 1, 0, False)


def test_status_of_an_unknown_price_is_unknown(tmp_path: Path) -> None:
    """Never $0 for want of a price."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 0
        after, json = synth("status", path), synth("status", path, "--json").json
    assert "\nspent       cost unknown, " in after.out
    assert (json["spent_usd"], json["unpriced"]) == (None, 3)


def test_status_after_a_preview_alone(tmp_path: Path) -> None:
    """A preview that asked for a row has not finished the job."""
    path = write(tmp_path, HOT)
    assert synth("preview", path, "--run", "-n", "1").code == 0
    assert synth("status", path).out.startswith("job: only previewed so far\n")
    assert synth("report", path).code == 2
    assert synth("run", path, "-q").code == 0
    assert synth("status", path).out.startswith("job: finished\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["diff", "a", "b"],
        ["report", "SPEC", "--html", "x.html"],
    ],
    ids=" ".join,
)
def test_what_comes_later_says_so(tmp_path: Path, arguments: list[str]) -> None:
    """Commands and options of later versions are exit 2 with 'not in this version yet'."""
    path = write(tmp_path, HOT)
    called = synth(*[path if one == "SPEC" else one for one in arguments])
    assert called.code == 2
    assert "not in this version yet" in called.err


def test_an_online_job_has_nothing_to_wait_for_or_to_cancel(tmp_path: Path) -> None:
    """`--no-wait` runs it through, and `cancel` says that there are no batches."""
    path = write(tmp_path, HOT)
    assert synth("run", path, "--no-wait").code == 0
    assert len(rows(tmp_path / "job.jsonl")) == 2
    called = synth("cancel", path)
    assert called.code == 2
    assert "no batches" in called.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "none.yaml"],
        ["frobnicate"],
        ["run", "SPEC", "--no-such-option"],
        ["run", "SPEC", "--set", "novalue"],
        ["run", "SPEC", "--set", "modl=x"],
        ["run", "SPEC", "--profile", "none"],
        ["run", "SPEC", "--limit", "-1"],
        ["run", "SPEC", "--max-cost", "-1"],
        ["preview", "SPEC", "-n", "0"],
        ["simulator", "--share-429", "2"],
        ["simulator", "--share-429", "0.6", "--share-500", "0.6"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2_on_stderr(tmp_path: Path, arguments: list[str]) -> None:
    """Nothing goes to stdout, and nothing is run."""
    path = write(tmp_path, HOT)
    called = synth(*[path if one == "SPEC" else one for one in arguments])
    assert (called.code, called.out) == (2, "")
    assert called.err
    assert "Traceback" not in called.err
    assert not (tmp_path / ".synth").exists()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": "Incorrect API key provided"}}, "Incorrect API key"),
        (403, {"error": {"message": "not yours"}}, "not yours"),
        (402, {"error": {"message": "payment required"}}, "payment required"),
        (404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, "does not exist"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, "quota"),
    ],
)
def test_refused_accounts_stop_the_run_with_exit_3(tmp_path: Path, status: int, body: object, said: str) -> None:
    """Key, credit and unknown model: at once, in the provider's words, and what is answered stays."""
    with serving(lambda asked: Say(None, status, body)) as server:  # type: ignore[arg-type]
        path = write(tmp_path, spec(server.url, input={"count": 500}, prompt="Hi {{ index }}."))
        called = synth("run", path)
        assert len(server.asked) <= 40
        server.script = echo
        assert synth("run", path, "--limit", "1").code == 0
    assert called.code == 3
    assert said in called.err
    assert called.err.count(said) == 1 or "Failed" in called.err


def test_a_missing_extra_is_exit_3(tmp_path: Path) -> None:
    """An input on a file system whose package is not there names the package to install."""
    called = synth("run", write(tmp_path, spec("http://x/v1", input={"path": "s3://bucket/x.jsonl"})))
    assert called.code == 3
    assert "pip install" in called.err


def test_a_bug_is_exit_70_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is no error of ours is shown whole, as a bug, with the way on."""
    import synth_cli.run.explain as explaining

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by us")

    monkeypatch.setattr(explaining, "explain", broken)
    with pytest.raises(AssertionError, match="ZeroDivisionError: by us") as raised:
        synth("plan", write(tmp_path, HOT))
    assert "this is a bug in synth" in str(raised.value)


def test_a_reader_that_left_is_no_traceback(tmp_path: Path) -> None:
    """`synth schema | head -1` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m synth_cli schema | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_the_simulator_serves_openais_protocol(tmp_path: Path) -> None:
    """`synth simulator` names its address; a spec with that `base_url` runs against it, seed and faults as given."""
    process = started("simulator", "--port", "0", "--seed", "3", "--share-500", "0.3", cwd=tmp_path)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        for _ in range(20):
            if "http://" in line:
                break
            line = process.stderr.readline()
        url = next(word for word in line.split() if word.startswith("http://")).rstrip(",;")
        made = spec(url if url.endswith("/v1") else f"{url}/v1", input={"count": 30}, prompt="Hi {{ index }}.")
        called = synth("run", write(tmp_path, made), "--json")
    finally:
        process.terminate()
        process.communicate()
    assert called.code == 0
    assert called.json["traffic"]["faults"].get("server error", 0) > 0
    assert called.json["job"]["simulated"] is False


def test_simulate_says_that_it_is_simulated(tmp_path: Path) -> None:
    """`--simulate` needs no key, marks report and `_synth`, and leaves the rows as they would be."""
    path = write(tmp_path, {**HOT, "model": "openai/gpt-5-mini", "output": {"metadata": True}})
    called = synth("run", path, "--simulate", "--json")
    assert called.code == 0
    assert called.json["job"]["simulated"] is True
    assert "SIMULATED" in called.err
    row = rows(tmp_path / "job.jsonl")[0]
    assert row["_synth"]["simulated"] is True
    assert set(row) == {"index", "response", "_synth"}


@pytest.mark.parametrize("engine", ["online", "batch"])
def test_no_proxy_stands_before_the_simulated_model(tmp_path: Path, engine: str) -> None:
    """Behind a company's proxy a first run works as anywhere, and nothing of it leaves the machine."""
    once = {"engine": engine, "backend_params": {"max_retries": 0}}
    path = write(tmp_path, {**HOT, "model": "openai/gpt-5-mini", **once})
    proxy = "http://127.0.0.1:9"
    called = synth("run", path, "--simulate", env={"HTTP_PROXY": proxy, "http_proxy": proxy, "ALL_PROXY": proxy})
    assert (called.code, len(rows(tmp_path / "job.jsonl"))) == (0, 2)


def test_the_simulator_gives_the_same_answers_again(tmp_path: Path) -> None:
    """Two jobs of one seed have the same rows, another seed has others."""
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert synth("run", write(tmp_path, {**HOT, "seed": seed}, f"{name}.yaml")).code == 0
        found.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert found[0] == found[1] != found[2]


def test_json_reports_are_json_whatever_happens(tmp_path: Path) -> None:
    """With `--json` every run that opened says its end on stdout: exit code and reason."""
    with serving(lambda _: Say(None, 401, {"error": {"message": "no"}})) as server:
        called = synth("run", write(tmp_path, spec(server.url)), "--json", "-q")
    assert called.code == 3
    assert (orjson.loads(called.out)["run"]["exit_code"], "no" in orjson.loads(called.out)["run"]["exit_reason"]) == (
        3,
        True,
    )
