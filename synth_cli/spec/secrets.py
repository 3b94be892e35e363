"""Which values of a spec are secrets: never in a log, a report, a hash, a lock or the state folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

HIDDEN = "(secret)"
_HEADER = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
SHORTEST = 4
"""Shorter texts are not hidden elsewhere: they would black out half of every log."""


def _secret_places(node: Any, under: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """(mapping, key) of each secret."""
    if isinstance(node, dict):
        for key, value in node.items():
            name = str(key)
            hidden = (
                name == "api_key"
                or (under == "sql" and name == "url")
                or (under == "headers" and is_secret_header(name))
                or "webhook" in name
            )
            if hidden and isinstance(value, str):
                yield node, key
            elif name not in {"rows", "vars", "matrix", "schema", "columns"}:
                yield from _secret_places(value, name)
    elif isinstance(node, list):
        for each in node:
            yield from _secret_places(each, under)


def secrets_of(data: Any) -> frozenset[str]:
    """The secret texts, and the passwords inside of addresses."""
    found: set[str] = set()
    for node, key in _secret_places(data):
        found |= {node[key], *_passwords(node[key])}
    for address in _addresses(data):
        found |= {*_passwords(address)}
    return frozenset(text for text in found if len(text) >= SHORTEST)


def hidden(text: str, secrets: frozenset[str]) -> str:
    """The text without the secrets that are in it."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def is_secret_header(name: str) -> bool:
    """Whether a header of this name carries a secret."""
    return _HEADER.search(name) is not None


def _addresses(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"base_url", "path"} and isinstance(value, str):
                yield value
            else:
                yield from _addresses(value)
    elif isinstance(node, list):
        for each in node:
            yield from _addresses(each)


def _passwords(address: str) -> list[str]:
    try:
        password = urlsplit(address).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def redacted(data: dict[str, Any]) -> dict[str, Any]:
    """The same values with each secret replaced by `(secret)`."""
    copy: dict[str, Any] = _copied(data)
    for node, key in list(_secret_places(copy)):
        node[key] = HIDDEN
    hidden = [password for address in _addresses(copy) for password in _passwords(address)]
    return _without(copy, hidden) if hidden else copy


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def _without(node: Any, hidden: list[str]) -> Any:
    if isinstance(node, dict):
        return {key: _without(value, hidden) for key, value in node.items()}
    if isinstance(node, list):
        return [_without(value, hidden) for value in node]
    if isinstance(node, str):
        for password in hidden:
            node = node.replace(f":{password}@", f":{HIDDEN}@")
    return node
