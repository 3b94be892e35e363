"""A constraint in each dialect: what is put into the body, what into the prompt, and how the answer is read then.

Everything is validated against the user's own constraint when it comes back: lowering may only widen it, never
forbid an answer that would be valid.

Strict mode knows no optional fields. A field that may be left out becomes a required one of the same type, not one
that may be null: an answer with null would not be valid against the user's schema, one with the field always is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import orjson

from synth_cli.core.guidance import guided
from synth_cli.core.request import Constraint, Message
from synth_cli.providers.hosts import Structured

Reading: TypeAlias = Literal["", ".choice", ".tool"]
"""Put behind the protocol's name: the answer is the whole text, a chosen `answer` in it, or a tool's arguments."""

# OpenAI's subset: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
KEPT = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "$ref", "$defs", "definitions"}
    | {"description", "title", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    | {"multipleOf", "minItems", "maxItems"}
)
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


@dataclass(frozen=True, slots=True)
class Lowered:
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body."""
    instruction: str = ""
    """What must be said in the prompt."""
    reading: Reading = ""


def lower(
    constraint: Constraint | None,
    structured: Structured | Literal["tool"],
    *,
    completion: bool = False,
    tools: bool = False,
    unsupported: frozenset[str] = frozenset(),
) -> Lowered:
    """The constraint as a host takes it; what it cannot take is left to the validation of the answer.

    Regex and grammar are sent to vLLM only. A choice is sent to hosts with schemas as `{"answer": <enum>}`.
    """
    if constraint is None:
        return Lowered()
    if structured == "vllm":
        return _vllm(constraint, completion)
    if completion or constraint.kind in ("regex", "grammar"):
        return Lowered()
    if constraint.kind == "choice":
        if structured in ("json", "tool"):
            return Lowered()
        wrapped = Constraint("schema", choice_schema(constraint.value), constraint.name)
        return Lowered(_response_format(wrapped, structured, unsupported), reading=".choice")
    if structured == "tool" and not tools:
        name = _name(constraint)
        function = {"name": name, "description": "Gives the answer.", "parameters": constraint.value}
        choice = {"type": "function", "function": {"name": name}}
        return Lowered({"tools": [{"type": "function", "function": function}], "tool_choice": choice}, reading=".tool")
    if structured in ("json", "tool"):
        schema = orjson.dumps(constraint.value).decode()
        return Lowered(
            {"response_format": {"type": "json_object"}},
            "Answer with one JSON value that is valid against this JSON Schema, and with nothing else:\n" + schema,
        )
    return Lowered(_response_format(constraint, structured, unsupported))


def instructed(messages: Sequence[Message], instruction: str) -> list[Message]:
    """The messages with an instruction at the end of the system turn; many hosts take only one, and only first."""
    if messages and messages[0].get("role") in ("system", "developer"):
        content = messages[0].get("content")
        more: Any
        if isinstance(content, list):
            more = [*content, {"type": "text", "text": instruction}]
        else:
            more = f"{content}\n\n{instruction}" if content else instruction
        return [{**messages[0], "content": more}, *messages[1:]]
    return [{"role": "system", "content": instruction}, *messages]


def strict(schema: Mapping[str, Any], unsupported: frozenset[str] = frozenset()) -> dict[str, Any] | None:
    """The schema within OpenAI's strict subset, as near as that goes; None where it cannot be said there."""
    root: Mapping[str, Any] = schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        # a recursive model refers to itself at the root, where an object must stand
        target = _follow(schema, reference)
        if target is None:
            return None
        root = {**{key: value for key, value in schema.items() if key != "$ref"}, **target}
    if root.get("type") != "object":
        return None
    try:
        return _strict(root, KEPT - unsupported)
    except _CannotSayError:
        return None


class _CannotSayError(Exception):
    pass


