"""What a model's config says of its context and its type."""

from __future__ import annotations

from typing import Any

import pytest

from synth_cli.core.checkpoint import context_of, dtype_of, heads_of


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 4096, "max_seq_len": 2048}, 2048),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"model_max_length": 2048}, 2048),
        ({"max_position_embeddings": "many"}, None),
        ({"text_config": {"max_position_embeddings": 32768}, "max_position_embeddings": 77}, 32768),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 4096),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default"}}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 1000,
                "rope_parameters": {"full": {"rope_type": "linear", "factor": 2}, "slid": {"rope_type": "default"}},
            },
            2000,
        ),
    ],
)
def test_the_longest_context(config: dict[str, Any], context: int | None) -> None:
    """The smallest of the lengths that it names, scaled; where its readers differ, the larger."""
    assert context_of(config) == context


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({}, None),
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
        ({"text_config": {"torch_dtype": "bfloat16"}, "torch_dtype": "float32"}, "bfloat16"),
        ({"text_config": {}, "torch_dtype": "float32"}, "float32"),
    ],
)
def test_the_type_of_the_weights(config: dict[str, Any], dtype: str | None) -> None:
    """Under its old name and its new one."""
    assert dtype_of(config) == dtype


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        ({}, None),
        ({"num_attention_heads": 12}, 12),
        ({"text_config": {"num_attention_heads": 12}, "num_attention_heads": 3}, 12),
        ({"num_attention_heads": [12, 8]}, None),
    ],
)
def test_the_heads_of_its_attention(config: dict[str, Any], heads: int | None) -> None:
    """Those of its language model."""
    assert heads_of(config) == heads
