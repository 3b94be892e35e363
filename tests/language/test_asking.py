"""What is sent: model, parameters, prompts, messages, raw completions, tools."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, Server, serving

ROWS = {"rows": [{"a": "x"}]}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def sent(desk: Desk, server: Server, **spec: Any) -> list[dict[str, Any]]:
    """The bodies that a spec's requests are sent as, in input order."""
    desk.says({"model": server.model(), "input": ROWS, "backend_params": {"max_concurrent_requests": 1}, **spec})
    told = desk.run()
    assert told.code == 0, told.err
    return server.bodies


def ok(body: dict[str, Any]) -> str:
    return "ok"


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_model_mapping_is_merged_over_the_step(desk: Desk) -> None:
    """`model: {name, generation_params, …}`: the model's own parameters win by key, the step's others stay."""
    with serving(ok) as server:
        bodies = sent(
            desk,
            server,
            model=server.model(generation_params={"temperature": 0.1}, headers={"x-team": "dough"}),
            generation_params={"temperature": 0.9, "top_p": 0.5},
            prompt="hi",
        )
        assert bodies == [{"model": "tiny", "temperature": 0.1, "top_p": 0.5, "messages": [user("hi")]}]
        assert server.headers[0]["x-team"] == "dough"


def test_generation_params_are_sent_as_they_are(desk: Desk) -> None:
    """Nested, unknown and listed parameters reach the body unchanged; null leaves one out."""
    params = {"temperature": 0, "logit_bias": {"50256": -100}, "stop": ["\n", "END"], "x_new": {"deep": [1]}}
    with serving(ok) as server:
        bodies = sent(desk, server, prompt="hi", generation_params={**params, "top_p": None})
    assert bodies == [{"model": "tiny", **params, "messages": [user("hi")]}]


def test_a_column_of_that_name_overrides_generation_params(desk: Desk) -> None:
    """A mapping or JSON text, row by row; it is not carried on."""
    rows = [
        {"n": 0, "generation_params": {"temperature": 0.2}},
        {"n": 1, "generation_params": '{"max_tokens": 5}'},
        {"n": 2, "generation_params": None},
        {"n": 3, "generation_params": ""},
    ]
    with serving(ok) as server:
        bodies = sent(desk, server, input={"rows": rows}, prompt="{{ n }}", generation_params={"temperature": 1})
    assert [{key: value for key, value in body.items() if key not in ("model", "messages")} for body in bodies] == [
        {"temperature": 0.2},
        {"temperature": 1, "max_tokens": 5},
        {"temperature": 1},
        {"temperature": 1},
    ]
    assert desk.lines("spec.jsonl") == [{"n": n, "response": "ok"} for n in range(4)]


@pytest.mark.parametrize(
    ("over", "error"),
    [
        ("{not json", "template: the column generation_params is not JSON: "),
        ([1], "template: the column generation_params must be a mapping, not list"),
        ({"model": "other"}, "template: the column generation_params has 'model', which is not a sampling parameter"),
        ({"n": 2}, "template: the column generation_params has 'n', which is not a sampling parameter; write samples"),
    ],
)
def test_a_bad_override_fails_its_row(desk: Desk, over: Any, error: str) -> None:
    """What is not a mapping, or would change more than sampling, is that row's failure and is never sent."""
    with serving(ok) as server:
        desk.says({"model": server.model(), "input": {"rows": [{"generation_params": over}, {}]}, "prompt": "hi"})
        assert desk.run().code == 1
        assert len(server.bodies) == 1
    (failed,) = desk.failed()
    assert failed["error"].startswith(error)


def test_a_prompt_is_the_user_turn(desk: Desk) -> None:
    """`prompt: text` sends one user message; one final newline of a block is dropped."""
    with serving(ok) as server:
        bodies = sent(desk, server, prompt="About {{ a }}.\n\nGo.\n")
    assert bodies == [{"model": "tiny", "messages": [user("About x.\n\nGo.")]}]


