"""Queries and datasets, on this machine, without a network."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from input_reading import reading, values

from synth_cli.compile.parts import data_url
from synth_cli.errors import SetupError, SynthError, UsageError
from synth_cli.spec.model import Dataset, Sql


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "data.db") as connection:
        connection.execute("CREATE TABLE people (id INTEGER, name TEXT, photo BLOB, score REAL)")
        connection.executemany(
            "INSERT INTO people VALUES (?, ?, ?, ?)", [(n, f"p{n}", bytes([n % 256]), n / 2) for n in range(1000)]
        )
    connection.close()
    return tmp_path


def test_a_query_gives_its_rows_in_order(database: Path) -> None:
    """A SQLite file's path is relative to the spec; more rows than are fetched at once."""
    rows = values(database, sql=Sql(url="sqlite:///data.db", query="SELECT id, name, photo FROM people ORDER BY id"))
    assert len(rows) == 1000
    assert rows[999] == {"id": 999, "name": "p999", "photo": bytes([999 % 256])}


def test_a_query_is_sent_as_it_is_written(database: Path) -> None:
    """Neither a colon nor a per cent sign is a parameter."""
    query = "SELECT ':x' AS a, count(*) AS n FROM people WHERE name LIKE 'p99%'"
    assert values(database, sql=Sql(url="sqlite:///data.db", query=query)) == [{"a": ":x", "n": 11}]


@pytest.mark.parametrize(
    ("url", "query", "message"),
    [
        ("sqlite:///data.db", "SELECT nosuch FROM people", "input.sql: no such column: nosuch"),
        ("sqlite:///data.db", "DELETE FROM people", "input.sql.query returns no rows"),
        ("sqlite:///data.db", "SELECT 1 AS a, 2 AS a", "input.sql.query: more than one column is called 'a'"),
        ("sqlite:///other.db", "SELECT 1", "input.sql.url: there is no database other.db in "),
        ("data.db", "SELECT 1", "input.sql.url is not a database URL"),
        ("nosuch://user:sesame@host/db", "SELECT 1", "input.sql.url: Can't load plugin: sqlalchemy.dialects:nosuch"),
        ("postgresql+nosuch://user:sesame@host/db", "SELECT 1", "input.sql"),
        (
            "oracle+cx_oracle://user:sesame@host/db",
            "SELECT 1",
            "input.sql: oracle+cx_oracle://user:***@host/db needs",
        ),
    ],
)
def test_a_query_that_fails_says_why_and_keeps_the_secret(database: Path, url: str, query: str, message: str) -> None:
    """In the database's words, with no password in any of them, and nothing changed."""
    with pytest.raises(SynthError) as caught:
        values(database, sql=Sql(url=url, query=query))
    assert caught.value.message.startswith(message)
    assert "sesame" not in caught.value.message + caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    with sqlite3.connect(database / "data.db") as connection:
        assert connection.execute("SELECT count(*) FROM people").fetchall() == [(1000,)]
    connection.close()
    assert not (database / "other.db").exists()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path


def dataset(name: str, **keys: Any) -> Dataset:
    return Dataset.model_validate({"name": name, **keys})


def test_a_folder_of_files_is_a_dataset(offline: Path) -> None:
    """With its splits, as `datasets` finds them; streamed it is the same."""
    (offline / "set").mkdir()
    (offline / "set" / "train.jsonl").write_text('{"a": 1, "b": ["x"]}\n{"a": 2, "b": []}\n')
    (offline / "set" / "test.jsonl").write_text('{"a": 3, "b": null}\n')
    expected = [{"a": 1, "b": ["x"]}, {"a": 2, "b": []}]
    assert values(offline, dataset="set") == expected
    assert values(offline, dataset=dataset("set", streaming=True)) == expected
    assert values(offline, dataset=dataset("set", split="test")) == [{"a": 3, "b": None}]
    assert values(offline, dataset=dataset("set", split="train[1:]")) == expected[1:]


def test_a_file_is_a_dataset(offline: Path) -> None:
    """A single file of a known kind, too."""
    (offline / "t.csv").write_text("a,b\n1,x\n")
    assert values(offline, dataset="t.csv") == [{"a": 1, "b": "x"}]


def test_a_saved_dataset_is_read_where_it_lies(offline: Path) -> None:
    """What `save_to_disk` wrote, with splits and without; dates become ISO texts."""

    import datasets

    one = datasets.Dataset.from_dict({"a": [1, 2], "at": [datetime(2020, 1, 2), None]})  # noqa: DTZ001
    one.save_to_disk(offline / "one")
    datasets.DatasetDict({"train": one, "test": one.select([1])}).save_to_disk(offline / "two")
    rows = [{"a": 1, "at": "2020-01-02T00:00:00"}, {"a": 2, "at": None}]
    assert values(offline, dataset="one") == rows
    assert values(offline, dataset="two") == rows
    assert values(offline, dataset=dataset("two", split="test")) == rows[1:]


def test_images_are_the_very_bytes_of_the_dataset(offline: Path) -> None:
    """Not decoded, not packed anew, fit for the image part of a message; equal images are equal rows."""
    import datasets

    image = b"\xff\xd8\xff\xe0\x00 as a camera wrote it"
    pictures = datasets.Dataset.from_dict({"image": [{"bytes": image, "path": None}], "n": [b"\x00\xff"]})
    pictures.cast_column("image", datasets.Image()).save_to_disk(offline / "pictures")
    (row,) = reading(offline, dataset="pictures")
    assert row.values == {"image": {"bytes": image, "path": None}, "n": b"\x00\xff"}
    assert data_url(row.values["image"], offline).startswith("data:image/jpeg;base64,/9j/")
    assert row.id == reading(offline, dataset="pictures")[0].id


def test_a_folder_of_images_names_files_that_can_be_read(offline: Path) -> None:
    """An image that is no bytes of the dataset is a path; without Pillow, which folders of images want, it says so."""
    (offline / "pictures").mkdir()
    (offline / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    if find_spec("PIL") is None:
        with pytest.raises(SetupError, match="please install 'Pillow'"):
            values(offline, dataset="pictures")
        return
    (row,) = values(offline, dataset="pictures")
    assert data_url(row["image"], Path("/")).startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (dataset("set", split="nosuch"), "nosuch"),
        (dataset("saved", split="nosuch"), "input.dataset: saved has no split 'nosuch'"),
        (dataset("./none"), "input.dataset: there is no folder"),
        (dataset("empty"), "input.dataset"),
        (dataset("t.xyz"), "input.dataset: t.xyz is a file of no known kind"),
    ],
)
def test_a_dataset_that_is_not_there_is_named(offline: Path, asked: Dataset, words: str) -> None:
    """In one line, with what to check."""
    import datasets

    (offline / "set").mkdir()
    (offline / "set" / "train.jsonl").write_text('{"a": 1}\n')
    (offline / "empty").mkdir()
    (offline / "t.xyz").write_text("")
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1]})}).save_to_disk(offline / "saved")
    with pytest.raises(UsageError, match=words) as caught:
        values(offline, dataset=asked)
    assert caught.value.hint
