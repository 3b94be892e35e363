"""Which columns of a row go into which field of a trainer's shape, by `output.map` or by their names. Pure.

A field that `map` does not name is looked for under its usual names. Where two columns could be it, nobody guesses:
that is a problem of the spec, or drops the row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from synth_cli.spec.hints import did_you_mean, suggest
from synth_cli.spec.model import Output
from synth_cli.spec.places import Finding, Where

PROMPT = ("prompt", "instruction", "question", "query")
ANSWER = ("response", "answer", "output", "completion")
SYSTEM = ("system", "system_prompt")
MESSAGES = ("messages", "conversation", "conversations")
SCORES = ("scores", "score", "ratings", "rating")
METADATA = "_synth"
"""The column that stands beside every format's own."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to fill a format: of each group in `needs` at least one field, and what else is there.

    `usual` has, for each field, the columns that it is looked for under.
    """

    needs: tuple[tuple[str, ...], ...]
    usual: Mapping[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        return " and ".join(" or ".join(f"'{name}'" for name in group) for group in self.needs)


# a conversation has its answers in it: only what is called just that is one more
_TALK = Way(
    (("messages",),),
    {
        "messages": MESSAGES,
        "system": SYSTEM,
        "response": ("response",),
        "tool_calls": ("tool_calls",),
        "tools": ("tools",),
    },
)
_ASKED = Way(
    (("prompt",), ("response", "tool_calls")),
    {"prompt": PROMPT, "response": ANSWER, "system": SYSTEM, "tool_calls": ("tool_calls",), "tools": ("tools",)},
)
WAYS: Mapping[str, tuple[Way, ...]] = {
    "chat": (_TALK, _ASKED),
    "sharegpt": (_TALK, _ASKED),
    "alpaca": (
        Way(
            (("instruction",), ("output",)),
            {
                "instruction": ("instruction", *(name for name in PROMPT if name != "instruction")),
                "input": ("input", "context"),
                "output": ANSWER,
                "system": SYSTEM,
                "history": ("history",),
            },
        ),
        Way((("messages",),), {"messages": MESSAGES, "system": SYSTEM, "output": ("response",)}),
    ),
    "dpo": (
        Way(
            (("chosen",), ("rejected",)),
            {
                "prompt": (*PROMPT, *MESSAGES),
                "chosen": ("chosen",),
                "rejected": ("rejected",),
                "system": SYSTEM,
            },
        ),
        Way(
            (("prompt",), ("responses",), ("scores",)),
            {
                "prompt": (*PROMPT, *MESSAGES),
                "responses": ("responses", "response", "answers", "answer", "completions"),
                "scores": SCORES,
                "system": SYSTEM,
            },
        ),
    ),
}
"""Each format's ways; the first that the columns allow is taken."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "chat": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "input", "output"),
    "dpo": ("prompt", "chosen", "rejected"),
}
"""The columns that a format has even without a row."""


@dataclass(frozen=True, slots=True)
class Filling:
    """Field → column. `said` are the fields that `map` names."""

    columns: Mapping[str, str]
    said: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Unfilled:
    """Why these columns do not make the format; `key` of `output` says it best."""

    message: str
    hint: str = ""
    key: str = "format"


@dataclass(slots=True)
class Fillings:
    """How the rows of a job fill its format, looked up once for each set of columns."""

    format: str
    map: Mapping[str, str]
    _known: dict[tuple[str, ...], Filling | Unfilled] = field(default_factory=dict)

    def of(self, columns: tuple[str, ...]) -> Filling | Unfilled:
        found = self._known.get(columns)
        if found is None:
            found = self._known[columns] = filling(self.format, self.map, columns)
        return found


def fields(format: str) -> tuple[str, ...]:
    """Every field that `map` may name, in the order of the ways."""
    return tuple(dict.fromkeys(name for way in WAYS.get(format, ()) for name in way.usual))


def filling(format: str, map: Mapping[str, str], columns: Collection[str]) -> Filling | Unfilled:
    """Which column each field of the format is taken from."""
    for column in map.values():
        if column not in columns:
            return Unfilled(f"no column '{column}'", _near(column, columns), "map")
    ways = [way for way in WAYS[format] if map.keys() <= way.usual.keys()]
    if not ways:
        return Unfilled(_mixed(format, map), _all_ways(format), "map")
    for way in ways:
        found = {name: _candidates(name, way, map, columns) for name in way.usual}
        if not all(any(found[name] for name in group) for group in way.needs):
            continue
        unclear = [(name, names) for name, names in found.items() if len(names) > 1]
        for name, names in unclear:
            both = " and ".join(f"'{each}'" for each in names)
            return Unfilled(f"{both} could each be the {name}", f"say which: map: {{{name}: {names[0]}}}")
        return Filling({name: names[0] for name, names in found.items() if names}, frozenset(map))
    wanted = ", or ".join(way.text for way in ways)
    there = ", ".join(sorted(columns)) or "none"
    return Unfilled(
        f"format {format} needs {wanted}: no columns are called so",
        f"name them: map: {{{ways[-1].needs[0][0]}: …}}; there are: {there}",
    )


def problems(output: Output, columns: frozenset[str] | None) -> Iterator[Finding]:
    """What is wrong with `format` and `map`, given the columns of the output (None: not known before it runs)."""
    at: Where = ("output", "map")
    said = output.map or {}
    if output.format == "rows":
        if said:
            yield Finding(at, "'map' names the columns of a format", "write format: chat, alpaca, sharegpt or dpo")
        return
    known = fields(output.format)
    wrong = [name for name in said if name not in known]
    for name in wrong:
        hint = did_you_mean(name, known)
        yield Finding((*at, name), f"format {output.format} has no field '{name}'", hint, at_key=True)
    missing = [] if columns is None else [name for name in said if said[name] not in columns and name not in wrong]
    for name in missing:
        yield Finding((*at, name), f"no column '{said[name]}' in the output", _near(said[name], columns or ()))
    if wrong or missing:
        return
    if columns is not None:
        found = filling(output.format, said, columns - {METADATA})
        if isinstance(found, Unfilled):
            yield Finding(("output", found.key), found.message, found.hint)
    elif not any(said.keys() <= way.usual.keys() for way in WAYS[output.format]):
        yield Finding(at, _mixed(output.format, said), _all_ways(output.format))


def _candidates(name: str, way: Way, map: Mapping[str, str], columns: Collection[str]) -> list[str]:
    if name in map:
        return [map[name]]
    taken = set(map.values())
    return [column for column in way.usual[name] if column in columns and column not in taken]


def _mixed(format: str, map: Mapping[str, str]) -> str:
    names = ", ".join(f"'{name}'" for name in map)
    return f"format {format} does not take {names} together"


def _all_ways(format: str) -> str:
    return f"give {', or '.join(way.text for way in WAYS[format])}"


def _near(column: str, columns: Collection[str]) -> str:
    near = suggest(column, columns)
    return f"did you mean '{near}'?" if near else f"there are: {', '.join(sorted(columns)) or 'none'}"
