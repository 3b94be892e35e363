"""What a validation error means to the person who wrote the spec: one finding for each mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic_core import ErrorDetails

from synth_cli.spec.hints import FOREIGN, IN_INPUT, IN_MODEL, IN_RESPONSE, KNOWN_PARAMS, did_you_mean, suggest
from synth_cli.spec.keys import homes, keys_of, node_at
from synth_cli.spec.model import Input, Model, Response
from synth_cli.spec.places import Finding, Where, dotted

Shape: TypeAlias = Literal["scalar", "list", "mapping"]
SECRET = frozenset({"api_key", "url", "headers"})
_WRONG_TYPE: Mapping[str, str] = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "number": "a number",
    "duration": "a time such as 90s, 30m, 5h, 2d, or seconds",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
}
_WRITE: Mapping[str, str] = {
    "input": "write input: {path: …}",
    "output": "write output: {path: …}",
    "steps": "write a list: each step begins with '- name: …'",
    "response": "write response: {schema: …}, or leave it out for text",
    "budget": "write budget: {max_cost_usd: …}",
    "target_rows": "write target_rows: {rows: …}",
    "accept": "write accept: {min_rows: …}",
    "rows": "each row is a mapping: - {column: value}",
    "matrix": "each column has a list: {level: [easy, hard]}",
    "turns": "write turns: {user: {model: …}, assistant: {model: …}, start: …}",
}


@dataclass(frozen=True, slots=True)
class _Error:
    """An error with its place: `branch` is the member of a union that it speaks of, `root` that union's place."""

    where: Where
    detail: ErrorDetails
    root: Where | None = None
    branch: Shape | None = None
    fitting: tuple[Where, ...] = ()
    """Unions on the way whose value has the shape of the member that speaks."""


def located(data: Any, detail: ErrorDetails) -> _Error:
    """Parts of a location that the data does not have are names of union members."""
    where: Where = ()
    root: Where | None = None
    branch: Shape | None = None
    fitting: tuple[Where, ...] = ()
    node: Any = data
    loc = detail["loc"]
    for position, part in enumerate(loc):
        if _has(node, part):
            node, where = node[part], (*where, part)
        elif detail["type"] == "missing" and position == len(loc) - 1:
            where = (*where, part)
        else:
            root, branch = where, _shape_of_member(str(part))
            if branch != _shape(node):
                break
            fitting = (*fitting, where) if branch != "scalar" else fitting
    return _Error(where, detail, root, branch, fitting)


def _has(node: Any, part: str | int) -> bool:
    return part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))


def _shape_of_member(name: str) -> Shape:
    if name.startswith("list["):
        return "list"
    if name.startswith("dict[") or name[:1].isupper():
        return "mapping"
    return "scalar"


def _shape(value: Any) -> Shape:
    if isinstance(value, dict):
        return "mapping"
    return "list" if isinstance(value, list) else "scalar"


def _at(data: Any, where: Where) -> Any:
    for part in where:
        data = data[part]
    return data


def findings(data: Any, details: Sequence[ErrorDetails]) -> Iterator[Finding]:
    """One finding for each mistake; of a union's members only the one that the value was meant for speaks."""
    errors = [located(data, detail) for detail in details]
    roots: dict[Where, list[_Error]] = {}
    for error in errors:
        if error.root is not None:
            roots.setdefault(error.root, []).append(error)
    fitting = {where for error in errors for where in error.fitting}
    done: set[Where] = set()
    for error in errors:
        if error.root is None:
            yield finding(error.where, error.detail)
            continue
        members = roots[error.root]
        shape = _shape(_at(data, error.root))
        deeper = [each for each in members if each.branch == shape and (shape != "scalar" or _says_more(each))]
        if deeper:
            if error in deeper:
                yield finding(error.where, error.detail)
        elif error.root not in done and error.root not in fitting:
            done.add(error.root)
            yield _no_member(error.root, members, data)


def _says_more(error: _Error) -> bool:
    """Whether an error is about the value rather than its type."""
    return error.detail["type"] not in _WRONG_TYPE