def test_a_prompt_with_a_system_turn(desk: Desk) -> None:
    """`{system, user}` sends both, system first."""
    with serving(ok) as server:
        bodies = sent(desk, server, prompt={"system": "Be {{ a }}.", "user": "Go."})
    assert bodies == [{"model": "tiny", "messages": [{"role": "system", "content": "Be x."}, user("Go.")]}]


def test_a_system_turn_that_is_empty_is_left_out(desk: Desk) -> None:
    """A row whose system template gives nothing is asked without a system message."""
    with serving(ok) as server:
        bodies = sent(
            desk,
            server,
            input={"rows": [{"s": ""}, {"s": None}, {"s": "Be."}]},
            prompt={"system": "{{ s }}", "user": "Go."},
        )
    assert [len(body["messages"]) for body in bodies] == [1, 1, 2]


def test_messages_are_sent_in_order(desk: Desk) -> None:
    """A list of `{role, content}` whose contents are templates."""
    with serving(ok) as server:
        bodies = sent(
            desk,
            server,
            messages=[
                {"role": "system", "content": "S {{ a }}"},
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": "A"},
                {"role": "user", "content": "{{ row['a'] }}"},
            ],
        )
    assert bodies[0]["messages"] == [
        {"role": "system", "content": "S x"},
        user("U"),
        {"role": "assistant", "content": "A"},
        user("x"),
    ]


def test_one_template_yields_the_messages(desk: Desk) -> None:
    """`messages: "{{ conversation }}"` sends a column's list, tool calls and all, and never renders it."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk = [
        user("what is {{ 1 + 1 }}?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    with serving(ok) as server:
        bodies = sent(desk, server, input={"rows": [{"conversation": talk}]}, messages="{{ conversation }}")
    assert bodies[0]["messages"] == talk


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        ("[]", "template: messages must be a list of {role, content}, not str; a text is read by the filter from_json"),
        ([], "template: messages is an empty list"),
        ([{"role": "human", "content": "hi"}], "template: message 1 has the role 'human'; known: assistant, developer"),
        (["hi"], "template: message 1 must be a mapping {role, content}, not str"),
    ],
)
def test_a_list_that_is_no_conversation_fails_its_row(desk: Desk, talk: Any, error: str) -> None:
    """The row says what is wrong with its messages; nothing is sent for it."""
    with serving(ok) as server:
        desk.says({"model": server.model(), "input": {"rows": [{"c": talk}]}, "messages": "{{ c }}"})
        assert desk.run().code == 1
        assert server.bodies == []
    assert desk.failed()[0]["error"].startswith(error)


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("https://example.org/{{ a }}.png", "https://example.org/x.png"),
        ("pixel.png", DATA_URL),
        ("{{ a }}.png", DATA_URL),
    ],
)
def test_an_image_from_a_url_or_a_path(desk: Desk, source: str, url: str) -> None:
    """A URL is sent as it is; a path, relative to the spec's folder, becomes a data URL of its very bytes."""
    desk.write(pixel__png=PNG, x__png=PNG)
    parts = [{"type": "text", "text": "What is {{ a }}?"}, {"type": "image", "source": source, "detail": "low"}]
    with serving(ok) as server:
        bodies = sent(desk, server, messages=[{"role": "user", "content": parts}])
    assert bodies[0]["messages"] == [
        user(
            [{"type": "text", "text": "What is x?"}, {"type": "image_url", "image_url": {"url": url, "detail": "low"}}]
        )
    ]


