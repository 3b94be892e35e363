"""What a job leaves behind: its folder, what is in it, what never is, and whose it is."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
from command_line import failures, last_run, spec, started, synth, write
from scripted_server import Asked, Say, echo, serving

KEY = "sk-quite-secret-0123456789"


def leaks(folder: Path, secret: str) -> list[str]:
    """Files under a folder that hold a text, or whose name does."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if secret in path.name or (path.is_file() and secret.encode() in path.read_bytes())
    ]


def test_layout(tmp_path: Path) -> None:
    """`.synth/<name>/` beside the spec: the ledger, and a folder per run with plan, report, log, failed.jsonl."""
    with serving(
        lambda asked: Say(None, 400, {"error": {"message": "no"}}) if "two" in asked.user else echo(asked)
    ) as server:
        path = write(tmp_path, spec(server.url), "words.yaml")
        assert synth("run", path).code == 1
        assert synth("run", path, "--retry-failed").code == 1
    state = tmp_path / ".synth" / "words"
    runs = sorted(path.name.split("-")[0] for path in (state / "runs").iterdir())
    assert runs == ["1", "2"]
    assert (state / "ledger.sqlite").exists()
    assert sorted(path.name for path in last_run(tmp_path, "words").iterdir()) == [
        "failed.jsonl",
        "plan.json",
        "report.json",
        "run.log",
    ]


