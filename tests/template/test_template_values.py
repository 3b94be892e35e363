"""What templates give: texts, objects, and the ways that values look inside text."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from synth_cli.core.row import Row
from synth_cli.template import TemplateError, Templates, scope

VALUES = {
    "name": "Ada",
    "age": 36,
    "tags": ["a", "é", None, True],
    "deep": {"items": [1, 2], "keys": "k", "none": None},
    "code": "{{ name }} {% if x %}",
    "two words": 7,
    "response": "the column",
    "born": datetime.date(1815, 12, 10),
    "price": Decimal("1.50"),
    "result": 5,
}


def rendered(node: Any, values: dict[str, Any] = VALUES, sample: int = 0, **after: Any) -> Any:
    templates = Templates(vars={"tone": "dry", "limits": {"low": 1}}, seed=7)
    return templates.value(node).render(scope(Row(3, b"r" * 16, values), sample=sample, **after))


def failure(node: Any, **after: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        rendered(node, **after)
    return caught.value.message


def test_columns_stand_in_text() -> None:
    """Every name that is not reserved is a column, and row['x'] reaches any."""
    assert rendered("{{ name }} is {{ age }}, {{ row['two words'] }}, {{ row.name }}") == "Ada is 36, 7, Ada"


def test_reserved_names() -> None:
    """`vars`, `index`, `sample` and `row` are what the language says."""
    assert rendered(["{{ vars.tone }}", "{{ index }}", "{{ sample }}", "{{ row }}"], sample=2) == ["dry", 3, 2, VALUES]


def test_reserved_names_win_over_columns_of_the_same_name() -> None:
    """A column that has a reserved name is reached through `row`."""
    values = {"index": 99, "vars": "v", "row": "r"}
    assert rendered("{{ index }} {{ row['index'] }} {{ row['row'] }} {{ vars.tone }}", values) == "3 99 r dry"


def test_response_is_the_column_until_there_is_an_answer() -> None:
    """Before the answer `response` is the input column; after it, the answer; in loops too."""
    loop = "{% for c in response[:3] %}{{ c }}{% endfor %}"
    assert (rendered("{{ response }}"), rendered(loop)) == ("the column", "the")
    assert (rendered("{{ response }}", response="A"), rendered(loop, response="ANSWER")) == ("A", "ANS")


def test_one_expression_is_the_object_itself() -> None:
    """A value that is exactly one expression is that very object, and nothing is parsed again."""
    assert rendered("{{ tags }}") is VALUES["tags"]
    assert rendered("{{ deep.items }}\n") is VALUES["deep"]["items"]  # type: ignore[index]
    assert rendered(["{{ age }}", "{{ born }}", "{{ deep.none }}", "{{ '5' }}", "{{ '[1]' }}"]) == [
        36,
        datetime.date(1815, 12, 10),
        None,
        "5",
        "[1]",
    ]


def test_lists_mappings_booleans_and_null_are_json_in_text() -> None:
    """Inside text, structured values appear as JSON, texts and numbers as they are."""
    assert rendered("t: {{ tags }} {{ deep }} {{ true }} {{ none }}") == (
        't: ["a","é",null,true] {"items":[1,2],"keys":"k","none":null} true null'
    )
    assert rendered("{{ born }} {{ price }} {{ 0.5 }} {{ age }}") == "1815-12-10 1.50 0.5 36"


def test_json_in_text_holds_in_every_construct() -> None:
    """Loops, `~`, `join` and `string` write values the same way."""
    assert rendered("{% for t in tags %}{{ t }},{% endfor %}") == "a,é,null,true,"
    assert rendered("{{ 'x' ~ true ~ deep.items }}") == "xtrue[1,2]"
    assert rendered("{% if true %}{{ 'x' ~ none }}{% endif %}") == "xnull"
    assert rendered("{{ tags | join('-') }}") == "a-é-null-true"
    assert rendered("{{ (true | string) }}") == "true"


def test_json_of_unusual_values() -> None:
    """Large integers, keys that are numbers, dates and decimals are written; indent is honoured; `<` stays."""
    values = {"v": {"n": 2**70, 1: "<b>", "d": datetime.date(2020, 1, 2), "p": Decimal("1.5"), "s": (1, 2)}}
    assert rendered("x{{ v }}", values) == (
        'x{"n":1180591620717411303424,"1":"<b>","d":"2020-01-02","p":1.5,"s":[1,2]}'
    )
    assert rendered("{{ {'a': [1]} | tojson(indent=2) }}") == '{\n  "a": [\n    1\n  ]\n}'
    assert rendered("{{ [2 ** 70] | tojson(4) }}") == "[\n    1180591620717411303424\n]"


@pytest.mark.parametrize("value", [b"\x00", object(), len])
def test_what_has_no_text_is_an_error(value: Any) -> None:
    """Bytes, images and functions never end up in a prompt by accident."""
    with pytest.raises(TemplateError):
        rendered("x {{ v }}", {"v": value})


def test_iterators_become_lists() -> None:
    """What Jinja's filters give lazily is a list for whoever uses the value."""
    assert rendered("{{ tags | select('string') }}") == ["a", "é"]
    assert rendered("{{ range(3) }}") == [0, 1, 2]
    assert rendered("{{ deep.items | map('string') }}") == ["1", "2"]
    assert rendered("x{{ deep.items | reverse }}") == "x[2,1]"
    assert rendered("{{ [3, 1] | unique | sort }}") == [1, 3]


