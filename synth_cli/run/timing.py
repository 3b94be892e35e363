"""The times to the first token, of steps whose answers say them."""

from __future__ import annotations

from dataclasses import replace

from synth_cli.core.figures import Traffic, first_tokens
from synth_cli.run.running import Running
from synth_cli.run.wire import simulated


def timed(running: Running, traffic: Traffic, *, run: int | None = None, round: int | None = None) -> Traffic:
    """The figures of a run or a round, with what the answers of vLLM say.

    Their bodies are gone through for it, which takes about 10 s for a million: a small part of what it takes to make
    them. Other answers do not say it, and theirs are not looked at.
    """
    steps = [
        step.name
        for step in running.plan.steps
        if any(voice.engine == "vllm" and not simulated(voice, running.options) for voice in step.voices)
    ]
    if not steps or not traffic.replies:
        return traffic
    return replace(traffic, first_token=first_tokens(running.ledger.bodies(steps, run=run, round=round)))
