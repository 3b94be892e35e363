"""Every protocol whose answers can be read, by the name under which they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from synth_cli.core.ports import Exchange
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.providers import anthropic, gemini, openai
from synth_cli.providers.faults import fault_of, masked
from synth_cli.providers.openai import BodyError, StatedError

READERS: Mapping[str, Callable[[bytes], Reply]] = {**openai.READERS, **anthropic.READERS, **gemini.READERS}


def exchange(protocol: str, body: bytes, *, now: float, secrets: tuple[str, ...] = ()) -> Exchange:
    """A body that came with a status of success, whatever it says."""
    try:
        return Exchange(READERS[protocol](body), Answer(protocol, body))
    except StatedError as error:
        fault = error.fault or fault_of(200, {}, body, now=now, secrets=secrets)
    except BodyError as error:
        fault = Fault(FaultKind.MALFORMED, masked(str(error), secrets))
    return Exchange(None, Answer(protocol, without(body, secrets)), fault)


def without(body: bytes, secrets: tuple[str, ...]) -> bytes:
    """A body that is kept only to be looked at: some servers repeat what they were sent, keys and all."""
    for secret in secrets:
        body = body.replace(secret.encode(), b"***")
    return body
