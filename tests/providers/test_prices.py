from __future__ import annotations

import subprocess
import sys

import pytest

from synth_cli.core.cost import Price
from synth_cli.providers import prices


def test_the_users_prices_win() -> None:
    """Both given: the table is not asked. One given: the other comes from the table, or nothing is known."""
    assert prices.price("openai", "none-such", in_mtok=1.5, out_mtok=2) == Price(1.5e-6, 2e-6)
    assert prices.price("openai", "none-such", in_mtok=1.5) is None
    listed = prices.price("openai", "gpt-5-mini")
    assert listed is not None
    assert prices.price("openai", "gpt-5-mini", out_mtok=1) == Price(listed.input, 1e-6, listed.cached)
    assert prices.price("openai", "gpt-5-mini", in_mtok=1) == Price(1e-6, listed.output)


@pytest.mark.parametrize(
    ("backend", "model"),
    [
        ("openai", "gpt-5-mini"),
        ("openai", "gpt-5-mini-2025-08-07"),
        ("anthropic", "claude-sonnet-4-5"),
        ("groq", "openai/gpt-oss-120b"),
        ("gemini", "gemini-2.5-pro"),
        ("vertex_ai", "gemini-2.5-pro"),
        ("azure", "gpt-5-mini"),
        ("litellm", "anthropic/claude-sonnet-4-5"),
        ("bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0"),
    ],
)
def test_known_models_have_a_price_and_bounds(backend: str, model: str) -> None:
    """Under the provider's name, a bare name, a dated one, or behind `litellm`."""
    found = prices.price(backend, model)
    assert found is not None
    assert 0 < found.input < found.output < 1e-3
    assert (prices.max_output_tokens(backend, model) or 0) > 1000
    assert (prices.context_window(backend, model) or 0) > 10_000


def test_an_unknown_price_is_unknown() -> None:
    """Never 0: neither for an unknown model, nor for another provider's model of that name."""
    assert prices.price("openai", "none-such") is None
    assert prices.price("fireworks_ai", "gpt-5-mini") is None
    assert prices.max_output_tokens("openai", "none-such") is None
    assert prices.context_window("openai", "none-such") is None


def test_long_contexts_and_tiers_have_their_price() -> None:
    """A request above the threshold is dearer; a batch is cheaper; a tier without a price costs the standard one."""
    found = prices.price("gemini", "gemini-2.5-pro")
    assert found is not None
    assert found.long_above == 200_000
    assert found.long is not None
    assert found.long.input > found.input
    standard, batch = prices.price("openai", "gpt-5-mini"), prices.price("openai", "gpt-5-mini", tier="batches")
    assert standard is not None
    assert batch is not None
    assert batch.input == standard.input / 2
    assert prices.price("openai", "gpt-3.5-turbo-instruct", tier="flex") == prices.price(
        "openai", "gpt-3.5-turbo-instruct"
    )


def test_nothing_heavy_is_imported_for_it() -> None:
    """Prices, clients and the transport leave LiteLLM and aiohttp alone."""
    code = (
        "import sys\n"
        "from synth_cli.providers import clients, prices\n"
        "assert prices.price('openai', 'gpt-5-mini')\n"
        "print(sorted({'litellm', 'aiohttp', 'datasets', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
