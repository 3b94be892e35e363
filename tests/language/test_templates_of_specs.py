"""Templates in a spec: names, values, filters, the sandbox, chance, and what validate says about them."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk, serving


def shown(desk: Desk, template: Any, row: Any = None) -> Any:
    """What a template gives as a column, from a row whose answer is `A`."""
    with serving(lambda body: "A") as server:
        rows = {"rows": [{"a": "x", **(row or {})}]}
        spec = {"model": server.model(), "input": rows, "prompt": "hi", "columns": {"out": template}, "carry": False}
        (made,) = desk.says(spec).rows()
    return made["out"]


def prompt(desk: Desk, template: str, row: Any = None, **more: Any) -> Any:
    """What a template makes of a row in a prompt."""
    desk.says({"model": "simulator", "input": {"rows": [{"a": "x", **(row or {})}]}, "prompt": template, **more})
    (look,) = desk.preview()
    return look["error"] or look["messages"][0]["content"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% if a %}\nyes\n{% endif %}\nend\n", "yes\nend"),
        ("  {% if a %}\n  in\n  {% endif %}\nend", "  in\nend"),
        ("end\n\n", "end\n"),
        ("{# gone #}a", "a"),
        ("{{ a }}\n", "x"),
        ("{% raw %}{{ a }}{% endraw %}", "{{ a }}"),
    ],
)
def test_blocks_are_trimmed(desk: Desk, template: str, text: str) -> None:
    """`trim_blocks` and `lstrip_blocks` are on, one final newline is dropped."""
    assert prompt(desk, template) == text


def test_every_name_is_a_column(desk: Desk) -> None:
    """`row['x']` reaches any column, also one with a reserved or strange name."""
    row = {"first name": "Ann", "item": "column", "vars": 3}
    assert (
        prompt(
            desk,
            "{{ row['first name'] }} {{ row['item'] }} {{ row.vars }} {{ index }} {{ vars.tone }}",
            row,
            vars={"tone": "dry"},
        )
        == "Ann column 3 0 dry"
    )


def test_index_is_the_position_in_the_input(desk: Desk) -> None:
    """It stays with the row, whatever `where` and `skip` leave out."""
    source = {"rows": [{"n": n} for n in range(6)], "where": "n % 2 == 1", "skip": 1}
    desk.says({"model": "simulator", "input": source, "prompt": "{{ index }}"})
    assert [look["messages"][0]["content"] for look in desk.preview()] == ["3", "5"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, "é", None], '[1,"é",null]'),
        ({"k": [True]}, '{"k":[true]}'),
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        (10**20, str(10**20)),
        ("<b>&", "<b>&"),
    ],
)
def test_inside_text_values_appear_as_json(desk: Desk, value: Any, text: str) -> None:
    """Lists, mappings, booleans and null; texts and numbers as they are, nothing escaped for HTML."""
    assert prompt(desk, "v={{ v }}", {"v": value}).replace("1e+20", str(10**20)) == f"v={text}"


@pytest.mark.parametrize("value", [[1, {"a": None}], {"k": True}, 5, "12", "[1]", "true", "{{ a }}", None, 1.0])
def test_one_whole_expression_is_the_object_itself(desk: Desk, value: Any) -> None:
    """Nothing is re-parsed: a text that looks like a list stays a text."""
    made = shown(desk, "{{ v }}", {"v": value})
    assert (made, type(made)) == (value, type(value))


def test_a_dot_looks_up_keys_first(desk: Desk) -> None:
    """`d.items` is the key `items`, not a method."""
    assert shown(desk, "{{ d.items }} {{ d.keys }}", {"d": {"items": 1, "keys": [2]}}) == "1 [2]"


def test_data_is_never_a_template(desk: Desk) -> None:
    """Braces in a column, in `vars` or in an answer stay as they are."""
    assert (
        prompt(desk, "{{ t }} {{ vars.v }}", {"t": "{{ 7 * 7 }} {% for %}"}, vars={"v": "{{ a }}"})
        == "{{ 7 * 7 }} {% for %} {{ a }}"
    )


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ t | from_json }}", {"n": [1]}),
        ("{{ t | regex_search('[0-9]+') }}", "1"),
        ("{{ t | regex_search('(n)\".*([0-9])') }}", ["n", "1"]),
        ("{{ t | regex_search('zzz') }}", None),
        ("{{ 'a1b22' | regex_findall('[0-9]+') }}", ["1", "22"]),
        ("{{ 'a1b22' | regex_replace('[0-9]+', '#') }}", "a#b#"),
        ("{{ [3, 1, 2] | sort }}", [1, 2, 3]),
        ("{{ missing | default('d') }}", "d"),
        ("{{ 'yes' if missing is defined else 'no' }}", "no"),
        ("{{ response ~ sample }}", "A0"),
        ("{{ {'k': response} }}", {"k": "A"}),
        ("{{ t | length }}", 9),
    ],
)
def test_filters(desk: Desk, template: str, value: Any) -> None:
    """Jinja's own, and `from_json`, `regex_search`, `regex_findall`, `regex_replace`."""
    assert shown(desk, template, {"t": '{"n":[1]}'}) == value


