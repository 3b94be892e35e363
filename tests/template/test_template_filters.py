"""Filters beside Jinja's own, chance, and the sandbox."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from synth_cli.core.row import Row
from synth_cli.template import TemplateError, Templates, scope

ITEMS = list(range(100))


def rendered(
    node: Any, *, seed: int = 7, step: str = "main", row: bytes = b"r" * 16, sample: int = 0, **values: Any
) -> Any:
    templates = Templates(vars={}, seed=seed, step=step)
    return templates.value(node).render(scope(Row(0, row, {"items": ITEMS, **values}), sample=sample))


def test_from_json() -> None:
    """It reads JSON text; what is not JSON is an error."""
    assert rendered("{{ (t | from_json).a[0] }}", t='{"a": [5]}') == 5
    with pytest.raises(TemplateError, match="not JSON"):
        rendered("{{ t | from_json }}", t="prose")


def test_regex_search() -> None:
    """The first match, or its group where the pattern has one, a list where it has more, null where none."""
    text = "Score: 42 of 50"
    found = [
        rendered("{{ t | regex_search('[0-9]+') }}", t=text),
        rendered("{{ t | regex_search('score: (\\\\d+)', ignorecase=true) }}", t=text),
        rendered("{{ t | regex_search('(\\\\d+) of (\\\\d+)') }}", t=text),
        rendered("{{ t | regex_search('(\\\\d+) of (\\\\d+)', 2) }}", t=text),
        rendered("{{ t | regex_search('zzz') }}", t=text),
    ]
    assert found == ["42", "42", ["42", "50"], "50", None]


def test_regex_findall_and_replace() -> None:
    """All matches as a list; replacements with groups."""
    assert rendered("{{ t | regex_findall('[a-z]+') }}", t="ab 1 cd") == ["ab", "cd"]
    assert rendered("{{ t | regex_findall('([a-z])(\\\\d)') }}", t="a1 b2") == [["a", "1"], ["b", "2"]]
    assert rendered("{{ t | regex_replace('(\\\\w+) (\\\\w+)', '\\\\2 \\\\1') }}", t="a b") == "b a"


def test_a_bad_pattern_is_the_rows_trouble() -> None:
    """A regular expression from data may be wrong."""
    with pytest.raises(TemplateError):
        rendered("{{ 'a' | regex_search(p) }}", p="(")


def test_chance_is_seeded_by_seed_step_and_row() -> None:
    """The same seed, step and row draw the same; each of them changes the draw."""
    draw = "{{ items | shuffle }}"
    first = rendered(draw)
    assert first == rendered(draw)
    assert sorted(first) == ITEMS
    others = [rendered(draw, seed=8), rendered(draw, step="judge"), rendered(draw, row=b"s" * 16)]
    assert [other == first for other in others] == [False, False, False]
    assert rendered(draw, sample=1) == first


def test_the_same_expression_draws_the_same_everywhere() -> None:
    """A column can record what the prompt drew."""
    assert rendered("x {{ items | random }} y") == f"x {rendered('{{ items | random }}')} y"


def test_different_draws_are_independent() -> None:
    """Two lists, and the rounds of a loop, do not draw alike."""
    two = rendered("{{ items | shuffle }}{{ others | shuffle }}", others=ITEMS)
    assert two[: len(two) // 2] != two[len(two) // 2 :]
    loop = rendered("{% for i in range(20) %}{{ items | random }} {% endfor %}").split()
    assert len(set(loop)) > 5


def test_drawing_from_nothing_is_an_error() -> None:
    """An empty list has no random item."""
    with pytest.raises(TemplateError, match="empty"):
        rendered("{{ items[:0] | random }}")


def test_there_is_no_clock() -> None:
    """No name gives the time, nor do dates that are in the data."""
    for node in ("{{ now() }}", "{{ d.today() }}", "{{ d.now() }}", "{{ lipsum() }}"):
        with pytest.raises(TemplateError):
            rendered(node, d=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    assert rendered("{{ d.year }}", d=datetime.date(2020, 1, 1)) == 2020


@pytest.mark.parametrize(
    "node",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ items.append(1) }}",
        "{{ row.update({'a': 1}) }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** (10 ** 9) }}",
        "{{ 2 ** 20000 }}",
        "{{ 2 ** 9000 * 2 ** 9000 }}",
        "{{ range(10 ** 9) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ path.read_text() }}",
        "{{ path.unlink() }}",
    ],
)
def test_the_sandbox_holds(node: str) -> None:
    """No private attributes, no changing of data, no values that fill the memory."""
    with pytest.raises(TemplateError):
        rendered(node, path=Path("/nowhere/at/all"))
