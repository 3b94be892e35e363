"""Whether a step whose workers run here, or on Ray, can be run at all, and what it would take; nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synth_cli.compile.plan import Voice
from synth_cli.core.checkpoint import context_of, dtype_of, heads_of
from synth_cli.core.guidance import guided
from synth_cli.core.machine import Gpu, Machine, Obstacle, Wanted, obstacles
from synth_cli.core.request import Request
from synth_cli.engines.vllm.params import GREEDY, asked
from synth_cli.engines.vllm.settings import INSTALL
from synth_cli.errors import MissingExtra, SetupError
from synth_cli.run.hardware import machine, model_config
from synth_cli.spec.backend import BackendParams

INSTALLS = {"vllm": INSTALL, "ray": "pip install 'synth-cli[ray]'"}
GPU_BUILDS = ("cuda", "rocm")
LONGER = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
OWN_CONFIG = frozenset({"hf_overrides", "rope_scaling", "rope_parameters", "hf_config_path", "config_format"})
"""Engine arguments after which the model's own config does not say what it is."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What runs a step's model. None: not known before it is loaded."""

    model: str
    dtype: str | None
    context: int | None
    """Tokens of a prompt and its answer together."""
    workers: int
    tensor_parallel: int
    pipeline_parallel: int
    gpus: int | None
    """GPUs that all workers take; None where vLLM runs on something else, or is not installed."""
    gpus_here: tuple[str, ...]
    cluster: str | None
    """The address of the Ray cluster that they run on."""
    on_ray: bool
    at_once: int | None
    """Most requests in one worker."""
    vllm: str | None
    obstacles: tuple[str, ...]
    """What keeps it from running here."""


def wanted_of(voice: Voice) -> Wanted | None:
    """What a step asks of machines; None where it only asks a provider."""
    settings, spread = voice.settings, voice.settings.distributed
    if voice.engine != "vllm":
        return None if spread is None else Wanted(vllm=False, ray=True, workers=spread.workers, cluster=spread.address)
    args = settings.engine_args or {}
    told = spread is not None and "gpus_per_worker" in spread.model_fields_set
    return Wanted(
        tensor_parallel=_size(args, "tensor_parallel_size") or settings.tensor_parallel_size,
        pipeline_parallel=_size(args, "pipeline_parallel_size") or 1,
        workers=settings.data_parallel_size if spread is None else spread.workers,
        gpus_per_worker=spread.gpus_per_worker if spread is not None and told else None,
        ray=spread is not None or settings.data_parallel_size > 1,
        cluster=spread.address if spread is not None and spread.address != "local" else None,
        memory_share=None if "kv_cache_memory_bytes" in args else _share(args, settings),
    )


def ready(name: str, voice: Voice, environ: Mapping[str, str]) -> None:
    """Finds what is in the way before anything is loaded or written. Raises MissingExtra or SetupError."""
    wanted = wanted_of(voice)
    if wanted is None:
        return
    found = list(obstacles(wanted, machine(environ)))
    for obstacle in found:
        if obstacle.package:
            raise MissingExtra(obstacle.package, _needs(name, voice, obstacle.package), INSTALLS[obstacle.package])
    if found:
        raise SetupError("; ".join(each.message for each in found), hint="; ".join(each.hint for each in found))


def workers_of(name: str, voice: Voice, folder: Path, environ: Mapping[str, str]) -> Workers | None:
    """What a run would start for the step, and what keeps it from that here; None where it starts nothing."""
    wanted = wanted_of(voice)
    if wanted is None or not wanted.vllm:
        return None
    return described(name, voice, wanted, machine(environ), model_config(voice.terms.model, folder, environ) or {})


def described(name: str, voice: Voice, wanted: Wanted, here: Machine, config: Mapping[str, Any]) -> Workers:
    """The same, given the machine and the model's own config."""
    settings = voice.settings
    args = settings.engine_args or {}
    dtype = args.get("dtype", settings.dtype)
    context = _size(args, "max_model_len") or settings.max_model_length or context_of(config)
    return Workers(
        model=voice.terms.model,
        dtype=dtype if isinstance(dtype, str) and dtype != "auto" else dtype_of(config),
        context=context,
        workers=wanted.workers,
        tensor_parallel=wanted.tensor_parallel,
        pipeline_parallel=wanted.pipeline_parallel,
        gpus=wanted.gpus if wanted.cluster is not None or (here.vllm and here.build in GPU_BUILDS) else None,
        gpus_here=tuple(_shown(gpu) for gpu in here.gpus),
        cluster=wanted.cluster,
        on_ray=wanted.ray,
        at_once=_size(args, "max_num_seqs") or settings.batch_size,
        vllm=here.vllm,
        obstacles=tuple(_said(name, voice, obstacle) for obstacle in obstacles(wanted, here)),
    )


