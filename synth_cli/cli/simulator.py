"""`synth simulator`: the simulated model alone, over HTTP."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any, TypeAlias

import typer

from synth_cli.errors import SetupError, UsageError
from synth_cli.simulator.settings import descriptions

ABOUT = descriptions()


def _option(name: str, **limits: Any) -> Any:
    return typer.Option(f"--{name.replace('_', '-')}", help=ABOUT[name], **limits)


def _share(name: str) -> Any:
    return _option(name, min=0, max=1)


Limit: TypeAlias = float | None


def simulator(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    seed: Annotated[int, _option("seed")] = 0,
    latency: Annotated[float, _option("latency", min=0)] = 0.0,
    jitter: Annotated[float, _option("jitter", min=0)] = 0.0,
    output_tokens: Annotated[int, _option("output_tokens", min=1)] = 60,
    vary: Annotated[bool, typer.Option("--vary", help=ABOUT["vary"])] = False,
    requests_per_minute: Annotated[Limit, _option("requests_per_minute", show_default=False)] = None,
    tokens_per_minute: Annotated[Limit, _option("tokens_per_minute", show_default=False)] = None,
    burst_seconds: Annotated[float, _option("burst_seconds", min=0)] = 1.0,
    retry_after: Annotated[Limit, _option("retry_after")] = 1.0,
    share_429: Annotated[float, _share("share_429")] = 0.0,
    share_500: Annotated[float, _share("share_500")] = 0.0,
    share_reset: Annotated[float, _share("share_reset")] = 0.0,
    share_stall: Annotated[float, _share("share_stall")] = 0.0,
    share_malformed: Annotated[float, _share("share_malformed")] = 0.0,
    share_empty: Annotated[float, _share("share_empty")] = 0.0,
    share_invalid: Annotated[float, _share("share_invalid")] = 0.0,
    share_length: Annotated[float, _share("share_length")] = 0.0,
    share_filter: Annotated[float, _share("share_filter")] = 0.0,
    batch_seconds: Annotated[float, _option("batch_seconds", min=0)] = 0.0,
    batch_expire: Annotated[Limit, _share("batch_expire")] = None,
    batch_halt: Annotated[Limit, _share("batch_halt")] = None,
    batch_refuse: Annotated[bool, typer.Option("--batch-refuse", help=ABOUT["batch_refuse"])] = False,
    batch_share_error: Annotated[float, _share("batch_share_error")] = 0.0,
    batch_share_missing: Annotated[float, _share("batch_share_missing")] = 0.0,
    batch_share_duplicate: Annotated[float, _share("batch_share_duplicate")] = 0.0,
    batch_share_unknown: Annotated[float, _share("batch_share_unknown")] = 0.0,
    batch_malformed: Annotated[int, _option("batch_malformed", min=0)] = 0,
    batch_shuffle: Annotated[bool, typer.Option("--batch-shuffle", help=ABOUT["batch_shuffle"])] = False,
    batch_share_lost: Annotated[float, _share("batch_share_lost")] = 0.0,
    batch_list_lag: Annotated[float, _option("batch_list_lag", min=0)] = 0.0,
    batch_first: Annotated[int | None, _option("batch_first", min=0, show_default=False)] = None,
    batch_queued_tokens: Annotated[int | None, _option("batch_queued_tokens", min=1, show_default=False)] = None,
    folder: Annotated[str | None, _option("folder", show_default=False)] = None,
) -> int:
    """Serve the simulated model.

    OpenAI-compatible, deterministic, with faults on request. Batches too, and the protocols of Anthropic, Gemini,
    Mistral and Together.
    """
    given = {name: value for name, value in locals().items() if name in ABOUT}
    from synth_cli.simulator import Settings, serve

    try:
        settings = Settings(**given)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        asyncio.run(serve(settings, host=host, port=port, ready=_ready))
    except OSError as error:
        hint = "choose another --port, --host or --folder"
        raise SetupError(f"cannot serve at {host}:{port}: {error.strerror or error}", hint=hint) from None
    return 0


def _ready(url: str) -> None:
    print(f"synth: the simulated model is at {url}; ^C stops it", file=sys.stderr, flush=True)
