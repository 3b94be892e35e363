"""Which provider a model name means, and where and with which key to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from synth_cli.errors import AuthError, UsageError
from synth_cli.providers import prices
from synth_cli.providers.hosts import ALIASES, HOSTS, LITELLM_KEYS, SIMULATOR, Host, host_of

AZURE_API_VERSION = "2025-02-01-preview"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one model's requests go. Secrets are not in its repr."""

    backend: str
    model: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 600.0
    stream: bool = False
    host: Host = field(default=SIMULATOR, repr=False)
    query: str = ""
    """Put behind every URL (Azure's `api-version`)."""

    def url(self, *, completion: bool = False) -> str:
        """The address that a chat or a completion request is posted to."""
        path = "/completions" if completion else "/chat/completions"
        return self.base_url + path + (f"?{self.query}" if self.query else "")


def provider_of(model: str, backend: str | None, *, base_url: str | None = None) -> tuple[str, str]:
    """(backend, model name as that backend writes it). Raises UsageError for a name that no provider is known for.

    A given backend keeps a foreign prefix (`backend: groq`, `openai/gpt-oss-120b`) and drops its own.
    """
    prefix, slash, rest = model.partition("/")
    known = ALIASES.get(prefix, prefix)
    if backend is not None:
        chosen = ALIASES.get(backend, backend)
        if not _is_provider(chosen):
            raise UsageError(
                f"unknown backend '{backend}'", hint="any OpenAI-compatible server is `backend: openai` with a base_url"
            )
        own = slash and chosen != "litellm" and known == chosen and prefix != "" and rest != ""
        return chosen, rest if own else model
    if model == "simulator":
        return "simulator", model
    if slash and rest and (prefix in HOSTS or prefix in ALIASES or prefix in LITELLM_KEYS):
        return known, rest
    if base_url is not None:
        return "openai", model
    if slash and rest and _is_provider(known):
        return known, rest
    bare = prices.provider_of_bare(model)
    if bare is not None:
        return bare, model
    hint = "write provider/model (openai/gpt-5-mini), a backend, or a base_url of an OpenAI-compatible server"
    if model.startswith(("/", "./", "../", "~")):
        hint = "a model on this machine is run with `engine: vllm`"
    raise UsageError(f"no provider is known for model '{model}'", hint=hint)


def resolve(
    model: str,
    *,
    backend: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 600.0,
    stream: bool = False,
    environ: Mapping[str, str],
    simulated_url: str | None = None,
) -> Endpoint:
    """Everything needed to reach a model. Raises AuthError naming the variable when a key is needed and missing.

    `simulated_url` takes the place of whatever the spec names: its address, key and headers go nowhere.
    """
    backend, name = provider_of(model, backend, base_url=base_url)
    if simulated_url is not None:
        return Endpoint(backend, name, simulated_url.rstrip("/"), timeout=timeout, stream=stream, host=SIMULATOR)
    host = host_of(backend)
    own = base_url is None
    if base_url is None:
        base_url = _first(host.bases, environ) or host.base_url
    # a key copied with its line's end is a common accident
    key = (api_key or _first(host.keys, environ) or "").strip() or None
    _check(headers or {})
    if not host.litellm and not base_url:
        where = f" or set {host.bases[0]}" if host.bases else ""
        raise UsageError(f"backend {backend} needs an address", hint=f"give a base_url{where}")
    if key is None and host.key_needed and (own or host.base_url == "" or host.litellm):
        raise AuthError(f"no key for {backend}", hint=f"set {host.keys[0]}, or give an api_key")
    base_url, query = _address(base_url, host, name, environ)
    return Endpoint(backend, name, base_url, key, dict(headers or {}), timeout, stream, host, query)


def _address(base_url: str, host: Host, model: str, environ: Mapping[str, str]) -> tuple[str, str]:
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/")
    for known in ("/chat/completions", "/completions"):
        path = path.removesuffix(known)
    query = parts.query
    if host.name == "ollama" and path == "":
        path = "/v1"
    # addresses under /openai/v1 are Azure's newer ones: the model stands in the body and there is no version
    if host.deployments and not path.endswith("/openai/v1"):
        if "/deployments/" not in path:
            path = f"{path.removesuffix('/openai')}/openai/deployments/{quote(model, safe='')}"
        if "api-version" not in dict(parse_qsl(query)):
            version = environ.get("AZURE_API_VERSION") or environ.get("OPENAI_API_VERSION") or AZURE_API_VERSION
            query = "&".join(filter(None, (query, f"api-version={quote(version)}")))
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), query


def _check(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not name or any(ord(sign) < 32 or sign == "\x7f" for sign in name + value) or ":" in name or " " in name:
            raise UsageError(f"header {name!r} cannot be sent", hint="a header is one line of text without controls")


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _is_provider(name: str) -> bool:
    return name == "litellm" or name in HOSTS or name in LITELLM_KEYS or name in prices.providers()
