"""Jobs of several steps against a scripted server, and what a test says of their requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripted_server import Asked, Say

NO = Say(None, 400, {"error": {"message": "no such word"}})
BROKEN = Say(None, 500, {"error": {"message": "broken"}})
WORDS = [{"word": "one"}, {"word": "two"}, {"word": "three"}]


def model(url: str, name: str = "m", **more: Any) -> dict[str, Any]:
    return {"name": name, "base_url": url, "api_key": "sk-quite-secret", **more}


def chain(url: str, *steps: Mapping[str, Any], **top: Any) -> dict[str, Any]:
    """A spec whose steps ask the model `m` at an address, for each of three words."""
    return {"model": model(url), "input": {"rows": WORDS}, "steps": [dict(step) for step in steps], **top}


def step(name: str, prompt: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "prompt": prompt, **more}


def said(asked: Sequence[Asked]) -> list[tuple[str, str]]:
    """(model, user turn) of requests, in the order in which they came."""
    return [(str(one.body["model"]), one.user) for one in asked]