def test_random_and_shuffle_are_seeded(desk: Desk) -> None:
    """By seed, step and row: a second reading draws the same, another row or seed draws anew."""
    template = "{{ range(1000) | random }} {{ [1, 2, 3, 4, 5, 6, 7] | shuffle }}"
    source = {"count": 3}
    desk.says({"model": "simulator", "input": source, "prompt": template})
    first = [look["messages"][0]["content"] for look in desk.preview()]
    assert first == [look["messages"][0]["content"] for look in desk.preview()]
    other = [look["messages"][0]["content"] for look in desk.preview("--set", "seed=1")]
    assert len({*first, *other}) == 6


@pytest.mark.parametrize(
    "template",
    [
        "{{ a.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ a.format.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'x' * 100000000 }}",
    ],
)
def test_the_sandbox_holds(desk: Desk, template: str) -> None:
    """Nothing private is reached, nothing endless is made: the row fails."""
    desk.says({"model": "simulator", "input": {"rows": [{"a": "x"}]}, "prompt": template})
    (look,) = desk.preview()
    assert look["error"].startswith("template: ")


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ b }}", "template: no column 'b'; the row has: a"),
        ("{{ row['b'] }}", "template: no key 'b' (there are: a)"),
        ("{{ d.k }}", "template: no key 'k' (there are: j)"),
        ("{{ a.k }}", "template: no 'k' in a value of type str"),
        ("{{ a | from_json }}", "template: 'from_json' got text that is not JSON: "),
        ("{{ a + 1 }}", "template: TypeError: "),
    ],
)
def test_what_a_row_lacks_is_that_rows_error(desk: Desk, template: str, error: str) -> None:
    """An undefined name is never rendered empty; the others are asked."""
    row = {"d": {"j": 1}} if "d.k" in template else {}
    rows = [{"a": "x", **row}, {"a": "[1]", "b": "y", "d": {"k": 1}}]
    desk.says({"model": "simulator", "input": {"rows": rows}, "prompt": template})
    assert desk.preview()[0]["error"].startswith(error)


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        ({"prompt": "{{ cusine }}"}, ["4:9: nothing provides 'cusine'; did you mean 'cuisine'?"]),
        ({"prompt": "{{ vars.tnoe }}"}, ["4:9: nothing provides 'vars.tnoe'; did you mean 'vars.tone'?"]),
        ({"prompt": "{{ vars.deep.c }}", "vars": {"deep": {"b": 1}}}, ["5:9: no key 'c' (there are: b)"]),
        ({"prompt": "{{ tone }}"}, ["4:9: nothing provides 'tone'; did you mean 'vars.tone'?"]),
        ({"prompt": "{{ row['cusine'] }}"}, ["4:9: nothing provides 'row.cusine'; did you mean 'row.cuisine'?"]),
        (
            {"prompt": "{{ response }}"},
            ["4:9: 'response' is not there before the answer; use it in check, columns or keep_if"],
        ),
        (
            {"prompt": "{{ reply.model }}"},
            ["4:9: 'reply' is not there before the answer; use it in check, columns or keep_if"],
        ),
        ({"prompt": "{{ cuisine | uper }}"}, ["4:9: not a template: no filter named 'uper'; did you mean 'upper'?"]),
        ({"prompt": "{% if cuisine %}x"}, ["4:9: not a template: '{% if %}' is never closed; write '{% endif %}'"]),
        ({"prompt": "{{ row.get('b') }}{% for name, value in row.items() %}{{ name }}{% endfor %}"}, []),
        ({"prompt": "{{ len(cuisine) }}"}, ["4:9: nothing provides 'len'; write x | length"]),
        ({"prompt": "{{ now() }}"}, ["4:9: nothing provides 'now'; there is no clock in a template"]),
        ({"prompt": "{{ cuisine | default('x') }} {{ b | default('x') }} {{ c is defined }}"}, []),
        (
            {"prompt": {"system": "{{ a", "user": "{{ b }}"}},
            ["5:11: not a template: '{{' is never closed; write '}}'", "6:9: nothing provides 'b'; there are: cuisine"],
        ),
    ],
)
def test_validate_finds_templates_that_cannot_work(desk: Desk, spec: Any, problems: list[str]) -> None:
    """Syntax errors, and names that no input column, var or earlier step provides, without calling anything."""
    desk.says({"model": "simulator", "vars": {"tone": "dry"}, **spec, "input": {"matrix": {"cuisine": ["thai"]}}})
    assert desk.validate() == problems


