"""Text tables → rows: CSV and TSV, JSON Lines, JSON. One row at a time; what is malformed is named by file and line."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from typing import IO, Any, NoReturn, TextIO, cast

import orjson

from synth_cli.compile.inputs.files import File, opened
from synth_cli.core.plain import plain
from synth_cli.errors import UsageError

BLOCK = 1 << 18
SPACE = " \t\r\n"
WIDE = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# the limit is of the whole process; the csv module's own default refuses a cell above 128 KiB
csv.field_size_limit(2**31 - 1)


def delimited(file: File) -> Iterator[dict[str, Any]]:
    """A CSV or TSV file: a header, then cells that are all texts; blank lines are passed over."""
    with opened(file) as raw, _text(raw) as stream:
        reader = csv.reader(stream, delimiter="\t" if file.kind == "tsv" else ",", strict=True)
        try:
            header = _header(reader, file)
            width, before = len(header), reader.line_num
            for cells in reader:
                if len(cells) == width:
                    yield dict(zip(header, cells, strict=True))
                elif cells:
                    _ragged(file, before + 1, header, cells)
                before = reader.line_num
        except csv.Error as error:
            hint = "quotes inside a quoted cell are doubled"
            raise UsageError(f"{file.path}:{reader.line_num}: not valid CSV: {error}", hint=hint) from None
        except UnicodeDecodeError as error:
            _not_text(file, error)


def header(file: File) -> tuple[str, ...]:
    """The column names of a CSV or TSV file; none for an empty one."""
    with opened(file) as raw, _text(raw) as stream:
        reader = csv.reader(stream, delimiter="\t" if file.kind == "tsv" else ",", strict=True)
        try:
            return _header(reader, file)
        except csv.Error as error:
            raise UsageError(f"{file.path}:{reader.line_num}: not valid CSV: {error}") from None
        except UnicodeDecodeError as error:
            _not_text(file, error)


def records(file: File) -> int:
    """How many rows a CSV or TSV file has, without making them."""
    with opened(file) as raw, _text(raw) as stream:
        reader = csv.reader(stream, delimiter="\t" if file.kind == "tsv" else ",")
        next(reader, None)
        return sum(1 for cells in reader if cells)


def _header(reader: Any, file: File) -> tuple[str, ...]:
    names: list[str] = []
    for cells in reader:
        if cells:
            names = [name.strip() for name in cells]
            break
    places: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if name in places:
            which = f"the name {name!r}" if name else "no name"
            raise UsageError(
                f"{file.path}:{reader.line_num}: columns {places[name]} and {position} both have {which}",
                hint="give every column a name of its own",
            )
        places[name] = position
    return tuple(names)


def _ragged(file: File, line: int, header: tuple[str, ...], cells: list[str]) -> NoReturn:
    found, wanted = len(cells), len(header)
    delimiter = "tab" if file.kind == "tsv" else "comma"
    hint = (
        f"no value for {', '.join(header[found:][:5])}"
        if found < wanted
        else f"put a cell that contains a {delimiter} in double quotes"
    )
    raise UsageError(f"{file.path}:{line}: {found} cells, but the header has {wanted} columns", hint=hint)


def _text(raw: IO[bytes]) -> TextIO:
    stream: Any = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("Any", raw))
    mark = stream.peek(4)[:4]
    encoding = next((name for bom, name in WIDE if mark.startswith(bom)), "utf-8")
    return io.TextIOWrapper(stream, encoding=encoding, newline="")


def _not_text(file: File, error: UnicodeDecodeError) -> NoReturn:
    """The decoder reads ahead in blocks: only a second reading tells the line."""
    place = file.path
    with opened(file) as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode(error.encoding if error.encoding != "utf-8" else "utf-8-sig")
            except UnicodeDecodeError:
                place = f"{file.path}:{number}"
                break
    hint = f"convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 {file.path}"
    raise UsageError(f"{place}: not {error.encoding.upper()} text", hint=hint) from None


def lines(file: File) -> Iterator[dict[str, Any]]:
    """A JSON Lines file: one object per line; blank lines are passed over."""
    loads = orjson.loads
    with opened(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                value = loads(line)
            except orjson.JSONDecodeError:
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901
                if not line.strip():
                    continue
                value = _lenient(line, f"{file.path}:{number}", first=number == 1)
            if type(value) is not dict:
                _not_object(value, f"{file.path}:{number}", first=number == 1)
            yield value


def _lenient(line: bytes, place: str, *, first: bool) -> Any:
    """What Python writes and strict JSON does not know (NaN, Infinity, lone surrogates), or the error for people."""
    try:
        return plain(json.loads(line.rstrip()))
    except RecursionError:
        raise UsageError(f"{place}: nested too deeply") from None
    except UnicodeDecodeError:
        hint = "convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8"
        raise UsageError(f"{place}: not UTF-8 text", hint=hint) from None
    except json.JSONDecodeError as error:
        if first and line.lstrip()[:1] in (b"[", b"{") and error.pos >= len(line.decode(errors="replace").rstrip()):
            hint = "every line is one object here; a file that is one JSON value is named .json"
        else:
            hint = f"mend or remove the line, which begins {_beginning(line)}"
        raise UsageError(f"{place}:{error.colno}: not valid JSON: {error.msg}", hint=hint) from None
    except ValueError as error:
        raise _too_long(place, error) from None


def _too_long(place: str, error: ValueError) -> UsageError:
    """An integer of more digits than Python reads."""
    return UsageError(f"{place}: {error}", hint="write such a number as a text")


def _not_object(value: Any, place: str, *, first: bool = False) -> NoReturn:
    hint = "a row is an object {column: value}"
    if first and isinstance(value, list):
        hint += "; a file that is one list of rows is named .json"
    raise UsageError(f"{place}: expected an object, found {_json_type(value)}", hint=hint)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _beginning(line: bytes) -> str:
    text = line[:60].decode(errors="replace").strip()
    return f"{text}…" if len(line) > 60 else text


def document(file: File) -> Iterator[dict[str, Any]]:
    """A JSON file: a list of objects, one object, or objects one after the other. Holds one of them at a time."""
    with opened(file) as raw, _text(raw) as stream:
        text = _Text(stream, file)
        try:
            yield from _objects(text)
        except UnicodeDecodeError as error:
            _not_text(file, error)


class _Text:
    """What is left of a JSON text, read on as needed; knows the line it is at."""

    def __init__(self, stream: TextIO, file: File) -> None:
        self._stream, self.file = stream, file
        self._decode = json.JSONDecoder().raw_decode
        self._rest, self._at, self._line = "", 0, 1
        self._ended = False

    @property
    def place(self) -> str:
        return f"{self.file.path}:{self._line}"

    def peek(self) -> str:
        """The next character that is not white space; nothing at the end."""
        while True:
            while self._at < len(self._rest):
                character = self._rest[self._at]
                if character not in SPACE:
                    return character
                self._line += character == "\n"
                self._at += 1
            if not self._more():
                return ""

    def skip(self) -> None:
        self._at += 1

    def value(self) -> Any:
        """The next JSON value; the text stands at its first character."""
        while True:
            try:
                value, end = self._decode(self._rest, self._at)
            except RecursionError:
                raise UsageError(f"{self.place}: nested too deeply") from None
            except json.JSONDecodeError as error:
                # the value may go on beyond what has been read
                if self._more():
                    continue
                line = self._line + self._rest.count("\n", self._at, error.pos)
                hint = "mend the file, or write one object per line and name it .jsonl"
                raise UsageError(f"{self.file.path}:{line}: not valid JSON: {error.msg}", hint=hint) from None
            except ValueError as error:
                raise _too_long(self.place, error) from None
            if end == len(self._rest) and self._more():
                # a number or a word at the very end may be the beginning of a longer one
                continue
            self._line += self._rest.count("\n", self._at, end)
            self._at = end
            return plain(value)

    def _more(self) -> bool:
        if self._ended:
            return False
        # reading as much again as is held keeps the repeated parsing of one long value linear
        block = self._stream.read(max(BLOCK, len(self._rest) - self._at))
        self._ended = not block
        self._rest, self._at = self._rest[self._at :] + block, 0
        return bool(block)


def _objects(text: _Text) -> Iterator[dict[str, Any]]:
    listed = text.peek() == "["
    if listed:
        text.skip()
    first = True
    while mark := text.peek():
        if listed and mark == "]":
            text.skip()
            if text.peek():
                raise UsageError(f"{text.place}: not valid JSON: something follows the end of the list")
            return
        if listed and not first:
            if mark != ",":
                raise UsageError(f"{text.place}: not valid JSON: expected a comma between two rows")
            text.skip()
            text.peek()
        place, value = text.place, text.value()
        if type(value) is not dict:
            _not_object(value, place)
        yield value
        first = False
    if listed:
        raise UsageError(f"{text.place}: not valid JSON: the list has no end", hint="the file may have been cut off")
