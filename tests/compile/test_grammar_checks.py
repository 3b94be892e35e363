"""`validate` and the grammar of a response."""

from __future__ import annotations

from pathlib import Path

from synth_cli.run.prepare import problems_of

SPEC = """\
model: simulator
prompt: hi
response:
  grammar: |
    {rule}
"""


def found(tmp_path: Path, rule: str) -> list[str]:
    path = tmp_path / "job.yaml"
    path.write_text(SPEC.format(rule=rule))
    return [
        str(problem).replace(f"{tmp_path}/", "") for problem in problems_of(path, sets=(), profile=None, environ={})
    ]


def test_a_wrong_grammar_is_a_problem_with_its_place(tmp_path: Path) -> None:
    """In either notation; a right one is none."""
    assert found(tmp_path, 'root ::= "a"') == []
    assert found(tmp_path, 'start: "a"') == []
    said = "job.yaml:4:12: the grammar cannot be read: Rule 'more' not found"
    assert found(tmp_path, "root ::= more") == [f"{said}; write it in GBNF (root ::= …) or Lark (start: …)"]
