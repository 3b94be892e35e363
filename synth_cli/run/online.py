"""Driving the online engine: once, until nothing is left or something ends it."""

from __future__ import annotations

import resource
import time
from contextlib import AsyncExitStack

from synth_cli.core.events import Reserved
from synth_cli.core.pacing import PaceSettings
from synth_cli.core.ports import Client, Progress
from synth_cli.core.work import Ending, StepWork
from synth_cli.engines.online import OnlineEngine
from synth_cli.engines.recording import GroupRecord
from synth_cli.providers.clients import client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.run.desk import Asked, Desk, simulator, surroundings
from synth_cli.run.feed import Feed
from synth_cli.run.wire import Wired, endpoint

CEILING = 1024
"""Most requests in flight, however well they are answered."""
SPARE_FILES = 64


async def drive(desk: Desk, leave: AsyncExitStack) -> Asked:
    """Asks until the work is done; what `leave` is given is undone at the end."""
    wired, running = desk.wired, desk.running
    model = await asked(desk, leave)
    record = GroupRecord(running.ledger)
    leave.callback(record.flush)

    def announce(reserved: Reserved) -> None:
        record.add(reserved)
        record.flush()

    allowance = desk.allowance(announce)
    feed = wired.feed()
    work = desk.work(iter(feed), record, allowance)
    engine = OnlineEngine(model, pace_of(wired), clock=time.monotonic, chance=desk.chance)
    desk.halt.stop = work.stop
    async with desk.watched(lambda: progress_of(wired, feed, work, engine)):
        await engine.advance(work, record)
    if allowance is not None:
        allowance.close()
    ending = work.ending or (Ending("on_failure", feed.passed.stopped) if feed.passed.stopped else None)
    return Asked(ending, work.tally, desk.halt.signum, engine.limits)


async def asked(desk: Desk, leave: AsyncExitStack) -> Client:
    """The client of the step's model; where the spec says so, one that asks from several machines."""
    plan = desk.wired.plan
    url = await simulator(plan, desk.running.options, leave)
    place = endpoint(plan, desk.environ, url)
    # the simulated model is at nobody's reach but this machine's
    if plan.settings.distributed is not None and url is None:
        from synth_cli.run.spread import spread

        return await spread(place, plan.settings.distributed, desk.environ, leave, desk.running.journal.write)
    transport = None
    if not place.host.litellm:
        transport = AiohttpTransport(environ=surroundings(desk.environ, url))
        leave.push_async_callback(transport.close)
    model = client(place, transport)
    leave.push_async_callback(model.close)
    return model


def pace_of(wired: Wired) -> PaceSettings:
    settings = wired.plan.settings
    return PaceSettings(
        requests_per_minute=settings.max_requests_per_minute,
        tokens_per_minute=settings.max_tokens_per_minute,
        input_tokens_per_minute=settings.max_input_tokens_per_minute,
        output_tokens_per_minute=settings.max_output_tokens_per_minute,
        max_concurrent=settings.max_concurrent_requests,
        seconds_to_pause=settings.seconds_to_pause_on_rate_limit,
        ceiling=ceiling(),
    )


def ceiling() -> int:
    """Most connections that this process may open, with some left for its files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CEILING if soft == resource.RLIM_INFINITY else max(1, min(CEILING, soft - SPARE_FILES))


def progress_of(wired: Wired, feed: Feed, work: StepWork, engine: OnlineEngine) -> Progress:
    tally, passed = work.tally, feed.passed
    return Progress(
        total=passed.requests if passed.complete else wired.total,
        answered=tally.answered,
        failed=tally.failed + passed.failed + passed.refused,
        reused=passed.answered,
        in_flight=engine.in_flight,
        retries=tally.retries,
        rate_limited=tally.rate_limited,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        cost=None if tally.unpriced else tally.cost,
        note=engine.note,
    )
