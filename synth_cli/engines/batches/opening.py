"""Requests into files, files into batches: written down before it is submitted, and again once it has a name."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from synth_cli.core.events import Closed, Opened, Opening
from synth_cli.core.pacing import input_tokens
from synth_cli.core.packing import Pack, Room
from synth_cli.core.ports import BatchError, BatchStanding, Done, Exchange, Record, Task, Wait, Work
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import Message
from synth_cli.engines.batches.common import Desk, fault_all, not_taken

BREATH: Final = 256
"""Requests packed in one go, before the display and signals have their turn."""
BUFFER: Final = 1 << 20
NAME: Final = 40


@dataclass(slots=True)
class Bundle:
    """A batch's file and what the ledger is to know of it."""

    path: Path
    pack: Pack
    ids: list[bytes] = field(default_factory=list)
    messages: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    cost: float = 0.0
    tokens: int = 0


@dataclass(slots=True)
class Source:
    """The work while it is packed. `held` fitted into no batch that could be opened before."""

    work: Work
    held: Task | None = None
    over: Wait | Done | None = None
    """What the work said when it had no more tasks."""

    def close(self) -> None:
        if self.held is not None:
            self.work.release(self.held)
            self.held = None


async def fill(desk: Desk, source: Source, room: Room) -> Bundle | None:
    """Packs the next requests into a file; None if there were none. Memory holds ids, not requests."""
    bundle = Bundle(desk.folder / "synth-packing.jsonl", Pack(room))
    clock = desk.clock
    try:
        with bundle.path.open("wb", buffering=BUFFER) as file:
            more = True
            while more:
                more = _some(desk, source, bundle, file, clock())
                await asyncio.sleep(0)
    except BaseException:
        # cancelled, too: half a file is no batch
        bundle.path.unlink(missing_ok=True)
        raise
    if bundle.ids:
        return bundle
    bundle.path.unlink()
    return None


def _some(desk: Desk, source: Source, bundle: Bundle, file: BinaryIO, now: float) -> bool:
    """Packs a few; whether there may be more."""
    pack, ids, line, take = bundle.pack, bundle.ids, desk.client.line, source.work.take
    counted = pack.room.tokens is not None
    written: list[bytes] = []
    for _ in range(min(BREATH, pack.left)):
        if source.held is not None:
            task, source.held = source.held, None
        else:
            found = take(now)
            if not isinstance(found, Task):
                source.over = found
                break
            task = found
        request, messages = task.request, task.messages
        if messages is not None:
            request = request.asking(messages)
        encoded = line(request)
        fit = pack.add(len(encoded), input_tokens(request) if counted else 0.0)
        if fit == "in":
            written.append(encoded)
            ids.append(request.id)
            if messages is not None:
                bundle.messages[request.id.hex()] = messages
            bundle.cost += task.worst_cost
            bundle.tokens += task.worst_tokens
        elif fit == "full":
            source.held = task
            break
        else:
            said = f"the request has {len(encoded):,} bytes, a batch at most {pack.room.bytes:,}; engine: online"
            fault = Fault(FaultKind.TOO_LARGE, said)
            source.work.settle(task, Exchange(fault=fault), now=now, at=desk.time_of_day(), latency=0.0)
    else:
        file.write(b"".join(written))
        return pack.left > 0
    file.write(b"".join(written))
    return False


async def submit(desk: Desk, work: Work, record: Record, bundle: Bundle) -> bool:
    """Announces the batch, submits it, and says what became of it; whether further ones may follow now."""
    settings = desk.settings
    now = desk.time_of_day()
    key = _key(settings.job, bundle.ids, now)
    path = bundle.path.rename(bundle.path.with_name(f"{key}.jsonl"))
    ids = tuple(bundle.ids)
    bundle.ids.clear()
    opening = Opening(
        key,
        settings.step,
        ids,
        now,
        bundle.cost,
        bundle.tokens,
        bundle.messages,
        len(ids),
        round(bundle.pack.tokens),
        settings.place,
    )
    try:
        record.add(opening)
        record.flush()
        desk.standings[key] = BatchStanding(key, "submitting", total=len(ids), at=now)
        try:
            ticket = await desk.client.submit(key, path, len(ids), settings.metadata)
        except BatchError as error:
            await _turned_down(desk, work, record, opening, error)
            return False
        at = desk.time_of_day()
        record.add(Opened(key, ticket, at))
        record.flush()
    finally:
        path.unlink(missing_ok=True)
    desk.stands(key, state="submitted", opened_at=at)
    desk.log(f"batch {key}: submitted, {len(ids)} requests, {bundle.pack.bytes:,} bytes")
    return True


def _key(job: str, ids: list[bytes], at: float) -> str:
    """Found again by it, at the provider and in our files: so it has only characters that every one of them takes."""
    name = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")[:NAME].strip("-") or "job"
    digest = blake2b(b"".join(ids), digest_size=6, salt=repr(at).encode()[-blake2b.SALT_SIZE :])
    return f"synth-{name}-{digest.hexdigest()}"


async def _turned_down(desk: Desk, work: Work, record: Record, opening: Opening, error: BatchError) -> None:
    """A submit that failed. Where it may have come through all the same, it is looked for before anything else."""
    key, fault = opening.key, error.fault
    desk.say(f"batch {key}: not submitted: {fault.message}")
    desk.stands(key, state="looked for", trouble=fault.message)
    if fault.scope == "run":
        work.fail(fault)
    if not fault.refused and (error.made or fault.status is None):
        return
    try:
        await desk.client.sweep(key)
    except BatchError as failed:
        desk.log(f"batch {key}: what it uploaded could not be deleted: {failed.fault.message}")
        return
    if fault.scope == "row":
        desk.refuse(opening.requests)
        fault_all(desk, record, key, iter(opening.ids), fault=not_taken(fault, opening.requests))
    record.add(Closed(key, "failed" if fault.scope == "row" else "absent", desk.time_of_day()))
    record.flush()
    desk.stands(key, state="refused", outcome="failed" if fault.scope == "row" else "absent")
