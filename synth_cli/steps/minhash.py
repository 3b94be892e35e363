"""`type: dedup, method: minhash`: of texts that are nearly the same, the first one stays.

Texts are compared without case, punctuation and spacing by their overlapping pieces of 5 characters, which needs no
words and so works in every language. Two texts are near if they share `threshold` of all the pieces that either has
(the Jaccard index). MinHash finds the few rows that may be near; whether they are is then counted, not estimated.
The only import of rensa, which computes the MinHash.
"""

from __future__ import annotations

import re
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping
from operator import eq
from pathlib import Path
from typing import Any

from synth_cli.core.row import Row
from synth_cli.spec.model import Step
from synth_cli.steps.scratch import By, table
from synth_cli.template import text

THRESHOLD = 0.8
PIECE = 5
"""Characters."""
HASHES = 256
RECALL = 0.95
"""Least share of pairs just at the threshold that are looked at; of nearer ones practically all are."""
SLACK = 0.1
"""An estimate from 256 hashes is so far off once in thousands of pairs; below threshold - slack none is counted."""
TABLES = """
CREATE TABLE bands (band INTEGER, number INTEGER, PRIMARY KEY (band, number)) WITHOUT ROWID;
CREATE TABLE kept (number INTEGER PRIMARY KEY, hashes BLOB NOT NULL, text TEXT NOT NULL);
"""
Hashed = Callable[[frozenset[str]], "array[int]"]


class Near:
    """What is kept is the same on every machine and in every run: the permutations are drawn from the seed."""

    def __init__(self, step: Step, seed: int) -> None:
        self._name, self._by = step.name, step.by
        self._threshold = THRESHOLD if step.threshold is None else float(step.threshold)
        self._seed = seed
        self.left_out = 0

    def rows(self, rows: Iterator[Row], scratch: Path) -> Iterator[Row]:
        """Each row that is near to none before it that stayed, as soon as it comes."""
        self.left_out = 0
        by = By(self._name, self._by)
        hashed = _hashed(self._seed)
        with table(scratch, TABLES) as kept:
            before = _Before(kept, self._threshold)
            for row in rows:
                words = normal(by.of(row.values))
                found = pieces(words)
                if before.near(found, hashed(found), words):
                    self.left_out += 1
                else:
                    yield row
        by.complete()


class _Before:
    """The rows that stayed so far, on disk."""

    def __init__(self, kept: sqlite3.Connection, threshold: float) -> None:
        self._kept, self._threshold = kept, threshold
        self._width = width(threshold)
        self._count = 0

    def near(self, found: frozenset[str], hashes: array[int], words: str) -> bool:
        """Whether a text is near to one of them; otherwise it is one of them from now on."""
        bands = self._bands(hashes)
        marks = ", ".join("?" * len(bands))
        query = f"SELECT number, hashes FROM kept WHERE number IN (SELECT number FROM bands WHERE band IN ({marks}))"
        for number, other in self._kept.execute(query, bands):
            if _estimate(hashes, other) >= self._threshold - SLACK and self._counted(number, found, words):
                return True
        self._count += 1
        self._kept.execute("INSERT INTO kept VALUES (?, ?, ?)", (self._count, hashes.tobytes(), words))
        self._kept.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", [(band, self._count) for band in bands])
        return False

    def _counted(self, number: int, found: frozenset[str], words: str) -> bool:
        ((known,),) = self._kept.execute("SELECT text FROM kept WHERE number = ?", (number,)).fetchall()
        return known == words or jaccard(found, pieces(known)) >= self._threshold

    def _bands(self, hashes: array[int]) -> list[int]:
        """A number for each run of hashes: texts that share one may be near.

        Python's own hash will do: should two runs share a number, a text is looked at in vain and nothing else.
        """
        data, size = hashes.tobytes(), self._width * hashes.itemsize
        return [hash((start, data[start : start + size])) for start in range(0, len(data) - size + 1, size)]


def width(threshold: float) -> int:
    """Hashes in a band: as many as still find the pairs at the threshold, so that few others are looked at."""
    return max(
        (wide for wide in range(1, HASHES + 1) if 1 - (1 - threshold**wide) ** (HASHES // wide) >= RECALL), default=1
    )


def normal(values: Mapping[str, Any]) -> str:
    """The text of some columns in small letters and without punctuation; of punctuation alone, itself."""
    whole = "\n".join(text(value) for value in values.values()).casefold()
    return " ".join(re.findall(r"\w+", whole)) or whole


def pieces(words: str) -> frozenset[str]:
    """Every run of 5 characters; a shorter text is one piece."""
    return frozenset([words[start : start + PIECE] for start in range(max(1, len(words) - PIECE + 1))])


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _hashed(seed: int) -> Hashed:
    from rensa import RMinHash

    def hashed(found: frozenset[str]) -> array[int]:
        minhash = RMinHash(num_perm=HASHES, seed=seed)
        minhash.update(list(found))
        return array("I", minhash.digest())

    return hashed


def _estimate(hashes: array[int], other: bytes) -> float:
    same: int = sum(map(eq, hashes, array("I", other)))
    return same / HASHES
