"""Where a job's state lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synth_cli.errors import Locked, SetupError, UsageError
from synth_cli.stores.folder import StateFolder


def spec(folder: Path, name: str = "recipes.yaml", text: str = "version: 1\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def claimed(path: Path, name: str | None = None, state_dir: Path | None = None) -> StateFolder:
    folder = StateFolder.locate(path, name or path.stem, state_dir)
    with folder.lock():
        return folder


def test_the_state_is_beside_the_spec(tmp_path: Path) -> None:
    """Without --state-dir everything is in .synth/<name>/ beside the spec, and git is told to ignore it."""
    folder = claimed(spec(tmp_path))
    assert (folder.path, folder.ledger_path) == (
        tmp_path / ".synth/recipes",
        tmp_path / ".synth/recipes/ledger.sqlite",
    )
    assert (tmp_path / ".synth/.gitignore").read_text() == "*\n"


def test_locating_leaves_no_trace(tmp_path: Path) -> None:
    """Reading commands make no files."""
    path = spec(tmp_path)
    folder = StateFolder.locate(path, "recipes")
    assert (folder.last_run(), folder.holder(), list(tmp_path.iterdir())) == (None, None, [path])


def test_a_state_dir_of_the_users_own(tmp_path: Path) -> None:
    """--state-dir holds a folder for each job; what else is in it is not hidden from git."""
    folder = claimed(spec(tmp_path / "specs"), state_dir=tmp_path / "states")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in folder.path.parent.rglob("*")) == [
        "states/recipes",
        "states/recipes/.gitignore",
        "states/recipes/job.json",
        "states/recipes/lock",
    ]


def test_a_simulated_job_has_its_own_ledger_and_runs(tmp_path: Path) -> None:
    """Simulated answers and runs are kept apart from real ones."""
    folder = StateFolder.locate(spec(tmp_path), "recipes", simulated=True)
    with folder.lock():
        run = folder.new_run(1, 0.0)
    assert (folder.ledger_path, run.relative, folder.run_folder(run.relative)) == (
        tmp_path / ".synth/recipes/simulated/ledger.sqlite",
        "simulated/runs/1-19700101T000000Z",
        run,
    )


def test_the_last_run_is_the_highest_number(tmp_path: Path) -> None:
    """Run 10 comes after run 9, whatever else lies there."""
    folder = claimed(spec(tmp_path))
    runs = [folder.new_run(number, 1_795_000_000.0) for number in (9, 10)]
    (folder.path / "runs" / "notes").mkdir()
    assert folder.last_run() == runs[1]
    assert [path.name for path in (runs[0].plan_path, runs[0].report_path, runs[0].log_path, runs[0].failed_path)] == [
        "plan.json",
        "report.json",
        "run.log",
        "failed.jsonl",
    ]


def test_a_second_spec_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """Two specs may not share a state folder; the error names both and the way out."""
    first, second = spec(tmp_path), spec(tmp_path, "other.yaml")
    claimed(first)
    with pytest.raises(UsageError, match=r"recipes\.yaml, not of .*other\.yaml: two specs") as caught:
        StateFolder.locate(second, "recipes")
    assert "name: other-2" in caught.value.hint


def test_a_renamed_spec_with_a_name_is_refused_until_told(tmp_path: Path) -> None:
    """A state whose spec is gone goes on with another file only after the command that the error names."""
    path = spec(tmp_path)
    claimed(path, "food")
    renamed = path.rename(tmp_path / "cookbook.yaml")
    with pytest.raises(UsageError, match="which is gone") as caught:
        StateFolder.locate(renamed, "food")
    record = tmp_path / ".synth/food/job.json"
    assert f"rm '{record}'" in caught.value.hint
    record.unlink()
    assert claimed(renamed, "food").path == record.parent


def test_a_renamed_spec_without_a_name_is_found_out(tmp_path: Path) -> None:
    """A file whose stem was the job's name is recognised after a rename; the command in the error mends it."""
    path = spec(tmp_path)
    claimed(path)
    renamed = path.rename(tmp_path / "cookbook.yaml")
    with pytest.raises(UsageError, match=r"cookbook\.yaml seems to be recipes\.yaml, renamed") as caught:
        StateFolder.locate(renamed, "cookbook")
    assert "mv '" in caught.value.hint
    (tmp_path / ".synth/recipes").rename(tmp_path / ".synth/cookbook")
    (tmp_path / ".synth/cookbook/job.json").unlink()
    assert claimed(renamed).path == tmp_path / ".synth/cookbook"


