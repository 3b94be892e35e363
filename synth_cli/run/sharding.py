"""One of n parts of a job, run apart from the others: which rows are its own, and what of the spec is its share.

Every shard reads and drafts the whole input, so that requests have the identities they have in a run of it all. The
rows of shard i are those whose index leaves i - 1 when divided by n: more rows move none to another shard. Rows in its
outputs carry a mark (`synth_cli.run.marks`) by which `synth merge` puts them back in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from synth_cli.compile.flow import Columns
from synth_cli.compile.inputs import known_columns
from synth_cli.compile.plan import Acceptance, Limits, Plan
from synth_cli.errors import UsageError
from synth_cli.outputs.sinks import suffix_of
from synth_cli.responses.columns import output_columns
from synth_cli.spec.formats import COLUMNS
from synth_cli.spec.load import Loaded

MARK = "_shard"
"""The column of a shard's output that says where each row came from."""
WHOLE = {"dedup": "compares all rows", "group": "brings rows together", "python": "is given all rows at once"}
NAMED = re.compile(r"\.shard-(\d+)-of-(\d+)\.")


@dataclass(frozen=True, slots=True)
class Shard:
    """`number` counts from 1 to `of`."""

    number: int
    of: int

    @classmethod
    def named(cls, path: str) -> Self | None:
        """The shard that an output's name speaks of."""
        found = NAMED.search(path)
        return None if found is None else cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def __contains__(self, index: object) -> bool:
        """Whether the input row of this index is its own."""
        return isinstance(index, int) and index % self.of == self.number - 1

    @property
    def suffix(self) -> str:
        return f"shard-{self.number}-of-{self.of}"

    def share(self, rows: int) -> int:
        """How many of so many rows are its own."""
        return len(range(self.number - 1, rows, self.of))

    def path(self, target: str) -> str:
        """Where this shard writes what the whole would write to `target`."""
        suffix = suffix_of(target) or ""
        stem = target[: len(target) - len(suffix)]
        return f"{stem}.{self.suffix}{target[len(stem) :]}"


def parsed(text: str | None) -> Shard | None:
    """`2/4`, as the command line says it. Raises UsageError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            f"--shard: '{text}' is no part of a whole", hint="write it like 1/4: the first of four; the last is 4/4"
        )
    return Shard(int(found[1]), int(found[2]))


def sharded(plan: Plan, shard: Shard | None, *, own_cost: bool = False) -> Plan:
    """The plan of one shard: a state and outputs of its own, and its share of the budget and of the rows asked for.

    `own_cost`: the cost limit was given for this run alone, and is not divided. Raises UsageError for a job that
    cannot be done in parts.
    """
    if shard is None:
        return plan
    for why in _one_piece(plan.loaded):
        raise UsageError(f"--shard: {why}", hint="run it whole, or leave that step to another spec over merged output")
    if MARK in _columns(plan):
        raise taken()
    limits, accepted = plan.limits, plan.acceptance
    cost = limits.cost if own_cost or limits.cost is None else limits.cost / shard.of
    tokens = None if limits.tokens is None else limits.tokens // shard.of
    return replace(
        plan,
        name=f"{plan.name}.{shard.suffix}",
        loaded=_for_files(plan.loaded),
        outputs=tuple(shard.path(target) for target in plan.outputs),
        limits=Limits(cost, tokens, limits.seconds),
        acceptance=Acceptance(shard.share(accepted.min_rows), accepted.max_error_rate, accepted.floor),
    )


def _one_piece(loaded: Loaded) -> Iterator[str]:
    """Why the job's rows depend on one another."""
    spec = loaded.spec
    if spec.target_rows is not None:
        yield "target_rows counts the rows that pass in the whole input"
    for step in spec.resolved():
        if step.type in WHOLE:
            yield f"the step {step.name} {WHOLE[step.type]}"
        if isinstance(step.from_, list) and len(step.from_) > 1:
            yield f"the step {step.name} joins rows end to end"


def _columns(plan: Plan) -> frozenset[str]:
    """The columns of the output's rows, as far as they are known before there are any; steps stand in one line."""
    if plan.loaded.spec.output.format in COLUMNS:
        return frozenset()
    columns = Columns(known_columns(plan.source, folder=plan.folder))
    for each in plan.steps:
        columns = columns.after(each.step, output_columns(each.step, each.schema, columns.every))
    return columns.every or frozenset()


def taken() -> UsageError:
    """For rows that have a column of the mark's name."""
    return UsageError(
        f"--shard: the output has a column {MARK} of its own, where the mark of each row goes",
        hint="rename it with columns:, or leave it behind with carry:",
    )


def _for_files(loaded: Loaded) -> Loaded:
    """Cards and pushes are of the whole."""
    output = loaded.spec.output.model_copy(update={"card": False, "push": None})
    return replace(loaded, spec=loaded.spec.model_copy(update={"output": output}))
