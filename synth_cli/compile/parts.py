"""Messages as a spec or a row gives them → messages in OpenAI's shape, files and images inlined as data URLs."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import orjson

from synth_cli.template import text

Given = TypeVar("Given")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
)


class MessageError(ValueError):
    """A row's messages cannot be sent; the row fails with these words."""


def text_of(value: Any) -> str:
    """What a template gave, as the text of a turn: lists and mappings as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        if type(value) in (int, dict, list):
            # integers beyond 64 bits, which orjson refuses
            return text(value)
        raise MessageError(
            f"a prompt must be text, not {type(value).__name__}; an image goes into a message part"
        ) from None


def messages_of(value: Any, folder: Path) -> tuple[Mapping[str, Any], ...]:
    """A rendered list of messages, checked; raises `MessageError`."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        hint = "; a text is read by the filter from_json" if isinstance(value, str) else ""
        raise MessageError(f"messages must be a list of {{role, content}}, not {type(value).__name__}{hint}")
    if not value:
        raise MessageError("messages is an empty list")
    return tuple(_message(message, position, folder) for position, message in enumerate(value, 1))


def _message(message: Any, position: int, folder: Path) -> Mapping[str, Any]:
    if not isinstance(message, Mapping):
        raise MessageError(f"message {position} must be a mapping {{role, content}}, not {type(message).__name__}")
    role = message.get("role")
    if role not in ROLES:
        raise MessageError(f"message {position} has the role {role!r}; known: {', '.join(sorted(ROLES))}")
    content = message.get("content")
    extra = {key: value for key, value in message.items() if key not in ("role", "content") and value is not None}
    if content is None and role == "assistant" and extra:
        return {"role": role, "content": None, **sendable(extra, f"message {position}")}
    if content is None and role in ("user", "system", "developer"):
        raise MessageError(f"message {position} ({role}) has no content")
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        content = [_part(part, position, folder) for part in content]
    else:
        content = text_of(content)
    return {"role": role, "content": content, **sendable(extra, f"message {position}")}


def _part(part: Any, position: int, folder: Path) -> Mapping[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise MessageError(f"a part of message {position} must be a mapping with a type, not {type(part).__name__}")
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": text_of(part.get("text"))}
    if kind in ("image", "file") and "source" in part:
        extra = {key: value for key, value in part.items() if key not in ("type", "source")}
        sendable(extra, f"a part of message {position}")
        if kind == "image":
            source, url = part["source"], data_url(part["source"], folder)
            # a path may come from the data: no file but an image leaves the machine by it
            if isinstance(source, str) and url != source and not url.startswith("data:image/"):
                raise MessageError(f"{source} is no image; a part of type file sends other files")
            return {"type": "image_url", "image_url": {"url": url, **extra}}
        name = _file_name(part["source"])
        return {"type": "file", "file": {"filename": name, "file_data": data_url(part["source"], folder), **extra}}
    if kind in ("image", "file"):
        raise MessageError(f"an {kind} part of message {position} has no source")
    if isinstance(kind, str) and kind in part:
        # a conversation that is already in a provider's shape: {type: image_url, image_url: {...}}
        return sendable(part, f"a part of message {position}")
    raise MessageError(f"a part of message {position} has the type {kind!r}; known: text, image, file")


def sendable(said: Given, what: str) -> Given:
    """What a row says of its request, if JSON can hold it; raises `MessageError`, as for integers beyond 64 bits."""
    try:
        orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise MessageError(f"{what} cannot be sent: {error}") from None
    return said


def _file_name(source: Any) -> str:
    if isinstance(source, Mapping):
        source = source.get("path")
    return Path(source).name if isinstance(source, str) and not source.startswith("data:") else "file"


def data_url(source: Any, folder: Path) -> str:
    """A URL stays one; a path, bytes, or a dataset's image becomes a data URL of the very same bytes."""
    if isinstance(source, str):
        if source.startswith(("http://", "https://", "data:", "gs://", "s3://")):
            return source
        path = folder / source
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MessageError(f"cannot read {path}: {error.strerror or error}") from None
        return _encode(content, mimetypes.guess_type(path.name)[0])
    if isinstance(source, bytes | bytearray | memoryview):
        return _encode(bytes(source), None)
    if isinstance(source, Mapping) and source.get("bytes") is not None:
        return _encode(bytes(source["bytes"]), mimetypes.guess_type(str(source.get("path") or ""))[0])
    if isinstance(source, Mapping) and isinstance(source.get("path"), str):
        return data_url(source["path"], folder)
    if hasattr(source, "save") and hasattr(source, "mode"):
        buffer = BytesIO()
        source.save(buffer, format="PNG")
        return _encode(buffer.getvalue(), "image/png")
    raise MessageError(f"a source must be a URL, a path, bytes or an image, not {type(source).__name__}")


def _encode(content: bytes, guessed: str | None) -> str:
    kind = next((mime for magic, mime in MAGIC if content.startswith(magic)), None)
    if kind is None and content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    return f"data:{kind or guessed or 'application/octet-stream'};base64,{base64.b64encode(content).decode()}"
