"""From a wrong word to the right one: near misses, and what other tools call the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        # Curator
        "model_name": "model",
        "batch": "engine: batch",
        "batch_mode": "engine: batch",
        "response_format": "response.schema",
        "return_completions_object": "output.metadata",
        "working_dir": "synth run --state-dir",
        "generation_kwargs": "generation_params",
        "prompt_func": "prompt",
        "parse_func": "parse",
        "max_concurrent": "backend_params.max_concurrent_requests",
        # distilabel
        "llm": "model",
        "num_generations": "samples",
        "group_generations": "group_samples",
        "system_prompt": "prompt.system",
        "template": "prompt",
        "structured_output": "response.schema",
        "input_batch_size": "backend_params.batch_size",
        "output_mappings": "columns",
        "input_mappings": "columns",
        "use_cache": "synth run --fresh",
        # Data Designer
        "num_records": "input.count",
        "n_records": "input.count",
        "seed_dataset": "input.path",
        "model_alias": "model",
        "model_configs": "models",
        "model_config": "model",
        "inference_parameters": "generation_params",
        "output_format": "response.schema",
        "column_configs": "input.columns",
        "samplers": "input.columns",
        "max_parallel_requests": "backend_params.max_concurrent_requests",
        # OpenAI
        "n": "samples",
        "system": "prompt.system",
        "user": "prompt.user",
        "instructions": "prompt.system",
        "functions": "tools",
        "function_call": "tool_choice",
        "text_format": "response.schema",
        "json_schema": "response.schema",
        # vLLM
        "guided_json": "response.schema",
        "guided_choice": "response.choice",
        "guided_regex": "response.regex",
        "guided_grammar": "response.grammar",
        "guided_decoding": "response",
        "structured_outputs": "response",
        "sampling_params": "generation_params",
        "max_model_len": "backend_params.max_model_length",
        "tp": "backend_params.tensor_parallel_size",
        "dp": "backend_params.data_parallel_size",
        # Oumi
        "generation": "generation_params",
        "inference_config": "backend_params",
        "remote_params": "backend_params",
        "num_samples": "input.count",
        "num_workers": "backend_params.max_concurrent_requests",
        "sampled_attributes": "input.columns",
        "generated_attributes": "steps",
        "input_data": "input",
        "input_path": "input.path",
        "input_file": "input.path",
        "output_path": "output.path",
        "output_file": "output.path",
        "max_new_tokens": "generation_params.max_tokens",
        # what several of them and people in a hurry write
        "api_base": "backend_params.base_url",
        "api_url": "backend_params.base_url",
        "endpoint": "backend_params.base_url",
        "key": "input.key",
        "rpm": "backend_params.max_requests_per_minute",
        "tpm": "backend_params.max_tokens_per_minute",
        "requests_per_minute": "backend_params.max_requests_per_minute",
        "tokens_per_minute": "backend_params.max_tokens_per_minute",
        "concurrency": "backend_params.max_concurrent_requests",
        "timeout": "backend_params.request_timeout",
        "retries": "backend_params.max_retries",
        "num_retries": "backend_params.max_retries",
        "provider": "model: provider/name",
        "dataset_name": "input.dataset",
        "data": "input",
        "limit": "input.take",
        "schema": "response.schema",
        "choices": "response.choice",
        "output_schema": "response.schema",
        "filter": "keep_if",
        "variables": "vars",
        "params": "generation_params",
        "matrix": "input.matrix",
    }
)
"""Other tools' key → ours, as a path from a step or from the top of the spec."""

IN_MODEL: Mapping[str, str] = MappingProxyType(
    {"model_name": "name", "model": "name", "provider": "backend", "api_base": "base_url", "endpoint": "base_url"}
)
IN_INPUT: Mapping[str, str] = MappingProxyType(
    {
        "file": "path",
        "files": "path",
        "data": "rows",
        "limit": "take",
        "n": "count",
        "num_records": "count",
        "filter": "where",
        "offset": "skip",
        "samplers": "columns",
        "query": "sql.query",
        "split": "dataset.split",
        "seed": "seed (at the top)",
    }
)
IN_RESPONSE: Mapping[str, str] = MappingProxyType(
    {"enum": "choice", "choices": "choice", "json_schema": "schema", "pattern": "regex", "checks": "check"}
)

SAMPLING: Mapping[str, type] = MappingProxyType(
    {
        "temperature": float,
        "top_p": float,
        "top_k": int,
        "min_p": float,
        "max_tokens": int,
        "max_completion_tokens": int,
        "min_tokens": int,
        "frequency_penalty": float,
        "presence_penalty": float,
        "repetition_penalty": float,
        "length_penalty": float,
        "seed": int,
        "top_logprobs": int,
        "best_of": int,
    }
)
"""Sampling parameters whose values are numbers: a numeric text (from the environment) becomes one."""

KNOWN_PARAMS = frozenset(
    {
        *SAMPLING,
        *("logprobs", "logit_bias", "stop", "stop_token_ids", "reasoning_effort", "reasoning", "thinking", "verbosity"),
        *("top_a", "typical_p", "min_new_tokens", "max_length", "ignore_eos", "bad_words", "prompt_logprobs"),
        *("service_tier", "parallel_tool_calls", "user", "metadata", "store", "prediction", "modalities", "audio"),
        *("chat_template_kwargs", "skip_special_tokens", "safe_prompt", "safety_settings", "enable_thinking"),
        *("include_stop_str_in_output", "spaces_between_special_tokens", "truncate_prompt_tokens", "random_seed"),
        *("include_reasoning", "reasoning_format", "cache_control", "web_search_options", "prompt_cache_key"),
        *("add_generation_prompt", "continue_final_message", "add_special_tokens", "echo", "suffix", "extra_body"),
    }
)

NOT_PARAMS: Mapping[str, str] = MappingProxyType(
    {
        "response_format": "response.schema",
        "guided_json": "response.schema",
        "guided_choice": "response.choice",
        "guided_regex": "response.regex",
        "guided_grammar": "response.grammar",
        "structured_outputs": "response",
        "n": "samples",
        "num_generations": "samples",
        "num_return_sequences": "samples",
        "stream": "backend_params.stream",
        "tools": "tools",
        "functions": "tools",
        "tool_choice": "tool_choice",
        "function_call": "tool_choice",
        "messages": "messages",
        "model": "model",
        "model_name": "model",
        "timeout": "backend_params.request_timeout",
        "request_timeout": "backend_params.request_timeout",
        "max_retries": "backend_params.max_retries",
        "api_key": "backend_params.api_key",
        "api_base": "backend_params.base_url",
        "base_url": "backend_params.base_url",
        "max_new_tokens": "generation_params.max_tokens",
    }
)
"""What people put among the sampling parameters and what has a key of its own."""


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The nearest known word, if one is near."""
    words = {each.lower(): each for each in known}
    if word.lower() in words:
        return words[word.lower()]
    near = get_close_matches(word.lower(), words, n=1, cutoff=0.72)
    return words[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str], *, listed: int = 12) -> str:
    """A hint: the nearest word, or all of them if they are few."""
    words = list(known)
    near = suggest(word, words)
    if near is not None:
        return f"did you mean '{near}'?"
    if 0 < len(words) <= listed:
        return f"known: {', '.join(words)}"
    return ""


def mistyped_param(name: str) -> str | None:
    """The sampling parameter that this is clearly a misspelling of; other names go to the provider as they are."""
    if name in KNOWN_PARAMS or len(name) < 6:
        return None
    near = get_close_matches(name, KNOWN_PARAMS, n=1, cutoff=0.88)
    return near[0] if near else None
