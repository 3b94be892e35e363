"""`synth simulator`: the simulated model alone, over HTTP."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer


def simulator(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option("--seed", help="Answers and faults are drawn from it.")] = 0,
    latency: Annotated[float, typer.Option("--latency", min=0, help="Seconds before an answer.")] = 0.0,
    jitter: Annotated[float, typer.Option("--jitter", min=0, help="Up to so many seconds more.")] = 0.0,
    output_tokens: Annotated[int, typer.Option("--output-tokens", min=1, help="Of a text answer, about.")] = 60,
    vary: Annotated[bool, typer.Option("--vary", help="Answer an equal request differently each time.")] = False,
    requests_per_minute: Annotated[
        float | None, typer.Option("--requests-per-minute", help="Refuse what comes faster.", show_default=False)
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option("--tokens-per-minute", help="In and out together.", show_default=False)
    ] = None,
    share_429: Annotated[float, typer.Option("--share-429", min=0, max=1, help="Of requests refused.")] = 0.0,
    share_500: Annotated[float, typer.Option("--share-500", min=0, max=1, help="Of requests answered 500.")] = 0.0,
    share_reset: Annotated[float, typer.Option("--share-reset", min=0, max=1, help="Of connections reset.")] = 0.0,
    share_stall: Annotated[float, typer.Option("--share-stall", min=0, max=1, help="Never answered.")] = 0.0,
    share_malformed: Annotated[
        float, typer.Option("--share-malformed", min=0, max=1, help="JSON that breaks off.")
    ] = 0.0,
    share_empty: Annotated[float, typer.Option("--share-empty", min=0, max=1, help="200 without a body.")] = 0.0,
    share_invalid: Annotated[
        float, typer.Option("--share-invalid", min=0, max=1, help="Answers that break the schema.")
    ] = 0.0,
    share_length: Annotated[float, typer.Option("--share-length", min=0, max=1, help="Answers cut off.")] = 0.0,
    share_filter: Annotated[float, typer.Option("--share-filter", min=0, max=1, help="Answers withheld.")] = 0.0,
) -> int:
    """Serve the simulated model: OpenAI-compatible, deterministic, with faults on request."""
    from synth_cli.errors import UsageError
    from synth_cli.simulator import Settings, serve

    try:
        settings = Settings(
            seed=seed,
            latency=latency,
            jitter=jitter,
            output_tokens=output_tokens,
            vary=vary,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            share_429=share_429,
            share_500=share_500,
            share_reset=share_reset,
            share_stall=share_stall,
            share_malformed=share_malformed,
            share_empty=share_empty,
            share_invalid=share_invalid,
            share_length=share_length,
            share_filter=share_filter,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    print("synth: ^C stops the simulated model", file=sys.stderr)
    asyncio.run(serve(settings, host=host, port=port))
    return 0
