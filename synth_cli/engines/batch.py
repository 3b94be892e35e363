"""Asks a provider that answers within a day, at half the price: in batches that outlive the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from synth_cli.core.events import Closed, Opened, Sought
from synth_cli.core.packing import room
from synth_cli.core.ports import BatchClient, BatchError, BatchLook, BatchStanding, Done, Ledger, Record, Work
from synth_cli.core.reply import Fault
from synth_cli.core.rounds import Pending, fold_marks
from synth_cli.engines.batches.collecting import collect
from synth_cli.engines.batches.common import BatchSettings, Collected, Desk
from synth_cli.engines.batches.opening import Source, fill, submit

__all__ = ["BatchEngine", "BatchSettings", "Collected"]

AT_ONCE: Final = 8
"""Batches that the provider is asked about at the same time."""


class BatchEngine:
    """Satisfies `Engine`. One `advance` does what can be done now: it collects what has ended and submits what is
    left, and never waits for a remote job. Everything it needs to know is in the ledger, so that any process goes on.

    `folder` is where files are packed, `clock` that of the work's waits (monotonic seconds), `time_of_day` dates the
    facts, and `log` takes a line for each thing that a person would want to know the next morning.
    """

    def __init__(
        self,
        client: BatchClient,
        ledger: Ledger,
        settings: BatchSettings,
        *,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._desk = Desk(client, ledger, settings, folder, clock, time_of_day, log)
        self._finished = False

    @property
    def batches(self) -> tuple[BatchStanding, ...]:
        """The open batches as they were last seen, and those that ended while this engine looked after them."""
        return tuple(self._desk.standings.values())

    @property
    def collected(self) -> Collected:
        """What this engine has collected so far."""
        return self._desk.collected

    @property
    def note(self) -> str:
        """The latest trouble, in a few words; empty if there was none in the last `advance`."""
        return self._desk.note

    @property
    def outstanding(self) -> int:
        """Requests in open batches."""
        return sum(pending.opening.requests for pending in self._pending())

    @property
    def open_keys(self) -> frozenset[str]:
        """The keys of the open batches."""
        return frozenset(pending.opening.key for pending in self._pending())

    @property
    def finished(self) -> bool:
        """Whether the last `advance` found no batch open and nothing left to ask."""
        return self._finished

    async def advance(self, work: Work, record: Record) -> None:
        """Collects, then submits. Everything recorded is durable on return, also after an error.

        Trouble at the provider is no error: it is noted and tried again by the next `advance`, or ends the work
        (`Work.fail`) if it would come again. Requests handed to a batch stay unsettled in `work`.
        """
        self._finished = False
        self._desk.note = ""
        try:
            if not work.stopping:
                await self._collect(work, record)
            if not work.stopping:
                await self._submit(work, record)
        finally:
            record.flush()

    async def survey(self) -> tuple[BatchStanding, ...]:
        """How the open batches stand at the provider. Changes and records nothing."""
        for pending in self._pending():
            self._desk.watch(pending)
        await self._looks([pending for pending in self._pending() if pending.opened is not None])
        return self.batches

    async def cancel(self, record: Record) -> int:
        """Asks the provider to end the open batches; what was done until then is collected by `advance`.

        Returns how many were asked for. Those whose submit nobody knows about are looked for first.
        """
        desk, count = self._desk, 0
        for pending in self._pending():
            key = pending.opening.key
            desk.watch(pending)
            try:
                found = pending if pending.opened is not None else await self._sought(pending, record)
                if found is not None and found.opened is not None:
                    await desk.client.cancel(found.opened.ticket)
                    desk.stands(key, state="cancelling")
                    desk.log(f"batch {key}: asked to be cancelled")
                    count += 1
            except BatchError as error:
                self._trouble(key, error.fault)
        record.flush()
        return count

    def _pending(self) -> list[Pending]:
        """The open batches that are ours to look after."""
        settings = self._desk.settings
        return [
            pending
            for pending in fold_marks(self._desk.ledger.marks()).pending.values()
            if pending.opening.place == settings.place and pending.opening.step in {settings.step, *settings.adopts}
        ]

    async def _collect(self, work: Work, record: Record) -> None:
        desk = self._desk
        opened: list[Pending] = []
        for pending in self._pending():
            desk.watch(pending)
            try:
                found = pending if pending.opened is not None else await self._sought(pending, record)
            except BatchError as error:
                if self._trouble(pending.opening.key, error.fault, work):
                    return
                continue
            if found is not None:
                opened.append(found)
            elif desk.standings[pending.opening.key].outcome is not None:
                work.returned(pending.opening.requests, pending.opening.cost, pending.opening.tokens, 0.0, 0)
        for pending, look in await self._looks(opened, work):
            if work.stopping:
                return
            await self._ended(pending, look, work, record)

    async def _ended(self, pending: Pending, look: BatchLook, work: Work, record: Record) -> None:
        opening = pending.opening
        assert pending.opened is not None
        self._desk.crowded = False
        try:
            harvest = await collect(self._desk, record, opening, pending.opened, look)
        except BatchError as error:
            self._trouble(opening.key, error.fault, work)
            return
        work.returned(opening.requests, opening.cost, opening.tokens, harvest.spent, harvest.tokens)
        if harvest.fatal is not None:
            work.fail(harvest.fatal)

    async def _sought(self, pending: Pending, record: Record) -> Pending | None:
        """A batch whose submit was never heard of: found at the provider, or known not to be there, or neither yet.

        A list may lag behind, so that it must be missing for a while before its requests may be asked again.
        """
        desk, opening = self._desk, pending.opening
        key = opening.key
        ticket = await desk.client.find(key, opening.at)
        now = desk.time_of_day()
        if ticket is not None:
            opened = Opened(key, ticket, opening.at)
            record.add(opened)
            record.flush()
            desk.stands(key, state="submitted", opened_at=opening.at)
            desk.log(f"batch {key}: found at the provider")
            return Pending(opening, opened)
        first = now if pending.sought is None else pending.sought
        if now - first >= desk.settings.grace:
            await desk.client.sweep(key)
            record.add(Closed(key, "absent", now))
            record.flush()
            desk.stands(key, state="absent", outcome="absent")
            desk.log(f"batch {key}: never reached the provider")
        elif pending.sought is None:
            record.add(Sought(key, now))
            record.flush()
            desk.say(f"batch {key}: the provider does not list it (yet)")
        return None

    async def _looks(self, opened: list[Pending], work: Work | None = None) -> list[tuple[Pending, BatchLook]]:
        """Looks at these; those that have ended."""
        few = asyncio.Semaphore(AT_ONCE)

        async def look(pending: Pending) -> BatchLook | Fault:
            assert pending.opened is not None
            async with few:
                try:
                    return await self._desk.client.look(pending.opened.ticket)
                except BatchError as error:
                    return error.fault

        ended: list[tuple[Pending, BatchLook]] = []
        for pending, found in zip(opened, await asyncio.gather(*map(look, opened)), strict=True):
            key = pending.opening.key
            if isinstance(found, Fault):
                self._trouble(key, found, work)
                continue
            total = pending.opening.requests if found.total is None else found.total
            self._desk.stands(
                key, state=found.state, done=found.done, failed=found.failed, total=total, trouble=found.message
            )
            if found.ended:
                ended.append((pending, found))
        return ended

    def _trouble(self, key: str, fault: Fault, work: Work | None = None) -> bool:
        """Notes what went wrong; whether it ends the run."""
        self._desk.say(f"batch {key}: {fault.message}")
        self._desk.stands(key, trouble=fault.message)
        if fault.scope == "run" and work is not None:
            work.fail(fault)
            return True
        return False

    async def _submit(self, work: Work, record: Record) -> None:
        desk, settings = self._desk, self._desk.settings
        limits = desk.client.limits
        pending = self._pending()
        if desk.crowded and pending:
            desk.say("the provider has enough queued: waiting until a batch ends")
            return
        desk.crowded = False
        count, queued = len(pending), float(sum(one.opening.queued for one in pending))
        size = min((size for size in (settings.batch_size, desk.most) if size is not None), default=None)
        source = Source(work)
        try:
            while (space := room(limits, batch_size=size, open_batches=count, queued_tokens=queued)) is not None:
                bundle = await fill(desk, source, space)
                if work.stopping:
                    # not announced yet: it is as if it had not been packed
                    if bundle is not None:
                        bundle.path.unlink()
                    return
                if bundle is None:
                    self._finished = isinstance(source.over, Done) and not count
                    return
                queued += bundle.pack.tokens
                count += 1
                if not await submit(desk, work, record, bundle) or source.over is not None:
                    return
        finally:
            source.close()
