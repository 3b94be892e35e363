"""`validate` and models that run on this machine: found without vLLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from synth_cli.compile.local import written_as_path
from synth_cli.compile.plan import plan
from synth_cli.core.request import Constraint
from synth_cli.providers.resolve import provider_of
from synth_cli.run.prepare import problems_of
from synth_cli.spec.load import load

BEST_OF = "vLLM has no sampling parameter 'best_of'; vLLM has none any more; ask for more `samples` and keep the best"


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def found(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    problems = problems_of(path, sets=(), profile=None, environ={})
    return [str(problem).removeprefix(f"{path}:").replace(str(folder), "HERE") for problem in problems]


def model_in(folder: Path, **files: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_sampling_parameters_that_vllm_lacks(tmp_path: Path) -> None:
    """Each where it is written, with the right name; what the loader has said is not said again."""
    text = """\
model: org/model
engine: vllm
prompt: hi
generation_params:
  temprature: 1
  best_of: 2
  top_k: 5
  response_format: json
"""
    assert found(tmp_path, text) == [
        "5:3: unknown key 'temprature'; did you mean 'temperature'?",
        f"6:3: {BEST_OF}",
        "8:3: 'response_format' is not a sampling parameter here; write 'response.schema'",
    ]


def test_a_server_decides_itself_what_it_takes(tmp_path: Path) -> None:
    """With a `base_url` the model is asked online: its parameters, name and files are not looked at."""
    text = """\
model: {name: ./none, backend: vllm, base_url: "http://localhost:8000/v1"}
prompt: hi
generation_params: {best_of: 2}
"""
    assert found(tmp_path, text) == []


def test_parameters_of_a_named_model_are_found_where_it_is_named(tmp_path: Path) -> None:
    """Also when a pool, or a fallback, refers to it."""
    text = """\
models:
  tiny: {name: org/tiny, engine: vllm, generation_params: {best_of: 3}}
model: [tiny, simulator]
fallback: [{name: org/other, engine: vllm, generation_params: {echo: true}}]
prompt: hi
"""
    assert found(tmp_path, text) == [
        f"2:60: {BEST_OF}",
        "4:64: vLLM has no sampling parameter 'echo'; the prompt is in `reply.messages`",
    ]


def test_length_in_two_places_must_agree(tmp_path: Path) -> None:
    """Under whatever name the second place has it."""
    text = """\
model: org/model
engine: vllm
prompt: hi
backend_params: {max_tokens: 5, min_tokens: 2}
generation_params: {NAME: 6, min_tokens: 2}
"""
    assert found(tmp_path, text.replace("NAME", "max_tokens")) == [
        "4:30: max_tokens is 5 here and 6 in generation_params"
    ]
    assert found(tmp_path, text.replace("NAME", "max_completion_tokens")) == [
        "5:21: 'max_completion_tokens' and 'max_tokens' are the same parameter with different values"
    ]
    assert found(tmp_path, text.replace("NAME: 6", "max_tokens: 5")) == []


def test_files_that_are_missing(tmp_path: Path) -> None:
    """The model's folder, the adapter's, the template's; a name of the hub is no folder."""
    model_in(tmp_path / "empty")
    text = """\
model: MODEL
engine: vllm
prompt: hi
backend_params:
  lora_path: adapter
  chat_template: chat.jinja
"""
    adapter = "5:14: there is no LoRA adapter in adapter; give the folder that has its adapter_config.json"
    template = "6:18: there is no file chat.jinja; give a Jinja file, relative to HERE, or the template itself"
    rest = [f"{adapter}, relative to HERE", template]
    assert found(tmp_path, text.replace("MODEL", "./none")) == [
        "1:8: there is no model in ./none; paths are relative to HERE; a hub's model is owner/name",
        *rest,
    ]
    assert found(tmp_path, text.replace("MODEL", "empty")) == [
        "1:8: the folder empty holds no model: it has no config.json; give the folder that a model was saved in",
        *rest,
    ]
    assert found(tmp_path, text.replace("MODEL", "org/model")) == rest


