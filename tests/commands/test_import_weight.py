"""What a command loads: heavy packages only where the spec asks for what they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from command_line import spec, write
from scripted_server import serving

HEAVY = (
    "litellm",
    "datasets",
    "huggingface_hub",
    "pyarrow",
    "faker",
    "sqlalchemy",
    "vllm",
    "ray",
    "numpy",
    "pandas",
    "PIL",
    "rich",
)
CALL = """
import sys
from synth_cli.cli.app import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print(*sys.modules)
"""


def loaded(*arguments: object, among: tuple[str, ...] = HEAVY) -> list[str]:
    """Those of these packages that the command has loaded when it ends."""
    command = [sys.executable, "-c", CALL, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()[-1].split()
    assert "synth_cli.cli.app" in modules
    return [name for name in among if name in modules]


def test_a_quiet_online_run_loads_nothing_heavy(tmp_path: Path) -> None:
    """One row asked of a server: none of what other specs need, and no painter of terminals."""
    with serving() as server:
        path = write(tmp_path, spec(server.url, input={"rows": [{"word": "one"}]}))
        assert loaded("run", path, "--quiet") == []
    assert len(server.asked) == 1


def test_a_run_that_is_shown_loads_rich_alone(tmp_path: Path) -> None:
    """The report for people is set with it."""
    with serving() as server:
        path = write(tmp_path, spec(server.url, input={"rows": [{"word": "one"}]}))
        assert loaded("run", path) == ["rich"]


def test_commands_that_ask_nothing_load_no_client(tmp_path: Path) -> None:
    """`validate` and `schema` need neither HTTP nor the simulated model's server."""
    path = write(tmp_path, {"model": "simulator", "input": {"count": 1}, "prompt": "Hi."})
    client = ("aiohttp", "uvloop", *HEAVY)
    assert (loaded("schema", among=client), loaded("init", tmp_path / "new", among=client)) == ([], [])
    assert loaded("validate", path, among=client) == []
