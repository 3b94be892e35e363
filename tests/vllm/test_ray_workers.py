"""Workers in actors of Ray, on nodes of this machine: what is lost with one is asked again, and only that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import pytest
from echo_worker import echo, refused
from local_jobs import Facts, Job, seeded, until
from worker_runs import settings

from synth_cli.core.reply import FaultKind
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.ray.cluster import Cluster, Need
from synth_cli.engines.ray.host import Make
from synth_cli.engines.ray.remote import start_on
from synth_cli.engines.ray.spread import SpreadClient
from synth_cli.errors import SetupError
from synth_cli.providers.clients import read
from synth_cli.run.vllm import hire

T = TypeVar("T")
ROOM = 8


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster whose first node has no room for workers."""
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        # where the actors' processes find the worker that they hold
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
        yield nodes
        nodes.shutdown()


def on(nodes: Any, main: Callable[[Cluster], Coroutine[Any, Any, T]]) -> T:
    async def scenario() -> T:
        cluster = await Cluster.join(nodes.address, needed_for="this test", log=lambda words: None)
        try:
            return await main(cluster)
        finally:
            await cluster.leave()

    return asyncio.run(scenario())


def engine_of(cluster: Cluster, make: Make, workers: int) -> LocalEngine:
    return LocalEngine([start_on(cluster, make, Need(), read)] * workers)


@pytest.mark.timeout(400)
def test_a_node_that_is_killed_loses_no_row(nodes: Any, tiny: Path) -> None:
    """vLLM on two nodes, of which one dies in the middle: every answer is that of an undisturbed run."""
    stays, dies = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
    tasks = list(seeded(300, {"temperature": 0.9, "max_tokens": 48, "ignore_eos": True}, samples=2))

    async def main(cluster: Cluster) -> tuple[Facts, Facts]:
        own = settings(tiny, batch_size=ROOM)
        engine = engine_of(cluster, partial(hire, own), 2)
        try:
            await engine.open()
            await until(lambda: not engine.note)
            job = Job(tasks)
            running = asyncio.create_task(job.advanced(engine))
            await until(lambda: len(job.facts.all) > 100)
            nodes.remove_node(dies, allow_graceful=False)
            disturbed = await running
            return disturbed, await Job(tasks).advanced(engine)
        finally:
            await engine.close()

    disturbed, calm = on(nodes, main)
    assert (len(calm.answers), disturbed.answers, len(disturbed.replied)) == (600, calm.answers, 600)
    assert {fact.fault.kind for fact in disturbed.faulted} == {FaultKind.LOST}
    assert 0 < len(disturbed.faulted) <= ROOM
    nodes.remove_node(stays)


def test_workers_join_as_there_is_room_for_them(nodes: Any) -> None:
    """The job begins with the workers that have a place; a node that comes later takes part."""
    first = nodes.add_node(num_cpus=1)

    async def main(cluster: Cluster) -> tuple[Facts, str]:
        engine = engine_of(cluster, partial(echo, 0.02, ROOM), 2)
        await engine.open()
        note = engine.note
        # there are rows until both have answered
        job = Job(takewhile(lambda task: len(job.facts.models) < 2, seeded(10**6, {})))
        running = asyncio.create_task(job.advanced(engine))
        await until(lambda: len(job.facts.all) > 20)
        second = nodes.add_node(num_cpus=1)
        facts = await running
        await engine.close()
        nodes.remove_node(second)
        return facts, note

    facts, note = on(nodes, main)
    assert facts.answers == {10 * number: f"ROW {number}" for number in range(len(facts.all))}
    assert (len(facts.models), facts.faulted) == (2, [])
    assert note == "1 of 2 workers; waiting for a place on the cluster (1 CPUs a worker)"
    nodes.remove_node(first)


def test_a_row_that_kills_its_process_is_one_failed_row(nodes: Any) -> None:
    """As with every worker: it is found, and everybody else is answered; a refused row is its own trouble."""
    node = nodes.add_node(num_cpus=1)

    async def main(cluster: Cluster) -> Facts:
        engine = engine_of(cluster, partial(echo, 0.0, ROOM), 1)
        await engine.open()
        facts = await Job(seeded(60, {}, {7: "die", 9: "refuse"})).advanced(engine)
        await engine.close()
        return facts

    facts = on(nodes, main)
    assert facts.answers == {10 * number: f"ROW {number}" for number in range(60) if number not in (7, 9)}
    ended = {int.from_bytes(fact.id, "big"): fact.fault.kind for fact in facts.faulted if not fact.fault.retryable}
    assert ended == {70: FaultKind.BAD_REQUEST, 90: FaultKind.CONTEXT_LENGTH}
    nodes.remove_node(node)


def test_a_client_is_spread_over_workers(nodes: Any) -> None:
    """Requests go out from several processes; what one takes with it is a fault of that attempt alone."""

    async def main(cluster: Cluster) -> tuple[set[str | None], list[str | None], FaultKind | None, str | None]:
        starts = [start_on(cluster, partial(echo, 0.01, 64), Need(cpus=0), read)] * 2
        client = SpreadClient(starts, log=lambda words: None)
        await client.open()
        await until(lambda: client.at_work == 2)
        first, *others, killer = [task.request for task in seeded(102, {}, {101: "die"})]
        replies = [exchange.reply for exchange in await asyncio.gather(*map(client.ask, [first, *others]))]
        lost = await client.ask(killer)
        after = await client.ask(first)
        await client.close()
        assert (lost.fault is None, after.reply is None) == (False, False)
        return (
            {reply.model for reply in replies if reply is not None},
            [reply.text for reply in replies if reply is not None],
            lost.fault and lost.fault.kind,
            after.reply and after.reply.text,
        )

    processes, *said = on(nodes, main)
    assert (len(processes), said) == (2, [[f"ROW {number}" for number in range(101)], FaultKind.LOST, "ROW 0"])


def test_what_keeps_a_worker_from_starting_is_told(nodes: Any) -> None:
    """The reason and the advice come back from the actor."""

    async def main(cluster: Cluster) -> None:
        engine = LocalEngine([start_on(cluster, refused, Need(cpus=0), read)])
        try:
            await engine.open()
        finally:
            await engine.close()

    with pytest.raises(SetupError, match="no such model") as caught:
        on(nodes, main)
    assert caught.value.hint == "give another"