def test_a_name_with_vllm_before_it_runs_here(tmp_path: Path) -> None:
    """As `plan` and the report write it: a path or a hub's name behind `vllm/`, with no other word about the engine."""
    model_in(tmp_path / "tiny", config={})
    for name, model in (("vllm/org/model", "org/model"), (f"vllm/{tmp_path}/tiny", f"{tmp_path}/tiny")):
        text = f"model: {name}\nprompt: hi\n"
        assert found(tmp_path, text) == []
        step = plan(load(write(tmp_path, text), environ={}), provider_of).steps[0]
        assert [(voice.engine, voice.terms.backend, voice.terms.model) for voice in step.voices] == [
            ("vllm", "vllm", model)
        ]
    assert found(tmp_path, "model: vllm/./none\nprompt: hi\n") == [
        "1:8: there is no model in ./none; paths are relative to HERE; a hub's model is owner/name"
    ]


def test_files_that_are_there(tmp_path: Path) -> None:
    """Relative to the spec's folder; a template may also be written in the spec."""
    model_in(tmp_path / "models" / "tiny", config={})
    model_in(tmp_path / "adapter", adapter_config={})
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    text = """\
model: ./models/tiny
engine: vllm
prompt: hi
backend_params: {lora_path: adapter, chat_template: TEMPLATE}
"""
    assert found(tmp_path, text.replace("TEMPLATE", "chat.jinja")) == []
    assert found(tmp_path, text.replace("TEMPLATE", "'{{ messages[0].content }}'")) == []


@pytest.mark.parametrize(
    ("name", "is_path"),
    [("tiny", False), ("org/tiny", False), ("./tiny", True), ("/models/tiny", True), ("~/tiny", True), ("a/b/c", True)],
)
def test_what_can_only_be_a_path(name: str, is_path: bool) -> None:
    """A hub's name has one slash at most."""
    assert written_as_path(name) == is_path


def test_length_from_either_place_is_asked_for(tmp_path: Path) -> None:
    """`backend_params.max_tokens` is the generation parameter of that name."""
    text = "model: org/model\nengine: vllm\nprompt: hi\nbackend_params: {max_tokens: 5}\n"
    made = plan(load(write(tmp_path, text + "generation_params: {min_tokens: 2}\n"), environ={}), provider_of)
    assert made.steps[0].voices[0].terms.params == {"max_tokens": 5, "min_tokens": 2}


