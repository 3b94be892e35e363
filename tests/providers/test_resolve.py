from __future__ import annotations

import pytest

from synth_cli.errors import AuthError, UsageError
from synth_cli.providers.hosts import HOSTS, LITELLM_KEYS, SIMULATOR
from synth_cli.providers.resolve import Endpoint, provider_of, resolve


@pytest.mark.parametrize(
    ("model", "backend", "base_url", "meant"),
    [
        ("openai/gpt-5-mini", None, None, ("openai", "gpt-5-mini")),
        ("gpt-5-mini", None, None, ("openai", "gpt-5-mini")),
        ("claude-sonnet-4-5", None, None, ("anthropic", "claude-sonnet-4-5")),
        ("gemini-2.5-pro", None, None, ("gemini", "gemini-2.5-pro")),
        ("simulator", None, None, ("simulator", "simulator")),
        ("simulator/slow", None, None, ("simulator", "slow")),
        ("together/meta-llama/Llama-3-8B", None, None, ("together_ai", "meta-llama/Llama-3-8B")),
        ("groq/openai/gpt-oss-120b", None, None, ("groq", "openai/gpt-oss-120b")),
        ("openai/gpt-oss-120b", "groq", None, ("groq", "openai/gpt-oss-120b")),
        ("groq/llama", "groq", None, ("groq", "llama")),
        ("meta-llama/Llama-3-8B", "vllm", None, ("vllm", "meta-llama/Llama-3-8B")),
        ("meta-llama/Llama-3-8B", None, "http://localhost:8000/v1", ("openai", "meta-llama/Llama-3-8B")),
        ("my-model", None, "http://localhost:8000/v1", ("openai", "my-model")),
        ("bedrock/anthropic.claude-x", None, None, ("bedrock", "anthropic.claude-x")),
        ("anthropic/claude-x", "litellm", None, ("litellm", "anthropic/claude-x")),
        ("gpt-3.5-turbo-instruct", None, None, ("openai", "gpt-3.5-turbo-instruct")),
    ],
)
def test_a_model_name_means_a_provider(
    model: str, backend: str | None, base_url: str | None, meant: tuple[str, str]
) -> None:
    """The prefix, the backend, the address or the bare name says who is meant; a foreign prefix stays in the name."""
    assert provider_of(model, backend, base_url=base_url) == meant


@pytest.mark.parametrize(("model", "backend"), [("mymodel-7", None), ("nobody/knows", None), ("gpt-5", "opanai")])
def test_an_unknown_provider_is_an_error_that_says_what_to_write(model: str, backend: str | None) -> None:
    """No guess is made, and the message names the culprit."""
    with pytest.raises(UsageError, match=backend or model) as caught:
        provider_of(model, backend)
    assert "base_url" in caught.value.hint


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_host_of_the_table_can_be_reached_or_says_what_is_missing(name: str) -> None:
    """With a key and an address each host has an endpoint; without a key it names the variable to set."""
    host = HOSTS[name]
    given = "http://x.test/v1"
    made = resolve("m", backend=name, base_url=None if host.base_url else given, api_key="k", environ={})
    assert (made.backend, made.model, made.api_key, made.host) == (name, "m", "k", host)
    assert made.url().partition("?")[0].endswith("/chat/completions")
    if host.key_needed:
        with pytest.raises(AuthError) as caught:
            resolve("m", backend=name, base_url=None if host.base_url else given, environ={})
        assert host.keys[0] in caught.value.hint


@pytest.mark.parametrize("name", sorted(LITELLM_KEYS))
def test_providers_through_litellm_need_their_key_too(name: str) -> None:
    """The missing variable is named before LiteLLM is imported."""
    with pytest.raises(AuthError, match=name):
        resolve("m", backend=name, environ={})
    assert resolve("m", backend=name, environ={LITELLM_KEYS[name][-1]: "k"}).api_key == "k"


def test_a_server_of_ones_own_needs_no_key() -> None:
    """`base_url` without a key is a local server; a key in the environment is used all the same."""
    url = "http://localhost:9/v1/"
    assert resolve("m", base_url=url, environ={}) == Endpoint("openai", "m", url[:-1], host=HOSTS["openai"])
    assert resolve("m", base_url=url, environ={"OPENAI_API_KEY": "k"}).api_key == "k"


def test_the_simulator_takes_the_place_of_everything() -> None:
    """No key, no header and no address of the real provider is left."""
    made = resolve(
        "anthropic/claude-x",
        base_url="http://real.test",
        api_key="secret",
        headers={"x": "y"},
        environ={"ANTHROPIC_API_KEY": "secret"},
        simulated_url="http://127.0.0.1:1/v1",
    )
    assert made == Endpoint("anthropic", "claude-x", "http://127.0.0.1:1/v1", host=SIMULATOR)


@pytest.mark.parametrize(
    ("base_url", "environ", "url"),
    [
        (
            "https://r.openai.azure.com/",
            {},
            "https://r.openai.azure.com/openai/deployments/my%20d/chat/completions?api-version=2025-02-01-preview",
        ),
        (
            None,
            {"AZURE_API_BASE": "https://r.azure.test", "AZURE_API_VERSION": "2024-10-21"},
            "https://r.azure.test/openai/deployments/my%20d/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://r.azure.test/openai/deployments/other?api-version=1",
            {},
            "https://r.azure.test/openai/deployments/other/chat/completions?api-version=1",
        ),
        (
            "https://r.azure.test/openai/deployments/other/chat/completions?api-version=1",
            {},
            "https://r.azure.test/openai/deployments/other/chat/completions?api-version=1",
        ),
        ("https://r.azure.test/openai/v1", {}, "https://r.azure.test/openai/v1/chat/completions"),
    ],
)
def test_azure_puts_the_deployment_into_the_address(base_url: str | None, environ: dict[str, str], url: str) -> None:
    """A resource's address, a deployment's, and the newer one without versions are all understood."""
    assert resolve("azure/my d", base_url=base_url, api_key="k", environ=environ).url() == url


def test_an_address_may_be_written_in_the_usual_ways() -> None:
    """A full path to the endpoint, Ollama's bare address and the variables of the hosts all lead there."""
    assert resolve("m", base_url="http://h/v1/chat/completions", environ={}).url() == "http://h/v1/chat/completions"
    assert resolve("ollama/m", base_url="http://h:11434", environ={}).url() == "http://h:11434/v1/chat/completions"
    assert resolve("ollama/m", environ={"OLLAMA_API_BASE": "http://h:1"}).base_url == "http://h:1/v1"
    assert resolve("m", base_url="http://h/v1", environ={}).url(completion=True) == "http://h/v1/completions"


def test_secrets_do_not_show() -> None:
    """Neither the key nor the headers are in an endpoint's text."""
    made = resolve("openai/m", api_key="sk-secret\n", headers={"x-key": "sk-other"}, environ={})
    assert made.api_key == "sk-secret"
    assert "sk-" not in repr(made)


@pytest.mark.parametrize("headers", [{"a": "b\nc"}, {"a b": "c"}, {"": "c"}, {"a:": "c"}])
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    """A line break in a header would be a header of its own."""
    with pytest.raises(UsageError, match="header"):
        resolve("openai/m", api_key="k", headers=headers, environ={})
