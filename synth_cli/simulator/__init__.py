"""The simulated model and its HTTP server: `Simulator`, `Settings` and `serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synth_cli.simulator.settings import Settings

if TYPE_CHECKING:
    from synth_cli.simulator.server import Simulator, serve

__all__ = ["Settings", "Simulator", "serve"]


def __getattr__(name: str) -> Any:
    # a command line reads the settings for its help: the server, and aiohttp with it, is loaded by who serves
    if name in ("Simulator", "serve"):
        from synth_cli.simulator import server

        return getattr(server, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
