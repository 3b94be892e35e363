from __future__ import annotations

from collections.abc import Iterable

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.state import Invalid
from synth_cli.report.causes import FAULTS, MOST, OTHER, Cause, Causes


def grouped(causes: Iterable[tuple[Fault | Invalid, int]]) -> tuple[Cause, ...]:
    """Causes with how often each comes, in classes."""
    tally = Causes()
    for cause, times in causes:
        for _ in range(times):
            tally.add(cause)
    return tally.ranked()


def test_every_fault_has_a_class() -> None:
    """Every kind of fault has words of its own."""
    assert set(FAULTS) == set(FaultKind)
    assert len(set(FAULTS.values())) == len(FAULTS)


def test_classes() -> None:
    """Causes that differ only in a row's data are one class, commonest first, with the first one's words."""
    causes = grouped(
        [
            (Fault(FaultKind.SERVER_ERROR, "down", status=503), 2),
            (Invalid("schema", "a: 1 is not\n a string"), 1),
            (Invalid("schema", "b: 2 is not a string"), 3),
            (Fault(FaultKind.SERVER_ERROR, "bug", status=500), 2),
            (Fault(FaultKind.SERVER_ERROR, "down again", status=503), 1),
            (Fault(FaultKind.TEMPLATE, "no 'x'"), 1),
        ]
    )
    assert causes == (
        Cause("answer does not fit the schema", 4, "", "a: 1 is not a string"),
        Cause("server error", 3, "HTTP 503", "down"),
        Cause("server error", 2, "HTTP 500", "bug"),
        Cause("template or expression failed", 1, "", "no 'x'"),
    )


def test_words_cannot_steer_a_terminal() -> None:
    """A provider's words are one line without control characters, and not endless."""
    [cause] = grouped([(Fault(FaultKind.BAD_REQUEST, "\x1b[2Jno\r\n\tway\x07 " + "x" * 1000), 1)])
    assert cause.example == " [2Jno way ".lstrip() + "x" * (299 - len("[2Jno way ")) + "…"


def test_memory_is_bounded() -> None:
    """However many kinds of cause there are, only so many are told apart, and none is lost from the count."""
    causes = Causes()
    for status in range(3 * MOST):
        causes.add(Fault(FaultKind.BAD_REQUEST, "odd", status=status))
    ranked = causes.ranked()
    assert ranked[0] == Cause(OTHER, 2 * MOST, "", "odd")
    assert (len(ranked), sum(cause.count for cause in ranked)) == (MOST + 1, 3 * MOST)
