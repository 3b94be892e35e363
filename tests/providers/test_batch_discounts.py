from __future__ import annotations

import pytest

from synth_cli.core.cost import Price
from synth_cli.core.cost import cost as cost_of
from synth_cli.core.reply import Usage
from synth_cli.providers import prices
from synth_cli.providers.batches.discounts import DISCOUNTS, batch_price


def test_the_table_has_the_first_word() -> None:
    """A price of batches that it lists is taken as it stands."""
    assert prices.listed("openai", "gpt-4o", "batches")
    found = batch_price("openai", "gpt-4o")
    assert found is not None
    assert (found.input, found.output) == (1.25e-6, 5e-6)


@pytest.mark.parametrize(("backend", "model"), [("mistral", "mistral-small-latest"), ("groq", "openai/gpt-oss-20b")])
def test_a_documented_discount_holds_where_the_table_is_silent(backend: str, model: str) -> None:
    """Half of every part of the price."""
    online, found = prices.price(backend, model), batch_price(backend, model)
    assert online is not None
    assert found is not None
    usage = Usage(1000, 500, 200)
    assert (DISCOUNTS[backend], cost_of(usage, found)) == (0.5, pytest.approx(cost_of(usage, online) / 2))


def test_without_a_documented_discount_the_online_price_holds() -> None:
    """A cost is never told too low."""
    model = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    assert batch_price("together_ai", model) == prices.price("together_ai", model) is not None


def test_what_the_user_gives_is_taken_as_it_is() -> None:
    """No discount on it; the other half of the price is still the batch's."""
    assert batch_price("openai", "gpt-4o", in_mtok=3, out_mtok=4) == Price(3e-6, 4e-6)
    one, other = batch_price("openai", "gpt-4o", in_mtok=3), batch_price("openai", "gpt-4o", out_mtok=4)
    assert one is not None
    assert other is not None
    assert (one.input, one.output, other.input, other.output) == (3e-6, 5e-6, 1.25e-6, 4e-6)


def test_an_unknown_model_has_no_price() -> None:
    """Unless the user gives it; the simulator's is none at all."""
    assert (batch_price("openai", "no-such"), batch_price("openai", "no-such", in_mtok=1)) == (None, None)
    assert batch_price("openai", "no-such", in_mtok=1, out_mtok=2) == Price(1e-6, 2e-6)
    assert batch_price("simulator", "simulator") == Price(0.0, 0.0)


def test_long_inputs_cost_more_in_batches_too() -> None:
    """As much more as online."""
    online, found = prices.price("gemini", "gemini-2.5-pro"), batch_price("gemini", "gemini-2.5-pro")
    assert online is not None
    assert found is not None
    assert online.long is not None
    assert found.long is not None
    assert (found.long_above, found.long.output) == (online.long_above, pytest.approx(online.long.output / 2))
