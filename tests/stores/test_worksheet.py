"""One run's scratch of rows and requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.row import Row
from synth_cli.stores.worksheet import Worksheet


def hashed(number: int) -> bytes:
    return number.to_bytes(8, "little") + bytes(8)


def row(index: int) -> Row:
    return Row(index, hashed(index), {"n": index, "text": f"row {index}"})


def test_equal_contents_are_numbered_in_order_over_chunks(tmp_path: Path) -> None:
    """A content's ordinal counts the equal ones before it, within a chunk and over earlier ones."""
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        a, b, c = hashed(1), hashed(2), hashed(3)
        assert [sheet.tally([a, b, a]), sheet.tally([b, c, b, a]), sheet.tally([]), sheet.tally([c])] == [
            [0, 0, 1],
            [1, 0, 2, 2],
            [],
            [1],
        ]


def test_spaces_are_counted_apart(tmp_path: Path) -> None:
    """Rows and requests of equal hash do not count as each other's equals."""
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        assert [sheet.tally([hashed(1)], "input"), sheet.tally([hashed(1)], "requests")] == [[0], [0]]


def test_there_may_be_any_number_of_spaces(tmp_path: Path) -> None:
    """Each pass counts under names of its own, and a run may take many."""
    contents = [hashed(1), bytes([255]) * 16, hashed(1)]
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        assert [sheet.tally(contents, f"{number}/input") for number in range(100)] == [[0, 0, 1]] * 100


def test_a_chunk_larger_than_a_query_is_looked_up_whole(tmp_path: Path) -> None:
    """More repeated contents than one query holds parameters are all found."""
    contents = [hashed(number) for number in range(1300)]
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        assert [set(sheet.tally(contents)), set(sheet.tally(contents)), set(sheet.tally(contents))] == [{0}, {1}, {2}]


def test_rows_come_back_in_order_with_their_requests_and_faults(tmp_path: Path) -> None:
    """Rows added in chunks are read in the order they were added, joined with ids by sample and faults."""
    fault = Fault(FaultKind.TEMPLATE, "no column 'x'", None, None)
    rows = [row(index) for index in (4, 2, 9)]
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        assert list(sheet.add(rows[:2])) == [0, 1]
        assert list(sheet.add(rows[2:])) == [2]
        sheet.bind([(2, [hashed(7)])])
        sheet.bind([(0, [hashed(5), hashed(6)])])
        sheet.fail([(1, fault)])
        assert list(sheet.rows(chunk=2)) == [
            (rows[0], [hashed(5), hashed(6)], None),
            (rows[1], [], fault),
            (rows[2], [hashed(7)], None),
        ]


def test_rows_may_be_read_from_a_position_on(tmp_path: Path) -> None:
    """Reading can start in the middle."""
    rows = [row(index) for index in range(5)]
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        sheet.add(rows)
        assert [found for found, _, _ in sheet.rows(start=3)] == rows[3:]


def test_steps_do_not_mix(tmp_path: Path) -> None:
    """Each step has its own rows, positions and count, in whatever order they are added."""
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        sheet.add([row(0)], "write")
        sheet.add([row(1)], "judge")
        sheet.add([row(2)], "write")
        assert {step: [found for found, _, _ in sheet.rows(step)] for step in ("write", "judge", "other")} == {
            "write": [row(0), row(2)],
            "judge": [row(1)],
            "other": [],
        }
        assert [sheet.count(step) for step in ("write", "judge", "other")] == [2, 1, 0]


def test_rows_can_be_added_while_they_are_read(tmp_path: Path) -> None:
    """A reader sees rows that came while it was reading."""
    with Worksheet(tmp_path / "worksheet.sqlite") as sheet:
        sheet.add([row(0), row(1)])
        reading = sheet.rows(chunk=1)
        first = next(reading)[0]
        sheet.add([row(2)])
        assert [first, *(found for found, _, _ in reading)] == [row(0), row(1), row(2)]


@pytest.mark.parametrize("leftover", [b"", b"not a database"])
def test_a_leftover_file_is_made_anew_and_closing_deletes_it(leftover: bytes, tmp_path: Path) -> None:
    """A file left by a run that died is no obstacle, and nothing stays behind."""
    path = tmp_path / "worksheet.sqlite"
    path.write_bytes(leftover)
    with Worksheet(path) as sheet:
        sheet.add([row(0)])
    assert list(tmp_path.iterdir()) == []