def test_every_bad_text_of_a_value_is_found_at_its_place(desk: Desk) -> None:
    """Of messages, parts and nested columns too."""
    desk.says(
        """model: simulator
input: {matrix: {a: [x]}}
messages:
  - role: system
    content: "{{ b }}"
  - role: user
    content:
      - {type: text, text: "{{ a"}
      - {type: image, source: "{{ c }}"}
columns:
  deep:
    - {one: "{{ d }}"}
    - |
      fine
      {{ a b }}
"""
    )
    assert desk.validate() == [
        "5:14: nothing provides 'b'; there are: a",
        "8:28: not a template: '{{' is never closed; write '}}'",
        "9:31: nothing provides 'c'; there are: a",
        "12:13: nothing provides 'd'; there are: a",
        "13:7: not a template: 'b' is not expected here (line 2 of the text)",
    ]


def test_drawn_columns_see_only_earlier_ones(desk: Desk) -> None:
    """A sampler's arguments may use columns of the source and those drawn before it."""
    desk.says(
        """model: simulator
prompt: "{{ c }}"
input:
  matrix: {a: [x]}
  columns:
    b: {category: ["{{ c }}", "{{ a }}"]}
    c: {category: ["{{ b }}"]}
    d: {gausian: {mean: 1}}
    e: {uniform: {min: 3, max: 1}}
  where: e > f
"""
    )
    assert desk.validate() == [
        "6:20: nothing provides 'c'; it is made further down; a column sees the earlier ones",
        "8:5: there is no sampler 'gausian'; did you mean 'gaussian'?",
        "9:5: min (3) is greater than max (1)",
        "10:10: nothing provides 'f'; there are: a, b, c, d, e",
    ]


def test_columns_that_only_rows_can_tell_are_not_guessed(desk: Desk) -> None:
    """Where the input's columns are not known, a name is no problem; syntax still is."""
    desk.says(
        {
            "model": "simulator",
            "input": {"sql": {"url": "sqlite:///no.db", "query": "select 1"}},
            "prompt": "{{ any }} {{ vars.x }}",
        }
    )
    assert desk.validate() == ["6:9: nothing provides 'vars.x'; there are: none"]
