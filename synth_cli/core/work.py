"""What is left to do, handed out one by one: first attempts, retries, re-asks, and when to stop.

Pure but for the iterators and callables it is given; the clock is an argument of each call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import Literal, TypeAlias

from synth_cli.core.budget import Allowance, Worst, perhaps_paid
from synth_cli.core.cost import Price, charged
from synth_cli.core.events import Faulted, Replied
from synth_cli.core.ports import Done, Exchange, Judge, Record, Task, Wait
from synth_cli.core.reply import Fault, Reply
from synth_cli.core.request import Message
from synth_cli.core.retry import RetryPolicy, after
from synth_cli.core.row import Row
from synth_cli.core.state import Invalid, Valid

HOPELESS = 64
DONE = Done()
IDLE = Wait(None)

Why: TypeAlias = Literal["fault", "budget", "deadline", "stopped", "hopeless", "on_failure", "pending"]
"""Why work ended before it was done: a fault that ends the run, the budget, the deadline, a signal, no success in
the first attempts, a failed row where the spec says `on_failure: stop`, or batches that somebody will come back to."""


@dataclass(frozen=True, slots=True)
class Ending:
    why: Why
    message: str = ""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How a step's requests are treated."""

    step: str
    retry: RetryPolicy
    judge: Judge
    reask: Callable[[Task, Reply, Invalid], tuple[Message, ...]] | None = None
    """The messages of a re-ask that shows the model what was wrong; None asks the same again."""
    price: Price | None = None
    worst: Worst | None = None
    stop_on_failure: bool = False
    hopeless_after: int = HOPELESS
    """So many attempts without one success end the run."""


@dataclass(slots=True)
class Tally:
    """What this run did, for the display; the report is made from the ledger."""

    answered: int = 0
    failed: int = 0
    retries: int = 0
    rate_limited: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    causes: Counter[str] = field(default_factory=Counter)