def test_context_above_the_models_own(tmp_path: Path) -> None:
    """As its folder says, or what was downloaded of it before; nothing is fetched."""
    model_in(tmp_path / "tiny", config={"max_position_embeddings": 4096})
    text = "model: MODEL\nengine: vllm\nprompt: hi\nbackend_params: {max_model_length: 4097}\n"
    said = "4:36: max_model_length is 4,097, and this model takes 4,096 tokens; write 4096, or leave it out"
    assert found(tmp_path, text.replace("MODEL", "./tiny")) == [said]
    assert found(tmp_path, text.replace("MODEL", "./tiny").replace("4097", "4096")) == []
    assert found(tmp_path, text.replace("MODEL", "org/tiny")) == []

    snapshots = tmp_path / "home" / "hub" / "models--org--tiny" / "snapshots"
    model_in(snapshots / "c0ffee", config={"max_position_embeddings": 4096})
    (snapshots.parent / "refs").mkdir()
    (snapshots.parent / "refs" / "main").write_text("c0ffee")
    path = write(tmp_path, text.replace("MODEL", "org/tiny"))
    environ = {"HF_HOME": str(tmp_path / "home")}
    problems = problems_of(path, sets=(), profile=None, environ=environ)
    assert [str(problem).removeprefix(f"{path}:") for problem in problems] == [said]
    longer = environ | {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    assert list(problems_of(path, sets=(), profile=None, environ=longer)) == []


def test_a_config_that_the_user_overrides_says_nothing(tmp_path: Path) -> None:
    """A RoPE scaling of one's own makes a longer context."""
    model_in(tmp_path / "tiny", config={"max_position_embeddings": 4096})
    text = """\
model: ./tiny
engine: vllm
prompt: hi
backend_params: {max_model_length: 8192, engine_args: {hf_overrides: {rope_scaling: {factor: 2}}}}
"""
    assert found(tmp_path, text) == []


def test_context_and_parallel_size_among_the_engine_arguments(tmp_path: Path) -> None:
    """They win over the language's own parameters, and are found where they are written."""
    model_in(tmp_path / "tiny", config={"max_position_embeddings": 4096, "num_attention_heads": 4})
    text = """\
model: ./tiny
engine: vllm
prompt: hi
backend_params:
  max_model_length: 5000
  tensor_parallel_size: 3
  engine_args:
    max_model_len: 9000
    tensor_parallel_size: 8
"""
    divides = "does not divide this model's 4 attention heads; write one of 1, 2, 4"
    assert found(tmp_path, text) == [
        "8:20: max_model_len is 9,000, and this model takes 4,096 tokens; write 4096, or leave it out",
        f"9:27: tensor_parallel_size is 8, which {divides}",
    ]
    own = text.partition("  engine_args")[0]
    assert found(tmp_path, own) == [
        "5:21: max_model_length is 5,000, and this model takes 4,096 tokens; write 4096, or leave it out",
        f"6:25: tensor_parallel_size is 3, which {divides}",
    ]
    assert found(tmp_path, own.replace("5000", "4096").replace(": 3", ": 2")) == []
    assert found(tmp_path, text.replace("9000", "4096").replace(": 8", ": 4")) == []


def test_a_dtype_that_vllm_does_not_know(tmp_path: Path) -> None:
    """With those that it knows."""
    text = "model: org/model\nengine: vllm\nprompt: hi\nbackend_params: {dtype: flot16}\n"
    known = "auto, half, float16, bfloat16, float or float32"
    assert found(tmp_path, text) == [
        f"4:25: 'backend_params.dtype' must be {known}, not the text 'flot16'; did you mean 'float16'?"
    ]


def test_a_regex_that_vllm_does_not_take(tmp_path: Path) -> None:
    """Only where the model runs here, and nobody chose another backend than guidance."""
    text = "model: org/model\nengine: vllm\nprompt: hi\nresponse: {regex: '(?=a)b'}\n"
    why = "look-around, including look-ahead and look-behind, is not supported"
    assert found(tmp_path, text) == [f"4:19: vLLM does not take this regular expression: {why}; write it without that"]
    other = "backend_params: {engine_args: {structured_outputs_config: {backend: outlines}}}\n"
    assert found(tmp_path, text + other) == []
    assert found(tmp_path, text.replace("(?=a)b", "ab")) == []
    assert found(tmp_path, "model: simulator" + text.partition("vllm")[2]) == []


def test_a_schema_that_vllm_does_not_take(tmp_path: Path) -> None:
    """One that only has to be widened is none, and the request is still that of the schema as it is written."""
    text = "model: org/model\nengine: vllm\nprompt: hi\nresponse: {schema: SCHEMA}\n"
    nothing = "{type: object, properties: {a: {type: integer, minimum: 3, maximum: 2}}, required: [a]}"
    why = "Unsatisfiable schema: required property 'a' is unsatisfiable"
    assert found(tmp_path, text.replace("SCHEMA", nothing)) == [f"4:12: vLLM does not take this schema: {why}"]
    distinct = text.replace("SCHEMA", "{type: object, properties: {a: {type: array, uniqueItems: true}}}")
    assert found(tmp_path, distinct) == []
    made = plan(load(write(tmp_path, distinct), environ={}), provider_of)
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    assert made.steps[0].voices[0].terms.constraint == Constraint("schema", schema)
