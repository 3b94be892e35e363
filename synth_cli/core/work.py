"""What is left to do, handed out one by one: first attempts, retries, re-asks, and when to stop.

Pure but for the iterators and callables it is given; the clock is an argument of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count

from synth_cli.core.budget import Worst, perhaps_paid
from synth_cli.core.cost import Price, charged
from synth_cli.core.events import Faulted, Replied
from synth_cli.core.ports import Done, Exchange, Judge, Record, Task, Tasks, Wait
from synth_cli.core.reply import Fault, FaultKind, Reply
from synth_cli.core.request import Message
from synth_cli.core.retry import RetryPolicy, after
from synth_cli.core.row import Row
from synth_cli.core.shift import Ending, Shift, Tally
from synth_cli.core.state import Invalid, Valid

HOPELESS = 64
OUTAGE = 600.0
"""Seconds without a server after which a run ends: it would try for days otherwise, and fail row after row."""
DONE = Done()
IDLE = Wait(None)


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


class Listed:
    """Satisfies `Tasks`: those of an iterator, which is over when it ends."""

    __slots__ = ("_tasks", "over")

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks = tasks
        self.over = False

    def next(self) -> Task | None:
        task = next(self._tasks, None)
        self.over = task is None
        return task


class StepWork:
    """The `Work` of one engine: its tasks in turn, and again those that must be asked again.

    Tasks that bring no rules of their own are treated by `rules`. `shift` is shared with the other works of the run.
    """

    def __init__(
        self,
        tasks: Tasks | Iterator[Task],
        rules: Rules,
        record: Record,
        *,
        chance: Callable[[], float],
        shift: Shift | None = None,
        outstanding: int = 0,
    ) -> None:
        """`outstanding`: requests in open batches, which may yet give back what they hold of the allowance."""
        self._tasks: Tasks = Listed(tasks) if isinstance(tasks, Iterator) else tasks
        self._rules = rules
        self._record = record
        self._chance = chance
        self._shift = Shift() if shift is None else shift
        self._allowance = self._shift.allowance
        self._later: list[tuple[float, int, Task]] = []
        self._order = count()
        self._held: Task | None = None
        self._pace: float | None = None
        self._settled = 0
        self._unreached_since: float | None = None
        self.in_flight = outstanding
        self.tally = Tally()

    @property
    def ending(self) -> Ending | None:
        """What ended the run before it was done."""
        return self._shift.ending

    @property
    def settled(self) -> int:
        """Attempts that came to an end."""
        return self._settled

    @property
    def holding(self) -> bool:
        """Whether a task waits for others to give back what they hold of the budget."""
        return self._held is not None

    def take(self, now: float) -> Task | Wait | Done:
        shift = self._shift
        shift.late(now)
        if shift.ending is not None:
            return DONE
        task = self._next(now)
        if task is None:
            if self._later:
                return Wait(self._later[0][0])
            return DONE if self._tasks.over and not self.in_flight else IDLE
        worst = (task.rules or self._rules).worst
        if self._allowance is not None and worst is not None:
            worst_cost, worst_tokens = worst(task.request)
            if not self._allowance.reserve(worst_cost, worst_tokens):
                self._held = task
                if self.in_flight or self._allowance.held:
                    return IDLE
                shift.end(Ending("budget", "the next request's worst case is more than what is left of the budget"))
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
        return None if self._tasks.over else self._tasks.next()

    def settle(self, task: Task, exchange: Exchange, *, now: float, at: float, latency: float) -> None:
        self.in_flight -= 1
        self._settled += 1
        if exchange.reply is not None and exchange.answer is not None:
            self._replied(task, exchange, exchange.reply, now=now, at=at, latency=latency)
        else:
            assert exchange.fault is not None
            self._faulted(task, exchange, exchange.fault, now=now, at=at, latency=latency)
        self._outage(exchange.fault, now)
        tried = self._settled - self.tally.rate_limited - self.tally.lost
        hopeless = tried >= self._rules.hopeless_after
        if hopeless and not self.tally.answered and self._shift.ending is None:
            cause, times = self.tally.causes.most_common(1)[0]
            self._shift.end(
                Ending("hopeless", f"none of the first {self._settled} attempts succeeded; {times} times: {cause}")
            )

    def _outage(self, fault: Fault | None, now: float) -> None:
        """Ends the run where no server has been reached for long."""
        if fault is None or fault.kind is not FaultKind.UNREACHABLE:
            self._unreached_since = None
        elif self._unreached_since is None:
            self._unreached_since = now
        elif now - self._unreached_since >= OUTAGE:
            minutes = round(OUTAGE / 60)
            self._shift.end(Ending("hopeless", f"the server was not reached for {minutes} minutes: {fault.message}"))

    def release(self, task: Task) -> None:
        self.in_flight -= 1
        if self._allowance is not None:
            self._allowance.settle(task.worst_cost, task.worst_tokens, 0.0, 0)

    def stop(self) -> None:
        self._shift.end(Ending("stopped"))

    @property
    def stopping(self) -> bool:
        return self._shift.ending is not None

    def fail(self, fault: Fault) -> None:
        self._shift.end(Ending("fault", fault.message, fault))

    def returned(self, requests: int, held_cost: float, held_tokens: int, cost: float, tokens: int) -> None:
        self.in_flight -= requests
        if self._allowance is not None:
            self._allowance.correct(held_cost, held_tokens, cost, tokens)

    def _replied(self, task: Task, exchange: Exchange, reply: Reply, *, now: float, at: float, latency: float) -> None:
        assert exchange.answer is not None
        usage, tally, rules = reply.usage, self.tally, task.rules or self._rules
        paid = charged(reply, rules.price)
        spent, tokens = self._spend(task, paid, None if usage is None else usage.input + usage.output)
        replied = Replied(
            task.request.id,
            rules.step,
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
        self._record.add(replied)
        if usage is not None:
            tally.input_tokens += usage.input
            tally.output_tokens += usage.output
        if paid is None:
            tally.unpriced += 1
        else:
            tally.cost += paid
        self._pace = latency if self._pace is None else 0.9 * self._pace + 0.1 * latency
        verdict = rules.judge(task.context, reply)
        if isinstance(verdict, Valid):
            tally.answered += 1
            tally.steps[rules.step] += 1
            if task.settling is not None:
                task.settling.answered(replied, reply, verdict.value)
        elif verdict.retry and task.counted < rules.retry.max_retries:
            tally.causes[str(verdict)] += 1
            messages = rules.reask(task, reply, verdict) if rules.reask else task.messages
            self._again(replace(task, request=task.request.anew()), now, counted=task.counted + 1, messages=messages)
        else:
            self._fail(task, verdict)

    def _faulted(self, task: Task, exchange: Exchange, fault: Fault, *, now: float, at: float, latency: float) -> None:
        maybe, rules = perhaps_paid(fault), task.rules or self._rules
        spent, tokens = self._spend(task, None if maybe else 0.0, None if maybe else 0)
        self._record.add(
            Faulted(
                task.request.id,
                rules.step,
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
            if fault.kind is FaultKind.LOST:
                self.tally.lost += 1
            else:
                self.tally.rate_limited += 1
        if fault.scope == "run":
            self.fail(fault)
            return
        counted = task.counted + fault.counted
        delay = after(fault, counted, rules.retry, pace=self._pace, chance=self._chance())
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
        if self._shift.freed is not None:
            self._shift.freed()
        return spent, used

    def _again(self, task: Task, due: float, *, counted: int, messages: tuple[Message, ...] | None) -> None:
        self.tally.retries += 1
        following = replace(
            task, attempt=task.attempt + 1, counted=counted, messages=messages, worst_cost=0.0, worst_tokens=0
        )
        heappush(self._later, (due, next(self._order), following))

    def _fail(self, task: Task, cause: Fault | Invalid) -> None:
        self.tally.causes[str(cause)] += 1
        self.tally.failed += task.settling is None or task.settling.failed(cause)
        if task.settling is None and (task.rules or self._rules).stop_on_failure:
            self._shift.end(Ending("on_failure", stopped_by(task.context.row, cause)))


def stopped_by(row: Row, cause: Fault | Invalid) -> str:
    """What ends a run whose spec has `on_failure: stop`, in words."""
    return f"row {row.index} failed, and on_failure is stop: {cause}"