def _strict(node: Any, kept: frozenset[str]) -> dict[str, Any]:
    if not isinstance(node, Mapping) or not node:
        raise _CannotSayError
    if "$ref" in node:
        return {"$ref": node["$ref"], **_definitions(node, kept)}
    if isinstance(node.get("allOf"), list):
        parts = node["allOf"]
        if len(parts) != 1 or not isinstance(parts[0], Mapping):
            raise _CannotSayError
        return _strict({**{key: value for key, value in node.items() if key != "allOf"}, **parts[0]}, kept)
    out = _said_of(node, kept)
    if "anyOf" in out:
        out["anyOf"] = [_strict(part, kept) for part in out["anyOf"]]
    elif "type" not in out:
        raise _CannotSayError
    kinds = out.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds:
        properties = node.get("properties")
        # a mapping with free keys, or an object of which nothing is said
        if not isinstance(properties, Mapping) or not properties or node.get("additionalProperties"):
            raise _CannotSayError
        out["properties"] = {name: _strict(part, kept) for name, part in properties.items()}
        out["required"] = list(properties)
        out["additionalProperties"] = False
    if "array" in kinds:
        out["items"] = _strict(node.get("items"), kept)
    return {**out, **_definitions(node, kept)}


def _said_of(node: Mapping[str, Any], kept: frozenset[str]) -> dict[str, Any]:
    """The node's own keywords, without what strict mode refuses, in the words it knows."""
    out = {key: value for key, value in node.items() if key in kept and key not in ("$defs", "definitions")}
    if out.get("format") not in FORMATS:
        out.pop("format", None)
    if "(?" in str(out.get("pattern", "")):
        del out["pattern"]
    if "const" in node:
        out["enum"] = [node["const"]]
    if "oneOf" in node and "anyOf" not in node:
        out["anyOf"] = node["oneOf"]
    if "enum" in out and "type" not in out:
        if not all(isinstance(value, str) for value in out["enum"]):
            raise _CannotSayError
        out["type"] = "string"
    return out


def _definitions(node: Mapping[str, Any], kept: frozenset[str]) -> dict[str, Any]:
    return {
        where: {name: _strict(part, kept) for name, part in node[where].items()}
        for where in ("$defs", "definitions")
        if isinstance(node.get(where), Mapping)
    }


def _follow(schema: Mapping[str, Any], reference: str) -> Mapping[str, Any] | None:
    node: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None


def recursive(schema: Any) -> bool:
    """Whether a definition leads back to itself: some providers unroll references, and refuse these."""
    return _returns(schema, schema, ())


def _returns(node: Any, root: Any, seen: tuple[str, ...]) -> bool:
    if isinstance(node, list):
        return any(_returns(part, root, seen) for part in node)
    if not isinstance(node, Mapping):
        return False
    reference = node.get("$ref")
    if isinstance(reference, str):
        if reference in seen or reference == "#":
            return True
        if _returns(_follow(root, reference), root, (*seen, reference)):
            return True
    return any(_returns(part, root, seen) for key, part in node.items() if key not in ("$defs", "definitions"))


def unions(schema: Any) -> int:
    """How many parts of the schema may be of several types."""
    if isinstance(schema, list):
        return sum(unions(part) for part in schema)
    if not isinstance(schema, Mapping):
        return 0
    own = "anyOf" in schema or isinstance(schema.get("type"), list)
    return own + sum(unions(part) for part in schema.values())


def _response_format(
    constraint: Constraint, structured: Structured | Literal["tool"], unsupported: frozenset[str]
) -> dict[str, Any]:
    lowered = strict(constraint.value, unsupported) if structured == "strict" else None
    inner: dict[str, Any] = {"name": _name(constraint)}
    if lowered is not None:
        inner |= {"strict": True, "schema": lowered}
    else:
        inner |= {"schema": constraint.value}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def _vllm(constraint: Constraint, completion: bool) -> Lowered:
    # https://docs.vllm.ai/en/latest/features/structured_outputs/
    if constraint.kind == "schema":
        # what its xgrammar does not take, a server gives to guidance
        constraint = replace(constraint, value=guided(constraint.value))
        if not completion:
            return Lowered(_response_format(constraint, "schema", frozenset()))
    field_name = "json" if constraint.kind == "schema" else constraint.kind
    return Lowered({"structured_outputs": {field_name: constraint.value}})


def choice_schema(values: Sequence[str]) -> dict[str, Any]:
    """A choice as hosts with schemas take it: an object whose `answer` is one of the values."""
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(dict.fromkeys(values))}},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _name(constraint: Constraint) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", constraint.name)[:64] or "answer"
