"""The files a spec is made of: the YAML itself, the base it extends, and the texts it names with `file://`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synth_cli.errors import Problem, SpecError
from synth_cli.spec import yaml
from synth_cli.spec.environment import mapped, substituted
from synth_cli.spec.hints import did_you_mean
from synth_cli.spec.overrides import merged
from synth_cli.spec.places import Branch, Entry, Items, Leaf, Mark, Tree, Where, dotted

SCHEME = "file://"
PLACES = frozenset({"path", "url", "base_url", "source"})
"""Keys whose value is an address itself."""
STRUCTURED = frozenset({"schema", "tools", "messages"})
"""Keys for which a JSON or YAML file stands for what is in it."""


@dataclass(slots=True)
class Reading:
    """The files of one spec, as they are read. `sources`: path relative to the spec's folder → what it is for."""

    folder: Path
    environ: Mapping[str, str]
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    """A file's name in messages → its folder."""

    def spec(self, path: Path, shown: str, over: tuple[Path, ...] = ()) -> Branch:
        """A spec with what it extends under it.

        Raises:
            SpecError: One of the files cannot be read as YAML.
        """
        self.folders[shown] = path.parent
        self.note(path, "extends" if over else "spec")
        tree, problems = yaml.read(_text(path, Mark(shown)), shown)
        self.problems.extend(problems)
        if not isinstance(tree, Branch):
            what = "a list" if isinstance(tree, Items) else "a single value"
            raise SpecError([tree.mark.problem(f"a spec is a mapping, not {what}", "it begins with 'version: 1'")])
        kept = {key: entry for key, entry in tree.entries.items() if not key.startswith("x-")}
        tree = Branch(kept, tree.mark)
        entry = kept.get("extends")
        if entry is None or not isinstance(entry.value, Leaf) or not isinstance(entry.value.value, str):
            return tree
        under = self.base(entry.value, path, shown, (*over, path))
        if under is None:
            return tree
        own = {key: each for key, each in kept.items() if key != "extends"}
        result = merged(under, Branch(own, tree.mark), self.problems)
        assert isinstance(result, Branch)
        return Branch({**result.entries, "extends": entry}, tree.mark)

    def base(self, leaf: Leaf, path: Path, shown: str, chain: tuple[Path, ...]) -> Branch | None:
        named, wrong = substituted(str(leaf.value), self.environ)
        if wrong:
            self.problems.extend(leaf.mark.problem(message, hint) for message, hint in wrong)
            return None
        named = named.removeprefix(SCHEME)
        target = Path(os.path.normpath(path.parent / named))
        if target in chain:
            names = " → ".join(each.name for each in (*chain[chain.index(target) :], target))
            self.problems.append(leaf.mark.problem(f"'extends' goes in a circle: {names}"))
            return None
        if not target.is_file():
            self.problems.append(leaf.mark.problem(f"there is no spec '{named}'", _beside(target)))
            return None
        tree = self.spec(target, os.path.normpath(Path(shown).parent / named), chain)
        return Branch({key: entry for key, entry in tree.entries.items() if key != "extends"}, tree.mark)

    def texts(self, tree: Tree) -> tuple[Tree, set[Where]]:
        """The tree with each `file://` replaced by the file's text, and the places where that failed."""
        failed: set[Where] = set()

        def change(leaf: Leaf, where: Where) -> Tree:
            text = str(leaf.value)
            if not text.startswith(SCHEME) or _is_address(where):
                return leaf
            relative = text.removeprefix(SCHEME)
            path = self.folders.get(leaf.mark.file, self.folder) / relative
            try:
                content = _text(path, leaf.mark)
                self.note(path, dotted(where))
                if where[-1] in STRUCTURED and path.suffix.lower() in {".json", ".yaml", ".yml"}:
                    return self.structure(content, path, relative, leaf)
            except SpecError as error:
                failed.add(where)
                self.problems.extend(error.problems)
                return leaf
            # a key goes into a header, where the file's line end has no place
            content = content.strip() if where[-1] == "api_key" else content
            return Leaf(content, leaf.mark, content)

        return mapped(tree, change), failed

    def structure(self, content: str, path: Path, shown: str, leaf: Leaf) -> Tree:
        if path.suffix.lower() != ".json":
            tree, problems = yaml.read(content, shown)
            self.problems.extend(problems)
            return tree
        try:
            return _tree(json.loads(content, parse_int=yaml.scalar), leaf.mark)
        except json.JSONDecodeError as error:
            mark = Mark(shown, error.lineno, error.colno)
            raise SpecError([mark.problem(f"this is not JSON: {error.msg}")]) from error

    def note(self, path: Path, use: str) -> None:
        self.sources.setdefault(os.path.relpath(path, self.folder), use)


def _is_address(where: Where) -> bool:
    keys = [part for part in where if isinstance(part, str)]
    return bool(keys) and keys[-1] in PLACES


def _tree(value: Any, mark: Mark) -> Tree:
    if isinstance(value, dict):
        return Branch({key: Entry(mark, _tree(each, mark), key) for key, each in value.items()}, mark)
    if isinstance(value, list):
        return Items(tuple(_tree(each, mark) for each in value), mark)
    return Leaf(value, mark, str(value))


def _text(path: Path, mark: Mark) -> str:
    """The text of a file.

    Raises:
        SpecError: It cannot be read; the problem is at `mark`.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SpecError([mark.problem(f"there is no file {path}", _beside(path))]) from error
    except UnicodeDecodeError as error:
        raise SpecError([mark.problem(f"{path.name} is not UTF-8 text", "save it as UTF-8")]) from error
    except OSError as error:
        raise SpecError([mark.problem(f"cannot read {path}: {error.strerror or error}")]) from error


def _beside(path: Path) -> str:
    """A hint: the file that was probably meant."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    files = (each.name for each in path.parent.iterdir() if each.is_file() and not each.name.startswith("."))
    return did_you_mean(path.name, sorted(files), listed=5)