def test_an_image_from_bytes(desk: Desk) -> None:
    """Bytes of a Parquet column, bare or as `{bytes, path}` (how datasets keep images), are sent as they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"n": [0], "bare": [PNG], "image": [{"bytes": PNG, "path": "p.png"}]})
    pq.write_table(table, desk.folder / "in.parquet")
    parts = [{"type": "image", "source": "{{ bare }}"}, {"type": "image", "source": "{{ image }}"}]
    with serving(ok) as server:
        bodies = sent(
            desk, server, input={"path": "in.parquet"}, messages=[{"role": "user", "content": parts}], carry=["n"]
        )
    image = {"type": "image_url", "image_url": {"url": DATA_URL}}
    assert bodies[0]["messages"] == [user([image, image])]


def test_an_image_of_a_dataset(desk: Desk) -> None:
    """An image of a Hugging Face dataset is a source."""
    import io

    from datasets import Dataset, Features, Image, Value
    from PIL import Image as Pillow

    features = Features({"n": Value("int64"), "image": Image()})
    Dataset.from_dict({"n": [0], "image": [{"bytes": PNG, "path": None}]}, features=features).save_to_disk(
        str(desk.folder / "pixels")
    )
    part = {"type": "image", "source": "{{ image }}"}
    with serving(ok) as server:
        bodies = sent(
            desk, server, input={"dataset": "pixels"}, messages=[{"role": "user", "content": [part]}], carry=["n"]
        )
    url = bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    pixels = Pillow.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert list(pixels.convert("RGBA").get_flattened_data()) == list(
        Pillow.open(io.BytesIO(PNG)).convert("RGBA").get_flattened_data()
    )


def test_a_file_part(desk: Desk) -> None:
    """`{type: file, source}` sends the file's name and bytes."""
    desk.write(paper__pdf=b"%PDF-1.4 tiny")
    with serving(ok) as server:
        bodies = sent(
            desk, server, messages=[{"role": "user", "content": [{"type": "file", "source": "paper.pdf"}, "Sum up."]}]
        )
    data = f"data:application/pdf;base64,{base64.b64encode(b'%PDF-1.4 tiny').decode()}"
    assert bodies[0]["messages"][0]["content"] == [
        {"type": "file", "file": {"filename": "paper.pdf", "file_data": data}},
        {"type": "text", "text": "Sum up."},
    ]


def test_an_image_that_is_not_there_fails_its_row(desk: Desk) -> None:
    """Only that row; the others are asked."""
    desk.write(pixel__png=PNG)
    part = {"type": "image", "source": "{{ f }}"}
    with serving(ok) as server:
        desk.says(
            {
                "model": server.model(),
                "input": {"rows": [{"f": "gone.png"}, {"f": "pixel.png"}]},
                "messages": [{"role": "user", "content": [part]}],
            }
        )
        assert desk.run().code == 1
        assert len(server.bodies) == 1
    assert desk.failed()[0]["error"] == f"template: cannot read {desk.folder / 'gone.png'}: No such file or directory"


