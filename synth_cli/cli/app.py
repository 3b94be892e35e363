"""The command `synth`: one file per command, each a thin function that returns its exit code."""

from __future__ import annotations

import gc
import sys

import typer

from synth_cli.cli import (
    cancel,
    init,
    later,
    merge,
    plan,
    preview,
    report,
    run,
    schema,
    serve,
    simulator,
    status,
    validate,
)
from synth_cli.cli.boundary import guarded

app = typer.Typer(
    name="synth",
    help="Makes datasets with language models: a YAML spec in, JSONL or Parquet and a report out.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"synth {version('synth-cli')}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Makes datasets with language models: a YAML spec in, JSONL or Parquet and a report out."""


for command in (
    init.init,
    validate.validate,
    schema.schema,
    plan.plan,
    preview.preview,
    run.run,
    status.status,
    cancel.cancel,
    report.report,
    later.diff,
    merge.merge,
    serve.serve,
    simulator.simulator,
):
    app.command()(guarded(command))


def main() -> None:
    """The entry point."""
    try:
        app()
    finally:
        # Python would look through all that is alive once more before it ends: with vLLM loaded, for two seconds
        gc.freeze()
