from __future__ import annotations

from pathlib import Path

import tiny_model


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_model_is_the_same_each_time(tiny: Path, lora: Path, tmp_path: Path) -> None:
    """Equal arguments give equal files, of a few hundred kB."""
    again = files(tiny_model.make(tmp_path / "again"))
    assert again == files(tiny)
    assert sum(map(len, again.values())) < 1_000_000
    assert files(tiny_model.make_lora(tmp_path / "lora", tiny)) == files(lora)


def test_another_seed_or_family_is_another_model(tiny: Path, tiny_qwen: Path, tmp_path: Path) -> None:
    """The weights come from the seed, the configuration from the family."""
    other = files(tiny_model.make(tmp_path / "other", seed=1))
    assert other["config.json"] == files(tiny)["config.json"]
    assert other["model.safetensors"] != files(tiny)["model.safetensors"]
    assert b"Qwen2ForCausalLM" in files(tiny_qwen)["config.json"]


def test_any_text_can_be_said(tiny: Path) -> None:
    """The tokenizer has every byte, and the chat template is ChatML."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    text = 'Grüße, 你好 \x00\n{"a": [1]}'
    assert tokenizer.decode(tokenizer.encode(text)) == text
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