def test_a_run_without_failures_has_no_failed_jsonl(tmp_path: Path) -> None:
    """Nothing failed, so there is no file of failures, and no scratch file either."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
    assert sorted(path.name for path in last_run(tmp_path).iterdir()) == ["plan.json", "report.json", "run.log"]


def test_a_simulated_job_keeps_its_state_apart(tmp_path: Path) -> None:
    """`--simulate` has a ledger and runs of its own in `simulated/`."""
    assert synth("run", write(tmp_path, spec("http://127.0.0.1:9/v1")), "--simulate").code == 0
    state = tmp_path / ".synth" / "job"
    assert not (state / "ledger.sqlite").exists()
    assert (state / "simulated" / "ledger.sqlite").exists()


def test_state_dir_takes_the_place_of_the_folder_beside_the_spec(tmp_path: Path) -> None:
    """`--state-dir` is where state lives, for run, plan, status and report alike."""
    there = tmp_path / "elsewhere"
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path, "--state-dir", there).code == 0
        assert synth("plan", path, "--state-dir", there, "--json").json["answered"] == 3
        assert synth("status", path, "--state-dir", there, "--json").json["answers"] == 3
        assert synth("report", path, "--state-dir", there, "--json").json["rows"]["out"] == 3
        assert synth("preview", path, "--run", "-n", "1", "--state-dir", there).code == 0
    assert len(server.asked) == 3
    assert not (tmp_path / ".synth").exists()


def test_commands_that_only_look_leave_no_trace(tmp_path: Path) -> None:
    """validate, plan, preview and status make nothing."""
    path = write(tmp_path, spec("http://127.0.0.1:9/v1"))
    codes = [synth(*command, path).code for command in (["validate"], ["plan"], ["preview"], ["status"])]
    assert codes == [0, 0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_failed_jsonl_has_row_messages_and_each_attempts_real_error(tmp_path: Path) -> None:
    """A row that was rate limited, broken and answered wrongly: all of it, in order."""

    def script(asked: Asked) -> Say:
        return (
            Say(None, 429, {"error": {"message": "slow down"}}, {"retry-after-ms": "1"}),
            Say(None, 503, {"error": {"message": "in pieces"}}),
            Say("maybe"),
        )[asked.again]

    with serving(script) as server:
        made = spec(
            server.url,
            input={"rows": [{"word": "one"}]},
            prompt={"system": "Be brief.", "user": "Say {{ word }}."},
            response={"choice": ["yes", "no"]},
            backend_params={"max_retries": 1},
        )
        assert synth("run", write(tmp_path, made)).code == 1
    (failure,) = failures(tmp_path)
    assert (failure["row"], failure["index"], failure["sample"]) == ({"word": "one"}, 0, 0)
    assert failure["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say one."}]
    limited, broken, wrong = failure["attempts"]
    assert (limited["error"], limited["status"]) == ("rate limited: HTTP 429: slow down", 429)
    assert (broken["error"], broken["status"]) == ("server error: HTTP 503: in pieces", 503)
    assert wrong["answer"] == "maybe"
    assert wrong["error"].startswith("choice:")
    assert orjson.loads(wrong["raw"])["choices"][0]["message"]["content"] == "maybe"
    assert failure["error"] == wrong["error"]


def test_a_row_that_cannot_be_asked_is_in_failed_jsonl(tmp_path: Path) -> None:
    """An undefined value of one row fails that row, with no attempt."""
    with serving() as server:
        made = spec(server.url, input={"rows": [{"d": {"a": "x"}}, {"d": {}}]}, prompt="Say {{ d.a }}.")
        assert synth("run", write(tmp_path, made)).code == 1
    (failure,) = failures(tmp_path)
    assert (failure["row"], failure["attempts"]) == ({"d": {}}, [])
    assert failure["error"].startswith("template:")
    assert len(server.asked) == 1


@pytest.mark.parametrize("where", ["model", "params", "environment", "set", "header", "profile"])
def test_a_key_is_nowhere_in_what_is_written_or_said(tmp_path: Path, where: str) -> None:
    """However the key came, and although the server repeats it in its errors, no file and no stream has it."""

    def script(asked: Asked) -> Say:
        said = " ".join(f"{name}: {value}" for name, value in asked.headers.items())
        status = 400 if "two" in asked.user else 500
        return echo(asked) if "one" in asked.user else Say(None, status, {"error": {"message": f"you sent {said}"}})

    made: dict[str, Any] = {
        "model": "openai/gpt-5-mini",
        "input": {"rows": [{"word": "one"}, {"word": "two"}, {"word": "three"}]},
        "prompt": "Say {{ word }}.",
        "backend_params": {"max_retries": 0},
        "output": {"metadata": True},
    }
    env, options = {}, []
    with serving(script) as server:
        made["backend_params"]["base_url"] = server.url
        if where == "model":
            made["model"] = {"name": "openai/gpt-5-mini", "api_key": "${THE_KEY}"}
            env["THE_KEY"] = KEY
        elif where == "params":
            made["backend_params"]["api_key"] = "${THE_KEY}"
            env["THE_KEY"] = KEY
        elif where == "environment":
            env["OPENAI_API_KEY"] = KEY
        elif where == "set":
            options = ["--set", f"backend_params.api_key={KEY}"]
        elif where == "header":
            made["backend_params"]["headers"] = {"Authorization": f"Bearer {KEY}"}
        else:
            made["profiles"] = {"p": {"backend_params": {"api_key": "${THE_KEY}"}}}
            options = ["--profile", "p"]
            env["THE_KEY"] = KEY
        path = write(tmp_path, made)
        spoken = [
            synth("run", path, *options, "--json", env=env),
            synth("preview", path, *options, "--json", env=env),
            synth("preview", path, *options, "--run", env=env),
            synth("plan", path, *options, env=env),
            synth("status", path, *options, env=env),
            synth("report", path, *options, "--json", env=env),
            synth("report", path, *options, "--md", tmp_path / "report.md", env=env),
        ]
    assert [one.code for one in spoken] == [1, 0, 1, 0, 0, 0, 0]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    said = "".join(one.out + one.err for one in spoken)
    assert KEY not in said
    path.unlink()
    assert leaks(tmp_path, KEY) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nodriver://me:hunter22@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=me&password=hunter22",
        "mysql://me:hunter22@127.0.0.1:1/x",
        "not a url hunter22",
    ],
)
def test_the_password_of_a_database_is_nowhere(tmp_path: Path, url: str) -> None:
    """`sql.url` is a secret: one that does not work is told without its password, and no file has it."""
    path = write(tmp_path, spec("http://127.0.0.1:9/v1", input={"sql": {"url": "${DB}", "query": "select 1"}}))
    for command in ("run", "plan", "validate"):
        called = synth(command, path, env={"DB": url})
        assert called.code in (0, 2, 3)
        assert "hunter22" not in called.err
    assert leaks(tmp_path, "hunter22") == []


def test_a_locked_job_is_exit_5_and_names_who_holds_it(tmp_path: Path) -> None:
    """A second run of a job says host and pid of the first, and touches nothing."""
    with serving(lambda asked: Say("x", after=20)) as server:
        path = write(tmp_path, spec(server.url))
        first = started("run", path, cwd=tmp_path)
        try:
            assert server.reached.wait(20)
            second = synth("run", path)
            looks = [synth(command, path).code for command in ("plan", "status")]
            status = synth("status", path)
        finally:
            first.kill()
            first.communicate()
    assert second.code == 5
    assert f"process {first.pid} on " in second.err
    assert f"kill {first.pid}" in second.err
    assert looks == [0, 0]
    assert "running now" in status.out


def test_a_killed_runs_lock_is_gone_with_it(tmp_path: Path) -> None:
    """After SIGKILL the next run takes over without a word from the user."""
    with serving(lambda asked: Say("x", after=0 if len(server.asked) > 3 else 20)) as server:
        path = write(tmp_path, spec(server.url))
        first = started("run", path, cwd=tmp_path)
        assert server.reached.wait(20)
        first.kill()
        first.communicate()
        assert "did not end in order" in synth("status", path).out
        assert synth("run", path).code == 0


def test_a_renamed_spec_is_exit_2_with_the_way_out(tmp_path: Path) -> None:
    """A job named by its file would silently pay for everything again under a new name."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 0
        renamed = path.rename(tmp_path / "renamed.yaml")
        called = synth("run", renamed)
    assert (called.code, len(server.asked)) == (2, 3)
    assert "mv " in called.err
    assert "name" in called.err


