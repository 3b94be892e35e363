"""What a value's shape does not say: keys that exclude one another, lists with a condition, words with a meaning.

Works on bare values, so that it can speak together with the shape's own problems: whatever has the wrong shape is
passed over here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_cli.spec.hints import NOT_PARAMS, did_you_mean, mistyped_param
from synth_cli.spec.keys import keys_of
from synth_cli.spec.model import INHERITED, SOURCES, SUFFIXES, Step, StepKeys
from synth_cli.spec.places import Finding, Where, dotted
from synth_cli.spec.schema import SchemaError, schema_of

CONSTRAINTS = ("schema", "choice", "regex", "grammar")
FORMATS = ("chat", "none", "chatml", "llama2", "zephyr")
ROLES = ("system", "user", "assistant", "tool", "developer", "function")
OF_TYPE: Mapping[str, frozenset[str]] = {
    "map": frozenset({"columns", "each", "carry", "keep_if"}),
    "sample": frozenset({"columns", "carry"}),
    "dedup": frozenset({"by", "method", "threshold"}),
    "group": frozenset({"by"}),
    "python": frozenset({"function"}),
}
NEEDED = {"sample": "columns", "group": "by", "python": "function"}
PARTS = {"text": "text", "image": "source", "file": "source"}
_MORE = {"text": (), "image": ("detail", "format"), "file": ("filename", "format")}
_WORDS = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false"}

_STEP_KEYS = frozenset(keys_of(Step))


def check(data: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """Every finding that concerns one value or its neighbours; what needs the whole job is found elsewhere."""
    yield from _job(data)
    steps = data.get("steps")
    if isinstance(steps, list):
        yield from _steps(steps, data)
        for position, step in enumerate(steps):
            if isinstance(step, dict):
                yield from _step(step, ("steps", position), folder, defaults=data)
        yield from _settings(data, ())
    else:
        yield from _step(data, (), folder, defaults={})
    models = data.get("models")
    if isinstance(models, dict):
        for name, model in models.items():
            yield from _model(model, ("models", name))


def _given(mapping: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [key for key in keys if mapping.get(key) not in (None, False)]


def _at_most_one(mapping: Mapping[str, Any], keys: Sequence[str], where: Where, hint: str = "") -> Iterator[Finding]:
    given = _given(mapping, keys)
    if len(given) > 1:
        names = " and ".join(f"'{key}'" for key in given)
        place = f" under '{dotted(where)}'" if where else ""
        advice = hint or f"keep one; null removes an inherited one: {given[0]}: null"
        yield Finding((*where, given[1]), f"{names} exclude each other{place}", advice, at_key=True)


def _job(data: Mapping[str, Any]) -> Iterator[Finding]:
    source = data.get("input")
    if isinstance(source, dict):
        yield from _at_most_one(source, SOURCES, ("input",))
    target, count = data.get("target_rows"), isinstance(source, dict) and source.get("count") is not None
    if isinstance(target, dict):
        if count:
            hint = "remove input.count: rows are drawn until the target is met"
            yield Finding(("input", "count"), "'target_rows' and 'input.count' exclude each other", hint, at_key=True)
        rows, most = target.get("rows"), target.get("max_candidates")
        if isinstance(rows, int) and isinstance(most, int) and most < rows:
            message = f"'target_rows.max_candidates' ({most}) is less than 'target_rows.rows' ({rows})"
            yield Finding(("target_rows", "max_candidates"), message)
        accept = data.get("accept")
        least = accept.get("min_rows") if isinstance(accept, dict) else None
        if isinstance(rows, int) and isinstance(least, int) and least > rows:
            message = f"'accept.min_rows' ({least}) is more than 'target_rows.rows' ({rows}), and no more come"
            yield Finding(("accept", "min_rows"), message)
    output = data.get("output")
    if isinstance(output, dict):
        yield from _paths(output.get("path"))


def _paths(path: Any) -> Iterator[Finding]:
    where: Where = ("output", "path")
    several = isinstance(path, list)
    seen: set[str] = set()
    for position, each in enumerate(path if several else [path]):
        place = (*where, position) if several else where
        if not isinstance(each, str):
            continue
        if not each.lower().endswith(SUFFIXES):
            suffix = Path(each).suffix
            known = f"one of {', '.join(SUFFIXES)}"
            near = {".json": ".jsonl", ".pq": ".parquet", ".ndjson": ".jsonl", ".tsv": ".csv"}.get(suffix)
            hint = f"write {each.removesuffix(suffix)}{near}" if near else f"end it with {known}"
            yield Finding(place, f"an output's suffix says its format, and '{suffix or each}' is none", hint)
        if each in seen:
            yield Finding(place, f"'{each}' is written twice")
        seen.add(each)


def _steps(steps: Sequence[Any], data: Mapping[str, Any]) -> Iterator[Finding]:
    for key in data:
        if key in StepKeys.model_fields and key not in INHERITED:
            hint = "put it under a step; only these may stand at the top as defaults: " + ", ".join(INHERITED)
            yield Finding((key,), f"with 'steps', '{key}' belongs to a step", hint, at_key=True)
    names: list[str] = []
    every = [str(step.get("name")) for step in steps if isinstance(step, dict)]
    for position, step in enumerate(steps):
        if not isinstance(step, dict):
            continue
        where: Where = ("steps", position)
        name = step.get("name")
        yield from _from(step.get("from"), (*where, "from"), names, every)
        if name is None:
            yield Finding(where, f"step {position + 1} has no 'name'", "begin it with '- name: …'", lacks="name")
        elif name == "input":
            yield Finding((*where, "name"), "a step cannot be named 'input'", "'from: input' means the job's input")
        elif name in names:
            yield Finding((*where, "name"), f"two steps are named '{name}'", "give each a name of its own")
        names.append(str(name))


def _from(said: Any, where: Where, earlier: Sequence[str], every: Sequence[str]) -> Iterator[Finding]:
    several = isinstance(said, list)
    names = [name for name in (said if several else [said]) if isinstance(name, str)]
    if several and not said:
        yield Finding(where, "'from' names no step", "write a step's name, or remove it: the step before is meant")
    for position, name in enumerate(names):
        place = (*where, position) if several else where
        if name in names[:position]:
            yield Finding(place, f"'{name}' is there twice: each of its rows would come twice")
        elif name not in earlier and name != "input":
            # those from here on are this step and the ones behind it
            itself = every[len(earlier) :][:1] == [name]
            later = "a step cannot take its own rows" if itself else "it comes later: a step stands behind its sources"
            hint = later if name in every else did_you_mean(name, [*earlier, "input"])
            yield Finding(place, f"no earlier step is named '{name}'", hint)


def _step(step: Mapping[str, Any], where: Where, folder: Path, *, defaults: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _settings(step, where)
    kind = step.get("type", "llm") if where else "llm"
    if kind != "llm":
        yield from _without_model(step, where, kind)
        return
    yield from _asking(step, where, defaults)
    yield from _at_most_one(step, ("parse", "each"), where, "'parse' replaces 'each'")
    yield from _at_most_one(step, ("parse", "columns"), where, "'parse' replaces 'columns'")
    yield from _at_most_one(step, ("each", "group_samples"), where, "make one list of samples or one row per item")
    for key in ("by", "method", "threshold", "function"):
        if key in step and where:
            hint = "it belongs to a step with type: " + ("python" if key == "function" else "dedup or group")
            yield Finding((*where, key), f"'{key}' means nothing in a step that asks a model", hint, at_key=True)
    if isinstance(messages := step.get("messages"), list | str):
        yield from _messages(messages, (*where, "messages"))
    if isinstance(response := step.get("response"), dict):
        yield from _response(response, (*where, "response"), folder)
    if isinstance(tools := step.get("tools"), str) and "{{" not in tools:
        hint = 'write a list, or one template that yields it: "{{ tools }}"'
        yield Finding((*where, "tools"), "'tools' is a text, and not a template", hint)
    yield from _tools(step.get("tools"), (*where, "tools"))
    if step.get("tool_choice") is not None and not step.get("tools"):
        hint = "write tools: …, or remove it"
        yield Finding((*where, "tool_choice"), "'tool_choice' means nothing without 'tools'", hint, at_key=True)


def _asking(step: Mapping[str, Any], where: Where, defaults: Mapping[str, Any]) -> Iterator[Finding]:
    name = f"step '{step.get('name')}'" if where else "the spec"
    asked = _given(step, ("prompt", "messages", "turns"))
    prompt_format = step.get("prompt_format", "chat")
    # a template of its own may be all that is sent: a model then writes the user's turn
    framed = isinstance(prompt_format, str) and "{{" in prompt_format
    for key, said in (("prompt", step.get("prompt")), ("user", _user(step))):
        if isinstance(said, str) and not said.strip() and not framed:
            place: Where = (*where, "prompt") if key == "prompt" else (*where, "prompt", "user")
            yield Finding(place, f"'{dotted(place)}' is empty: nothing is asked")
    if not asked:
        hint = "write prompt: …" if where else "write prompt: …, or steps: …"
        yield Finding(where, f"{name} asks nothing: it has no 'prompt'", hint, at_key=True, lacks="prompt")
    yield from _at_most_one(step, ("prompt", "messages"), where, "a system and a user turn, or a list of messages")
    for key in ("prompt", "messages", "tools", "response", "refine"):
        yield from _at_most_one(step, ("turns", key), where, f"a conversation has no '{key}'")
    turns = step.get("turns")
    sides = [turns.get(side) for side in ("user", "assistant")] if isinstance(turns, dict) else []
    speaking = bool(sides) and all(isinstance(side, dict) and side.get("model") for side in sides)
    if step.get("model") in (None, []) and defaults.get("model") in (None, []) and not speaking:
        hint = "write model: provider/name, or model: simulator to try without a key"
        yield Finding(where, f"{name} has no 'model'", hint, at_key=True, lacks="model")
    if not isinstance(prompt_format, str) or prompt_format == "chat":
        return
    if prompt_format not in FORMATS and "{{" not in prompt_format:
        hint = did_you_mean(prompt_format, FORMATS) + " or write a template over system and user"
        yield Finding((*where, "prompt_format"), f"'{prompt_format}' is no prompt format", hint)
    for key in _given(step, ("messages", "tools", "turns")):
        hint = "a raw completion is made of 'prompt'"
        message = f"'prompt_format' and '{key}' exclude each other"
        yield Finding((*where, "prompt_format"), message, hint, at_key=True)
    response = step.get("response")
    if isinstance(response, dict) and response.get("feedback") is True:
        message = "'prompt_format' and 'response.feedback' exclude each other"
        hint = "a raw completion has no turn in which a model could be shown its answer"
        yield Finding((*where, "response", "feedback"), message, hint, at_key=True)


def _user(step: Mapping[str, Any]) -> Any:
    prompt = step.get("prompt")
    return prompt.get("user") if isinstance(prompt, dict) else None


def _tools(tools: Any, where: Where) -> Iterator[Finding]:
    for position, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict) or tool.get("type", "function") != "function":
            continue
        function = tool.get("function", tool)
        if not isinstance(function, dict) or not function.get("name"):
            hint = "write {name: …, description: …, parameters: …}"
            yield Finding((*where, position), "a tool needs a name", hint)


def _without_model(step: Mapping[str, Any], where: Where, kind: Any) -> Iterator[Finding]:
    allowed = OF_TYPE.get(kind) if isinstance(kind, str) else None
    if allowed is None:
        return
    for key in step:
        if key in _STEP_KEYS and key not in {*allowed, "name", "type", "from"}:
            hint = f"it takes {', '.join(sorted(allowed))}"
            yield Finding((*where, key), f"'{key}' means nothing in a step with type: {kind}", hint, at_key=True)
    needed = NEEDED.get(str(kind))
    if needed is not None and step.get(needed) is None:
        yield Finding(where, f"step '{step.get('name')}' with type: {kind} needs '{needed}'", "", at_key=True)
    if step.get("by") == [] and "by" in allowed:
        hint = "write one, or remove it: all columns are compared" if kind == "dedup" else "write one"
        yield Finding((*where, "by"), "'by' names no column", hint)
    if kind == "dedup" and step.get("threshold") is not None and step.get("method") != "minhash":
        hint = "write method: minhash"
        yield Finding((*where, "threshold"), "'threshold' is for method: minhash", hint, at_key=True)


def _settings(node: Mapping[str, Any], where: Where) -> Iterator[Finding]:
    """The model and the two params mappings, wherever they stand."""
    yield from _params(node.get("generation_params"), (*where, "generation_params"))
    yield from _address(node.get("backend_params"), (*where, "backend_params"))
    model = node.get("model")
    for position, each in enumerate(model if isinstance(model, list) else [model]):
        yield from _model(each, (*where, "model", position) if isinstance(model, list) else (*where, "model"))
    if model in ("", []):
        yield Finding((*where, "model"), "'model' is empty", "write model: provider/name")


def _model(model: Any, where: Where) -> Iterator[Finding]:
    if not isinstance(model, dict):
        return
    yield from _params(model.get("generation_params"), (*where, "generation_params"))
    yield from _address(model, where)
    params = model.get("backend_params")
    yield from _address(params, (*where, "backend_params"))
    if isinstance(params, dict):
        for key in ("base_url", "api_key", "headers"):
            if model.get(key) is not None and params.get(key) is not None and model[key] != params[key]:
                message = f"'{key}' is given twice, and differently"
                yield Finding((*where, "backend_params", key), message, f"keep '{dotted(where)}.{key}'", at_key=True)


def _address(node: Any, where: Where) -> Iterator[Finding]:
    address = node.get("base_url") if isinstance(node, dict) else None
    # one that waits for the environment is looked at once it is filled in
    if isinstance(address, str) and "${" not in address and not re.match(r"https?://[^/\s]", address):
        near = f"http://{address}" if re.match(r"[\w.-]+(:\d+)?(/|$)", address) else "http://localhost:8000/v1"
        yield Finding((*where, "base_url"), f"'{address}' is no address of a server", f"write it like {near}")


def _params(params: Any, where: Where) -> Iterator[Finding]:
    if not isinstance(params, dict):
        return
    for name, value in params.items():
        place = (*where, name)
        if name in NOT_PARAMS:
            message = f"'{name}' is not a sampling parameter here"
            yield Finding(place, message, f"write '{NOT_PARAMS[name]}'", at_key=True)
        elif (near := mistyped_param(str(name))) is not None:
            yield Finding(place, f"unknown key '{name}'", f"did you mean '{near}'?", at_key=True)
        if isinstance(value, str) and value in _WORDS:
            yield Finding(place, f"'{dotted(place)}' is the text '{value}'", f"write {_WORDS[value]}")


def _messages(messages: Any, where: Where) -> Iterator[Finding]:
    if isinstance(messages, str):
        if "{{" not in messages:
            hint = 'for one user turn write prompt: …; for a list from a column "{{ conversation }}"'
            yield Finding(where, "'messages' is a text, and not a template", hint)
        return
    if not messages:
        yield Finding(where, f"'{dotted(where)}' must not be empty")
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        place = (*where, position)
        role = message.get("role")
        if isinstance(role, str) and "{" not in role and role not in ROLES:
            yield Finding((*place, "role"), f"'{role}' is no role", did_you_mean(role, ROLES))
        content = message.get("content")
        if content is None and "tool_calls" not in message and role is not None:
            yield Finding(place, f"message {position + 1} has no 'content'")
        if isinstance(content, list):
            for number, part in enumerate(content):
                yield from _part(part, (*place, "content", number))


def _part(part: Any, where: Where) -> Iterator[Finding]:
    if isinstance(part, str):
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind not in {*PARTS, "image_url"} and kind in part:
        # a provider's own kind of part, such as input_audio
        return
    if not isinstance(kind, str) or kind not in PARTS:
        if kind in {"image_url", "input_image", "image_path"}:
            hint = "write {type: image, source: …}"
        else:
            hint = "write {type: text, text: …}, {type: image, source: …} or {type: file, source: …}"
        yield Finding(where, "a part of a message is a text, an image or a file", hint)
        return
    known = {"type", PARTS[kind], *_MORE[kind]}
    if PARTS[kind] not in part:
        yield Finding(where, f"a part of type {kind} needs '{PARTS[kind]}'")
    for key in part:
        if key not in known:
            yield Finding((*where, key), f"unknown key '{key}'", did_you_mean(key, sorted(known)), at_key=True)


def _response(response: Mapping[str, Any], where: Where, folder: Path) -> Iterator[Finding]:
    yield from _at_most_one(response, CONSTRAINTS, where)
    choice = response.get("choice")
    if isinstance(choice, str) and "{{" not in choice:
        hint = 'write choice: [yes, no], or one template that yields a list: "{{ labels }}"'
        yield Finding((*where, "choice"), "'choice' is a text, and not a template", hint)
    if isinstance(choice, list):
        if not choice:
            yield Finding((*where, "choice"), f"'{dotted(where)}.choice' must not be empty")
        texts = [str(each) for each in choice]
        for position, each in enumerate(texts):
            if each in texts[:position]:
                yield Finding((*where, "choice", position), f"'{each}' is there twice")
    regex = response.get("regex")
    if isinstance(regex, str):
        try:
            re.compile(regex)
        except re.error as error:
            yield Finding((*where, "regex"), f"this is no regular expression: {error}")
    if response.get("schema") is not None:
        try:
            schema_of(response["schema"], folder=folder)
        except SchemaError as error:
            for problem in error.problems:
                yield Finding((*where, "schema", *problem.where), problem.message, problem.hint)
