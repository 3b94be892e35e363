"""Outputs that go to the Hugging Face Hub once they are published: here one on loopback, over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from command_line import Called, failures, rows, spec, started, synth, write
from little_hub import TOKEN, Hub, Repo, hub
from scripted_server import Asked, Say, echo, serving

from synth_cli.outputs.card import job_of, parted

REPO = "me/words"


@pytest.fixture(name="there")
def _there() -> Iterator[Hub]:
    with hub() as made:
        yield made


def pushing(url: str, *, push: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    output = {"path": "out/words.jsonl", "push": {"repo": REPO, **(push or {})}, **more.pop("output", {})}
    return spec(url, output=output, **more)


def run(path: Path, there: Hub, *options: str, token: str = TOKEN) -> Called:
    return synth("run", path, *options, env={"HF_ENDPOINT": there.url, "HF_TOKEN": token})


def lines(data: bytes) -> list[Any]:
    return [orjson.loads(line) for line in data.splitlines()]


def test_the_published_rows_and_the_card_go_in_one_commit(tmp_path: Path, there: Hub) -> None:
    """A private repository is made; the file is the published one byte for byte, and the card names it."""
    with serving() as server:
        called = run(write(tmp_path, pushing(server.url, output={"card": True})), there, "--json")
    assert called.code == 0
    repo = there.repos[REPO]
    assert (repo.private, repo.commits, sorted(repo.files)) == (
        True,
        ["job: 3 rows"],
        [".gitattributes", "README.md", "data/train.jsonl"],
    )
    assert repo.files["data/train.jsonl"] == (tmp_path / "out" / "words.jsonl").read_bytes()
    card = repo.files["README.md"].decode()
    assert parted(card)[0]["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train.jsonl"}]}
    ]
    assert parted(card)[1] == parted((tmp_path / "out" / "README.md").read_text())[1]
    assert f"pushed to {there.url}/datasets/{REPO}" in called.json["notes"]
    assert there.tokens == {TOKEN}


def test_the_token_is_nowhere(tmp_path: Path, there: Hub) -> None:
    """Not in the state folder, the output, the card, or what is shown."""
    with serving() as server:
        called = run(write(tmp_path, pushing(server.url, output={"card": True})), there)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert (kept, TOKEN in called.out + called.err) == ([], False)


def test_running_again_pushes_again_and_asks_nothing(tmp_path: Path, there: Hub) -> None:
    """What is there already makes no second commit."""
    with serving() as server:
        path = write(tmp_path, pushing(server.url, output={"card": True}))
        assert [run(path, there).code, run(path, there).code] == [0, 0]
    assert (len(server.asked), there.repos[REPO].commits) == (3, ["job: 3 rows"])


def test_a_public_repository_and_another_split(tmp_path: Path, there: Hub) -> None:
    """`private: false` and `split`; splits that are there stay, in the files and in the card."""
    with serving() as server:
        path = write(tmp_path, pushing(server.url, push={"private": False}, output={"card": True}))
        assert run(path, there).code == 0
        made = pushing(server.url, push={"split": "test"}, output={"card": True}, input={"rows": [{"word": "four"}]})
        assert run(write(tmp_path, made), there).code == 0
    repo = there.repos[REPO]
    assert not repo.private
    assert lines(repo.files["data/test.jsonl"]) == [{"word": "four", "response": "Say four."}]
    assert parted(repo.files["README.md"].decode())[0]["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train.jsonl"},
        {"split": "test", "path": "data/test.jsonl"},
    ]


def test_a_readme_of_somebody_else_keeps_its_words(tmp_path: Path, there: Hub) -> None:
    """Only its list of data files gains the split, and the report says so."""
    theirs = b"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files: train.csv\n---\n# By hand\n"
    there.repos[REPO] = Repo(private=False, files={"README.md": theirs, "train.csv": b"a\n1\n"})
    with serving() as server:
        made = pushing(server.url, push={"split": "more"}, output={"card": True})
        called = run(write(tmp_path, made), there, "--json")
    assert called.code == 0
    assert parted(there.repos[REPO].files["README.md"].decode()) == (
        {
            "license": "mit",
            "configs": [
                {
                    "config_name": "default",
                    "data_files": [
                        {"split": "train", "path": "train.csv"},
                        {"split": "more", "path": "data/more.jsonl"},
                    ],
                }
            ],
        },
        "# By hand\n",
    )
    assert "train.csv" in there.repos[REPO].files
    assert any("is not the card of this job, so its words stay" in note for note in called.json["notes"])


def test_a_file_of_another_kind_takes_the_place_of_the_splits_former_one(tmp_path: Path, there: Hub) -> None:
    """Or the split would have each row twice."""
    with serving() as server:
        assert run(write(tmp_path, pushing(server.url)), there).code == 0
        assert run(write(tmp_path, pushing(server.url, output={"path": "out/words.csv"})), there).code == 0
    assert sorted(there.repos[REPO].files) == [".gitattributes", "data/train.csv"]


def test_a_large_file_goes_through_git_lfs(tmp_path: Path, there: Hub) -> None:
    """Of several outputs the Parquet file is pushed, as the Hub asks; the home folder stays as it was."""
    home = tmp_path / "home"
    home.mkdir()
    with serving() as server:
        made = pushing(server.url, output={"path": ["out/words.jsonl", "out/words.parquet"]})
        env = {"HF_ENDPOINT": there.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HOME": str(home)}
        process = started("run", write(tmp_path, made), cwd=tmp_path, env=env)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert there.repos[REPO].files["data/train.parquet"] == (tmp_path / "out" / "words.parquet").read_bytes()
    assert any("lfs/objects/batch" in call for call in there.calls)
    assert list(home.rglob("*")) == []


def test_an_output_at_a_url_is_pushed_from_there(tmp_path: Path, there: Hub) -> None:
    """Not from memory, and no copy is left behind."""
    with serving() as server:
        made = pushing(server.url, output={"path": "memory://pushes/words.jsonl"})
        assert run(write(tmp_path, made), there).code == 0
    assert len(lines(there.repos[REPO].files["data/train.jsonl"])) == 3
    assert list(tmp_path.rglob("fetched-*")) == []


@pytest.mark.parametrize("option", [("--simulate",), ("--limit", "2")])
def test_a_simulated_or_limited_run_pushes_nothing(tmp_path: Path, there: Hub, option: tuple[str, ...]) -> None:
    """Whatever the spec says; it needs no token, and the report says why."""
    with serving() as server:
        path = write(tmp_path, pushing(server.url))
        called = synth("run", path, *option, env={"HF_ENDPOINT": there.url, "HF_HUB_OFFLINE": "1"})
    assert (called.code, there.calls) == (0, [])
    assert "is not pushed" in called.err


def test_a_shard_pushes_nothing(tmp_path: Path, there: Hub) -> None:
    """A part of a dataset is none; it needs no token either."""
    with serving() as server:
        called = synth("run", write(tmp_path, pushing(server.url)), "--shard", "1/2", env={"HF_HUB_OFFLINE": "1"})
    assert (called.code, there.calls) == (0, [])


def test_the_simulated_model_by_name_is_pushed_and_marked(tmp_path: Path, there: Hub) -> None:
    """`model: simulator` is the spec's own wish, unlike `--simulate`; the card says what it is."""
    made = {**pushing("", output={"card": True}), "model": "simulator"}
    assert run(write(tmp_path, made), there).code == 0
    card = there.repos[REPO].files["README.md"].decode()
    assert (job_of(card), "simulated" in parted(card)[0]["tags"]) == ("job", True)


