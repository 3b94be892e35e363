"""`generation_params` for vLLM: which names there are, and what each one is part of.

Names and meanings: https://docs.vllm.ai/en/stable/api/vllm/sampling_params.html for the sampling,
https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html for what a chat request may say beside it.
The table stands here so that a spec is checked on a machine without vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from synth_cli.spec.hints import NOT_PARAMS, suggest

SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "bad_words", "ignore_eos"}
    | {"max_tokens", "min_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"}
    | {"allowed_token_ids", "logprobs", "prompt_logprobs", "logprob_token_ids", "include_stop_str_in_output"}
    | {"skip_special_tokens", "spaces_between_special_tokens", "repetition_detection", "thinking_token_budget"}
    | {"extra_args", "watermarking", "skip_reading_prefix_cache"}
)
"""Fields of `SamplingParams` that a spec may set."""
NOT_SAMPLING = frozenset(
    {"n", "structured_outputs", "output_kind", "detokenize", "stream_interval", "skip_clone", "flat_logprobs"}
    | {"output_text_buffer_length", "prompt_logprob_token_ids", "prompt_logprob_start", "trace_decode_token_ids"}
    | {"routed_experts_prompt_start"}
)
"""Its other fields: set by us, or without any use for rows of text."""

CHAT = frozenset(
    {"add_generation_prompt", "continue_final_message", "chat_template", "chat_template_kwargs", "documents"}
    | {"reasoning_effort", "mm_processor_kwargs", "media_io_kwargs"}
)
"""How messages become a prompt."""
PROMPT = frozenset({"add_special_tokens", "truncate_prompt_tokens", "truncation_side"})
"""How a prompt becomes tokens."""
CALL = frozenset({"priority", "cache_salt", "include_reasoning", "parallel_tool_calls"})
"""How the request is treated, and its answer read."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {"max_completion_tokens": "max_tokens", "max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
    | {"random_seed": "seed", "stop_sequences": "stop", "vllm_xargs": "extra_args"}
)
"""Other spellings that mean just this."""
SPECIAL = frozenset({"top_logprobs", "extra_body"})

GREEDY = 1e-5
"""A lower temperature leaves nothing to chance: vLLM refuses to be asked for several such samples at once."""
KINDS: Mapping[str, type] = MappingProxyType(
    {
        **dict.fromkeys(("add_generation_prompt", "continue_final_message", "add_special_tokens"), bool),
        **dict.fromkeys(("include_reasoning", "parallel_tool_calls"), bool),
        **dict.fromkeys(("chat_template", "reasoning_effort", "truncation_side", "cache_salt"), str),
        **dict.fromkeys(("chat_template_kwargs", "mm_processor_kwargs", "media_io_kwargs"), dict),
        **dict.fromkeys(("truncate_prompt_tokens", "priority"), int),
        "documents": list,
    }
)
"""Types of those that are not sampling; `SamplingParams` knows its own."""
WORDS: Mapping[type, str] = MappingProxyType(
    {bool: "true or false", str: "a text", dict: "a mapping", int: "a whole number", list: "a list"}
)

NAMES = SAMPLING | CHAT | PROMPT | CALL | SPECIAL | ALIASES.keys()

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "best_of": "vLLM has none any more; ask for more `samples` and keep the best",
        "use_beam_search": "a model asked row by row does not search in beams",
        "length_penalty": "it belongs to beam search",
        "do_sample": "write temperature: 0 for the likeliest answer",
        "enable_thinking": "write chat_template_kwargs: {enable_thinking: …}",
        "stream": "answers come whole",
        "echo": "the prompt is in `reply.messages`",
        "guided_decoding_backend": "write engine_args: {structured_outputs_config: {backend: …}}",
    }
)


class ParamError(ValueError):
    """Parameters that vLLM cannot be asked with; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Parameters sorted by what they are part of, under vLLM's own names."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    chat: Mapping[str, Any] = field(default_factory=dict)
    prompt: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


def problems(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, what is wrong with it) of every parameter that vLLM does not know, or knows by two names at once."""
    found: list[tuple[str, str]] = []
    flat = _flat(params)
    seen: dict[str, str] = {}
    for name, value in flat.items():
        if name not in NAMES:
            found.append((name, f"vLLM has no sampling parameter '{name}'; {_right(name)}"))
            continue
        own = ALIASES.get(name, name)
        other = seen.setdefault(own, name)
        if other != name and flat[other] != value:
            found.append((name, f"'{name}' and '{other}' are the same parameter with different values"))
    return found


def asked(params: Mapping[str, Any]) -> Asked:
    """The parameters under vLLM's names. Raises ParamError for a name that it does not know."""
    wrong = problems(params)
    if wrong:
        raise ParamError("; ".join(message for _, message in wrong))
    flat = {name: value for name, value in _flat(params).items() if value is not None}
    flat = {ALIASES.get(name, name): value for name, value in flat.items()}
    if "top_logprobs" in flat or isinstance(flat.get("logprobs"), bool):
        flat |= {"logprobs": _logprobs(flat.pop("logprobs", True), flat.pop("top_logprobs", 0))}

    def part(names: frozenset[str]) -> dict[str, Any]:
        return {name: value for name, value in flat.items() if name in names and value is not None}

    for name, kind in KINDS.items():
        # what crosses to the engine's process in another type than it is waited for ends in silence there
        if name in flat and (not isinstance(flat[name], kind) or (kind is int and isinstance(flat[name], bool))):
            raise ParamError(f"{name}: {flat[name]!r} is not {WORDS[kind]}")
    return Asked(part(SAMPLING), part(CHAT), part(PROMPT), part(CALL))


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """`extra_body` is how OpenAI's client says what is vLLM's own: here it is no different from the rest."""
    extra = params.get("extra_body")
    if not isinstance(extra, Mapping):
        return dict(params)
    return {**{name: value for name, value in params.items() if name != "extra_body"}, **extra}


def _logprobs(wanted: Any, top: Any) -> Any:
    """OpenAI says whether and how many beside the token itself, vLLM the number: 0 is the token itself alone."""
    if wanted is False or wanted is None:
        return None
    if wanted is True:
        return top
    return max(wanted, top) if isinstance(wanted, int) and isinstance(top, int) else wanted


def _right(name: str) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    if name in NOT_PARAMS:
        return f"write {NOT_PARAMS[name]}"
    near = suggest(name, NAMES - SPECIAL)
    if near is not None:
        return f"did you mean '{near}'?"
    return f"it has: {', '.join(sorted(SAMPLING | CHAT | PROMPT | CALL))}"
