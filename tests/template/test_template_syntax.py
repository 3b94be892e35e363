"""Compiling: what is refused, what an expression is, and what a template says that it needs."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.core.row import Row
from synth_cli.template import Template, Templates, TemplateSyntaxError, scope

TEMPLATES = Templates(vars={"tone": "dry"}, seed=0)
SEEN = scope(Row(0, b"r" * 16, {"a": 5, "b": [1]}))


def refused(node: Any) -> tuple[str, tuple[str | int, ...], int]:
    with pytest.raises(TemplateSyntaxError) as caught:
        TEMPLATES.value(node)
    return caught.value.message, caught.value.path, caught.value.line


def test_a_bad_text_is_named_by_its_place() -> None:
    """The path leads to the text within the value, the line to the place within the text."""
    node = {"content": ["fine", {"text": "one\n{{ a }"}]}
    assert refused(node) == ("'}' is not expected here", ("content", 1, "text"), 2)


def test_every_bad_text_is_found() -> None:
    """`texts` does not stop at the first, and gives each text that is right with the names it needs."""
    found = dict(TEMPLATES.texts(["{{ a }", "{{ a }}", {"x": "{% if a %}"}]))
    bad = {place: one.path for place, one in found.items() if isinstance(one, TemplateSyntaxError)}
    assert bad == {(0,): (0,), (2, "x"): (2, "x")}
    right = found[(1,)]
    assert isinstance(right, Template)
    assert right.names == {"a"}


def test_unknown_filters_and_tests_are_found_when_compiling() -> None:
    """Even in a branch that no row may take, and with the nearest right name."""
    assert refused("{% if a %}{{ b | uper }}{% endif %}")[0] == "no filter named 'uper'; did you mean 'upper'?"
    assert refused("{{ b is strin }}")[0] == "no test named 'strin'; did you mean 'string'?"


@pytest.mark.parametrize("text", ["{% include 'x' %}", "{% extends 'x' %}", "{% from 'x' import y %}"])
def test_files_cannot_be_taken_in(text: str) -> None:
    """A template reads no files."""
    assert refused(text)[0] == "a template cannot take in files; use file:// for its text"


@pytest.mark.parametrize("text", ["a > 3", "{{ a > 3 }}", "  {{ a > 3 }}\n"])
def test_an_expression_has_braces_or_not(text: str) -> None:
    """Both ways are the same, and the value is the object."""
    assert TEMPLATES.expression(text).render(SEEN) is True


def test_braces_in_quotes_are_text() -> None:
    """An expression may look for the marks of a template."""
    assert TEMPLATES.expression("'{%' in 'a {% b' and '{{' not in 'c'").render(SEEN) is True


def test_a_boolean_is_an_expression() -> None:
    """`keep_if: true` needs no text."""
    assert TEMPLATES.expression(False).render(SEEN) is False


@pytest.mark.parametrize("text", ["", "a b", "{{ a }} and b", "{% if a %}{% endif %}", "a >", "x {{ a }}"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    """Text around braces, statements and rests are errors when compiling."""
    with pytest.raises(TemplateSyntaxError):
        TEMPLATES.expression(text)


def needed(node: Any) -> tuple[set[str], set[str], set[str]]:
    template = TEMPLATES.value(node)
    return set(template.names), set(template.reserved), set(template.vars)


def test_needed_names() -> None:
    """Columns, reserved names and members of vars that a template needs; its own names are none of them."""
    loop = "{% for item in xs %}{{ item.name }}{{ loop.index }}{% endfor %}{{ range(n) }}"
    assert needed({"x": "{{ a }} {{ row['b c'] }}", "y": "{{ vars.tone }}"}) == ({"a"}, {"row", "vars"}, {"tone"})
    assert needed(loop) == ({"xs", "n"}, set(), set())
    assert needed("{% set a = b %}{{ a }}{{ response }}") == ({"b"}, {"response"}, set())


def test_guarded_names_are_not_needed() -> None:
    """What is asked with `default` or `is defined` may be missing."""
    assert needed("{{ a | default(1) }}{% if b is defined %}{{ b }}{% endif %}{{ vars.x | default(2) }}") == (
        set(),
        {"vars"},
        set(),
    )


def test_members_whole_path_and_draws() -> None:
    """What is read from a reserved name, whether it is used as a whole, and whether chance is in it."""
    one, whole = TEMPLATES.expression("reply.messages"), TEMPLATES.expression("[reply, reply.model]")
    assert (one.path, one.members, one.whole) == (("reply", "messages"), {("reply", "messages")}, frozenset())
    assert (whole.path, whole.members, whole.whole) == ((), {("reply", "model")}, {"reply"})
    assert (TEMPLATES.value("{{ b | random }}").draws, one.draws) == (True, False)


def test_constants_are_shared() -> None:
    """What no row changes is rendered once: the very same object for each."""
    node = {"role": "system", "content": "Be {{ vars.tone }}."}
    template = TEMPLATES.value(node)
    assert template.constant
    assert template.render(SEEN) == {"role": "system", "content": "Be dry."}
    assert template.render(SEEN) is template.render(SEEN)
    assert not TEMPLATES.value("{{ a }}").constant


def test_a_mix_of_braces_and_text_says_what_to_write() -> None:
    """Half an expression in braces is a common slip."""
    for text in ("{{ a }} and b", "b and {{ a }}"):
        with pytest.raises(TemplateSyntaxError, match="or has no braces at all"):
            TEMPLATES.expression(text)
