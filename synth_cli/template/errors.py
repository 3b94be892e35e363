"""What is wrong with a template: its syntax (the spec's trouble), or one row's data (that row's)."""

from __future__ import annotations

from jinja2 import UndefinedError


class TemplateSyntaxError(Exception):
    """It cannot be compiled. `path` leads to the text within the value given, `line` counts from 1 within that text."""

    def __init__(self, message: str, path: tuple[str | int, ...] = (), line: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.line = line


class TemplateError(Exception):
    """It has no value for this row."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnknownNameError(UndefinedError):
    """A name that nothing provides; its message is the bare name, the row's columns are added where they are known."""