def test_without_a_token_nothing_is_asked(tmp_path: Path, there: Hub) -> None:
    """Exit 3 with the way out, before a call; where the network is forbidden likewise."""
    with serving() as server:
        path = write(tmp_path, pushing(server.url))
        env = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": ""}
        process = started("run", path, cwd=tmp_path, env=env)
        _, err = process.communicate(timeout=60)
        offline = synth("run", path, env={"HF_HUB_OFFLINE": "1", "HF_TOKEN": TOKEN})
    assert (process.returncode, offline.code, server.asked, there.calls) == (3, 3, [], [])
    assert "output.push: there is no token for the Hub\n  set HF_TOKEN, log in with: hf auth login" in err
    assert "HF_HUB_OFFLINE is set" in offline.err


def test_the_login_of_the_hub_client_is_used(tmp_path: Path, there: Hub) -> None:
    """The token that `hf auth login` has kept."""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(TOKEN)
    with serving() as server:
        env = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": ""}
        process = started("run", write(tmp_path, pushing(server.url)), cwd=tmp_path, env=env)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, there.tokens) == (0, {TOKEN}), err


@pytest.mark.parametrize(("repo", "token"), [(REPO, "hf_wrong"), ("forbidden/words", TOKEN)])
def test_a_token_that_is_refused_is_exit_3(tmp_path: Path, there: Hub, repo: str, token: str) -> None:
    """In the Hub's own words; the output is there, and the next run needs only to push."""
    with serving() as server:
        path = write(tmp_path, pushing(server.url, push={"repo": repo}))
        called = run(path, there, token=token)
        assert (called.code, len(rows(tmp_path / "out" / "words.jsonl"))) == (3, 3)
        assert f"the Hub refuses to take {repo}: HTTP 40" in called.err
        path = write(tmp_path, pushing(server.url))
        assert run(path, there).code == 0
    assert len(server.asked) == 3


