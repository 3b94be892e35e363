"""`backend_params`: how an engine works. Each says to which engines it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from synth_cli.spec.numbers import Number, Whole

Dtype: TypeAlias = Literal["auto", "half", "float16", "bfloat16", "float", "float32"]
EngineName: TypeAlias = Literal["online", "batch", "vllm"]
ALL: tuple[EngineName, ...] = ("online", "batch", "vllm")
REMOTE: tuple[EngineName, ...] = ("online", "batch")


def _param(default: Any, description: str, engines: tuple[EngineName, ...], **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"engines": list(engines)}, **limits)


class Distributed(BaseModel):
    """Workers on a Ray cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    address: StrictStr | None = Field(None, description="The cluster's address; default: this machine.")
    workers: Whole = Field(1, ge=1, description="How many workers.")
    gpus_per_worker: Number = Field(1, ge=0, description="GPUs of each.")


class BackendParams(BaseModel):
    """How the engine works; a parameter of another engine is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    max_retries: Whole = _param(3, "More attempts after the first, for each request and round.", ALL, ge=0)
    require_all_responses: StrictBool = _param(False, "The same as accept: {max_error_rate: 0}.", ALL)
    base_url: StrictStr | None = _param(None, "The endpoint, up to and with /v1.", REMOTE)
    api_key: StrictStr | None = _param(None, "A secret; default: the provider's own variable.", REMOTE, repr=False)
    headers: dict[str, StrictStr] | None = _param(None, "Extra HTTP headers.", REMOTE, repr=False)
    request_timeout: Number = _param(600, "Seconds for one request.", REMOTE, gt=0)
    in_mtok_cost: Number | None = _param(None, "USD per million input tokens.", ALL, ge=0)
    out_mtok_cost: Number | None = _param(None, "USD per million output tokens.", ALL, ge=0)
    invalid_finish_reasons: list[StrictStr] = _param(
        ["content_filter", "length"], "An answer that ended so is not valid.", ALL
    )
    max_requests_per_minute: Number | None = _param(None, "Default: learnt from headers.", ("online",), gt=0)
    max_tokens_per_minute: Number | None = _param(None, "In and out together.", ("online",), gt=0)
    max_input_tokens_per_minute: Number | None = _param(None, "Where in is counted apart.", ("online",), gt=0)
    max_output_tokens_per_minute: Number | None = _param(None, "Where out is counted apart.", ("online",), gt=0)
    max_concurrent_requests: Whole | None = _param(None, "Default: adaptive.", ("online",), ge=1)
    seconds_to_pause_on_rate_limit: Number = _param(10, "Where the server names no time.", ("online",), ge=0)
    stream: StrictBool = _param(False, "Read answers as server-sent events.", ("online",))
    batch_size: Whole | None = _param(None, "Most requests in a batch, or in vLLM at once.", ("batch", "vllm"), ge=1)
    batch_check_interval: Number = _param(60, "Seconds between looks at a batch.", ("batch",), gt=0)
    delete_successful_batch_files: StrictBool = _param(False, "Once collected.", ("batch",))
    delete_failed_batch_files: StrictBool = _param(False, "Once collected.", ("batch",))
    completion_window: StrictStr = _param("24h", "How long the provider may take.", ("batch",))
    tensor_parallel_size: Whole = _param(1, "GPUs that share one copy of the model.", ("vllm",), ge=1)
    data_parallel_size: Whole = _param(1, "Copies of the model; more than 1 runs on Ray.", ("vllm",), ge=1)
    enforce_eager: StrictBool = _param(False, "Without CUDA graphs.", ("vllm",))
    max_model_length: Whole | None = _param(None, "Context in tokens.", ("vllm",), ge=1)
    max_tokens: Whole | None = _param(None, "Another place for the generation parameter.", ("vllm",), ge=1)
    min_tokens: Whole | None = _param(None, "Another place for the generation parameter.", ("vllm",), ge=0)
    gpu_memory_utilization: Number = _param(0.9, "Share of the GPU's memory.", ("vllm",), gt=0, le=1)
    dtype: Dtype | None = _param(None, "Of the weights.", ("vllm",))
    quantization: StrictStr | None = _param(None, "Of the weights.", ("vllm",))
    lora_path: StrictStr | None = _param(None, "A LoRA adapter's folder.", ("vllm",))
    chat_template: StrictStr | None = _param(None, "A file or text in place of the model's own.", ("vllm",))
    engine_args: dict[str, Any] | None = _param(None, "Handed to vLLM as they are.", ("vllm",))
    distributed: Distributed | None = _param(None, "Workers on a Ray cluster.", ("vllm", "online"))

    def overlaid(self, over: BackendParams) -> BackendParams:
        """These with what `over` really says on top."""
        said: Mapping[str, Any] = {name: getattr(over, name) for name in over.model_fields_set}
        return self.model_copy(update=dict(said))


def engines_of(name: str) -> tuple[str, ...]:
    """The engines that a parameter belongs to."""
    extra = BackendParams.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    engines = extra["engines"]
    assert isinstance(engines, list)
    return tuple(str(engine) for engine in engines)
