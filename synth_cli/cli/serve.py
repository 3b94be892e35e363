"""`synth serve`: vLLM's own server, with a spec's engine parameters."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from synth_cli.cli.options import Profile, Sets, SpecFile

ASKED_WITH = "a spec asks this server with these lines in place of its `engine` and of the parameters of vLLM"


def serve(
    spec: SpecFile,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="NAME", help="Whose model, where several steps have one.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8000,
    show: Annotated[bool, typer.Option("--print", help="Print the command instead of starting it.")] = False,
    sets: Sets = None,
    profile: Profile = None,
) -> int:
    """Start a vLLM server with the spec's engine parameters.

    The server takes this process's place, so that signals are its own. Says by which lines a spec asks it.
    """
    from synth_cli.engines.vllm.settings import QUIET
    from synth_cli.run.serving import ready, serving

    found = serving(spec, step=step, host=host, port=port, sets=tuple(sets or ()), profile=profile, environ=os.environ)
    if not show:
        ready(found, os.environ)
    print(f"{ASKED_WITH}\n\n{found.lines}", file=sys.stderr, flush=True)
    if not show:
        os.execve(found.command[0], found.command, {**QUIET, **os.environ})
    print(shlex.join(found.command))
    return 0
