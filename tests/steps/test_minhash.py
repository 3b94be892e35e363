"""`type: dedup, method: minhash`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from through_steps import numbered, row, whole

from synth_cli.core.row import Row
from synth_cli.steps.minhash import jaccard, normal, pieces, width

WORDS = [f"{a}{b}{c}" for a in ("ba", "ke", "lo", "mi", "ru", "sta") for b in "aeiou" for c in ("n", "rt", "l", "sk")]


def texts(count: int, words: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(count)]


def kept(rows: list[Row], folder: Path, *, seed: int = 0, **keys: Any) -> list[int]:
    step = whole({"type": "dedup", "method": "minhash", **keys}, seed=seed)
    found = list(step.rows(iter(rows), folder))
    assert step.left_out == len(rows) - len(found)
    assert list(folder.iterdir()) == []
    return [one.index for one in found]


def test_near_duplicates_are_found_and_others_kept(tmp_path: Path) -> None:
    """Of 400 texts of 60 words and as many copies with one word changed, the copies go; unrelated texts all stay."""
    draw = random.Random(1)
    originals = texts(400, 60, 0)
    copies = []
    for text in originals:
        words = text.split()
        words[draw.randrange(60)] = "else"
        copies.append(" ".join(words).capitalize() + "!")
    rows = numbered({"t": text, "n": n} for n, text in enumerate([*originals, *copies]))
    assert kept(rows, tmp_path, by="t") == list(range(400))


def test_the_threshold_is_counted_not_estimated(tmp_path: Path) -> None:
    """Pairs on either side of it are told apart exactly; hardly one just above it is missed."""
    draw = random.Random(2)
    rows, above, below = [], 0, 0
    expected: list[int] = []
    for text in texts(300, 40, 3):
        words = text.split()
        for at in draw.sample(range(40), draw.randrange(1, 9)):
            words[at] = "else"
        other = " ".join(words)
        index = len(rows)
        rows += [row(index, t=text), row(index + 1, t=other)]
        expected.append(index)
        if jaccard(pieces(normal({"t": text})), pieces(normal({"t": other}))) >= 0.8:
            above += 1
        else:
            below += 1
            expected.append(index + 1)
    found = kept(rows, tmp_path, by="t", threshold=0.8)
    assert (above > 50, below > 50) == (True, True)
    assert set(expected) <= set(found)
    assert len(found) - len(expected) <= above * 0.05


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Write a poem about the sea.", "write a poem, about the SEA", True),
        ("Write a poem about the sea.", "Explain how a fridge works.", False),
        ("写一首关于大海和星空的短诗,语气要温柔一些", "写一首关于大海和星空的短诗,语气要温柔一些。", True),
        ("写一首关于大海和星空的短诗,语气要温柔一些", "请解释量子纠缠的基本原理,并举两个例子", False),
        ("?!", "?!", True),
        ("?!", "...", False),
        ("", "", True),
        ("", "a", False),
        ("no", "No", True),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        (None, None, True),
        ("12", 12, True),
    ],
)
def test_what_is_near(tmp_path: Path, one: Any, other: Any, near: bool) -> None:
    """Case, punctuation and spacing do not count; short, empty and other values have a text too."""
    assert kept(numbered([{"t": one}, {"t": other}]), tmp_path, by="t") == ([0] if near else [0, 1])


def test_several_columns_are_one_text(tmp_path: Path) -> None:
    """Those of `by`, or all."""
    long = texts(1, 30, 0)[0]
    other = texts(1, 30, 1)[0]
    rows = numbered([{"q": long, "a": "x", "n": 1}, {"q": long, "a": "x", "n": other}])
    assert kept(rows, tmp_path, by=["q", "a"]) == [0]
    assert kept(rows, tmp_path) == [0, 1]


def test_a_threshold_of_one_is_for_equal_texts(tmp_path: Path) -> None:
    """One character makes the difference."""
    rows = numbered([{"t": "a long enough text"}, {"t": "A long enough text!"}, {"t": "a long enough test"}])
    assert kept(rows, tmp_path, by="t", threshold=1) == [0, 2]


def test_the_bands_find_what_is_at_the_threshold() -> None:
    """The wider a band, the fewer texts are looked at in vain; at least 95% of the pairs at the threshold are found."""
    chosen = {threshold: width(threshold) for threshold in (0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)}
    assert chosen == {0.05: 1, 0.3: 2, 0.5: 4, 0.7: 7, 0.8: 9, 0.9: 16, 1.0: 256}
    assert all(1 - (1 - t**w) ** (256 // w) >= 0.95 for t, w in chosen.items() if t >= 0.3)


def test_the_same_rows_stay_in_every_process(tmp_path: Path) -> None:
    """Nothing depends on Python's own hashing; the seed draws the permutations."""
    code = (
        "from rensa import RMinHash; m = RMinHash(num_perm=256, seed=7); m.update(['abcde', 'bcdef']);"
        "print(m.digest()[:4])"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": at}).stdout
        for at in ("1", "2")
    }
    assert len(said) == 1
    base = texts(60, 20, 5)
    rows = numbered({"t": text} for text in [*base, *(text.rpartition(" ")[0] for text in base)])
    assert kept(rows, tmp_path, by="t", seed=7) == kept(rows, tmp_path, by="t", seed=7)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """What is kept of a row is on disk: a thousand texts of 2 kB that all stay take less than 400 kB."""
    import tracemalloc

    draw = random.Random(3)
    step = whole({"type": "dedup", "method": "minhash"})
    rows = (row(at, t=" ".join(draw.choices(WORDS, k=40))) for at in range(1000))
    tracemalloc.start()
    try:
        count = sum(1 for _ in step.rows(rows, tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 1000
    assert peak < 400_000