def test_a_dot_looks_up_keys_first() -> None:
    """`.items` on a mapping that has such a key is its value; a method only where there is no key."""
    assert rendered("{{ deep.items }}") == [1, 2]
    assert rendered("{{ deep['items'] }}") == [1, 2]
    assert rendered("{% for x in deep.items %}{{ x }}{% endfor %}") == "12"
    assert rendered("{{ deep.values() }}") == [[1, 2], "k", None]
    assert rendered("{{ [deep] | map(attribute='items') | first }}") == [1, 2]


def test_data_is_never_rendered() -> None:
    """Braces in data stay as they are, wherever they came from."""
    assert rendered("{{ code }}") == "{{ name }} {% if x %}"
    assert rendered("> {{ code }} {{ response }}", response="{{ vars }}") == "> {{ name }} {% if x %} {{ vars }}"
    assert rendered("{% if true %}{{ code }}{% endif %}") == "{{ name }} {% if x %}"


def test_whitespace() -> None:
    """trim_blocks and lstrip_blocks are on; one final newline is dropped, templates or not."""
    assert rendered("{% if age %}\n  yes\n  {% endif %}\nend\n\n") == "  yes\nend\n"
    assert rendered("plain\n\n") == "plain\n"
    assert rendered("a\r\nb") == "a\nb"


def test_any_yaml_value_is_rendered_through() -> None:
    """Texts inside lists and mappings are templates, other values stay what they are."""
    node = {"role": "user", "content": [{"type": "text", "text": "Hi {{ name }}"}, 1, None, True]}
    assert rendered(node) == {"role": "user", "content": [{"type": "text", "text": "Hi Ada"}, 1, None, True]}


def test_plain_and_compiled_expressions_agree() -> None:
    """The same expression gives the same value directly and through Jinja's own compiler."""
    expressions = [
        "age + 1",
        "age / 8",
        "age % 7",
        "age // 5",
        "-age",
        "name | upper",
        "name | replace('A', 'E')",
        "tags | length",
        "tags | first",
        "age > 3 and name == 'Ada'",
        "age > 99 or deep.keys",
        "not age",
        "'a' in tags",
        "'z' not in tags",
        "name if age > 3 else tags",
        "[age, name]",
        "{'a': age}",
        "age is number",
        "age is divisibleby 6",
        "deep.items | join(',')",
        "name | truncate(2, true, '')",
        "price | round(1)",
        "1 < age < 50",
        "name[0]",
        "name[:2]",
        "(name, age)",
        "result",
        "name ~ age ~ none",
    ]
    for expression in expressions:
        text, listed = "x{{ " + expression + " }}", "{{ [" + expression + "] | tojson }}"
        assert rendered(text) == rendered("{% if 1 %}{% endif %}" + text), expression
        assert rendered(listed) == rendered("{% if 1 %}{% endif %}" + listed), expression


def test_an_undefined_column_is_an_error_that_names_those_there_are() -> None:
    """The message says which name and what the row has."""
    known = "name, age, tags, deep, code, two words, response, born, price, result"
    for node in ("{{ nam }}", "x {{ nam }}", "{% for a in nam %}{% endfor %}", "{{ nam | upper }}", "{{ nam.x }}"):
        assert failure(node) == f"no column 'nam'; the row has: {known}"


def test_an_undefined_member_is_an_error_that_names_those_there_are() -> None:
    """Keys, positions and attributes that are missing say what was looked for, and where."""
    assert failure("{{ deep.nope }}") == "no key 'nope' (there are: items, keys, none)"
    assert failure("{{ deep['nope'] }} x") == "no key 'nope' (there are: items, keys, none)"
    assert failure("{% if 1 %}{{ tags[9] }}{% endif %}") == "no item 9 in a list of 4"
    assert failure("{{ deep.none.x }}") == "no 'x' in null"
    assert failure("{{ age.x }}") == "no 'x' in a value of type int"


def test_names_of_after_the_answer_say_so() -> None:
    """`reply` and `item` before their time are errors that say when they are there."""
    assert failure("{{ reply }}") == "'reply' is there only after the answer"
    assert failure("{{ item }}", response="x") == "'item' is there only where `each` gives one"


def test_a_method_without_its_call_is_an_error() -> None:
    """Forgotten parentheses are named."""
    assert failure("{{ name.upper }}") == "'upper' is a function here; write upper() to call it"
    assert failure("{{ name.title == 'Ada' }}") == "'title' is a function here; write title() to call it"


def test_undefined_may_be_asked_for() -> None:
    """`default` and `is defined` work as in Jinja, alone and inside text."""
    assert rendered(["{{ nope | default('d') }}", "{{ nope is defined }}", "a{{ deep.nope | default(1) }}"]) == [
        "d",
        False,
        "a1",
    ]


@pytest.mark.parametrize(
    "node",
    ["{{ age + name }}", "{{ 1 / 0 }}", "{{ name | from_json }}", "{{ tags.sort() }}", "x{{ age | round('a') }}"],
)
def test_whatever_an_expression_raises_is_the_rows_trouble(node: str) -> None:
    """A bad value is a TemplateError, never a crash."""
    with pytest.raises(TemplateError):
        rendered(node)
