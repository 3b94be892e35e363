"""What is wrong with `output.format` and `output.map`, as far as the spec can tell."""

from __future__ import annotations

import pytest

from synth_cli.spec.formats import COLUMNS, WAYS, fields, problems
from synth_cli.spec.model import Output
from synth_cli.spec.places import Finding


def found(format: str, map: dict[str, str] | None, *columns: str) -> list[tuple[str, str, str]]:
    """(place, message, hint) of each problem; without columns they are not known."""
    output = Output.model_validate({"format": format, "map": map})
    known = frozenset(columns) if columns else None
    return [(".".join(map_where(one)), one.message, one.hint) for one in problems(output, known)]


def map_where(finding: Finding) -> list[str]:
    return [str(part) for part in finding.where[1:]]


@pytest.mark.parametrize(
    ("format", "map", "columns"),
    [
        ("rows", None, ("a",)),
        ("chat", None, ("prompt", "response", "topic")),
        ("chat", None, ("question", "tool_calls")),
        ("chat", None, ("conversation", "answer", "response")),
        ("chat", {"prompt": "a", "response": "b"}, ("a", "b", "messages")),
        ("chat", {"response": "b"}, ("b", "answer", "question")),
        ("chat", {"response": "b"}, ()),
        ("sharegpt", {"messages": "talk"}, ("talk",)),
        ("alpaca", None, ("instruction", "context", "response")),
        ("alpaca", None, ("messages",)),
        ("dpo", None, ("prompt", "chosen", "rejected")),
        ("dpo", None, ("prompt", "response", "score")),
        ("dpo", None, ("chosen", "rejected")),
        ("dpo", {"responses": "response", "scores": "overall"}, ("question", "response", "overall")),
    ],
)
def test_what_can_be_filled_is_right(format: str, map: dict[str, str] | None, columns: tuple[str, ...]) -> None:
    """Columns under their usual names, or named by `map`; what is not known is left to the run."""
    assert found(format, map, *columns) == []


@pytest.mark.parametrize(
    ("format", "map", "columns", "problem"),
    [
        (
            "rows",
            {"prompt": "a"},
            ("a",),
            ("map", "'map' names the columns of a format", "write format: chat, alpaca, sharegpt or dpo"),
        ),
        (
            "alpaca",
            {"instructions": "a"},
            ("a",),
            ("map.instructions", "format alpaca has no field 'instructions'", "did you mean 'instruction'?"),
        ),
        (
            "dpo",
            {"winner": "a"},
            (),
            (
                "map.winner",
                "format dpo has no field 'winner'",
                "known: prompt, chosen, rejected, system, responses, scores",
            ),
        ),
        (
            "chat",
            {"prompt": "questoin"},
            ("question", "answer"),
            ("map.prompt", "no column 'questoin' in the output", "did you mean 'question'?"),
        ),
        (
            "chat",
            None,
            ("cuisine", "title"),
            (
                "format",
                "format chat needs 'messages', or 'prompt' and 'response' or 'tool_calls': no columns are called so",
                "name them: map: {prompt: …}; there are: cuisine, title",
            ),
        ),
        (
            "chat",
            None,
            ("question", "answer", "response"),
            (
                "format",
                "'response' and 'answer' could each be the response",
                "say which: map: {response: response}",
            ),
        ),
        (
            "chat",
            {"messages": "a", "prompt": "b"},
            (),
            (
                "map",
                "format chat does not take 'messages', 'prompt' together",
                "give 'messages', or 'prompt' and 'response' or 'tool_calls'",
            ),
        ),
        (
            "dpo",
            {"chosen": "a", "scores": "b"},
            ("a", "b", "prompt"),
            (
                "map",
                "format dpo does not take 'chosen', 'scores' together",
                "give 'chosen' and 'rejected', or 'prompt' and 'responses' and 'scores'",
            ),
        ),
    ],
)
def test_what_cannot_be_filled_is_found_before_it_runs(
    format: str, map: dict[str, str] | None, columns: tuple[str, ...], problem: tuple[str, str, str]
) -> None:
    """Unknown fields, columns that are not there, columns that could both be meant."""
    assert found(format, map, *columns) == [problem]


def test_every_format_of_the_language_has_its_fields() -> None:
    """The language's formats, the ways to fill them and the columns they give are the same list."""
    formats = set(Output.model_json_schema()["properties"]["format"]["enum"]) - {"rows"}
    assert formats == set(WAYS) == set(COLUMNS)
    assert fields("alpaca") == ("instruction", "input", "output", "system", "history", "messages")
