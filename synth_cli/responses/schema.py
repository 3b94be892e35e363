"""A JSON Schema as a check of answers, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Never, TypeAlias

import jsonschema_rs

from synth_cli.errors import UsageError
from synth_cli.spec.fields import resolved

Mend: TypeAlias = Callable[[Any], Any]
SHOWN = 3
"""Problems of one answer that are told: a model mends what it is shown, and few read on."""
LONGEST = 240
EXACT = 2**53
"""The whole numbers up to here are what they were written as, even where they were read as floats."""


class InexactError(ValueError):
    """A whole number that was read as a float, as those beyond 64 bits are: its digits are not known."""

    def __init__(self, number: float) -> None:
        super().__init__(f"a whole number must be written in digits and fit in 64 bits, unlike {number!r}")
        self.path: list[str | int] = []

    def __str__(self) -> str:
        return f"{place(self.path)}: {super().__str__()}"


class Checker:
    """Says what is wrong with a value, and completes one that is valid."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises UsageError where the schema itself is wrong."""
        try:
            self._validator = jsonschema_rs.validator_for(dict(schema), retriever=_offline)
        except (ValueError, TypeError) as error:
            message = str(error).partition("\n")[0]
            raise UsageError(f"response.schema is not a JSON Schema: {message}") from None
        self._mend = _Mends(schema).of(schema)

    def wrong(self, value: Any) -> str | None:
        """One line that names each place and what is wrong there; None when it is valid."""
        if self._validator.is_valid(value):
            return None
        found: list[str] = []
        for error in self._validator.iter_errors(value):
            if len(found) == SHOWN:
                found.append("…")
                break
            found.append(f"{place(error.instance_path)}: {shortened(error.message)}")
        return "; ".join(found)

    def mended(self, value: Any) -> Any:
        """A valid value with the schema's defaults put in, and 1.0 as 1 where it says integer; changes it in place.

        Raises InexactError for an integer that is not known to the last digit.
        """
        return value if self._mend is None else self._mend(value)


def _offline(uri: str) -> Never:
    raise ValueError(f"{uri} is not part of the schema, and nothing is fetched")


def place(path: Sequence[str | int]) -> str:
    """`steps[0].minutes`; the root is `answer`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "answer"


def shortened(text: str, longest: int = LONGEST) -> str:
    """One line; the end is kept, since it says what was expected."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    return f"{text[: longest // 3]} … {text[-(longest - longest // 3) :]}"


class _Mends:
    """Finds what is to be completed: integers (JSON knows one kind of number, so a model may say 5.0), and defaults."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._seen: set[int] = set()

    def of(self, schema: Any) -> Mend | None:
        schema = resolved(schema, self._root)
        if not isinstance(schema, Mapping) or id(schema) in self._seen:
            # a schema within itself: the outer levels are mended
            return None
        self._seen.add(id(schema))
        try:
            return self._here(schema)
        finally:
            self._seen.discard(id(schema))

    def _here(self, schema: Mapping[str, Any]) -> Mend | None:
        kinds = schema.get("type")
        kinds = {kinds} if isinstance(kinds, str) else set(kinds or ())
        if "integer" in kinds and "number" not in kinds:
            return _whole
        fields = schema.get("properties") or {}
        mends = [(name, mend) for name, part in fields.items() if (mend := self.of(part)) is not None]
        defaults = {
            name: part["default"] for name, part in fields.items() if isinstance(part, Mapping) and "default" in part
        }
        items = self.of(schema.get("items"))
        # of several alternatives only null is sure not to be meant
        alternatives = [part for part in schema.get("anyOf") or schema.get("oneOf") or () if part != {"type": "null"}]
        alternative = self.of(alternatives[0]) if len(alternatives) == 1 else None
        if not mends and not defaults and items is None:
            return alternative
        return _within(mends, defaults, items)


def _whole(value: Any) -> Any:
    if type(value) is not float or not value.is_integer():
        return value
    if abs(value) > EXACT:
        raise InexactError(value)
    return int(value)


def _within(fields: list[tuple[str, Mend]], defaults: Mapping[str, Any], items: Mend | None) -> Mend:
    def mend(value: Any) -> Any:
        if type(value) is dict:
            for name, default in defaults.items():
                if name not in value:
                    value[name] = deepcopy(default)
            for name, inner in fields:
                if name in value:
                    _put(value, name, inner)
        elif type(value) is list and items is not None:
            for at in range(len(value)):
                _put(value, at, items)
        return value

    return mend


def _put(whole: Any, at: str | int, mend: Mend) -> None:
    try:
        whole[at] = mend(whole[at])
    except InexactError as error:
        error.path.insert(0, at)
        raise