class StepWork:
    """The `Work` of one step."""

    def __init__(
        self,
        tasks: Iterator[Task],
        rules: Rules,
        record: Record,
        *,
        chance: Callable[[], float],
        allowance: Allowance | None = None,
        deadline: float | None = None,
        outstanding: int = 0,
    ) -> None:
        """`outstanding`: requests in open batches, which may yet give back what they hold of the allowance."""
        self._tasks = tasks
        self._rules = rules
        self._record = record
        self._chance = chance
        self._allowance = allowance
        self._deadline = deadline
        self._later: list[tuple[float, int, Task]] = []
        self._order = count()
        self._held: Task | None = None
        self._exhausted = False
        self._pace: float | None = None
        self._settled = 0
        self.in_flight = outstanding
        self.tally = Tally()
        self.ending: Ending | None = None

    def take(self, now: float) -> Task | Wait | Done:
        if self.ending is None and self._deadline is not None and now >= self._deadline:
            self._end(Ending("deadline", "the time allowed for a run is over"))
        if self.ending is not None:
            return DONE
        task = self._next(now)
        if task is None:
            if self._later:
                return Wait(self._later[0][0])
            return IDLE if self.in_flight else DONE
        if self._allowance is not None and self._rules.worst is not None:
            worst_cost, worst_tokens = self._rules.worst(task.request)
            if not self._allowance.reserve(worst_cost, worst_tokens):
                self._held = task
                if self.in_flight:
                    return IDLE
                self._end(Ending("budget", "the next request's worst case is more than what is left of the budget"))
                return DONE
            task = replace(task, worst_cost=worst_cost, worst_tokens=worst_tokens)
        self.in_flight += 1
        return task

    def _next(self, now: float) -> Task | None:
        if self._held is not None:
            held, self._held = self._held, None
            return held
        if self._later and self._later[0][0] <= now:
            return heappop(self._later)[2]
        if not self._exhausted:
            task = next(self._tasks, None)
            if task is not None:
                return task
            self._exhausted = True
        return None

    def settle(self, task: Task, exchange: Exchange, *, now: float, at: float, latency: float) -> None:
        self.in_flight -= 1
        self._settled += 1
        if exchange.reply is not None and exchange.answer is not None:
            self._replied(task, exchange, exchange.reply, now=now, at=at, latency=latency)
        else:
            assert exchange.fault is not None
            self._faulted(task, exchange, exchange.fault, now=now, at=at, latency=latency)
        hopeless = self._settled - self.tally.rate_limited >= self._rules.hopeless_after
        if hopeless and not self.tally.answered and self.ending is None:
            cause, times = self.tally.causes.most_common(1)[0]
            self._end(
                Ending("hopeless", f"none of the first {self._settled} attempts succeeded; {times} times: {cause}")
            )

    def release(self, task: Task) -> None:
        self.in_flight -= 1
        if self._allowance is not None:
            self._allowance.settle(task.worst_cost, task.worst_tokens, 0.0, 0)

    def stop(self) -> None:
        self._end(Ending("stopped"))

    @property
    def stopping(self) -> bool:
        return self.ending is not None

    def fail(self, fault: Fault) -> None:
        self._end(Ending("fault", fault.message, fault))

    def returned(self, requests: int, held_cost: float, held_tokens: int, cost: float, tokens: int) -> None:
        self.in_flight -= requests
        if self._allowance is not None:
            self._allowance.correct(held_cost, held_tokens, cost, tokens)

    def _end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending

    def _replied(self, task: Task, exchange: Exchange, reply: Reply, *, now: float, at: float, latency: float) -> None:
        assert exchange.answer is not None
        usage, tally = reply.usage, self.tally
        paid = charged(reply, self._rules.price)
        spent, tokens = self._spend(task, paid, None if usage is None else usage.input + usage.output)
        self._record.add(
            Replied(
                task.request.id,
                self._rules.step,
                task.attempt,
                exchange.answer,
                at,
                latency,
                reply.model,
                reply.finish_reason,
                usage,
                paid,
                spent,
                tokens,
                task.messages,
            )
        )
        if usage is not None:
            tally.input_tokens += usage.input
            tally.output_tokens += usage.output
        if paid is None:
            tally.unpriced += 1
        else:
            tally.cost += paid
        self._pace = latency if self._pace is None else 0.9 * self._pace + 0.1 * latency
        verdict = self._rules.judge(task.context, reply)
        if isinstance(verdict, Valid):
            tally.answered += 1
        elif verdict.retry and task.counted < self._rules.retry.max_retries:
            tally.causes[str(verdict)] += 1
            messages = self._rules.reask(task, reply, verdict) if self._rules.reask else task.messages
            self._again(task, now, counted=task.counted + 1, messages=messages)
        else:
            self._fail(task, verdict)

    def _faulted(self, task: Task, exchange: Exchange, fault: Fault, *, now: float, at: float, latency: float) -> None:
        maybe = perhaps_paid(fault)
        spent, tokens = self._spend(task, None if maybe else 0.0, None if maybe else 0)
        self._record.add(
            Faulted(
                task.request.id,
                self._rules.step,
                task.attempt,
                fault,
                at,
                latency,
                exchange.answer,
                spent,
                tokens,
            )
        )
        if not fault.counted and fault.scope == "attempt":
            self.tally.rate_limited += 1
        if fault.scope == "run":
            self.fail(fault)
            return
        counted = task.counted + fault.counted
        delay = after(fault, counted, self._rules.retry, pace=self._pace, chance=self._chance())
        if delay is None:
            self._fail(task, fault)
        else:
            if fault.counted:
                self.tally.causes[str(fault)] += 1
            self._again(task, now + delay, counted=counted, messages=task.messages)

    def _spend(self, task: Task, paid: float | None, tokens: int | None) -> tuple[float | None, int]:
        """Settles the reservation; what is not known stays spent at the worst case."""
        if self._allowance is None:
            return paid, tokens or 0
        spent = task.worst_cost if paid is None else paid
        used = task.worst_tokens if tokens is None else tokens
        self._allowance.settle(task.worst_cost, task.worst_tokens, spent, used)
        return spent, used

    def _again(self, task: Task, due: float, *, counted: int, messages: tuple[Message, ...] | None) -> None:
        self.tally.retries += 1
        following = replace(
            task, attempt=task.attempt + 1, counted=counted, messages=messages, worst_cost=0.0, worst_tokens=0
        )
        heappush(self._later, (due, next(self._order), following))

    def _fail(self, task: Task, cause: Fault | Invalid) -> None:
        self.tally.failed += 1
        self.tally.causes[str(cause)] += 1
        if self._rules.stop_on_failure:
            self._end(Ending("on_failure", stopped_by(task.context.row, cause)))


def stopped_by(row: Row, cause: Fault | Invalid) -> str:
    """What ends a run whose spec has `on_failure: stop`, in words."""
    return f"row {row.index} failed, and on_failure is stop: {cause}"
