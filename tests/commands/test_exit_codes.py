"""Exit codes are what scripts read: those that README.md lists are those there are."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import synth

from synth_cli import errors
from synth_cli.cli.boundary import BUG
from synth_cli.errors import Interrupted, SynthError

README = Path(__file__).parents[2] / "README.md"
SIGNALS = {"Interrupted": "130/143"}


def below(cls: type[SynthError]) -> Iterator[type[SynthError]]:
    for each in cls.__subclasses__():
        yield each
        yield from below(each)


def test_readme_lists_every_exit_code() -> None:
    """The table of README.md has each class's code, success, both signals and a bug, and no other."""
    table = README.read_text(encoding="utf-8").partition("| exit code | |\n|---|---|\n")[2].partition("\n\n")[0]
    listed = {int(code) for row in table.splitlines() for code in row.split("|")[1].split(",")}
    signals = {Interrupted("", signum=signum).exit_code for signum in (2, 15)}
    codes = {cls.exit_code for cls in below(SynthError) if cls is not Interrupted}
    assert (listed, signals) == ({0, BUG} | codes | signals, {130, 143})


def test_the_tree_of_errors_is_as_drawn() -> None:
    """Its docstring names every class with the code that it has."""
    drawn = dict(re.findall(r"[├└]── (\w+) +([\d/]+)  ", errors.__doc__ or ""))
    assert drawn == {cls.__name__: SIGNALS.get(cls.__name__, str(cls.exit_code)) for cls in below(SynthError)}


def test_a_place_where_the_simulator_cannot_serve_is_exit_3(tmp_path: Path) -> None:
    """A port that is taken, a folder that is a file: the machine's trouble, and no bug of ours."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = synth("simulator", "--port", port)
    assert (busy.code, busy.err.splitlines()[-1]) == (3, "  choose another --port, --host or --folder")
    assert f"synth: cannot serve at 127.0.0.1:{port}: " in busy.err
    (tmp_path / "file").touch()
    assert synth("simulator", "--port", 0, "--folder", tmp_path / "file").code == 3


@pytest.mark.parametrize("name", ["file/new", "n" * 300])
def test_what_cannot_be_written_is_exit_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of `init` and of `report --md`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert (synth("init").code, synth("run", "dataset.yaml").code) == (0, 0)
    for called in (synth("init", name), synth("report", "dataset.yaml", "--md", f"{name}.yaml")):
        assert (called.code, called.out) == (3, "")
        assert called.err.startswith(f"synth: cannot write {name}.yaml: ")


@pytest.mark.parametrize("name", ["two words", "a: b", "-x", "é"])
def test_init_refuses_what_cannot_name_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Rather than write a spec that is not one."""
    monkeypatch.chdir(tmp_path)
    called = synth("init", "--", name)
    assert (called.code, called.err.splitlines()[0]) == (2, f"synth: '{name}' cannot be a job's name")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("command", [["schema"], ["plan", "dataset.yaml"], ["plan", "dataset.yaml", "--json"]])
def test_a_full_disk_behind_stdout_is_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """One line that says so, whether Python notices while it writes or at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    assert synth("init").code == 0
    with open("/dev/full", "wb") as full:
        called = subprocess.run(
            [sys.executable, "-m", "synth_cli", *command], stdout=full, stderr=subprocess.PIPE, check=False, text=True
        )
    assert (called.returncode, called.stderr) == (3, "synth: cannot write to stdout: No space left on device\n")