def test_two_specs_of_one_name_are_exit_2(tmp_path: Path) -> None:
    """The state of a spec is not another's of the same name."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url, name="same"), "a.yaml")).code == 0
        called = synth("run", write(tmp_path, spec(server.url, name="same"), "b.yaml"))
    assert called.code == 2
    assert "a.yaml" in called.err
    assert "b.yaml" in called.err


@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_a_newer_ledger_is_exit_2(tmp_path: Path, command: str) -> None:
    """A ledger that a later version wrote is not touched."""
    with serving() as server:
        path = write(tmp_path, spec(server.url))
        assert synth("run", path).code == 0
        ledger = tmp_path / ".synth" / "job" / "ledger.sqlite"
        connection = sqlite3.connect(ledger)
        with connection:
            connection.execute("UPDATE meta SET value = 999 WHERE key LIKE '%version%'")
            connection.execute("PRAGMA user_version = 999")
        connection.close()
        called = synth(command, path)
    assert called.code == 2
    assert "newer" in called.err


def test_the_plan_of_a_run_says_what_it_was_asked_to_do(tmp_path: Path) -> None:
    """plan.json has the effective spec, the options and the outputs."""
    with serving() as server:
        path = write(tmp_path, spec(server.url, vars={"a": 1}))
        assert synth("run", path, "--limit", "2", "--set", "vars.a=2").code == 0
    plan = orjson.loads((last_run(tmp_path) / "plan.json").read_bytes())
    assert plan["effective"]["vars"] == {"a": 2}
    assert plan["options"] == {"sets": ["vars.a=2"], "limit": 2}
    assert plan["outputs"] == [str(tmp_path / "job.jsonl")]


def test_the_log_says_how_the_run_went(tmp_path: Path) -> None:
    """run.log has the beginning and the end, each with its time."""
    with serving() as server:
        assert synth("run", write(tmp_path, spec(server.url))).code == 0
    first, *_, last = (last_run(tmp_path) / "run.log").read_text().splitlines()
    assert first.endswith("run 1 of job, round 1, epoch 0")
    assert "exit 0" in last


def test_nothing_is_written_into_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run leaves its home alone."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", os.fspath(home))
    here = tmp_path / "here"
    here.mkdir()
    with serving() as server:
        assert synth("run", write(here, spec(server.url))).code == 0
    assert list(home.iterdir()) == []
