"""What becomes of a repository's README.md when a split is pushed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synth_cli.outputs.card import CardFacts, card, parted, with_front
from synth_cli.outputs.push import Cargo, merged, offline

CARD = card(CardFacts("job", files=("data/test.jsonl",), split="test"))
CARGO = Cargo("me/words", True, "test", Path("x.jsonl"), ".jsonl", CARD, "job", "job: 3 rows")
BARE = replace(CARGO, card=None)
MINE = {"split": "test", "path": "data/test.jsonl"}


def listing(there: Any) -> Any:
    """The data files of the default config after a push without a card."""
    text, _ = merged(with_front({"configs": there}, "# By hand\n"), BARE)
    assert text is None or parted(text)[1] == "# By hand\n"
    return None if text is None else parted(text)[0]["configs"]


def test_a_repository_without_a_readme_gets_the_card() -> None:
    """Or none, where the spec wants none: the file's name tells its split."""
    assert (merged(None, CARGO), merged(None, BARE)) == ((CARD, ()), (None, ()))


def test_our_own_card_is_written_anew_and_keeps_other_splits() -> None:
    """What it says is of the present run."""
    old = {"split": "train", "path": "data/train.csv"}
    said, _ = parted(CARD)
    there = with_front({**said, "license": "mit", "configs": [{"config_name": "default", "data_files": [old]}]}, "old")
    text, notes = merged(there, CARGO)
    assert text is not None
    assert parted(text) == (
        {**said, "configs": [{"config_name": "default", "data_files": [old, MINE]}]},
        parted(CARD)[1],
    )
    assert notes == ()


@pytest.mark.parametrize(
    ("there", "after"),
    [
        (
            [{"config_name": "default", "data_files": "train.csv"}],
            [{"config_name": "default", "data_files": [{"split": "train", "path": "train.csv"}, MINE]}],
        ),
        (
            [{"config_name": "default", "data_files": ["a.csv", "b.csv"]}],
            [
                {
                    "config_name": "default",
                    "data_files": [{"split": "train", "path": "a.csv"}, {"split": "train", "path": "b.csv"}, MINE],
                }
            ],
        ),
        (
            [{"config_name": "x", "data_files": "x.csv"}, {"config_name": "y", "default": True, "data_files": []}],
            [
                {"config_name": "x", "data_files": "x.csv"},
                {"config_name": "y", "default": True, "data_files": [MINE]},
            ],
        ),
        (
            [{"config_name": "x", "data_files": {"train": "x.csv"}}],
            [
                {"config_name": "default", "data_files": [MINE]},
                {"config_name": "x", "data_files": {"train": "x.csv"}},
            ],
        ),
        (
            [{"config_name": "default", "data_files": {"test": "old.csv", "dev": "d.csv"}}],
            [{"config_name": "default", "data_files": [MINE, {"split": "dev", "path": "d.csv"}]}],
        ),
        ([{"config_name": "default", "data_files": [MINE]}], None),
    ],
)
def test_a_split_joins_the_data_files_that_are_listed(there: Any, after: Any) -> None:
    """In the default config, in every way in which one may be written; nothing else of it changes."""
    assert listing(there) == after


def test_what_the_former_data_was_is_not_said_of_the_new() -> None:
    """`dataset_info`, as `datasets` writes it, would make the new columns an error."""
    files = [{"config_name": "default", "data_files": [{"split": "test", "path": "data/test-*"}]}]
    there = with_front({"dataset_info": {"features": [{"name": "a"}]}, "configs": files}, "# By hand\n")
    text, _ = merged(there, BARE)
    assert text is not None
    assert parted(text) == ({"configs": [{"config_name": "default", "data_files": [MINE]}]}, "# By hand\n")


def test_a_readme_without_a_list_stays() -> None:
    """The Hub finds data files by their names, as long as none are listed."""
    assert merged("# By hand\n", BARE) == (None, ())
    text, (note,) = merged("# By hand\n", CARGO)
    assert (text, note) == (
        None,
        "the README.md of me/words is not the card of this job, so its words stay as they are",
    )


def test_what_forbids_the_network() -> None:
    """The Hub client's own variables, as it reads them."""
    given = [{"HF_HUB_OFFLINE": "1"}, {"TRANSFORMERS_OFFLINE": "YES"}, {"HF_HUB_OFFLINE": "0"}, {}]
    assert [offline(environ) for environ in given] == ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None, None]
