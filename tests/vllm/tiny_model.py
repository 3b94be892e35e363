"""Makes a language model of 0.6 MB that vLLM runs on any machine: it answers at random, and always the same.

`python tiny_model.py FOLDER [--family qwen2] [--seed 1] [--context 1024] [--lora FOLDER]`. The vocabulary has all
bytes, so that any text can be said, and any constraint kept. Nothing of it is ever committed: it is made when needed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Literal

HIDDEN = 64
LAYERS = 2
HEADS = 2
"""Of 32 numbers each: the smallest head that vLLM runs on a CPU."""
INNER = 128
RANK = 4
"""Of a LoRA adapter."""
VOCABULARY = 384

END_OF_TURN = "<|im_end|>"
SPECIAL = ("<|endoftext|>", "<|im_start|>", END_OF_TURN)

LINES = (
    "The quick brown fox jumps over the lazy dog.",
    "Write a recipe of Thai cuisine with five ingredients and three steps.",
    "A question about the weather, and an answer that is friendly and short.",
    "system user assistant",
    '{"title": "Soup", "ingredients": ["water", "salt"], "difficulty": "easy", "minutes": 20}',
    "yes no true false null positive negative neutral 0 1 2 3 4 5 6 7 8 9",
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Family = Literal["llama", "qwen2"]


def make(folder: Path, *, family: Family = "llama", seed: int = 0, context: int = 4096) -> Path:
    """Writes a model with its tokenizer into `folder`, as transformers does; returns the folder.

    Equal arguments give equal files. `context` is the longest text in tokens.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(context)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": context,
        # large enough that its answers differ from prompt to prompt
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**shape)) if family == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(context: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=END_OF_TURN,
        pad_token=SPECIAL[0],
        additional_special_tokens=list(SPECIAL[1:2]),
        chat_template=CHATML,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def make_lora(folder: Path, model: Path, *, seed: int = 1) -> Path:
    """Writes an adapter for `model` into `folder`, as peft does: its answers are others than the model's own."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    drawn = torch.Generator().manual_seed(seed)
    names = ("q_proj", "v_proj")
    weights = {}
    for layer in range(LAYERS):
        for name in names:
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{at}.lora_A.weight"] = torch.randn(RANK, HIDDEN, generator=drawn)
            weights[f"{at}.lora_B.weight"] = torch.randn(HIDDEN, RANK, generator=drawn)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    said = {
        "base_model_name_or_path": str(model),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": list(names),
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(said, indent=2) + "\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=("llama", "qwen2"), default="llama")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--lora", type=Path, metavar="FOLDER", help="an adapter too, here")
    told = parser.parse_args()
    make(told.folder, family=told.family, seed=told.seed, context=told.context)
    if told.lora is not None:
        make_lora(told.lora, told.folder)


if __name__ == "__main__":
    main()
