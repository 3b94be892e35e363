"""A worker that lives in an actor of Ray, asked from here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

from synth_cli.core.ports import Exchange, WorkerLostError
from synth_cli.core.reply import Answer, Fault, FaultKind, Reply
from synth_cli.core.request import Request
from synth_cli.engines.crew import Hired, Say, Start
from synth_cli.engines.ray.cluster import Cluster, Need
from synth_cli.engines.ray.host import Bundle, Host, Make, Outcome, Refused
from synth_cli.errors import SetupError

Read = Callable[[Answer], Reply]
PATIENCE = 15.0
"""Seconds that an actor has to end its worker before it is ended itself."""
LOOK = 1.0
"""Seconds between looks at how far a start is."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CAUSE = re.compile(r"[\w.]*(Error|Exception|Exit): ")


class RemoteWorker:
    """Satisfies `core.ports.Worker`. `room` is the most requests that it takes at once."""

    def __init__(self, cluster: Cluster, actor: Any, group: Any, room: int, read: Read) -> None:
        self._cluster = cluster
        self._actor = actor
        self._group = group
        self.room = room
        self._read = read
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Sequence[Exchange]]] = {}
        self._outbox: list[Bundle] = []
        self._dropped: list[int] = []
        self._lost: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._receiving = self._loop.create_task(self._receive())

    async def ask(self, requests: Sequence[Request]) -> Sequence[Exchange]:
        if self._lost is not None:
            raise self._lost
        number = next(self._numbers)
        waiting: asyncio.Future[Sequence[Exchange]] = self._loop.create_future()
        self._waiting[number] = waiting
        if not self._outbox:
            # what else is asked in this turn of the loop goes along
            self._loop.call_soon(self._send)
        self._outbox.append((number, tuple(requests)))
        try:
            return await waiting
        except asyncio.CancelledError:
            if not self._dropped:
                self._loop.call_soon(self._drop)
            self._dropped.append(number)
            raise
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """Ends the actor and gives back its place."""
        gone = self._lost is not None
        self._end(WorkerLostError(Fault(FaultKind.LOST, "the worker was closed")))
        self._receiving.cancel()
        if not gone:
            with suppress(self._cluster.ray.exceptions.RayError, TimeoutError):
                await asyncio.wait_for(_outcome(self._actor.close.remote()), PATIENCE)
        dismiss(self._cluster, self._actor, self._group)

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self._lost is None:
            self._actor.put.remote(outbox)

    def _drop(self) -> None:
        dropped, self._dropped = self._dropped, []
        if self._lost is None:
            self._actor.drop.remote(dropped)

    async def _receive(self) -> None:
        """Hands answers to those who wait for them, until the actor ends."""
        exceptions = self._cluster.ray.exceptions
        try:
            await self._cluster.while_there(self._received())
        except WorkerLostError as lost:
            self._end(lost)
        except exceptions.RayTaskError as error:
            # a mistake in the worker's code, which is no row's trouble
            self._end(error)
        except exceptions.RayError as error:
            self._end(WorkerLostError(death(error)))

    async def _received(self) -> None:
        while self._lost is None:
            outcomes: list[Outcome] = await self._actor.get.remote()
            for number, outcome in outcomes:
                self._arrived(number, outcome)

    def _arrived(self, number: int, outcome: tuple[Exchange, ...] | Fault) -> None:
        if isinstance(outcome, Fault):
            self._end(WorkerLostError(outcome))
            return
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result([self._whole(exchange) for exchange in outcome])

    def _whole(self, exchange: Exchange) -> Exchange:
        if exchange.fault is not None or exchange.answer is None:
            return exchange
        return replace(exchange, reply=self._read(exchange.answer))

    def _end(self, error: BaseException) -> None:
        """Nothing more will come."""
        if self._lost is None:
            self._lost = error
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._lost)


def start_on(cluster: Cluster, make: Make, need: Need, read: Read, *, tell: Say = lambda words: None) -> Start:
    """Starts a worker in an actor of its own, as soon as the cluster has a place for it."""

    async def start(say: Say) -> Hired:
        return await cluster.while_there(started(say))

    async def started(say: Say) -> Hired:
        ray = cluster.ray
        place = f"{need.gpus:g} GPUs" if need.gpus else f"{need.cpus:g} CPUs"
        say(f"waiting for a place on the cluster ({place} a worker)")
        actor = group = None
        try:
            group, strategy = await _placed(cluster, need)
            actor = (
                ray.remote(Host)
                .options(
                    num_cpus=need.cpus,
                    num_gpus=0 if need.apart else need.gpus,
                    scheduling_strategy=strategy,
                    max_restarts=0,
                )
                .remote(make)
            )
            room = await _started(actor, say, tell)
        except BaseException as error:
            # also where the waiting for it is given up: nobody else knows of the actor
            dismiss(cluster, actor, group)
            exceptions = ray.exceptions
            if isinstance(error, exceptions.RayError) and not isinstance(error, exceptions.RayTaskError):
                raise WorkerLostError(death(error)) from error
            raise
        return Hired(RemoteWorker(cluster, actor, group, room, read), room)

    return start


async def _placed(cluster: Cluster, need: Need) -> tuple[Any, Any]:
    """(placement group, scheduling strategy) of a worker: apart from the others, its own GPUs close together.

    GPUs of one machine are one bundle. Where they may be apart, each is a bundle of its own, and vLLM puts a process
    into each.
    """
    if need.gpus <= 1:
        return None, "SPREAD"
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    several = [{"CPU": need.cpus, "GPU": 1}] * int(need.gpus)
    bundles = several if need.apart else [{"CPU": need.cpus, "GPU": need.gpus}]
    group = placement_group(bundles, strategy="PACK")
    try:
        await _outcome(group.ready())
    except BaseException:
        # given up while it waits, too: the place would stay taken
        dismiss(cluster, None, group)
        raise
    strategy = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    return group, strategy


async def _started(actor: Any, say: Say, tell: Say) -> int:
    """The room of the actor's worker, once it is there."""

    async def follow() -> None:
        told = ""
        while True:
            words = await actor.said.remote()
            if words and words != told:
                told = words
                say(words)
                tell(words)
            await asyncio.sleep(LOOK)

    following = asyncio.get_running_loop().create_task(follow())
    try:
        found: int | Refused | Fault = await actor.start.remote()
    finally:
        following.cancel()
        # what ended it is told by the start
        await asyncio.wait([following])
        if not following.cancelled():
            following.exception()
    if isinstance(found, Refused):
        raise SetupError(found.message, hint=found.hint)
    if isinstance(found, Fault):
        raise WorkerLostError(found)
    return found


def dismiss(cluster: Cluster, actor: Any, group: Any) -> None:
    """Ends an actor, if it is not gone already, and gives back its place."""
    if cluster.gone:
        return
    with suppress(cluster.ray.exceptions.RayError):
        if actor is not None:
            cluster.ray.kill(actor)
        if group is not None:
            from ray.util.placement_group import remove_placement_group

            remove_placement_group(group)


def death(error: BaseException) -> Fault:
    """What Ray says of an actor that is gone: how it ended, and of a mistake in its own process the last line."""
    lines = [COLOUR.sub("", line).strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line] or [type(error).__name__]
    how = next((line for line in lines if "died" in line.lower() or "dead" in line.lower()), lines[0])
    why = lines[-1] if CAUSE.match(lines[-1]) else how
    return Fault(FaultKind.LOST, f"a worker on the cluster was lost: {why}")


async def _outcome(ref: Any) -> Any:
    return await ref
