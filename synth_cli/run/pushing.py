"""`output.push`: what was published goes to the Hub, after the run and before its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from synth_cli.compile.plan import Plan
from synth_cli.errors import AuthError, SetupError, SynthError
from synth_cli.outputs.card import card
from synth_cli.outputs.places import fetched
from synth_cli.outputs.sinks import suffix_of
from synth_cli.run.carding import best_first, facts_of
from synth_cli.run.options import RunOptions
from synth_cli.run.publishing import Verdict
from synth_cli.run.running import Running

OIDC = "HF_OIDC_RESOURCE"
"""Where it is set, the Hub client gets its token over the network (trusted publishers, in CI)."""


def withheld(options: RunOptions) -> str:
    """Why this run pushes nothing; empty if it does."""
    if options.simulate:
        return "a simulated run is not pushed"
    if options.limit is not None or options.only is not None:
        return "a limited run is not pushed"
    return ""


def ready(plan: Plan, options: RunOptions, environ: Mapping[str, str]) -> None:
    """Raises, before anything is paid for, where a push is bound to fail. No network."""
    if plan.loaded.spec.output.push is None or withheld(options):
        return
    from synth_cli.outputs.push import offline, token_of

    variable = offline(environ)
    if variable is not None:
        raise SetupError(
            f"output.push: {variable} is set, so nothing can be pushed",
            hint="unset it, or leave out the push: --set output.push=null",
        )
    if not environ.get(OIDC) and token_of(environ) is None:
        raise AuthError(
            "output.push: there is no token for the Hub",
            hint="set HF_TOKEN, log in with: hf auth login, or leave out the push: --set output.push=null",
        )


def pushed(verdict: Verdict, running: Running, environ: Mapping[str, str]) -> Verdict:
    """Pushes what was published, from where it was published to, with a card where the spec wants one."""
    plan, output = running.plan, running.plan.loaded.spec.output
    if output.push is None or not verdict.published:
        return verdict
    why = withheld(running.options)
    if why:
        return replace(verdict, notes=(*verdict.notes, why))
    from synth_cli.outputs.push import Cargo, path_of, push, token_of

    target = best_first(verdict.published)[0]
    suffix = suffix_of(target) or Path(target).suffix
    path = path_of(output.push.split, suffix)
    facts = facts_of(running, verdict.counts, files=(path,)) if output.card else None
    running.journal.write(f"pushing {verdict.counts.rows_out} rows to {output.push.repo}")
    try:
        with fetched(target, plan.folder, running.folder.path) as file:
            cargo = Cargo(
                repo=output.push.repo,
                private=output.push.private,
                split=output.push.split,
                file=file,
                suffix=suffix,
                card=card(facts) if facts is not None else None,
                job=plan.name,
                message=f"{plan.name}: {verdict.counts.rows_out:,} rows",
            )
            arrived = push(cargo, endpoint=environ.get("HF_ENDPOINT") or None, token=token_of(environ))
    except SynthError as error:
        return replace(verdict, error=_both(verdict.error, error))
    return replace(verdict, notes=(*verdict.notes, *arrived.notes, f"pushed to {arrived.url}"))


def _both(before: SynthError | None, error: SynthError) -> SynthError:
    """What kept the rows from being all there, and what kept them from the Hub."""
    if before is None:
        return error
    return type(error)(f"{before.message}; {error.message}", hint=error.hint)
