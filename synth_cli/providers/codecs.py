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
    answer = Answer(protocol, body)
    try:
        return Exchange(READERS[protocol](body), answer)
    except StatedError as error:
        fault = error.fault or fault_of(200, {}, body, now=now, secrets=secrets)
        return Exchange(None, answer, fault)
    except BodyError as error:
        return Exchange(None, answer, Fault(FaultKind.MALFORMED, masked(str(error), secrets)))
