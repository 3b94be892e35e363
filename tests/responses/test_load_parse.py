"""Finding the user's own function."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth_cli.errors import UsageError
from synth_cli.responses.parse import load_parse


@pytest.fixture(autouse=True)
def _same_path() -> Iterator[None]:
    """Imports of one test are not those of another."""
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_function_of_a_file(tmp_path: Path) -> None:
    """The path is relative to the spec's folder; what lies beside the file can be imported by it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "beside.py").write_text("X = 2\n")
    (tmp_path / "lib" / "mine.py").write_text(
        "def parse(row, response):\n    from beside import X\n    return {'n': row['a'] * X}\n"
    )
    assert load_parse("lib/mine.py:parse", tmp_path)({"a": 3}, "x") == {"n": 6}


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    """The first one imported does not stand for both."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"def parse(row, response):\n    return {{'from': '{name}'}}\n")
    found = [load_parse(f"{name}/mine.py:parse", tmp_path)({}, "") for name in ("one", "two")]
    assert found == [{"from": "one"}, {"from": "two"}]


def test_a_function_of_a_package(tmp_path: Path) -> None:
    """An installed module, or a package beside the spec."""
    (tmp_path / "ours_pkg").mkdir()
    (tmp_path / "ours_pkg" / "__init__.py").write_text("")
    (tmp_path / "ours_pkg" / "deep.py").write_text("def parse(row, response):\n    return {'deep': response}\n")
    assert load_parse("ours_pkg.deep:parse", tmp_path)({}, "x") == {"deep": "x"}


def test_an_error_of_a_file_names_its_line(tmp_path: Path) -> None:
    """What the user's module raises while it is imported is shown with file and line."""
    path = tmp_path / "bad.py"
    path.write_text("x = 1\nraise RuntimeError('boom')\n")
    with pytest.raises(UsageError) as caught:
        load_parse("bad.py:parse", tmp_path)
    assert caught.value.message == f"parse: {path} cannot be imported: RuntimeError: boom ({path}:2)"


def test_a_module_that_wants_to_leave_does_not_end_the_run(tmp_path: Path) -> None:
    """Nobody would see that nothing was done: the exit code would be the module's."""
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    for reference in ("script.py:parse", "script:parse"):
        with pytest.raises(UsageError, match="cannot be imported: SystemExit: 0"):
            load_parse(reference, tmp_path)


def test_a_file_that_is_not_python_names_its_own_line_alone(tmp_path: Path) -> None:
    """The way to it through our code is nobody's business."""
    path = tmp_path / "mine.py"
    path.write_text("def rows(row, response)\n")
    with pytest.raises(UsageError) as caught:
        load_parse("mine.py:rows", tmp_path)
    assert caught.value.message == f"parse: {path} cannot be imported: SyntaxError: expected ':' (mine.py, line 1)"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine.py", "names no function"),
        ("mine.py:not-a-name", "names no function"),
        ("nope.py:parse", "there is no file"),
        ("no_such_package_here:parse", "cannot be imported: ModuleNotFoundError"),
        ("json:no_such_function", "there is no function 'no_such_function' in json"),
    ],
)
def test_what_cannot_be_found_is_a_usage_error(reference: str, message: str, tmp_path: Path) -> None:
    """With words that say what is missing."""
    with pytest.raises(UsageError, match=message):
        load_parse(reference, tmp_path)
