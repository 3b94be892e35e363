"""What came of a batch, into the ledger: each request's outcome once, whatever the provider's files say and however
often collecting was broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import assert_never

from synth_cli.core.budget import perhaps_paid
from synth_cli.core.cost import charged
from synth_cli.core.events import Closed, Faulted, Opened, Opening, Replied
from synth_cli.core.ports import BatchError, BatchLook, BatchResult, Exchange, Record
from synth_cli.core.reply import Fault, FaultKind
from synth_cli.core.request import ID_BYTES, Message
from synth_cli.core.state import NOTHING
from synth_cli.engines.batches.common import CHUNK, Desk, chunks, fault_all

UNANSWERED = Fault(FaultKind.MISSING, "the batch ended without a result for this request")


@dataclass(slots=True)
class Harvest:
    """What collecting one batch came to. `fatal` ends the run; `spent` and `tokens` are what it used, by now."""

    spent: float = 0.0
    tokens: int = 0
    fatal: Fault | None = None
    strange: int = 0
    """Results of ids that the batch does not have."""
    doubled: int = 0
    settled: int = 0


@dataclass(slots=True)
class Batch:
    """An ended batch while it is collected. `awaited`: ids that have no outcome yet."""

    opening: Opening
    opened: Opened
    look: BatchLook
    ids: list[bytes]
    awaited: set[bytes] = field(default_factory=set)
    settled: set[bytes] = field(default_factory=set)

    @property
    def share(self) -> tuple[float, int]:
        """(USD, tokens) that one request may have used at most, as far as can be told afterwards."""
        count = max(1, self.opening.requests)
        return self.opening.cost / count, self.opening.tokens // count


async def collect(desk: Desk, record: Record, opening: Opening, opened: Opened, look: BatchLook) -> Harvest:
    """Records every outcome of an ended batch, then that it is closed.

    Raises BatchError when its results cannot be read to the end: what was read is kept, the rest is read next time.
    """
    ids = list(desk.ledger.ids_in(opening.key))
    batch = Batch(opening, opened, look, ids)
    for chunk in chunks(ids):
        batch.settled |= desk.ledger.outcomes_in(opening.key, chunk)
    batch.awaited = set(ids) - batch.settled
    harvest = Harvest()
    desk.stands(opening.key, state="collecting", collected=len(batch.settled))
    if batch.awaited:
        await _results(desk, record, batch, harvest)
    _without_result(desk, record, batch, harvest)
    record.flush()
    await _discard(desk, batch)
    record.add(Closed(opening.key, look.outcome, desk.time_of_day()))
    record.flush()
    desk.stands(opening.key, state=look.state, outcome=look.outcome, trouble=look.message)
    desk.log(_line(batch, harvest))
    return harvest


async def _results(desk: Desk, record: Record, batch: Batch, harvest: Harvest) -> None:
    awaited, settled = batch.awaited, batch.settled
    chunk: list[tuple[bytes, Exchange]] = []
    try:
        async with _reading(desk.client.results(batch.look.ticket or batch.opened.ticket)) as results:
            async for result in results:
                id = _id(result.custom_id)
                if id in awaited:
                    awaited.remove(id)
                    settled.add(id)
                    chunk.append((id, result.exchange))
                    if len(chunk) >= CHUNK:
                        full, chunk = chunk, []
                        _settle(desk, record, batch, full, harvest)
                        await asyncio.sleep(0)
                elif id in settled:
                    harvest.doubled += 1
                else:
                    harvest.strange += 1
    finally:
        if chunk:
            _settle(desk, record, batch, chunk, harvest)


@asynccontextmanager
async def _reading(results: AsyncIterator[BatchResult]) -> AsyncIterator[AsyncIterator[BatchResult]]:
    """Closes what the results are read from, also when we are cancelled in the middle."""
    try:
        yield results
    finally:
        close = getattr(results, "aclose", None)
        if close is not None:
            await close()


def _id(custom_id: str) -> bytes:
    """Empty where it is none of ours."""
    try:
        id = bytes.fromhex(custom_id)
    except ValueError:
        return b""
    return id if len(id) == ID_BYTES else b""


def _settle(desk: Desk, record: Record, batch: Batch, chunk: list[tuple[bytes, Exchange]], harvest: Harvest) -> None:
    ids = [id for id, _ in chunk]
    histories = desk.ledger.histories(ids)
    messages = desk.ledger.messages_in(batch.opening.key, ids)
    at = desk.time_of_day()
    spent, tokens = harvest.spent, harvest.tokens
    for id, exchange in chunk:
        attempt = histories.get(id, NOTHING).tries + 1
        fact = _fact(desk, batch, id, exchange, attempt=attempt, messages=messages.get(id), at=at)
        record.add(fact)
        spent += fact.spent or 0.0
        tokens += fact.spent_tokens
        if isinstance(fact, Faulted) and fact.fault.scope == "run" and harvest.fatal is None:
            harvest.fatal = fact.fault
    record.flush()
    harvest.spent, harvest.tokens = spent, tokens
    harvest.settled += len(chunk)
    known = desk.standings.get(batch.opening.key)
    if known is not None:
        desk.stands(batch.opening.key, collected=len(batch.settled), cost=known.cost + spent)


def _fact(
    desk: Desk,
    batch: Batch,
    id: bytes,
    exchange: Exchange,
    *,
    attempt: int,
    messages: tuple[Message, ...] | None,
    at: float,
) -> Replied | Faulted:
    step, key, done = batch.opening.step, batch.opening.key, desk.collected
    latency = max(0.0, at - batch.opened.at)
    share, share_tokens = batch.share
    reply, answer, fault = exchange.reply, exchange.answer, exchange.fault
    if reply is None or answer is None:
        fault = _untried(fault or UNANSWERED, batch.look)
        done.faults += 1
        unpaid = not perhaps_paid(fault) or (fault.kind is FaultKind.MISSING and batch.look.outcome != "collected")
        spent, tokens = (0.0, 0) if unpaid else (share, share_tokens)
        return Faulted(id, step, attempt, fault, at, latency, answer, spent, tokens, key)
    usage, paid = reply.usage, charged(reply, desk.settings.price)
    done.replies += 1
    if usage is not None:
        done.input_tokens += usage.input
        done.output_tokens += usage.output
    if paid is None:
        done.unpriced += 1
    else:
        done.cost += paid
    return Replied(
        id,
        step,
        attempt,
        answer,
        at,
        latency,
        reply.model,
        reply.finish_reason,
        usage,
        paid,
        paid if paid is not None else share or None,
        share_tokens if usage is None else usage.input + usage.output,
        messages,
        key,
    )


def _without_result(desk: Desk, record: Record, batch: Batch, harvest: Harvest) -> None:
    """A fault for every request that the batch left without an outcome.

    A file refused for some of its lines is refused for these alone: the others were not tried, and as at least one
    leaves with each refusal they come to be. Nor was any tried when too much was queued.
    """
    if not batch.awaited:
        return
    look, key = batch.look, batch.opening.key
    culprits = _culprits(batch)
    for id, fault in culprits.items():
        if id not in batch.awaited:
            continue
        harvest.settled += fault_all(desk, record, key, iter([id]), fault=fault)
        harvest.fatal = harvest.fatal or (fault if fault.scope == "run" else None)
    fault = _untried(look.fault or UNANSWERED, look)
    if culprits:
        return
    match fault.scope:
        case "run":
            harvest.fatal = harvest.fatal or fault
            return
        case "row":
            if look.outcome == "failed" and len(batch.ids) > 1:
                fault = Fault(FaultKind.MISSING, f"the batch failed: {fault.message}", fault.status)
        case "attempt":
            crowded = not fault.counted and fault.kind is not FaultKind.CANCELLED
            if crowded and _others(desk, key):
                desk.crowded = True
                return
            if crowded:
                fault = Fault(FaultKind.MISSING, fault.message, fault.status)
        case _:
            assert_never(fault.scope)
    if look.outcome == "failed" and len(batch.awaited) == len(batch.ids):
        desk.refuse(len(batch.ids))
    paid = look.outcome == "collected" and perhaps_paid(fault)
    share = batch.share if paid else (0.0, 0)
    left = fault_all(desk, record, key, _left(batch), fault=fault, share=share)
    harvest.spent += left * share[0]
    harvest.tokens += left * share[1]
    harvest.settled += left


def _untried(fault: Fault, look: BatchLook) -> Fault:
    """Who cancels a batch means to go on later: its requests keep their retries."""
    cancelled = look.outcome == "cancelled" and fault.kind is FaultKind.MISSING
    return replace(fault, kind=FaultKind.CANCELLED) if cancelled else fault


def _left(batch: Batch) -> Iterator[bytes]:
    """In the order of the file, so that two runs record alike."""
    return (id for id in batch.ids if id in batch.awaited)


def _culprits(batch: Batch) -> dict[bytes, Fault]:
    lines = sorted(batch.look.refused.items())
    return {batch.ids[line - 1]: fault for line, fault in lines if 0 < line <= len(batch.ids)}


def _others(desk: Desk, key: str) -> bool:
    return any(standing.outcome is None for standing in desk.standings.values() if standing.key != key)


async def _discard(desk: Desk, batch: Batch) -> None:
    wanted = desk.settings.delete_successful if batch.look.outcome == "collected" else desk.settings.delete_failed
    if not wanted:
        return
    try:
        await desk.client.discard(batch.look.ticket or batch.opened.ticket)
    except BatchError as error:
        # what was paid for is safe; files that stay cost nothing
        desk.log(f"batch {batch.opening.key}: its files could not be deleted: {error.fault.message}")


def _line(batch: Batch, harvest: Harvest) -> str:
    said = f"batch {batch.opening.key}: {batch.look.outcome}, {harvest.settled} of {len(batch.ids)} recorded"
    if harvest.strange:
        said += f"; {harvest.strange} results of requests that it does not have"
    if harvest.doubled:
        said += f"; {harvest.doubled} results that came again"
    return f"{said}; {batch.look.message}" if batch.look.message else said