def _no_member(root: Where, members: Sequence[_Error], data: Any) -> Finding:
    wanted = dict.fromkeys(_WRONG_TYPE.get(each.detail["type"], "a list") for each in members)
    if {"a whole number", "a number"} <= wanted.keys():
        wanted.pop("a whole number")
    return _wrong_type(root, _either(list(wanted)), _at(data, root))


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def finding(where: Where, detail: ErrorDetails) -> Finding:
    """What one error says, at its place."""
    kind, context = detail["type"], detail.get("ctx", {})
    value = detail.get("input")
    if kind == "extra_forbidden":
        return unknown_key(where)
    if kind == "missing":
        parent = f"'{dotted(where[:-1])}'" if where[:-1] else "the spec"
        return Finding(where[:-1], f"{parent} needs the key '{where[-1]}'", "", at_key=True, lacks=str(where[-1]))
    if kind in _WRONG_TYPE:
        return _wrong_type(where, _WRONG_TYPE[kind], value)
    name = dotted(where)
    if kind == "literal_error":
        wanted = str(context.get("expected", "")).replace("'", "")
        if where == ("version",):
            return Finding(where, f"this synth reads version 1 of the language, not {shown(where, value)}")
        known = wanted.replace(" or ", ", ").split(", ")
        near = suggest(str(value), known)
        hint = f"did you mean '{near}'?" if near else ""
        return Finding(where, f"'{name}' must be {wanted}, not {shown(where, value)}", hint)
    limits = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than"}
    limits["less_than_equal"] = "at most"
    if kind in limits:
        limit = next(iter(context.values()))
        limit = int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        return Finding(where, f"'{name}' must be {limits[kind]} {limit}, not {shown(where, value)}")
    if kind == "too_short":
        return Finding(where, f"'{name}' must not be empty")
    if kind == "string_pattern_mismatch":
        message = f"'{name}' may have only letters, digits, '_', '-' and '.', not {shown(where, value)}"
        return Finding(where, message, "it names a folder")
    return Finding(where, f"'{name}' is not right: {detail['msg']}")


def _wrong_type(where: Where, wanted: str, value: Any) -> Finding:
    name = dotted(where) or "the spec"
    hint = _WRITE.get(str(where[-1]), "") if where else ""
    if "mapping" in wanted and len(where) > 1 and isinstance(where[-1], int):
        hint = _WRITE.get(str(where[-2]), "")
    if wanted == "true or false" and isinstance(value, str):
        words = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
        word = words.get(value.lower())
        hint = f"write {word}, without quotes" if word else ""
    return Finding(where, f"'{name}' must be {wanted}, not {shown(where, value)}", hint)


def shown(where: Where, value: Any) -> str:
    """A value for a message: short, and never a secret."""
    if value is None:
        return "empty (null)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if SECRET & {str(part) for part in where}:
        return "this value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 40 else f"{value[:37]}…"
        return f"the text '{text}'" if text else "the empty text"
    return str(value)


def unknown_key(where: Where) -> Finding:
    """Names the right key: another tool's word for it, the place where it belongs, or the nearest one here."""
    key = str(where[-1])
    node = node_at(where[:-1])
    known = list(keys_of(node)) if node is not None else []
    return Finding(where, f"unknown key '{key}'", _right_key(key, where[:-1], node, known), at_key=True)


def _right_key(key: str, parent: Where, node: type | None, known: Sequence[str]) -> str:
    local: Mapping[type | None, Mapping[str, str]] = {Model: IN_MODEL, Input: IN_INPUT, Response: IN_RESPONSE}
    if key in local.get(node, {}):
        return f"write '{local[node][key]}'"
    if key in KNOWN_PARAMS and (not homes().get(key) or key in {"max_tokens", "min_tokens", "seed"}):
        return f"it is a sampling parameter: write '{_near(parent, 'generation_params')}.{key}'"
    if key in FOREIGN:
        right = FOREIGN[key]
        last = right.rpartition(".")[2]
        return f"write '{last if last in known else right}'"
    places = homes().get(key, ())
    near = suggest(key, known)
    if near is not None and not places:
        return f"did you mean '{near}'?"
    if places:
        place = next((each for each in places if not each.startswith("model.")), places[0])
        return _belongs(key, place)
    param = suggest(key, KNOWN_PARAMS)
    if param is not None:
        return f"did you mean '{param}'? It stands under 'generation_params'"
    if node is Response:
        return "the fields of an answer stand under 'response.schema'"
    foreign = suggest(key, homes())
    if foreign is not None:
        return f"did you mean '{foreign}'? {_belongs(foreign, homes()[foreign][0])}"
    return did_you_mean(key, known)


def _belongs(key: str, place: str) -> str:
    parent = place.removesuffix(key).rstrip(".")
    if not parent:
        return f"'{key}' stands at the top of the spec"
    if parent == "steps[]":
        return f"'{key}' stands in a step, under 'steps'"
    return f"'{key}' stands under '{parent}'"


def _near(parent: Where, key: str) -> str:
    return f"steps.{parent[1]}.{key}" if parent[:1] == ("steps",) and len(parent) > 1 else key
