"""Parameters, samples and a constraint → vLLM's `SamplingParams`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from synth_cli.core.request import Constraint
from synth_cli.engines.vllm import constraints
from synth_cli.engines.vllm.params import GREEDY, ParamError

NEVER = 2**31 - 1
"""More tokens than any answer has."""
SEEDS = range(-(2**63), 2**64)
"""What torch's generators are seeded with."""


class Sampling:
    """The sampling of one `Terms`, checked once; every call gets a copy with its own seed and number of samples."""

    def __init__(
        self, params: Mapping[str, Any], constraint: Constraint | None, *, defaults: Mapping[str, Any] | None = None
    ) -> None:
        """`defaults` are the model's own, from its generation config. Raises ParamError and vLLM's own errors for
        values that it does not take."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        self._in_parts = RequestOutputKind.DELTA
        given = typed({"max_tokens": None, **_defaults(defaults or {}, params), **params})
        structured = None if constraint is None else StructuredOutputsParams(**constraints.fields(constraint))
        self._params = SamplingParams(
            **given,
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=structured,
            # a copy of each value for each request would cost more than the rest of a request
            skip_clone=True,
        )

    @property
    def greedy(self) -> bool:
        """Whether all samples would be the same: vLLM refuses to be asked for several at once."""
        return bool(self._params.temperature < GREEDY)

    @property
    def logprobs(self) -> int | None:
        """How many of the likeliest tokens an answer shows beside each of its own; None: no probabilities at all."""
        told = self._params.num_logprobs
        return None if told is None else int(told)

    def of(self, n: int, seed: int | None, *, timed: bool = False) -> Any:
        """`SamplingParams` for `n` samples, the first with `seed`, each other with one more than the one before.

        Timed, the first token comes by itself, which tells when it was there, and then all the rest at once.
        """
        if seed is not None and not (seed in SEEDS and seed + n - 1 in SEEDS):
            raise ParamError(f"seed {seed} is not a number of 64 bits")
        params = copy(self._params)
        params.n = n
        if timed:
            params.output_kind = self._in_parts
            params.stream_interval = NEVER
        if seed is not None:
            params.seed = seed
        return params


def typed(params: Mapping[str, Any]) -> dict[str, Any]:
    """The values in their fields' types. vLLM itself does not look at types: its engine would, and end.

    Raises ParamError naming the parameter.
    """
    kinds = _kinds()
    found = {}
    for name, value in params.items():
        try:
            # as JSON: there a key "42" is a number where numbers are meant, and a mapping a record
            found[name] = kinds[name].validate_json(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), strict=True)
        except ValidationError as error:
            raise ParamError(f"{name}: {error.errors()[0]['msg']}, not {value!r}") from None
    return found


_KINDS: dict[str, TypeAdapter[Any]] = {}


def _kinds() -> Mapping[str, TypeAdapter[Any]]:
    if not _KINDS:
        from typing import get_type_hints

        from vllm.sampling_params import SamplingParams

        from synth_cli.engines.vllm.params import SAMPLING

        hints = get_type_hints(SamplingParams, include_extras=True)
        _KINDS.update({name: TypeAdapter(hint) for name, hint in hints.items() if name in SAMPLING})
    return _KINDS


def _defaults(defaults: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own defaults as vLLM's server takes them; its stop tokens hold beside those of the spec."""
    from synth_cli.engines.vllm.params import SAMPLING

    found = {name: value for name, value in defaults.items() if name in SAMPLING and name != "stop_token_ids"}
    if defaults.get("stop_token_ids") and "stop_token_ids" not in params:
        found["stop_token_ids"] = list(defaults["stop_token_ids"])
    return found