def test_another_spec_beside_a_job_is_a_job_of_its_own(tmp_path: Path) -> None:
    """A new spec is not taken for a renamed one while the old one is there, nor when it has a name of its own."""
    path = spec(tmp_path)
    claimed(path)
    copy = spec(tmp_path, "copy.yaml")
    claimed(copy)
    renamed = path.rename(tmp_path / "cookbook.yaml")
    assert claimed(renamed, "named").name == "named"


def test_a_project_may_be_moved_whole(tmp_path: Path) -> None:
    """Spec and state moved together stay together."""
    claimed(spec(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert claimed(tmp_path / "b/recipes.yaml").path == tmp_path / "b/.synth/recipes"


def test_the_same_spec_by_another_way_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, or one through a link, finds the same state."""
    folder = claimed(spec(tmp_path / "real"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert StateFolder.locate(Path("link/recipes.yaml"), "recipes") == folder


def test_the_lock_is_exclusive_and_given_back(tmp_path: Path) -> None:
    """While one run holds the job another is refused with host and pid; afterwards it may go."""
    folder = StateFolder.locate(spec(tmp_path), "recipes")
    with folder.lock(clock=lambda: 1_795_000_000.0):
        holder = folder.holder()
        assert holder is not None
        words = f"process {os.getpid()} on {os.uname().nodename}, since 2026-11-18 11:06:40 UTC"
        with (
            pytest.raises(Locked, match=f"the job 'recipes' is being run by {words}"),
            StateFolder.locate(folder.spec, "recipes").lock(),
        ):
            pass
        assert str(holder) == words
    with folder.lock():
        pass
    assert folder.holder() is None


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    """Missing permission is exit 3 with the path, not a traceback."""
    path = spec(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SetupError, match="Permission denied"), StateFolder.locate(path, "recipes").lock():
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_folders_place_is_said_so(tmp_path: Path) -> None:
    """What stands in the way of the state folder is named."""
    path = spec(tmp_path)
    (tmp_path / ".synth").write_text("")
    with pytest.raises(SetupError, match=r"\.synth"), StateFolder.locate(path, "recipes").lock():
        pass


def test_spools_live_as_long_as_their_round(tmp_path: Path) -> None:
    """Rows kept for one round are dropped when another begins."""
    folder = claimed(spec(tmp_path))
    for round, key in ((1, b""), (1, b"\x01"), (12, b"")):
        folder.spool(round, key).write([])
    folder.drop_spools(besides=12)
    assert [folder.spool(1).complete, folder.spool(1, b"\x01").complete, folder.spool(12).complete] == [
        False,
        False,
        True,
    ]


def test_what_a_killed_run_left_is_dropped(tmp_path: Path) -> None:
    """Its worksheet, batches' files and half-written candidates go, what people may want to read stays."""
    folder = claimed(spec(tmp_path))
    run = folder.new_run(1, 0.0)
    gone = ("worksheet.sqlite", "worksheet.sqlite-journal", "out.jsonl.partial", "synth-job-0123456789ab.jsonl")
    for name in (*gone, "out.jsonl", "failed.jsonl"):
        (run.path / name).touch()
    folder.drop_leftovers()
    assert sorted(path.name for path in run.path.iterdir()) == ["failed.jsonl", "out.jsonl"]
