"""The commands and their options, and the recipes, as README.md has them: made from what they are.

`python -m synth_cli.cli.reference` writes them between the markers of README.md in the current folder. The layout is
ours, so that it does not change with the library that parses the command line.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- commands -->", "<!-- /commands -->"
RECIPES_BEGIN, RECIPES_END = "<!-- recipes -->", "<!-- /recipes -->"
WIDTH = 100
WIDEST = 28
"""Columns of an option's own text, beyond which its help begins on the next line."""


def reference() -> str:
    """The help of every command, in the order of `synth --help`."""
    import typer

    from synth_cli.cli.app import app

    group: Any = typer.main.get_command(app)
    blocks = [_block("synth", group, "COMMAND")]
    blocks += [_block(f"synth {name}", command, "") for name, command in group.commands.items()]
    return "\n\n".join(blocks)


def _block(name: str, command: Any, rest: str) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = [
        name,
        *(["[OPTIONS]"] if options else []),
        *(_named(param) for param in arguments),
        *([rest] if rest else []),
    ]
    about = textwrap.fill(" ".join((command.help or "").split()), WIDTH)
    lines = [f"### {name}", "", "```text", " ".join(usage), "", about]
    for title, params in (("Arguments", arguments), ("Options", options)):
        if params:
            lines += ["", f"{title}:", *(line for param in params for line in _param(param))]
    return "\n".join([*lines, "```"])


def _named(param: Any) -> str:
    metavar: str = param.metavar or param.name.upper()
    return metavar if param.required or metavar.startswith("[") else f"[{metavar}]"


def _param(param: Any) -> Iterator[str]:
    if param.param_type_name == "argument":
        left = param.metavar or param.name.upper()
    else:
        value = "" if param.is_flag else f" {param.metavar or _value(param.default)}"
        left = ", ".join(sorted(param.opts, key=len)) + value
    about = param.help or ""
    if param.default not in (None, False) and param.show_default:
        about += f" [default: {param.default}]"
    left = f"  {left}"
    if len(left) >= WIDEST:
        yield left
        left = ""
    wrapped = textwrap.wrap(about, WIDTH - WIDEST) or [""]
    for line in wrapped:
        yield f"{left:<{WIDEST}}{line}".rstrip()
        left = ""


def _value(default: Any) -> str:
    if isinstance(default, float | int):
        return "NUMBER"
    return "TEXT"


def recipe_table() -> str:
    """A line for each recipe, in its own words."""
    from synth_cli.run.starter import recipes

    lines = [f"| [{name}](specs/recipes/{name}.yaml) | {each.description} |" for name, each in recipes().items()]
    return "\n".join(["| recipe | makes |", "|---|---|", *lines])


def documented(text: str) -> str:
    """A README with the reference as it is now; one without the markers gets a section at its end.

    The table of recipes is written only where its markers are.
    """
    text = _between(text, RECIPES_BEGIN, RECIPES_END, recipe_table)
    if BEGIN in text and END in text:
        return _between(text, BEGIN, END, reference)
    return f"{text.rstrip()}\n\n## Commands\n\n{BEGIN}\n\n{reference()}\n\n{END}\n"


def _between(text: str, begin: str, end: str, made: Callable[[], str]) -> str:
    if begin not in text or end not in text:
        return text
    return f"{text[: text.index(begin)]}{begin}\n\n{made()}\n\n{end}{text[text.index(end) + len(end) :]}"


def main() -> int:
    """Writes README.md anew; with `--check` only says whether it would change."""
    path = Path("README.md")
    text = path.read_text(encoding="utf-8")
    fresh = documented(text)
    if "--check" in sys.argv[1:]:
        return 0 if fresh == text else 1
    path.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
