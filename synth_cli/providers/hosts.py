"""One table of the hosts that speak OpenAI's protocol, and how each departs from it; all others go through LiteLLM.

Sources: each host's API reference, and LiteLLM's provider definitions for addresses and names of variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Structured: TypeAlias = Literal["strict", "schema", "json", "vllm"]
"""How a JSON Schema is sent: `strict` as OpenAI's strict subset, `schema` whole, `json` as JSON mode with the schema
in the prompt, `vllm` whole, and choice, regex and grammar in vLLM's own field."""

LimitHeaders: TypeAlias = Literal["openai", "daily", "mistral", "cerebras", "sambanova", "none"]


@dataclass(frozen=True, slots=True)
class Host:
    """How to speak to one provider."""

    name: str
    base_url: str = ""
    """Up to and with /v1; empty where each user has an address of their own."""
    keys: tuple[str, ...] = ()
    """Environment variables that may hold the key; the first that is set counts."""
    bases: tuple[str, ...] = ()
    """Environment variables that may hold the address."""
    key_needed: bool = True
    auth: Literal["bearer", "api-key"] = "bearer"
    structured: Structured = "schema"
    structured_only: str = ""
    """A pattern of the models that take `structured`; all others get JSON mode."""
    unsupported: frozenset[str] = frozenset()
    """Keywords of JSON Schema that this host refuses beyond those that OpenAI refuses."""
    renames: Mapping[str, str] = field(default_factory=dict)
    renames_only: str = ""
    """A pattern of the models whose parameters are renamed; empty: all."""
    stream_usage: bool = True
    """Whether a stream must be asked for its usage (`stream_options`); others send it anyway and refuse the field."""
    limits: LimitHeaders = "openai"
    deployments: bool = False
    """Azure: the model is a deployment in the URL, with an `api-version`."""
    litellm: bool = False
    """Not OpenAI's protocol: LiteLLM translates."""

    def structured_for(self, model: str) -> Structured:
        if self.structured_only and not re.search(self.structured_only, model):
            return "json"
        return self.structured

    def renames_for(self, model: str) -> Mapping[str, str]:
        if self.renames_only and not re.search(self.renames_only, model):
            return {}
        return self.renames


NEWER_OPENAI = r"(^|[/:])(o[1-9]|gpt-[5-9]|gpt-\d\d|codex-)"
"""Models that refuse `max_tokens`."""
TO_NEW = {"max_tokens": "max_completion_tokens"}
TO_OLD = {"max_completion_tokens": "max_tokens"}

