"""A row's values ↔ bytes."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_cli.core.values import decode, encode
from synth_cli.errors import UsageError

UNUSUAL = {
    "bytes": b"\x00\xff",
    "aware": datetime(2026, 11, 21, 10, 30, tzinfo=UTC),
    "naive": datetime.fromisoformat("2026-11-21T10:30:00.000005"),
    "date": date(1950, 1, 1),
    "time": time(12, 30),
    "delta": timedelta(days=-1, microseconds=3),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "tuple": (1, (2, None)),
    "set": {1, 2},
    "infinite": -math.inf,
    "large": 2**70,
    "complex": 1 - 2j,
    "keys": {1: "a", None: "b", "\x00": "c"},
    "nested": [{"image": b"png", "said": "é"}, [(1,)]],
    "broken text": "a\ud800b",
    "zero": -0.0,
}


class Level(StrEnum):
    EASY = "easy"


scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates()
)
values = st.recursive(
    scalars | st.datetimes().map(lambda moment: moment.replace(fold=0)) | st.decimals(allow_nan=False) | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_values_come_back_as_they_were(name: str) -> None:
    """What JSON cannot say comes back equal and of the same type, on one line."""
    row = {"column": UNUSUAL[name]}
    found = decode(encode(row))
    assert (found, repr(found), b"\n" in encode(row)) == (row, repr(row), False)


def test_nan_comes_back() -> None:
    """NaN, which JSON would make null, stays NaN."""
    assert math.isnan(decode(encode({"x": math.nan}))["x"])


@given(st.dictionaries(st.text(), values))
def test_any_values_come_back_as_they_were(row: dict[str, Any]) -> None:
    """Whatever a row is made of, what is read equals what was written, types included."""
    found = decode(encode(row))
    assert (found, repr(found)) == (row, repr(row))


def test_ordinary_rows_are_plain_json() -> None:
    """A row that JSON says whole is kept as just that."""
    assert (
        encode({"a": "x", "n": 1, "f": 1.5, "l": [None, {"b": True}]})
        == b'{"a":"x","n":1,"f":1.5,"l":[null,{"b":true}]}'
    )


def test_a_member_of_an_enum_is_kept_as_its_value() -> None:
    """Subclasses of text and numbers come back as the plain value."""
    assert decode(encode({"level": Level.EASY, "raw": b""})) == {"level": "easy", "raw": b""}


def test_a_value_of_an_unknown_kind_is_named() -> None:
    """A value that cannot be kept is an error that names the column and the type."""
    with pytest.raises(UsageError, match=r"column 'share' holds a value of type fractions\.Fraction"):
        encode({"name": "x", "share": [Fraction(1, 3)]})


def test_an_image_comes_back_pixel_for_pixel() -> None:
    """An image keeps mode, size, palette, pixels and format."""
    image_module = pytest.importorskip("PIL.Image")
    palette = image_module.new("P", (2, 1))
    palette.putpalette([1, 2, 3, 4, 5, 6])
    palette.putdata([0, 1])
    colour = image_module.new("RGBA", (3, 2), (1, 2, 3, 4))
    colour.format = "PNG"
    found = decode(encode({"a": palette, "b": colour}))
    assert [(i.mode, i.size, i.tobytes(), i.getpalette(), i.format) for i in found.values()] == [
        (i.mode, i.size, i.tobytes(), i.getpalette(), i.format) for i in (palette, colour)
    ]
