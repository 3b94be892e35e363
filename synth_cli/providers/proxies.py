"""Which proxy and which certificate authorities the usual environment variables ask for."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> str | None:
    """The proxy for an address: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, unless NO_PROXY names the host.

    Lower-case names win, as in curl and Python's own libraries.
    """
    proxy = _named(f"{scheme}_proxy", environ) or _named("all_proxy", environ)
    if not proxy:
        return None
    excepted = _named("no_proxy", environ)
    if excepted and _excepted(host, port, excepted):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Verifies servers, against SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE where one is set.

    Raises OSError where that file cannot be read, naming the variable and the file.
    """
    name = next((name for name in CA_VARIABLES if environ.get(name)), None)
    try:
        context = ssl.create_default_context(cafile=environ[name] if name else None)
    except OSError as error:
        # OpenSSL says neither which file nor that it holds no certificate
        reason = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "no certificates in PEM"
        raise OSError(f"{name}={environ[name]}: {reason}" if name else str(error)) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _named(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _excepted(host: str, port: int, excepted: str) -> bool:
    for entry in excepted.lower().split(","):
        name = entry.strip().removeprefix("*").lstrip(".")
        if entry.strip() == "*":
            return True
        if name and any(it == name or it.endswith(f".{name}") for it in (host.lower(), f"{host.lower()}:{port}")):
            return True
    return False
