from __future__ import annotations

import pytest

from synth_cli.core.cost import Price, cost, worst_case
from synth_cli.core.reply import Usage

USUAL = Price(2.0, 8.0, cached=0.5, cache_write=2.5)


@pytest.mark.parametrize(
    ("usage", "price", "usd"),
    [
        (Usage(10, 5), Price(2.0, 8.0), 60.0),
        (Usage(10, 5, cached=4), USUAL, 6 * 2 + 4 * 0.5 + 5 * 8),
        (Usage(10, 5, cached=4, cache_written=3), USUAL, 3 * 2 + 4 * 0.5 + 3 * 2.5 + 5 * 8),
        (Usage(10, 5, cached=4, cache_written=3), Price(2.0, 8.0), 60.0),
        (Usage(10, 5, reasoning=2), Price(2.0, 8.0, reasoning=3.0), 20 + 3 * 8 + 2 * 3),
        (Usage(0, 0), USUAL, 0.0),
        (Usage(3, 1, cached=9), USUAL, 9 * 0.5 + 8),
        (Usage(100, 1), Price(1.0, 1.0, long_above=100, long=Price(9.0, 9.0)), 101.0),
        (Usage(101, 1), Price(1.0, 1.0, long_above=100, long=Price(9.0, 9.0)), 102 * 9.0),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, price: Price, usd: float) -> None:
    """Cached, written and reasoning tokens are charged once, at their own price or at that of their kind."""
    assert cost(usage, price) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("price", "usd"),
    [
        (None, 0.0),
        (Price(2.0, 8.0), 100 * 2 + 50 * 8),
        (USUAL, 100 * 2.5 + 50 * 8),
        (Price(2.0, 8.0, reasoning=9.0), 100 * 2 + 50 * 9),
        (Price(2.0, 8.0, long_above=99, long=Price(4.0, 12.0)), 100 * 4 + 50 * 12),
        (Price(2.0, 8.0, long_above=100, long=Price(4.0, 12.0)), 100 * 2 + 50 * 8),
        (Price(9.0, 9.0, long_above=99, long=Price(4.0, 4.0)), 150 * 9),
    ],
)
def test_the_worst_case_is_the_dearest_way_to_be_charged(price: Price | None, usd: float) -> None:
    """Every byte is a token of the dearest kind, and the output is as long as it may be."""
    assert worst_case(100, 50, price) == (pytest.approx(usd), 150)


def test_no_usage_costs_more_than_the_worst_case() -> None:
    """Whatever the split of the tokens, the cost stays within what was reserved."""
    price = Price(2.0, 8.0, cached=0.5, cache_write=2.5, reasoning=9.0, long_above=60, long=Price(4.0, 12.0))
    reserved, _ = worst_case(100, 50, price)
    for entered in range(0, 101, 10):
        for cached in range(0, entered + 1, 10):
            usage = Usage(entered, 50, cached=cached, cache_written=entered - cached, reasoning=25)
            assert cost(usage, price) <= reserved