@pytest.mark.parametrize(
    ("name", "system", "prompt"),
    [
        ("none", "S", "S\nU x"),
        ("none", None, "U x"),
        ("chatml", "S", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU x<|im_end|>\n<|im_start|>assistant\n"),
        ("chatml", None, "<|im_start|>user\nU x<|im_end|>\n<|im_start|>assistant\n"),
        ("llama2", "S", "<s>[INST] <<SYS>>\nS<</SYS>>\n\nU x [/INST]"),
        ("llama2", None, "<s>[INST] U x [/INST]"),
        ("zephyr", "S", "<|system|>\nS</s>\n<|user|>\nU x</s>\n<|assistant|>\n"),
        ("zephyr", None, "<|user|>\nU x</s>\n<|assistant|>\n"),
        ("### {{ system }}\n### {{ user }}", "S", "### S\n### U x"),
        ("### {{ system }}\n### {{ user }}", None, "### \n### U x"),
        ("{% if system %}({{ system }}) {% endif %}{{ user }}", None, "U x"),
    ],
)
def test_a_raw_prompt_is_byte_exact(desk: Desk, name: str, system: str | None, prompt: str) -> None:
    """`prompt_format` posts exactly this text to the completions endpoint."""
    said = {"user": "U {{ a }}"} if system is None else {"system": system, "user": "U {{ a }}"}
    with serving(lambda body: " fine") as server:
        bodies = sent(desk, server, prompt=said, prompt_format=name, generation_params={"max_tokens": 4})
        assert server.paths == ["/v1/completions"]
    assert bodies == [{"model": "tiny", "max_tokens": 4, "prompt": prompt}]
    assert desk.lines("spec.jsonl") == [{"a": "x", "response": " fine"}]


def test_a_template_may_be_all_that_is_sent(desk: Desk) -> None:
    """An empty user turn in a template of the model's own: it goes on from there, and the empty turn is no problem."""
    shape = "<|system|>{{ system }}<|user|>"
    with serving(ok) as server:
        said = {"system": "You are asked about bees.", "user": ""}
        bodies = sent(desk, server, prompt=said, prompt_format=shape, generation_params={"max_tokens": 4})
    assert [body["prompt"] for body in bodies] == ["<|system|>You are asked about bees.<|user|>"]


def test_a_raw_prompt_renders_no_data(desk: Desk) -> None:
    """Braces in a column reach the prompt as they are."""
    rows = {"rows": [{"t": "{system} {{ user }} {user}"}]}
    with serving(ok) as server:
        bodies = sent(desk, server, input=rows, prompt={"system": "{{ t }}", "user": "{{ t }}"}, prompt_format="none")
    assert bodies[0]["prompt"] == "{system} {{ user }} {user}\n{system} {{ user }} {user}"


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def calling(body: dict[str, Any]) -> dict[str, Any]:
    name = body["tools"][0]["function"]["name"]
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": '{"city": "Oslo"}'}}
    return {"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}


def test_tools_are_sent_and_their_calls_are_a_column(desk: Desk) -> None:
    """`tools` and `tool_choice` reach the body; `tool_calls` has OpenAI's shape, its arguments parsed."""
    with serving(calling) as server:
        bodies = sent(desk, server, prompt="hi", tools=[TOOL], tool_choice="required")
    assert bodies == [{"model": "tiny", "tools": [TOOL], "tool_choice": "required", "messages": [user("hi")]}]
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    assert desk.lines("spec.jsonl") == [{"a": "x", "response": "", "tool_calls": [call]}]


def test_a_bare_function_definition_is_a_tool(desk: Desk) -> None:
    """A definition without its `{type: function, function: …}` wrapper is sent with it, listed or per row."""
    bare = TOOL["function"]
    with serving(calling) as server:
        assert sent(desk, server, prompt="hi", tools=[bare])[0]["tools"] == [TOOL]
        rows = {"rows": [{"t": [bare]}]}
        assert sent(desk, server, input=rows, prompt="ho", tools="{{ t }}")[1]["tools"] == [TOOL]


def test_tools_of_each_row(desk: Desk) -> None:
    """A template yields one list per row, of mappings or as JSON text; a row without tools is asked without."""
    rows = [{"t": [TOOL]}, {"t": json.dumps([TOOL])}, {"t": None}, {"t": []}]
    with serving(lambda body: calling(body) if "tools" in body else "plain") as server:
        bodies = sent(desk, server, input={"rows": rows}, prompt="hi", tools="{{ t }}", tool_choice="auto", carry=False)
    assert [(body.get("tools"), body.get("tool_choice")) for body in bodies] == [
        ([TOOL], "auto"),
        ([TOOL], "auto"),
        (None, None),
        (None, None),
    ]
    assert [(row["response"], len(row["tool_calls"])) for row in desk.lines("spec.jsonl")] == [
        ("", 1),
        ("", 1),
        ("plain", 0),
        ("plain", 0),
    ]


def test_tools_that_are_no_tools_fail_their_row(desk: Desk) -> None:
    """Per row: what is wrong is said, nothing is sent."""
    with serving(ok) as server:
        rows = {"rows": [{"t": "{"}, {"t": ["f"]}, {"t": [{"parameters": {}}]}]}
        desk.says({"model": server.model(), "input": rows, "prompt": "hi", "tools": "{{ t }}"})
        assert desk.run().code == 1
        assert server.bodies == []
    errors = [failed["error"] for failed in desk.failed()]
    assert errors[0].startswith("template: tools is not JSON: ")
    assert errors[1:] == [
        "template: tools must be a list of function definitions",
        "template: a function definition in tools has no name",
    ]


def test_preview_shows_what_a_run_sends(desk: Desk, tmp_path: Path) -> None:
    """The body of `preview` is the very body of the run, parameters renamed, constraint lowered."""
    spec = {
        "input": {"matrix": {"a": ["x", "y"]}},
        "prompt": "{{ a }}",
        "generation_params": {"max_tokens": 9},
        "response": {"schema": {"title": "str"}},
    }
    with serving(lambda body: '{"title": "t"}') as server:
        desk.says({"model": server.model(), "backend_params": {"max_concurrent_requests": 1}, **spec})
        shown = [look["body"] for look in desk.preview()]
        assert server.bodies == []
        assert desk.run().code == 0
        assert server.bodies == shown


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"prompt": "a", "messages": [user("b")]}, "'prompt' and 'messages' exclude each other"),
        ({"prompt": {"system": "a"}}, "'prompt' needs the key 'user'"),
        ({"prompt": " "}, "'prompt' is empty: nothing is asked"),
        ({"prompt": {"user": ""}}, "'prompt.user' is empty: nothing is asked"),
        ({"prompt": {"user": [1]}}, "'prompt.user' must be text, not a list"),
        ({"messages": "hello"}, "'messages' is a text, and not a template"),
        ({"messages": []}, "'messages' must not be empty"),
        ({"messages": [user("a"), {"role": "bot", "content": "b"}]}, "'bot' is no role"),
        ({"messages": [user([{"type": "image"}])]}, "a part of type image needs 'source'"),
        (
            {"messages": [user([{"type": "picture", "source": "x"}])]},
            "a part of a message is a text, an image or a file",
        ),
        ({"prompt": "a", "prompt_format": "chatlm"}, "'chatlm' is no prompt format; did you mean 'chatml'?"),
        ({"prompt": "a", "prompt_format": "{{ usr }}"}, "nothing provides 'usr'; did you mean 'user'?"),
        ({"messages": [user("a")], "prompt_format": "none"}, "'prompt_format' and 'messages' exclude each other"),
        ({"prompt": "a", "prompt_format": "none", "tools": [TOOL]}, "'prompt_format' and 'tools' exclude each other"),
        (
            {"prompt": "a", "prompt_format": "none", "response": {"feedback": True}},
            "'prompt_format' and 'response.feedback' exclude each other",
        ),
        ({"prompt": "a", "tool_choice": "auto"}, "'tool_choice' means nothing without 'tools'"),
        ({"prompt": "a", "tools": [{"parameters": {}}]}, "a tool needs a name"),
        ({"prompt": "a", "tools": "weather"}, "'tools' is a text, and not a template"),
        (
            {"prompt": "a", "generation_params": {"temprature": 1}},
            "unknown key 'temprature'; did you mean 'temperature'?",
        ),
        ({"prompt": "a", "generation_params": {"n": 2}}, "'n' is not a sampling parameter here; write 'samples'"),
    ],
)
def test_validate_finds_what_cannot_be_asked(desk: Desk, spec: dict[str, Any], problem: str) -> None:
    """Exactly one problem, with its place, in the language's words."""
    desk.says({"model": "simulator", "input": ROWS, **spec})
    problems = desk.validate()
    assert len(problems) == 1
    place, _, message = problems[0].partition(": ")
    assert place.partition(":")[0].isdigit()
    assert message.startswith(problem)
