"""`file://` and the files that a spec is made of."""

from __future__ import annotations

from pathlib import Path

from spec_files import SMALL, loaded, problems, write

from synth_cli.errors import SpecError
from synth_cli.spec.load import load


def test_texts(tmp_path: Path) -> None:
    """A file's text takes the value's place; addresses stay, and the files read are told."""
    text = """
model: simulator
prompt: {system: file://sys.md, user: hi}
input: {path: "file://rows.csv"}
vars: {list: [file://sys.md], image: {source: file://a.png}}
"""
    job = loaded(tmp_path, text, sys_md="Be {{ vars.x }}.\n")
    assert job.effective() == {
        "model": "simulator",
        "prompt": {"system": "Be {{ vars.x }}.\n", "user": "hi"},
        "input": {"path": "file://rows.csv"},
        "vars": {"list": ["Be {{ vars.x }}.\n"], "image": {"source": "file://a.png"}},
    }
    assert job.sources == {"job.yaml": "spec", "sys.md": "prompt.system"}


def test_a_files_text_is_not_searched_for_variables(tmp_path: Path) -> None:
    """A file may hold any `${…}`; the path that names it may come from a variable."""
    job = loaded(tmp_path, "model: simulator\nprompt: file://${P}.md\n", environ={"P": "p"}, p_md="a ${B} file://c")
    assert job.spec.prompt == "a ${B} file://c"


def test_a_key_in_a_file(tmp_path: Path) -> None:
    """An API key may come from a file, without the file's line end, and is a secret then too."""
    job = loaded(tmp_path, "model: {name: a/b, api_key: file://key.txt}\nprompt: hi\n", key_txt="sk-123\n")
    assert job.secrets == {"sk-123"}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a missing folder and bytes that are no text are problems at the value."""
    (tmp_path / "bad.md").write_bytes(b"\xff\xfe")
    text = "model: simulator\nprompt: file://promt.md\nvars: {a: file://bad.md, b: file://no/x.md}\n"
    assert problems(tmp_path, text, prompt_md="x") == [
        f"job.yaml:2:9: there is no file {tmp_path}/promt.md".replace(f"{tmp_path}/", "")
        + "; did you mean 'prompt.md'?",
        "job.yaml:3:11: bad.md is not UTF-8 text; save it as UTF-8",
        f"job.yaml:3:29: there is no file no/x.md; there is no folder {tmp_path}/no either".replace(f"{tmp_path}/", ""),
    ]


def test_structured_files(tmp_path: Path) -> None:
    """JSON and YAML under schema, tools and messages stand for what is in them."""
    text = """
model: simulator
prompt: hi
tools: file://tools.json
response: {schema: file://fields.yaml}
"""
    job = loaded(tmp_path, text, tools_json='[{"name": "f"}]', fields_yaml="title: str\nage: int?\n")
    assert job.spec.tools == [{"name": "f"}]
    assert job.spec.response is not None
    assert job.spec.response.schema_ == {"title": "str", "age": "int?"}


def test_problems_in_structured_files(tmp_path: Path) -> None:
    """They are shown in the file that holds them."""
    text = SMALL + "tools: file://tools.json\nresponse: {schema: file://fields.yaml}\n"
    assert problems(tmp_path, text, tools_json='[{"type": ]', fields_yaml="title: str\nage: number\n") == [
        "tools.json:1:11: this is not JSON: Expecting value",
        "fields.yaml:2:6: 'number' is not a type; write float",
    ]


def test_no_such_spec(tmp_path: Path) -> None:
    """A wrong path is a problem that names the spec that was meant."""
    write(tmp_path, {"recipes.yaml": SMALL})
    try:
        load(tmp_path / "recipe.yaml", environ={})
    except SpecError as error:
        (problem,) = error.problems
    assert problem.message == f"there is no file {tmp_path}/recipe.yaml"
    assert problem.hint == "did you mean 'recipes.yaml'?"


def test_not_a_mapping(tmp_path: Path) -> None:
    """A spec is a mapping."""
    assert problems(tmp_path, "- a\n") == ["job.yaml:1:1: a spec is a mapping, not a list; it begins with 'version: 1'"]
    assert problems(tmp_path, "hello\n") == [
        "job.yaml:1:1: a spec is a mapping, not a single value; it begins with 'version: 1'"
    ]


def test_an_integer_of_a_json_file_that_exceeds_64_bits_is_text(tmp_path: Path) -> None:
    """As it is in YAML: an identifier keeps its digits."""
    text = SMALL + "tools: file://tools.json\n"
    for number, read in ((7, 7), (-(2**63), -(2**63)), (10**30, str(10**30))):
        assert loaded(tmp_path, text, tools_json=f'[{{"name": "f", "n": {number}}}]').spec.tools == [
            {"name": "f", "n": read}
        ]
