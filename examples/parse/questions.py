"""One answer → a row for each question in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def split(row: Mapping[str, Any], response: str) -> Iterator[dict[str, str]]:
    """Lines without a question mark are a question without an answer."""
    for line in filter(None, map(str.strip, response.splitlines())):
        question, mark, answer = line.partition("?")
        yield {"question": question + mark, "answer": answer.strip()}
