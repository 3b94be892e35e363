"""The dataset card of a run: what it says, and whether it may stand where the data goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from synth_cli.compile.plan import Plan, Voice
from synth_cli.outputs.candidate import Candidate, Draft, complaint
from synth_cli.outputs.card import NAME, Asked, CardFacts, Simulated, card, job_of
from synth_cli.outputs.places import name_of, peek, shown
from synth_cli.outputs.sinks import suffix_of
from synth_cli.run.finish import Counts
from synth_cli.run.options import RunOptions
from synth_cli.run.running import Running
from synth_cli.run.versions import versions
from synth_cli.run.wire import all_simulated, simulated, voices_of
from synth_cli.spec.addresses import is_url
from synth_cli.spec.load import Loaded
from synth_cli.spec.secrets import hidden

BEST = (".parquet", ".jsonl", ".jsonl.zst", ".jsonl.gz", ".csv")
"""Of several files with the same rows the one to load: types are surest in the first."""
ROWS_SHOWN = 20
"""Rows written in a spec that its card repeats."""
FIRST = ("version", "name", "description", "labels", "vars", "seed")
"""The keys with which people begin a spec."""


@dataclass(frozen=True, slots=True)
class Carded:
    """A card on its way to the data, or why it must not go there."""

    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()


def target_of(running: Running) -> str | None:
    """Where the run's card belongs; None where the spec wants none."""
    plan = running.plan
    return beside(plan.outputs[0], NAME) if plan.loaded.spec.output.card else None


def carded(running: Running, counts: Counts, target: str, refused: str) -> Carded:
    """The card of what is about to be published; `refused` says why such a run must leave the one that is there.

    A README.md that this job has not written is left as it is, too: the card then stays in the run's folder.
    """
    plan = running.plan
    there = peek(target, plan.folder)
    draft = Draft(target, running.folder.path)
    with complaint(target):
        draft.file.write(card(facts_of(running, counts, files=_files(plan.outputs))).encode())
    candidate = draft.finish(counts.rows_out)
    if refused and there is not None and job_of(there) == plan.name:
        return Carded(notes=(f"{refused}; the card of this one is {candidate.path}",))
    if there is None or job_of(there) == plan.name:
        return Carded((candidate,), (f"the dataset card is {shown(name_of(target, Path.cwd()))}",))
    whose = job_of(there)
    what = "was not written by synth" if whose is None else f"is the card of the job '{whose}'"
    return Carded(notes=(f"{shown(target)} {what}, so it stays as it is; the card is {candidate.path}",))


def facts_of(running: Running, counts: Counts, *, files: Sequence[str]) -> CardFacts:
    plan, spec, options = running.plan, running.plan.loaded.spec, running.options
    asked = tuple(_asked(running))
    shares = running.ledger.shares()
    return CardFacts(
        name=plan.name,
        description=spec.description or "",
        format=spec.output.format,
        labels=spec.labels,
        seed=plan.seed,
        read=counts.rows_in,
        rows=counts.rows_out,
        filtered=counts.filtered,
        failed=counts.failed,
        dropped=tuple((cause.what, cause.count) for cause in counts.drops.ranked()),
        asked=asked,
        first=min((share.first for share in shares), default=None),
        last=max((share.last for share in shares), default=None),
        files=files,
        split=split_of(plan),
        spec=spec_text(plan.loaded),
        simulated=_simulated(plan, options),
        limited=options.limit,
        versions=versions(),
    )


def _simulated(plan: Plan, options: RunOptions) -> Simulated:
    if all_simulated(plan, options):
        return "all"
    return "some" if any(simulated(voice, options) for voice in voices_of(plan)) else "none"


def split_of(plan: Plan) -> str:
    push = plan.loaded.spec.output.push
    return push.split if push is not None else "train"


def beside(target: str, name: str) -> str:
    """The path or URL of another file in an output's folder."""
    if is_url(target):
        return f"{target.rpartition('/')[0]}/{name}"
    return str(Path(target).parent / name)


def best_first(targets: Sequence[str]) -> list[str]:
    return sorted(targets, key=lambda target: BEST.index(suffix_of(target) or BEST[-1]))


def _files(outputs: Sequence[str]) -> list[str]:
    """The names of those outputs that lie where the card does, the one to load first."""
    folder = beside(outputs[0], "")
    return [target.rpartition("/")[2] for target in best_first(outputs) if beside(target, "") == folder]


def _asked(running: Running) -> Iterator[Asked]:
    steps = {step.name: step for step in running.plan.steps}
    for share in running.ledger.shares():
        step = steps.get(share.step)
        if step is not None:
            voices = _speaking(step.voices, share.model)
            yield Asked(
                step=share.step,
                model=", ".join(dict.fromkeys(voice.title for voice in voices)),
                engine=", ".join(dict.fromkeys(voice.engine for voice in voices)),
                answered=share.model,
                replies=share.replies,
                input_tokens=share.usage.input,
                output_tokens=share.usage.output,
                cost=None if share.unpriced else share.cost,
            )


def _speaking(voices: Sequence[Voice], answered: str) -> Sequence[Voice]:
    """Which of a step's models that may have been: a provider answers with its own name, or a dated one of it."""
    exact = [voice for voice in voices if voice.terms.model == answered]
    if exact:
        return exact
    names = [voice.terms.model.rpartition("/")[2] for voice in voices]
    longest = max((name for name in names if answered.startswith(name)), key=len, default=None)
    return [voice for voice, name in zip(voices, names, strict=True) if name == longest] or voices


class _Blocks(yaml.SafeDumper):
    """Texts of several lines as people write them."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Blocks.add_representer(str, _text)


def spec_text(loaded: Loaded) -> str:
    """The spec as it was run, without secrets: what it extends, its profile and `--set` are in it."""
    said = loaded.effective()
    source: Any = said.get("input") or {}
    rows = source.get("rows") or ()
    left_out = len(rows) - ROWS_SHOWN
    if left_out > 0:
        said["input"] = {**source, "rows": rows[:ROWS_SHOWN]}
    said = {**{key: said[key] for key in FIRST if key in said}, **said}
    text = yaml.dump(said, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=100)
    note = f"# input.rows: {left_out:,} more rows are left out here\n" if left_out > 0 else ""
    return hidden(note + text, loaded.secrets)
