"""What `synth init` writes: a small, commented spec that runs as it is, or one of the recipes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import synth_cli
from synth_cli.errors import UsageError
from synth_cli.spec.hints import suggest

STARTER = """\
# A job for synth. Check it:  synth validate {name}.yaml      What would it cost?  synth plan {name}.yaml
#                   Run it:    synth run {name}.yaml           See the requests:    synth preview {name}.yaml
version: 1
name: {name}

# `simulator` answers without a key, a network or a bill. For the real thing: openai/gpt-5-mini,
# anthropic/claude-haiku-4-5, or any model behind `backend_params: {{base_url: http://localhost:8000/v1}}`.
model: simulator
generation_params: {{temperature: 0.8, max_tokens: 400}}

# Where rows come from: here the product of two lists. Also `path: rows.csv` (jsonl, parquet, globs, URLs),
# `dataset: owner/name`, `rows: [...]`, `count: 100`, `sql: {{url, query}}`.
input:
  matrix:
    topic: [bread, bicycles, tides]
    level: [beginner, expert]

# Templates are Jinja; each column of the input is a name.
prompt:
  system: You write short, exact study questions.
  user: Write a question about {{{{ topic }}}} for a {{{{ level }}}}, and its answer.

# What a valid answer is. Each field becomes a column; what does not fit is asked again.
response:
  schema:
    question: {{type: str, min_length: 5}}
    answer: str
    difficulty: enum[easy, medium, hard]

output:
  path: {name}.jsonl        # or .parquet, .csv, .jsonl.zst; a list writes several
"""


def starter(name: str) -> str:
    """The starter spec under this name."""
    return STARTER.format(name=name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method as a spec. `files` are those that the spec reads, by their path from it."""

    name: str
    text: str
    files: Mapping[str, bytes]

    @property
    def description(self) -> str:
        found = DESCRIPTION.search(self.text)
        return found[1].strip("\"'") if found else ""

    def named(self, name: str) -> str:
        """The spec as a job of this name: its state and its output are called so too."""
        text = re.sub(rf"^name: {re.escape(self.name)}$", f"name: {name}", self.text, count=1, flags=re.MULTILINE)
        return re.sub(rf"\bout/{re.escape(self.name)}\b", f"out/{name}", text)


DESCRIPTION = re.compile(r"^description: (.+)$", re.MULTILINE)
READ = re.compile(r"\bdata/[\w.-]*\w")


def recipes() -> Mapping[str, Recipe]:
    """Those that come with synth, by name: inside the package, or, in a checkout, with the other specs."""
    package = Path(synth_cli.__file__).parent
    installed = package / "recipes"
    folder = installed if installed.is_dir() else package.parent / "specs" / "recipes"
    return {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}


def _read(path: Path) -> Recipe:
    text = path.read_text(encoding="utf-8")
    beside = {name: path.parent / name for name in READ.findall(text)}
    return Recipe(path.stem, text, {name: file.read_bytes() for name, file in beside.items() if file.is_file()})


def recipe(name: str) -> Recipe:
    """Raises UsageError with all of them where there is none of this name."""
    known = recipes()
    if name not in known:
        near = suggest(name, known)
        meant = f"did you mean '{near}'? " if near else ""
        listed = "\n".join(f"  {line}" for line in listing(known))
        raise UsageError(f"there is no recipe '{name}'", hint=f"{meant}There are:\n{listed}")
    return known[name]


def listing(known: Mapping[str, Recipe]) -> list[str]:
    """A line for each."""
    width = max(map(len, known), default=0)
    return [f"{name:<{width}}  {each.description}" for name, each in known.items()]
