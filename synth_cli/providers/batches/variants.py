"""How the hosts of OpenAI's batch protocol differ, and what one batch may hold with each.

Sources: OpenAI, https://platform.openai.com/docs/api-reference/batch (50,000 requests, 200 MB; tokens in the queue by
the account's tier). Azure, https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch (100,000 requests, 200 MB;
tokens by deployment). Groq, https://console.groq.com/docs/batch (50,000 lines). Together,
https://docs.together.ai/docs/inference/batch/overview (50,000 requests, 100 MB, 30 billion tokens queued for a model).
LiteLLM's proxy, https://docs.litellm.ai/docs/batches. Novita, https://novita.ai/docs/guides/llm-batch-api. Alibaba,
https://www.alibabacloud.com/help/en/model-studio/batch-interfaces-compatible-with-openai (50,000 requests, 500 MB).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from synth_cli.core.ports import BatchLimits

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Variant:
    """One host's ways."""

    limits: BatchLimits
    upload: str = "/files"
    fields: Mapping[str, str] = field(default_factory=lambda: {"purpose": "batch"})
    name_field: str = ""
    """A form field that takes the file's name, where the host wants one."""
    prefix: str = "/v1"
    """Before the endpoint's path, in lines and in the call."""
    metadata: bool = True
    """Whether a batch keeps what is said about it; where not, it is found by its file's name."""
    window: bool = True
    listing: str = ""
    """Keeps a list of files to those that batches are made of."""
    model_header: str = ""
    """A header by which a proxy chooses whose files and batches are meant."""
    completions: bool = True


GENERIC = Variant(BatchLimits(50_000, 100 * MB))
"""Any server that says it speaks the protocol: the least of what others allow."""
VARIANTS: Mapping[str, Variant] = {
    "openai": Variant(BatchLimits(50_000, 200 * MB), listing="purpose=batch"),
    "azure": Variant(BatchLimits(100_000, 200 * MB), prefix="", completions=False),
    "groq": Variant(BatchLimits(50_000, 100 * MB), completions=False),
    "together_ai": Variant(
        BatchLimits(50_000, 100 * MB, queued_tokens=30_000_000_000),
        upload="/files/upload",
        fields={"purpose": "batch-api", "file_type": "jsonl"},
        name_field="file_name",
        metadata=False,
        completions=False,
    ),
    "litellm_proxy": Variant(BatchLimits(50_000, 200 * MB), model_header="x-litellm-model"),
    "novita": Variant(BatchLimits(50_000, 100 * MB)),
    "nebius": GENERIC,
    "dashscope": Variant(BatchLimits(50_000, 500 * MB), completions=False),
    "simulator": Variant(BatchLimits(50_000, 200 * MB), listing="purpose=batch"),
}
