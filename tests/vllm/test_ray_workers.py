"""Workers in actors of Ray, on two nodes of this machine: what is lost with one is asked again, and only that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from echo_worker import echo, refused

from synth_cli.core.events import Fact, Faulted, Replied
from synth_cli.core.ports import Task
from synth_cli.core.reply import FaultKind
from synth_cli.core.request import Request, Terms
from synth_cli.core.retry import RetryPolicy
from synth_cli.core.row import Context, Row
from synth_cli.core.state import Valid
from synth_cli.core.work import Rules, StepWork
from synth_cli.engines.local import LocalEngine
from synth_cli.engines.ray.cluster import Cluster, Need
from synth_cli.engines.ray.remote import start_on
from synth_cli.engines.ray.spread import SpreadClient
from synth_cli.engines.recording import GroupRecord
from synth_cli.errors import SetupError
from synth_cli.providers.clients import read

TERMS = Terms("vllm", "m", params={"temperature": 0.5})
T = TypeVar("T")


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


def request(number: int, prompt: str, samples: int = 1) -> Iterator[Task]:
    row = Row(number, number.to_bytes(16, "big"), {})
    for sample in range(samples):
        id_ = (number * 10 + sample).to_bytes(16, "big")
        yield Task(Request(id_, TERMS, ({"role": "user", "content": prompt},), seed=sample), Context(row, sample))


class Facts:
    def __init__(self) -> None:
        self.all: list[Fact] = []

    def append(self, facts: Iterable[Fact]) -> None:
        self.all.extend(facts)

    @property
    def answers(self) -> dict[int, str]:
        return {
            int.from_bytes(fact.id, "big"): orjson.loads(fact.answer.body)["choices"][0]["message"]["content"]
            for fact in self.all
            if isinstance(fact, Replied)
        }

    @property
    def processes(self) -> Counter[str | None]:
        return Counter(fact.model for fact in self.all if isinstance(fact, Replied))

    @property
    def faults(self) -> list[Faulted]:
        return [fact for fact in self.all if isinstance(fact, Faulted)]


class Job:
    """An engine over workers in actors, and the work it advances."""

    def __init__(self, cluster: Cluster, workers: int, tasks: Iterable[Task], *, latency: float = 0.02) -> None:
        self.facts = Facts()
        self.record = GroupRecord(self.facts)  # type: ignore[arg-type]
        rules = Rules("main", RetryPolicy(2), lambda context, reply: Valid(reply.text))
        self.work = StepWork(iter(tasks), rules, self.record, chance=lambda: 0.0)
        start = start_on(cluster, partial(echo, latency, 8), Need(), read)
        self.engine = LocalEngine([start] * workers)


def on(nodes: Any, main: Callable[[Cluster], Coroutine[Any, Any, T]]) -> T:
    async def scenario() -> T:
        cluster = await Cluster.join(nodes.address, needed_for="this test")
        try:
            return await main(cluster)
        finally:
            await cluster.leave()

    return asyncio.run(scenario())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)


def test_a_node_that_is_killed_costs_what_it_had_in_flight(nodes: Any) -> None:
    """Two workers on two nodes: one node dies in the middle, and all rows arrive."""
    first, second = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
    tasks = [task for number in range(400) for task in request(number, f"row {number}", samples=2)]

    async def main(cluster: Cluster) -> tuple[Facts, str, bool]:
        job = Job(cluster, 2, tasks)
        await job.engine.open()
        running = asyncio.create_task(job.engine.advance(job.work, job.record))
        await until(lambda: len(job.facts.processes) == 2 and len(job.facts.all) > 200)
        nodes.remove_node(second, allow_graceful=False)
        await until(lambda: job.engine.note)
        note = job.engine.note
        # the job goes on with what there is, also while another node is on its way
        nodes.add_node(num_cpus=1)
        await running
        await job.engine.close()
        return job.facts, note, job.work.ending is None

    facts, note, whole = on(nodes, main)
    assert facts.answers == {number * 10 + sample: f"ROW {number}" for number in range(400) for sample in range(2)}
    assert whole
    assert note.startswith("1 of 2 workers")
    assert {fault.fault.kind for fault in facts.faults} == {FaultKind.LOST}
    assert 0 < len(facts.faults) <= 8
    assert sum(facts.processes.values()) == 800
    nodes.remove_node(first)


def test_a_row_that_kills_its_process_is_one_failed_row(nodes: Any) -> None:
    """As with every worker: it is found, and everybody else is answered; a refused row is its own trouble."""
    prompts = ["die" if number == 7 else "refuse" if number == 9 else f"row {number}" for number in range(60)]
    tasks = [task for number, prompt in enumerate(prompts) for task in request(number, prompt)]

    async def main(cluster: Cluster) -> Facts:
        job = Job(cluster, 1, tasks, latency=0.0)
        await job.engine.open()
        await job.engine.advance(job.work, job.record)
        await job.engine.close()
        return job.facts

    facts = on(nodes, main)
    assert facts.answers == {number * 10: f"ROW {number}" for number in range(60) if number not in (7, 9)}
    ended = {int.from_bytes(fact.id, "big"): fact.fault.kind for fact in facts.faults if not fact.fault.retryable}
    assert ended == {70: FaultKind.BAD_REQUEST, 90: FaultKind.CONTEXT_LENGTH}


def test_a_client_is_spread_over_workers(nodes: Any) -> None:
    """Requests go out from several processes; what one takes with it is asked again by whoever asks."""

    async def main(cluster: Cluster) -> tuple[set[str | None], list[str | None], FaultKind | None]:
        starts = [start_on(cluster, partial(echo, 0.01, 64), Need(cpus=0), read)] * 2
        client = SpreadClient(starts, log=lambda words: None)
        await client.open()
        await until(lambda: client.at_work == 2)
        asked = [task.request for number in range(100) for task in request(number, f"row {number}")]
        exchanges = await asyncio.gather(*(client.ask(one) for one in asked))
        replies = [exchange.reply for exchange in exchanges]
        (killer,) = request(1000, "die")
        lost = await client.ask(killer.request)
        await client.ask(asked[0])
        await client.close()
        assert lost.fault is not None
        return (
            {reply.model for reply in replies if reply is not None},
            [reply.text for reply in replies if reply is not None],
            lost.fault.kind,
        )

    processes, texts, kind = on(nodes, main)
    assert (len(processes), texts, kind) == (2, [f"ROW {number}" for number in range(100)], FaultKind.LOST)


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
