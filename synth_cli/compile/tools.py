"""Function definitions as a spec or a row gives them → tools in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from synth_cli.compile.parts import MessageError, sendable

Tool = Mapping[str, Any]


def tools_of(value: Any) -> tuple[Tool, ...] | None:
    """A list of definitions or its JSON text; None where there are none. Raises MessageError."""
    if value in (None, "", []):
        return None
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise MessageError(f"tools is not JSON: {error}") from None
    if not isinstance(value, Sequence) or not all(isinstance(tool, Mapping) for tool in value):
        raise MessageError("tools must be a list of function definitions")
    for tool in value:
        if not is_tool(tool):
            raise MessageError("a function definition in tools has no name")
    return tuple(wrapped(tool) for tool in sendable(value, "tools"))


def is_tool(tool: Tool) -> bool:
    """Whether it names a function, or is a provider's own kind of tool."""
    function = tool.get("function", tool)
    return isinstance(function, Mapping) and (bool(function.get("name")) or tool.get("type", "function") != "function")


def wrapped(tool: Tool) -> Tool:
    """A bare definition as `{type: function, function: …}`."""
    if "function" in tool or tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
