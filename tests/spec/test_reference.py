"""The language's tables, the editors' JSON Schema and the models say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel
from spec_files import loaded

from synth_cli.spec import backend, model, yaml
from synth_cli.spec.backend import BackendParams, engines_of
from synth_cli.spec.editor import editor_schema
from synth_cli.spec.hints import FOREIGN, IN_INPUT, IN_MODEL, IN_RESPONSE, KNOWN_PARAMS, NOT_PARAMS
from synth_cli.spec.keys import homes, keys_of
from synth_cli.spec.model import INHERITED, Spec, Step, StepKeys
from synth_cli.spec.places import plain
from synth_cli.spec.reference import put, tables

LANGUAGE = Path(__file__).parents[2] / "specs" / "LANGUAGE.md"
SPECS = sorted(LANGUAGE.parent.rglob("*.yaml"))


def nodes() -> list[type[BaseModel]]:
    """Every mapping of the language."""
    known = [each for module in (model, backend) for each in vars(module).values() if isinstance(each, type)]
    bases = {BaseModel, model.Node, model.StepKeys}
    return [each for each in dict.fromkeys(known) if issubclass(each, BaseModel) and each not in bases]


def test_the_document_has_the_tables_of_the_models() -> None:
    """After a change of the models: python -m synth_cli.spec.reference specs/LANGUAGE.md."""
    text = LANGUAGE.read_text(encoding="utf-8")
    assert put(text) == text
    assert set(re.findall(r"<!-- table: (.*?) -->", text)) == set(tables())


def test_every_key_is_documented() -> None:
    """Every key of every mapping stands in a table, with words."""
    shown = set(re.findall(r"^\| `([^`]+)` \|", "\n".join(tables().values()), flags=re.MULTILINE))
    keys = {key for node in nodes() for key in keys_of(node)}
    assert keys - shown == set()
    assert [key for node in nodes() for key, field in node.model_fields.items() if not field.description] == []


def test_the_editors_schema_has_the_keys_of_the_models() -> None:
    """Each mapping's definition has exactly its keys, each with its description."""
    definitions = editor_schema()["definitions"]
    for node in nodes():
        properties = definitions[node.__name__]["properties"]
        assert set(properties) == set(keys_of(node)), node
        for key, name in keys_of(node).items():
            assert str(properties[key].get("description", "")).startswith(str(node.model_fields[name].description)), key


def test_the_editors_schema_names_engines() -> None:
    """An editor shows which engine a parameter is for."""
    properties = editor_schema()["definitions"]["BackendParams"]["properties"]
    for name in BackendParams.model_fields:
        assert properties[name]["description"].endswith(f"Engines: {', '.join(engines_of(name))}.")


EDITOR_TAKES: list[dict[str, Any]] = [
    {"model": "m", "prompt": "p", "samples": "${N}", "x-anything": {"a": 1}},
    {"backend_params": {"max_retries": "${N:-3}", "request_timeout": "5"}, "budget": {"max_time": "5h"}},
    {"response": {"choice": [1, 2]}, "labels": {"a": 1.5}},
    {"response": {"schema": "file://schema.json"}},
    {"model": "m", "steps": [{"name": "a", "prompt": "p"}, {"name": "b", "type": "map", "columns": {"x": 1}}]},
    {"extends": "base.yaml", "model": {"base_url": "x"}, "steps": {"a": {"samples": 2}}, "input": None},
    {"model": "m", "prompt": "p", "profiles": {"ci": {"steps": {"main": {"samples": "${N}"}}, "output": None}}},
]


@pytest.mark.parametrize("spec", EDITOR_TAKES)
def test_what_an_editor_takes(spec: dict[str, Any]) -> None:
    """One step or several, x- keys, ${…} for numbers, overrides with parts and nulls."""
    assert [error.message for error in jsonschema_rs.validator_for(editor_schema()).iter_errors(spec)] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"modle": "m"},
        {"samples": "many"},
        {"group_samples": "yes"},
        {"model": "m", "prompt": "p", "steps": [{"name": "a"}]},
        {"input": {"sql": {"url": "x"}}},
        {"profiles": {"ci": {"modle": "m"}}},
        {"extends": "base.yaml", "modle": 1},
    ],
)
def test_what_an_editor_refuses(spec: dict[str, Any]) -> None:
    """Unknown keys and wrong values are seen while typing."""
    assert list(jsonschema_rs.validator_for(editor_schema()).iter_errors(spec))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_the_specs_of_this_repository_please_editors(path: Path) -> None:
    """What the loader takes the editor takes."""
    data = plain(yaml.read(path.read_text(encoding="utf-8"), path.name)[0])
    assert [error.message for error in jsonschema_rs.validator_for(editor_schema()).iter_errors(data)] == []


def test_the_examples_of_the_document(tmp_path: Path) -> None:
    """Each YAML example is read without a problem; the first is a whole spec."""
    blocks = re.findall(r"```yaml\n(.*?)```", LANGUAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in blocks:
        if block.lstrip().startswith("#"):
            continue
        tree, problems = yaml.read(block, "LANGUAGE.md")
        assert problems == []
        data = plain(tree)
        assert set(data) <= {*keys_of(Spec), "schema"}
        if "version" in data:
            assert loaded(tmp_path, block).name == "job"
        else:
            prompt = "" if "steps" in data else "prompt: hi\n"
            text = f"model: simulator\n{prompt}{block}" if "schema" not in data and "prompt" not in data else ""
            assert not text or loaded(tmp_path, text)


def test_foreign_words_are_answered_with_keys_that_exist() -> None:
    """Nothing that other tools say is a key here, and each answer is one."""
    known = {*homes(), *(place.removeprefix("steps[].") for places in homes().values() for place in places)}
    commands = {"synth run --state-dir", "synth run --fresh"}
    for word, right in {**FOREIGN, **NOT_PARAMS}.items():
        path = right.split(":")[0]
        assert path in known | commands or path.removeprefix("generation_params.") in KNOWN_PARAMS, word
    assert set(FOREIGN) & set(keys_of(Spec)) == set()
    assert set(NOT_PARAMS) & KNOWN_PARAMS == set()
    for table, node in ((IN_MODEL, "model"), (IN_INPUT, "input"), (IN_RESPONSE, "response")):
        for word, right in table.items():
            assert f"{node}.{right}" in known or right.startswith("seed"), word


def test_inherited_keys_are_step_keys() -> None:
    """What may stand beside `steps` are keys of a step."""
    assert set(INHERITED) <= set(keys_of(StepKeys)) <= set(keys_of(Step))
