"""What the `config.json` of a model that one runs oneself says about it. Pure.

Keys: https://huggingface.co/docs/transformers/main_classes/configuration, and those of single families.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
LANGUAGE = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where models of several senses keep what is said of their language model."""
INCLUDED = frozenset({"default", "su", "longrope", "llama3", "mrope", "proportional"})
"""Kinds of RoPE whose scaling the model's length has in it already."""


def context_of(config: Mapping[str, Any]) -> int | None:
    """The most tokens, prompt and answer together, that a model can be set to; None where it does not say.

    Where versions of vLLM read a config differently it is the larger number.
    """
    text = _language(config)
    lengths = [length for key in LENGTHS if (length := _count(text.get(key))) is not None]
    said = (_count(place.get("model_max_length")) for place in (config, text))
    longest = [length for length in said if length is not None]
    if not lengths:
        return max(longest, default=None)
    own = min(lengths)
    scaled = [_scaled(own, rope) for rope in _ropes(text)]
    return max([own, *longest, *scaled])


def dtype_of(config: Mapping[str, Any]) -> str | None:
    """The type of the weights as they were saved."""
    text = _language(config)
    named = (place.get(key) for place in (text, config) for key in ("dtype", "torch_dtype"))
    return next((name for name in named if isinstance(name, str)), None)


def heads_of(config: Mapping[str, Any]) -> int | None:
    """How many attention heads a model has."""
    return _count(_language(config).get("num_attention_heads"))


def _language(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in LANGUAGE:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return _language(inner)
    return config


def _ropes(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Each RoPE of the model: there may be one for every kind of layer."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = text.get(key)
        if isinstance(rope, Mapping):
            yield rope
            yield from (inner for inner in rope.values() if isinstance(inner, Mapping))


def _scaled(length: int, rope: Mapping[str, Any]) -> int:
    kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
    if kind in INCLUDED or kind is None or isinstance(factor, bool) or not isinstance(factor, int | float):
        return length
    return int((_count(rope.get("original_max_position_embeddings")) or length) * factor)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