_TABLE = (
    Host(
        "openai",
        "https://api.openai.com/v1",
        keys=("OPENAI_API_KEY",),
        bases=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        structured="strict",
        structured_only=r"^(?!.*(gpt-3\.5|gpt-4-|gpt-4$|gpt-4o-2024-05-13|o1-mini|o1-preview)).*$",
        renames=TO_NEW,
        renames_only=NEWER_OPENAI,
    ),
    Host(
        "azure",
        keys=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
        bases=("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
        auth="api-key",
        structured="strict",
        renames=TO_NEW,
        deployments=True,
    ),
    Host("vllm", keys=("VLLM_API_KEY",), bases=("VLLM_BASE_URL",), key_needed=False, structured="vllm", limits="none"),
    Host(
        "hosted_vllm",
        keys=("HOSTED_VLLM_API_KEY",),
        bases=("HOSTED_VLLM_API_BASE",),
        key_needed=False,
        structured="vllm",
        limits="none",
    ),
    Host("simulator", key_needed=False, structured="vllm"),
    Host("ollama", "http://localhost:11434/v1", bases=("OLLAMA_API_BASE",), key_needed=False, limits="none"),
    Host(
        "lm_studio",
        "http://localhost:1234/v1",
        keys=("LM_STUDIO_API_KEY",),
        bases=("LM_STUDIO_API_BASE",),
        key_needed=False,
        limits="none",
    ),
    Host("llamafile", "http://localhost:8080/v1", bases=("LLAMAFILE_API_BASE",), key_needed=False, limits="none"),
    Host(
        "together_ai",
        "https://api.together.xyz/v1",
        keys=("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY"),
        renames=TO_OLD,
        limits="none",
    ),
    Host(
        "groq",
        "https://api.groq.com/openai/v1",
        keys=("GROQ_API_KEY",),
        structured="strict",
        structured_only=r"gpt-oss|kimi|llama-4",
        limits="daily",
    ),
    Host(
        "deepseek",
        "https://api.deepseek.com/v1",
        keys=("DEEPSEEK_API_KEY",),
        bases=("DEEPSEEK_API_BASE",),
        structured="json",
        renames=TO_OLD,
    ),
    Host(
        "mistral",
        "https://api.mistral.ai/v1",
        keys=("MISTRAL_API_KEY",),
        bases=("MISTRAL_API_BASE",),
        structured="strict",
        renames={**TO_OLD, "seed": "random_seed"},
        stream_usage=False,
        limits="mistral",
    ),
    Host("openrouter", "https://openrouter.ai/api/v1", keys=("OPENROUTER_API_KEY", "OR_API_KEY"), structured="strict"),
    Host(
        "fireworks_ai",
        "https://api.fireworks.ai/inference/v1",
        keys=("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        renames=TO_OLD,
        limits="none",
    ),
    Host("xai", "https://api.x.ai/v1", keys=("XAI_API_KEY",), structured="strict"),
    Host(
        "perplexity",
        "https://api.perplexity.ai",
        keys=("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        renames=TO_OLD,
        stream_usage=False,
    ),
    Host(
        "cerebras",
        "https://api.cerebras.ai/v1",
        keys=("CEREBRAS_API_KEY",),
        structured="strict",
        unsupported=frozenset({"pattern", "format", "minItems", "maxItems", "multipleOf"}),
        limits="cerebras",
    ),
    Host("sambanova", "https://api.sambanova.ai/v1", keys=("SAMBANOVA_API_KEY",), renames=TO_OLD, limits="sambanova"),
    Host(
        "nvidia_nim",
        "https://integrate.api.nvidia.com/v1",
        keys=("NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"),
        bases=("NVIDIA_NIM_API_BASE",),
        renames=TO_OLD,
    ),
    Host("deepinfra", "https://api.deepinfra.com/v1/openai", keys=("DEEPINFRA_API_KEY",), renames=TO_OLD),
    Host("hyperbolic", "https://api.hyperbolic.xyz/v1", keys=("HYPERBOLIC_API_KEY",), structured="json"),
    Host("nebius", "https://api.studio.nebius.ai/v1", keys=("NEBIUS_API_KEY",)),
    Host("novita", "https://api.novita.ai/v3/openai", keys=("NOVITA_API_KEY",), structured="json"),
    Host("moonshot", "https://api.moonshot.ai/v1", keys=("MOONSHOT_API_KEY",), structured="json", renames=TO_OLD),
    Host(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        keys=("DASHSCOPE_API_KEY",),
        bases=("DASHSCOPE_API_BASE",),
        structured="json",
        renames=TO_OLD,
    ),
    Host(
        "litellm_proxy",
        keys=("LITELLM_PROXY_API_KEY",),
        bases=("LITELLM_PROXY_API_BASE",),
        key_needed=False,
        limits="none",
    ),
    Host("zai", "https://api.z.ai/api/paas/v4", keys=("ZAI_API_KEY",), structured="json", renames=TO_OLD),
)

LITELLM_KEYS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "ai21": ("AI21_API_KEY",),
    "replicate": ("REPLICATE_API_KEY", "REPLICATE_API_TOKEN"),
    "huggingface": ("HUGGINGFACE_API_KEY", "HF_TOKEN"),
    "databricks": ("DATABRICKS_API_KEY",),
    "watsonx": ("WATSONX_API_KEY", "WATSONX_APIKEY", "WATSONX_TOKEN"),
}
"""Keys of providers reached through LiteLLM; those that log in otherwise (bedrock, vertex_ai…) are not here."""

ALIASES: Mapping[str, str] = {
    "together": "together_ai",
    "fireworks": "fireworks_ai",
    "nvidia": "nvidia_nim",
    "lmstudio": "lm_studio",
    "ollama_chat": "ollama",
    "azure_openai": "azure",
    "x_ai": "xai",
    "text-completion-openai": "openai",
    "openai_like": "openai",
    "custom_openai": "openai",
    "google": "gemini",
    "vertex": "vertex_ai",
}
HOSTS: Mapping[str, Host] = {host.name: host for host in _TABLE}
SIMULATOR = HOSTS["simulator"]


def host_of(backend: str) -> Host:
    """How to speak to a backend; what is not in the table goes through LiteLLM."""
    name = ALIASES.get(backend, backend)
    found = HOSTS.get(name)
    if found is not None:
        return found
    keys = LITELLM_KEYS.get(name, ())
    return Host(name, keys=keys, key_needed=bool(keys), litellm=True, limits="none")
