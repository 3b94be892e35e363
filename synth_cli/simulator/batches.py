"""Batches of requests, whatever protocol they came by: their life on a clock, worked off in the background.

A batch goes validating → in progress → finalizing → completed within `batch_seconds`; it ends as failed, expired or
cancelled where the settings, its file or the client want it so, and what was done until then stays. Requests are worked
off in small groups between other work, from the disk to the disk: memory holds their places only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import Any

from synth_cli.simulator.asked import Refused
from synth_cli.simulator.batch import Batch, Dialect, Problem, Stage, parsed, problem, window_of
from synth_cli.simulator.batch_files import GROUP, Lines, Results
from synth_cli.simulator.batch_work import Worker
from synth_cli.simulator.counts import Counts
from synth_cli.simulator.model import Model
from synth_cli.simulator.settings import BATCH_FAULTS, HEADER, Settings
from synth_cli.simulator.shelf import Shelf

LONGEST_WAIT = 3600.0
SHORTEST_WAIT = 0.01
VALIDATED, WORKED = 0.05, 0.95
"""Shares of a batch's time."""
MOST_PROBLEMS = 50


class Batches:
    """All batches of one server. `clock` gives seconds since 1970; `advance` moves it for tests that cannot wait."""

    def __init__(self, settings: Settings, model: Model, counts: Counts, shelf: Shelf) -> None:
        self.settings = settings
        self.model = model
        self.counts = counts
        self.shelf = shelf
        self.ahead = 0.0
        self.known: dict[str, Batch] = {}
        self.dialects: dict[str, Dialect] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.nudges: dict[str, asyncio.Event] = {}

    def now(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds
        for nudge in self.nudges.values():
            nudge.set()

    def resume(self) -> None:
        """Goes on with the batches that an earlier server left in the folder."""
        for one in sorted(self.shelf.records("batch"), key=lambda each: each["number"]):
            batch = Batch(**{**one, "stage": Stage(one["stage"])})
            self.known[batch.id] = batch
            if not batch.ended:
                # what was worked off and not yet given away is worked off again
                batch.worked = batch.succeeded = batch.errored = batch.dropped = 0
                batch.tokens_in = batch.tokens_out = 0
                self.start(batch)

    async def close(self) -> None:
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def create(
        self,
        dialect: Dialect,
        file_id: str,
        *,
        endpoint: str = "",
        model: str = "",
        window: str = "24h",
        seconds: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Makes a batch of the file's lines. Raises `Refused` for settings that cannot be."""
        given = {**(headers or {}), **{name: str(value) for name, value in (metadata or {}).items()}}
        wanted = {name: value for name, value in given.items() if name.lower().startswith(HEADER + "batch-")}
        try:
            self.settings.asked(wanted)
        except ValueError as error:
            raise Refused(400, str(error), param="metadata") from error
        now = self.now()
        batch = Batch(
            dialect.make_id(),
            dialect.name,
            file_id,
            endpoint,
            model,
            now,
            now + (window_of(window) if seconds is None else seconds),
            window,
            len(self.known) + 1,
            dict(metadata or {}),
            wanted,
            dict(more or {}),
            times={Stage.VALIDATING: now},
        )
        self.known[batch.id] = batch
        self.save(batch)
        self.start(batch)
        return batch

    def get(self, batch_id: str) -> Batch | None:
        return self.known.get(batch_id)

    def listed(self, dialects: frozenset[str]) -> list[Batch]:
        """Newest first, without those that lists do not show yet."""
        now = self.now()
        return [
            batch
            for batch in reversed(self.known.values())
            if batch.dialect in dialects and batch.created + self.settings_of(batch).batch_list_lag <= now
        ]

    def cancel(self, batch: Batch) -> None:
        """What is done stays. Nothing happens to a batch that has ended, or is finalizing."""
        if batch.stage in (Stage.VALIDATING, Stage.RUNNING):
            batch.stop = batch.worked
            self.enter(batch, Stage.CANCELLING)
            self.nudges[batch.id].set()

    def delete(self, batch: Batch) -> None:
        del self.known[batch.id]
        self.shelf.forget("batch", batch.id)

    def settings_of(self, batch: Batch) -> Settings:
        settings = self.settings.asked(batch.wanted)
        if settings.batch_first is not None and batch.number > settings.batch_first:
            usual: dict[str, Any] = {each.name: each.default for each in fields(Settings) if each.name in BATCH_FAULTS}
            settings = replace(settings, **usual)
        return settings

    def save(self, batch: Batch) -> None:
        if self.shelf.kept:
            self.shelf.record("batch", batch.id, asdict(batch))

    def enter(self, batch: Batch, stage: Stage) -> None:
        batch.stage = stage
        batch.times[stage] = self.now()
        self.save(batch)

    def start(self, batch: Batch) -> None:
        self.nudges[batch.id] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self.live(batch))
        self.tasks[batch.id] = task
        task.add_done_callback(lambda _: self.forget(batch.id))

    def forget(self, batch_id: str) -> None:
        del self.tasks[batch_id], self.nudges[batch_id]

    async def until(self, batch: Batch, moment: float) -> None:
        """Returns early when the batch is being cancelled."""
        nudge = self.nudges[batch.id]
        while batch.stage is not Stage.CANCELLING and (left := moment - self.now()) > 0:
            nudge.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(nudge.wait(), max(SHORTEST_WAIT, min(left, LONGEST_WAIT)))

    async def live(self, batch: Batch) -> None:
        """The whole life of a batch."""
        dialect, settings = self.dialects[batch.dialect], self.settings_of(batch)
        await self.until(batch, batch.created + settings.batch_seconds * VALIDATED)
        if not self.shelf.path(batch.input).is_file():
            batch.problems = [problem("file_not_found", f"The file {batch.input} does not exist.")]
            return self.enter(batch, Stage.FAILED)
        with Lines(self.shelf, batch.input) as lines:
            if not await self.validated(batch, dialect, settings, lines):
                return self.enter(batch, Stage.FAILED)
            if batch.stage is Stage.VALIDATING:
                self.enter(batch, Stage.RUNNING)
            with Results(self.shelf, batch, dialect, self.now) as results:
                ending = await self.work(batch, dialect, settings, lines, results)
                if batch.stage is not Stage.CANCELLING:
                    self.enter(batch, Stage.FINALIZING)
                await results.rest(lines, ending)
                # what is cancelled has no more to be waited for
                await self.until(batch, batch.created + settings.batch_seconds)
                batch.output, batch.errors = results.keep()
        return self.enter(batch, ending)

    async def validated(self, batch: Batch, dialect: Dialect, settings: Settings, lines: Lines) -> bool:
        keys: set[str] = set()
        problems = batch.problems = []
        if settings.batch_refuse:
            problems.append(problem("invalid_json_line", "This line is not parseable as valid JSON.", line=1))
        for number in range(len(lines)):
            if number % GROUP == 0:
                await asyncio.sleep(0)
            try:
                line = dialect.line(parsed(lines[number]), batch)
                if line.key in keys:
                    raise Problem(
                        "duplicate_custom_id",
                        "The custom_id for this request is a duplicate of another request. The custom_id parameter"
                        " must be unique for each request in a batch.",
                        "custom_id",
                    )
            except Problem as found:
                problems.append(problem(found.code, found.message, param=found.param, line=number + 1))
                if len(problems) == MOST_PROBLEMS:
                    break
            else:
                keys.add(line.key)
        if not len(lines):
            problems.append(problem("empty_file", "The input file is empty. Please ensure that it has requests."))
        elif len(lines) > dialect.most:
            problems.append(
                problem("request_limit_exceeded", f"The batch has {len(lines)} requests; at most {dialect.most} go in.")
            )
        if settings.batch_queued_tokens is not None:
            # 4 bytes a token, of the whole line: near enough for a limit
            batch.more["queued"] = lines.size // 4
            queued = sum(other.more.get("queued", 0) for other in self.known.values() if not other.ended)
            if queued > settings.batch_queued_tokens:
                problems.append(
                    problem(
                        "token_limit_exceeded",
                        f"Enqueued token limit reached. Limit: {settings.batch_queued_tokens:,} enqueued tokens."
                        " Please try again once some in_progress batches have been completed.",
                    )
                )
        batch.total = len(lines)
        return not problems

    async def work(self, batch: Batch, dialect: Dialect, settings: Settings, lines: Lines, results: Results) -> Stage:
        """Works requests off as time goes on; returns how the batch ends."""
        if settings.batch_shuffle or dialect.shuffled:
            lines.shuffle(settings.seed)
        worker = Worker(batch, dialect, settings, self.model, self.counts)
        total = batch.total
        share = min(1.0 if each is None else each for each in (settings.batch_expire, settings.batch_halt))
        limit = int(total * share)
        if settings.batch_expire is not None and not dialect.keeps_expired:
            limit = 0
        begin = self.now() if settings.batch_seconds == 0 else batch.created + settings.batch_seconds * VALIDATED
        span = settings.batch_seconds * (WORKED - VALIDATED)
        while batch.worked < (limit if batch.stop is None else batch.stop):
            now = self.now()
            if now >= batch.deadline:
                return Stage.EXPIRED
            due = limit if now >= begin + span or batch.stop is not None else int(total * (now - begin) / span)
            due = min(due, batch.worked + GROUP, limit if batch.stop is None else batch.stop)
            if due > batch.worked:
                while batch.worked < due:
                    worker.work(lines[batch.worked], lines.number(batch.worked), results)
                    batch.worked += 1
                await asyncio.sleep(0)
            else:
                await self.until(batch, min(begin + span * (batch.worked + 1) / total, batch.deadline))
        if batch.stop is not None:
            return Stage.CANCELLED
        if limit == total:
            return Stage.COMPLETED
        ends = batch.deadline if settings.batch_expire is None else batch.created + settings.batch_seconds * WORKED
        await self.until(batch, ends)
        return Stage.EXPIRED if batch.stop is None else Stage.CANCELLED
