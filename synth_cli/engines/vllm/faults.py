"""What vLLM refused or failed at → the fault of that one request."""

from __future__ import annotations

from jinja2 import TemplateError

from synth_cli.core.reply import Fault, FaultKind
from synth_cli.engines.vllm.params import ParamError

TOO_LONG = ("maximum model length", "maximum context length", "maximum model len")
LONGEST = 2000
"""Characters of a message that are kept: some errors repeat the prompt."""


def fault_of(error: Exception) -> Fault:
    """The fault that an error at one request means. The engine itself is known to be alive."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMServerError
    from vllm.v1.engine.exceptions import EngineGenerateError

    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    message = (str(error) or type(error).__name__)[:LONGEST]
    if isinstance(error, ParamError):
        return Fault(FaultKind.BAD_REQUEST, message)
    if isinstance(error, TemplateError):
        return Fault(FaultKind.BAD_REQUEST, f"the chat template cannot be read: {message}")
    if isinstance(error, GracefulHTTPError):
        return Fault(FaultKind.OVERLOADED, message)
    if getattr(error, "parameter", None) in ("input_tokens", "input_text") or any(say in message for say in TOO_LONG):
        return Fault(FaultKind.CONTEXT_LENGTH, message)
    if isinstance(error, VLLMServerError):
        return Fault(FaultKind.SERVER_ERROR, message)
    if isinstance(error, VLLMClientError | ValueError | TypeError | NotImplementedError):
        return Fault(FaultKind.BAD_REQUEST, message)
    return Fault(FaultKind.SERVER_ERROR, f"{type(error).__name__}: {message}")
