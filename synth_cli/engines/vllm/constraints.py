"""What an answer must be → vLLM's structured outputs. https://docs.vllm.ai/en/stable/features/structured_outputs.html

A constraint that cannot be compiled fails its own request: vLLM checks each one before its engine sees it.
"""

from __future__ import annotations

from typing import Any

import orjson

from synth_cli.core.guidance import guided
from synth_cli.core.request import Constraint


def fields(constraint: Constraint) -> dict[str, Any]:
    """The one field of `StructuredOutputsParams` that says this. A schema goes as text: it is copied with each
    request, and a text is not. It is widened to what guidance takes: the answer is validated afterwards anyway."""
    match constraint.kind:
        case "schema":
            return {"json": orjson.dumps(guided(constraint.value)).decode()}
        case "choice":
            return {"choice": list(constraint.value)}
        case "regex":
            return {"regex": constraint.value}
        case "grammar":
            return {"grammar": constraint.value}