def lines(workers: Workers) -> Iterator[tuple[str, str]]:
    """(label, text) of each line for people."""
    parts = [workers.model, f"dtype {workers.dtype}" if workers.dtype else "dtype as the model was saved"]
    parts.append(f"context {workers.context:,} tokens" if workers.context else "context the model's own")
    if workers.at_once:
        parts.append(f"at most {workers.at_once:,} requests at once")
    yield "model", ", ".join(parts)
    spread = [f"{workers.workers} worker{'s' * (workers.workers > 1)}"]
    if workers.tensor_parallel > 1 or workers.gpus:
        spread.append(f"tensor parallel {workers.tensor_parallel}")
    if workers.pipeline_parallel > 1:
        spread.append(f"pipeline parallel {workers.pipeline_parallel}")
    if workers.gpus is not None:
        spread.append(f"{workers.gpus} GPU{'s' * (workers.gpus != 1)}")
    elif workers.vllm is not None:
        spread.append("no GPU")
    if workers.on_ray:
        spread.append("on Ray" + (f" at {workers.cluster}" if workers.cluster else ""))
    yield "workers", ", ".join(spread)
    if workers.cluster is None:
        gpus = [f"{workers.gpus_here.count(gpu)} x {gpu}" for gpu in dict.fromkeys(workers.gpus_here)]
        version = [f"vLLM {workers.vllm}"] if workers.vllm else []
        yield "here", ", ".join([*version, *gpus]) or "no GPU"
    for obstacle in workers.obstacles:
        yield "cannot run", obstacle


def longest_context(model: str, settings: BackendParams, folder: Path, environ: Mapping[str, str]) -> int | None:
    """The most tokens that `max_model_length` may be; None where that is not known, or the user will have more."""
    if environ.get(LONGER, "0") not in ("", "0"):
        return None
    return context_of(_own_config(model, settings, folder, environ))


def attention_heads(model: str, settings: BackendParams, folder: Path, environ: Mapping[str, str]) -> int | None:
    """How many there are to share among GPUs; None where that is not known."""
    return heads_of(_own_config(model, settings, folder, environ))


def _own_config(model: str, settings: BackendParams, folder: Path, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Of the model; empty where there is none here, or the user puts another in its place."""
    args = settings.engine_args or {}
    if OWN_CONFIG & args.keys():
        return {}
    return model_config(model, folder, environ, str(args.get("revision") or "main")) or {}


def _size(args: Mapping[str, Any], name: str) -> int | None:
    """An engine argument that is a count: engine arguments win over the language's own."""
    value = args.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _share(args: Mapping[str, Any], settings: BackendParams) -> float:
    value = args.get("gpu_memory_utilization", settings.gpu_memory_utilization)
    return float(value) if isinstance(value, int | float) else float(settings.gpu_memory_utilization)


def _needs(name: str, voice: Voice, package: str) -> str:
    if package == "ray":
        given = "distributed" if voice.settings.distributed is not None else "data_parallel_size"
        return f"step '{name}': backend_params.{given}"
    return f"step '{name}': engine: vllm"


def _said(name: str, voice: Voice, obstacle: Obstacle) -> str:
    if obstacle.package:
        return f"{obstacle.message}; run: {INSTALLS[obstacle.package]}"
    return f"{obstacle.message}; {obstacle.hint}"


def _shown(gpu: Gpu) -> str:
    return f"{gpu.name or 'GPU'} ({gpu.memory / (1 << 30):.0f} GiB)" if gpu.memory else gpu.name or "GPU"


def call(requests: Sequence[Request]) -> Mapping[str, Any]:
    """What vLLM is called with first for a row's requests: the prompt, and `SamplingParams` as far as the spec says
    them.

    Raises ParamError for a parameter of the row's own that vLLM does not take.
    """
    request = requests[0]
    given = asked(request.terms.params)
    sampling = dict(given.sampling)
    if request.seed is not None:
        sampling["seed"] = request.seed
    temperature = sampling.get("temperature")
    samples = 1 if isinstance(temperature, int | float) and temperature < GREEDY else drawn(requests)
    if samples > 1:
        sampling["n"] = samples
    constraint = request.terms.constraint
    if constraint is not None:
        kind, value = constraint.kind, constraint.value
        sampling["structured_outputs"] = {"json": guided(value)} if kind == "schema" else {kind: value}
    said: dict[str, Any] = {"model": request.terms.model}
    said |= {"prompt": request.prompt} if request.prompt is not None else {"messages": request.messages}
    if request.terms.tools:
        said["tools"] = request.terms.tools
    said["sampling_params"] = sampling
    parts = {"chat": given.chat, "tokenization": given.prompt, "call": given.call}
    return said | {name: part for name, part in parts.items() if part}


def drawn(requests: Sequence[Request]) -> int:
    """How many of a row's requests one call answers: the first, and those that differ from it in their seed alone."""
    first = requests[0]
    for n, one in enumerate(requests):
        if one != replace(first, id=one.id, seed=None if first.seed is None else first.seed + n):
            return n
    return len(requests)