@pytest.mark.parametrize("gone", [False, True])
def test_a_hub_that_is_out_of_order_leaves_the_output_and_says_how_to_go_on(
    tmp_path: Path, there: Hub, gone: bool
) -> None:
    """Exit 1, with the rows where they belong; running again pushes them without asking anything."""
    there.broken = 500
    with serving() as server:
        path = write(tmp_path, pushing(server.url))
        env = {"HF_ENDPOINT": "http://127.0.0.1:9" if gone else there.url, "HF_TOKEN": TOKEN}
        called = synth("run", path, env=env)
        assert (called.code, len(rows(tmp_path / "out" / "words.jsonl"))) == (1, 3)
        assert f"not pushed to {REPO}: {'' if gone else 'HTTP 500: the Hub is out of order'}" in called.err
        assert "to push it run again: what is answered is not asked again" in called.err
        there.broken = 0
        assert run(path, there).code == 0
    assert (len(server.asked), len(lines(there.repos[REPO].files["data/train.jsonl"]))) == (3, 3)


def test_an_interrupt_while_it_pushes_leaves_what_was_published(tmp_path: Path, there: Hub) -> None:
    """^C while the Hub takes its time: exit 130, the output and its report stay, the next run pushes."""
    there.stalled = threading.Event()
    with serving() as server:
        path = write(tmp_path, pushing(server.url))
        process = started("run", path, cwd=tmp_path, env={"HF_ENDPOINT": there.url, "HF_TOKEN": TOKEN})
        assert there.reached.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        there.stalled.set()
        assert (process.returncode, len(rows(tmp_path / "out" / "words.jsonl"))) == (130, 3), err
        assert "Wrote     out/words.jsonl (3 rows)" in err
        there.stalled = None
        assert run(path, there).code == 0
    assert len(server.asked) == 3


def test_what_is_published_with_failures_is_pushed_with_them_said(tmp_path: Path, there: Hub) -> None:
    """Exit 1 for the failed row; the card counts it. Where the push fails too, both are told."""

    def script(asked: Asked) -> Say:
        return Say(None, 400, {"error": {"message": "no"}}) if "two" in asked.user else echo(asked)

    with serving(script) as server:
        path = write(tmp_path, pushing(server.url, output={"card": True}))
        assert run(path, there).code == 1
        there.broken = 503
        path = write(tmp_path, pushing(server.url, push={"split": "again"}))
        again = run(path, there)
    assert "| failed | 1 |" in there.repos[REPO].files["README.md"].decode()
    assert again.code == 1
    assert "1 of 3 rows failed; not pushed to me/words: HTTP 503" in " ".join(again.err.split())
    assert len(failures(tmp_path)) == 1


def test_what_is_not_accepted_is_not_pushed(tmp_path: Path, there: Hub) -> None:
    """Nothing published, nothing pushed."""
    with serving() as server:
        assert run(write(tmp_path, pushing(server.url, accept={"min_rows": 4})), there).code == 1
    assert there.calls == []


@pytest.mark.parametrize(
    ("push", "problem"),
    [
        ({"repo": "words"}, "'words' is no repository; write it owner/name"),
        ({"repo": "me/my words"}, "'me/my words' is no repository; write it owner/name"),
        ({"repo": REPO, "split": "a-b"}, "'a-b' is no split"),
    ],
)
def test_names_that_the_hub_would_refuse_are_found_before_it_runs(
    tmp_path: Path, push: dict[str, str], problem: str
) -> None:
    """`validate` names the place."""
    path = write(tmp_path, pushing("http://127.0.0.1:9/v1", push=push))
    called = synth("validate", path)
    assert (called.code, problem in called.out + called.err) == (2, True)


def test_the_pushed_folder_loads(tmp_path: Path, there: Hub) -> None:
    """What the repository holds is a data set with its splits, as `datasets` sees it."""
    with serving() as server:
        path = write(tmp_path, pushing(server.url, output={"card": True, "format": "chat", "map": {"prompt": "word"}}))
        assert run(path, there).code == 0
    for name, data in there.repos[REPO].files.items():
        file = tmp_path / "repo" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    code = (
        "import sys, datasets; found = datasets.load_dataset(sys.argv[1], split='train', cache_dir=sys.argv[2]); "
        "print(found[0]['messages'][1]['role'], len(found))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "repo"), str(tmp_path / "cache")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.stdout == "assistant 3\n", done.stderr
