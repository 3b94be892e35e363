from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import pytest

from synth_cli.core.events import Fact, Published, Publishing, RunOpened
from synth_cli.errors import MissingExtra, SetupError, UsageError
from synth_cli.outputs.candidate import Candidate
from synth_cli.outputs.places import check, exists, name_of, put, shown
from synth_cli.outputs.publish import Provenance, last_published, publish, refusal, roll_forward

FULL = Provenance(rows=100, at=5.0)


LEAVES = "run does not replace it"


class Crash(Exception):
    pass


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield
    system.store.clear()


def candidate(base: Path, name: str, target: str) -> Candidate:
    path = base / ".synth" / "run" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"new {name}")
    return Candidate(path, target, 1)


def tree(base: Path) -> dict[str, str]:
    return {str(path.relative_to(base)): path.read_text() for path in base.rglob("*") if path.is_file()}


def test_publishes_all(tmp_path: Path) -> None:
    """Every candidate replaces its target, between the two facts that say so."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jsonl").write_text("old")
    facts: list[Fact] = []
    candidates = [candidate(tmp_path, "a.jsonl", "out/a.jsonl"), candidate(tmp_path, "a.csv", "new/deep/a.csv")]
    publish(candidates, run=3, provenance=FULL, append=facts.extend, base=tmp_path)
    assert tree(tmp_path) == {"out/a.jsonl": "new a.jsonl", "new/deep/a.csv": "new a.csv"}
    moves = {".synth/run/a.jsonl": "out/a.jsonl", ".synth/run/a.csv": "new/deep/a.csv"}
    assert facts == [Publishing(3, moves, asdict(FULL)), Published(3)]


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_rolls_forward(tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that died after any number of renames is finished by the next one, and doing it twice is harmless."""
    facts: list[Fact] = []
    candidates = [candidate(tmp_path, "a.jsonl", "a.jsonl"), candidate(tmp_path, "a.csv", "a.csv")]
    replace, left = os.replace, iter([True] * moved)

    def dying(source: Any, target: Any) -> None:
        if next(left, None) is None:
            raise Crash
        replace(source, target)

    def append(more: Sequence[Fact]) -> None:
        if any(isinstance(fact, Published) for fact in more):
            raise Crash
        facts.extend(more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(Crash):
            publish(candidates, run=1, provenance=FULL, append=append, base=tmp_path)
    [publishing] = facts
    assert isinstance(publishing, Publishing)
    for _ in range(2):
        assert roll_forward(publishing, tmp_path) == {}
        assert tree(tmp_path) == {"a.jsonl": "new a.jsonl", "a.csv": "new a.csv"}


def test_one_of_two_refused(tmp_path: Path) -> None:
    """An output that cannot be written is named, the other is in place, and the next run tries again."""
    facts: list[Fact] = []
    (tmp_path / "a.csv").mkdir()
    candidates = [candidate(tmp_path, "a.csv", "a.csv"), candidate(tmp_path, "a.jsonl", "a.jsonl")]
    with pytest.raises(SetupError) as caught:
        publish(candidates, run=1, provenance=FULL, append=facts.extend, base=tmp_path)
    assert str(caught.value) == "cannot write a.csv: Is a directory"
    assert tree(tmp_path) == {"a.jsonl": "new a.jsonl", ".synth/run/a.csv": "new a.csv"}
    (tmp_path / "a.csv").rmdir()
    [publishing] = facts
    assert isinstance(publishing, Publishing)
    assert roll_forward(publishing, tmp_path) == {}
    assert tree(tmp_path) == {"a.jsonl": "new a.jsonl", "a.csv": "new a.csv"}


def test_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another file system the output still appears whole, and a failure leaves nothing but the candidate."""
    replace = os.replace

    def apart(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", apart)
    put(candidate(tmp_path, "a.csv", "").path, "out/a.csv", tmp_path)
    assert tree(tmp_path) == {"out/a.csv": "new a.csv"}
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(SetupError):
        put(candidate(tmp_path, "b.csv", "").path, "b.csv", tmp_path)
    assert tree(tmp_path) == {"out/a.csv": "new a.csv", ".synth/run/b.csv": "new b.csv"}


def test_link_is_followed(tmp_path: Path) -> None:
    """An output that is a symbolic link stays one; the file that it points to is replaced."""
    (tmp_path / "real").mkdir()
    (tmp_path / "a.csv").symlink_to(tmp_path / "real" / "data.csv")
    put(candidate(tmp_path, "a.csv", "").path, "a.csv", tmp_path)
    assert (tmp_path / "a.csv").is_symlink()
    assert (tmp_path / "real" / "data.csv").read_text() == "new a.csv"


def test_url(tmp_path: Path) -> None:
    """A URL's file is uploaded under another name and moved; the candidate is gone only then."""
    system = fsspec.filesystem("memory")
    system.pipe("/data/a.csv", b"old")
    facts: list[Fact] = []
    candidates = [candidate(tmp_path, "a.csv", "memory://data/a.csv"), candidate(tmp_path, "b.csv", "memory://b.csv")]
    publish(candidates, run=1, provenance=FULL, append=facts.extend, base=tmp_path)
    assert {path: system.cat(path) for path in system.find("/")} == {
        "/data/a.csv": b"new a.csv",
        "/b.csv": b"new b.csv",
    }
    assert tree(tmp_path) == {}
    assert [exists(target, tmp_path) for target in ("memory://data/a.csv", "memory://c.csv")] == [True, False]


def test_url_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that breaks off is an error that names the output, and leaves no piece at either end."""
    system = fsspec.filesystem("memory")

    def broken(source: str, target: str) -> None:
        raise PermissionError("no right to move")

    monkeypatch.setattr(type(system), "mv", lambda self, source, target: broken(source, target))
    made = candidate(tmp_path, "a.csv", "memory://data/a.csv")
    with pytest.raises(SetupError) as caught:
        put(made.path, made.target, tmp_path)
    assert str(caught.value) == "cannot write memory://data/a.csv: PermissionError: no right to move"
    assert system.find("/") == []
    assert tree(tmp_path) == {".synth/run/a.csv": "new a.csv"}


def test_local_url(tmp_path: Path) -> None:
    """A file:// URL is the path it says."""
    put(candidate(tmp_path, "a.csv", "").path, f"file://{tmp_path}/out/a.csv", tmp_path / "elsewhere")
    put(candidate(tmp_path, "b.csv", "").path, "local://out/b.csv", tmp_path)
    assert tree(tmp_path) == {"out/a.csv": "new a.csv", "out/b.csv": "new b.csv"}


def test_check(tmp_path: Path) -> None:
    """What is bound to fail at the end is an error before anything is paid for, and nothing is made by looking."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for target in ("a.csv", "new/deep/a.csv", "memory://a.csv"):
        check(target, tmp_path)
    problems: dict[str, str] = {}
    for target in ("folder.csv", "file/a.csv", "nowhere://me:secret@a/b.csv"):
        with pytest.raises(UsageError) as caught:
            check(target, tmp_path)
        problems[target] = str(caught.value)
    assert problems == {
        "folder.csv": "output 'folder.csv' is a folder",
        "file/a.csv": f"output 'file/a.csv': {tmp_path}/file is a file, not a folder",
        "nowhere://me:secret@a/b.csv": "output 'nowhere://a/b.csv': Protocol not known: nowhere",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose package is not installed is an error that says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(MissingExtra) as caught:
        check("s3://bucket/a.csv", tmp_path)
    assert caught.value.hint == "run: pip install 'synth-cli[s3]'"


def test_names(tmp_path: Path) -> None:
    """A place has one name, however it is written."""
    targets = ["out/a.csv", "./out/../out/a.csv", f"{tmp_path}/out/a.csv", f"file://{tmp_path}/out/a.csv"]
    assert {name_of(target, tmp_path) for target in targets} == {"out/a.csv"}
    assert name_of("/elsewhere/a.csv", tmp_path) == "/elsewhere/a.csv"
    assert name_of("s3://b/a.csv", tmp_path) == "s3://b/a.csv"
    assert shown("ftp://me:secret@host/a@b.csv") == "ftp://host/a@b.csv"


def test_last_published(tmp_path: Path) -> None:
    """What is known of a file is what was last published there, in whichever ledger; an unfinished try is not."""
    small, simulated = Provenance(rows=3, limited=True, at=1.0), Provenance(rows=9, simulated=True, at=7.0)
    real: list[Fact] = [
        RunOpened(1, 1, "runs/1", 0.0),
        Publishing(1, {"x": "a.csv"}, asdict(small)),
        Published(1),
        Publishing(2, {"x": "a.csv", "y": "b.csv"}, asdict(FULL)),
        Published(2),
        Publishing(3, {"x": "a.csv"}, asdict(small)),
    ]
    pretend: list[Fact] = [Publishing(1, {"x": "b.csv"}, asdict(simulated)), Published(1)]
    assert [last_published(target, tmp_path, real, pretend) for target in ("./a.csv", "b.csv", "c.csv")] == [
        FULL,
        simulated,
        None,
    ]


@pytest.mark.parametrize(
    ("existing", "new", "reason"),
    [
        (FULL, Provenance(rows=1), None),
        (None, Provenance(rows=1), None),
        (
            None,
            Provenance(9, simulated=True),
            f"o was there before and may be real: a simulated {LEAVES}",
        ),
        (None, Provenance(9, limited=True), f"o was there before and may be real: a limited {LEAVES}"),
        (FULL, Provenance(999, simulated=True), f"o holds 100 real rows: a simulated {LEAVES}"),
        (Provenance(100, simulated=True), Provenance(9, simulated=True), None),
        (FULL, Provenance(9, limited=True), f"o holds all 100 rows: a limited {LEAVES}"),
        (FULL, Provenance(100, limited=True), f"o holds all 100 rows: a limited {LEAVES}"),
        (Provenance(9, limited=True), Provenance(9, limited=True), None),
        (Provenance(5, limited=True), Provenance(9, limited=True), None),
        (
            Provenance(1500, limited=True),
            Provenance(9, limited=True),
            f"o holds 1,500 rows: a limited {LEAVES}",
        ),
        (Provenance(9, simulated=True), Provenance(9, limited=True), None),
        (Provenance(10, simulated=True), Provenance(9, limited=True), f"o holds all 10 rows: a limited {LEAVES}"),
        (
            Provenance(50, simulated=True),
            Provenance(9, simulated=True, limited=True),
            f"o holds all 50 rows: a limited {LEAVES}",
        ),
    ],
)
def test_refusal(existing: Provenance | None, new: Provenance, reason: str | None) -> None:
    """A simulated run replaces no real output, a limited one no fuller one, a whole and real one replaces anything."""
    assert refusal("o", existing, new) == reason
