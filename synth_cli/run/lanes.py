"""One engine for each model that answers while we wait: opened when it is first needed, kept for the run."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Final, Protocol

from synth_cli.compile.plan import Voice
from synth_cli.core.pacing import PaceSettings
from synth_cli.core.ports import Client, RateLimits, Record, Work
from synth_cli.core.shift import Ending, Shift, Tally, total
from synth_cli.core.work import StepWork
from synth_cli.engines.online import OnlineEngine
from synth_cli.errors import SynthError
from synth_cli.providers.clients import client
from synth_cli.providers.http import AiohttpTransport
from synth_cli.run.desk import Desk, simulator, surroundings
from synth_cli.run.flow import Flow, voices_of
from synth_cli.run.wire import endpoint, simulated
from synth_cli.spec.backend import BackendParams, engines_of

CEILING = 1024
"""Most requests in flight, however well they are answered."""
SPARE_FILES = 64
PATIENCE: Final = 0.25
"""Seconds between looks at a lane that has nothing to do while others have."""
BESIDES = frozenset(
    {"max_retries", "require_all_responses", "in_mtok_cost", "out_mtok_cost", "invalid_finish_reasons"}
    | {"max_tokens", "min_tokens"}
)
"""Settings that say nothing about how an engine works: models that differ in them alone share it, as they do where
they differ in what belongs to other engines."""


class Asking(Protocol):
    """An engine that answers while we wait."""

    @property
    def in_flight(self) -> int: ...

    @property
    def note(self) -> str: ...

    @property
    def limits(self) -> RateLimits | None: ...

    def wake(self) -> None: ...

    async def advance(self, work: Work, record: Record) -> None: ...


class Lane:
    """The models of a job that share one engine, and the works that it did so far."""

    def __init__(self, voices: Sequence[tuple[str, int]], voice: Voice, engines: Engines) -> None:
        self.voices = tuple(voices)
        self.voice = voice
        self.engine: Asking | None = None
        self.work: StepWork | None = None
        self._done = Tally()
        self.say = ""
        """What it does before it can answer."""
        self._engines = engines
        self._leave = AsyncExitStack()
        self._ready = asyncio.Event()

    @property
    def local(self) -> bool:
        """Whether the model is in the memory of this machine."""
        return self._engines.engine_of(self.voice) == "vllm"

    @property
    def tally(self) -> Tally:
        """What it did in this run."""
        return self._done if self.work is None else total((self._done, self.work.tally))

    @property
    def in_flight(self) -> int:
        return 0 if self.engine is None else self.engine.in_flight

    @property
    def note(self) -> str:
        return self.say or ("" if self.engine is None else self.engine.note)

    def wake(self) -> None:
        self._ready.set()
        if self.engine is not None:
            self.engine.wake()

    async def tend(self, flow: Flow, shift: Shift, record: Record) -> None:
        """Works until nothing will come any more."""
        queue = flow.queue(self.voices, self.wake)
        rules = self._engines.stages[self.voices[0]].rules[self.voices[0][1]]
        work = StepWork(queue, rules, record, chance=self._engines.desk.chance, shift=shift)
        self.work = work
        # all lanes are there before the first task is asked for
        await asyncio.sleep(0)
        while True:
            self._ready.clear()
            before = work.settled
            if queue.ready() or work.holding:
                engine = self.engine = self.engine or await self._opened(shift)
                if engine is not None:
                    await engine.advance(work, record)
            if shift.ending is not None or (queue.over and not work.holding):
                return
            if work.settled > before or (flow.reading and not queue.size):
                # others have their turn, and signals are heard
                await asyncio.sleep(0)
            else:
                await self._rest()

    def clear(self) -> None:
        """The pass is over: what it did is kept, nothing else of it."""
        self._done, self.work = self.tally, None

    def freed(self) -> None:
        """What waits for the budget may go on."""
        if self.work is not None and self.work.holding:
            self.wake()

    async def close(self) -> None:
        """Gives back what the engine holds; it is opened again when it is needed."""
        self.engine = None
        await self._leave.aclose()

    async def _opened(self, shift: Shift) -> Asking | None:
        """The engine, once it is up; None where the run ended before that."""
        opening = asyncio.ensure_future(self._engines.opened(self, self._leave))
        try:
            while not opening.done() and shift.ending is None and not shift.late(time.monotonic()):
                await asyncio.wait({opening}, timeout=PATIENCE)
            return await opening if opening.done() else None
        except SynthError as error:
            # what others have in flight is paid for: it is waited for before this is told
            self._engines.failed = self._engines.failed or error
            shift.end(Ending("fault", error.message))
            return None
        finally:
            self.say = ""
            if not opening.done():
                opening.cancel()
                with suppress(asyncio.CancelledError):
                    await opening

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), PATIENCE)


class Engines:
    """Opens engines. What they hold is given back when their lane closes."""

    def __init__(self, desk: Desk, leave: AsyncExitStack) -> None:
        self.desk = desk
        self.stages = voices_of(desk.wired.chain)
        self.failed: SynthError | None = None
        """Why an engine could not be opened."""
        self._leave = leave
        self._url: asyncio.Task[str] | None = None

    def lanes(self) -> list[Lane]:
        """A lane for each engine that answers while we wait."""
        shared: dict[str, list[tuple[str, int]]] = {}
        for key, stage in self.stages.items():
            voice = stage.plan.voices[key[1]]
            if self.engine_of(voice) != "batch":
                shared.setdefault(self._same(voice), []).append(key)
        lanes = []
        for voices in shared.values():
            name, place = voices[0]
            lane = Lane(voices, self.stages[name, place].plan.voices[place], self)
            self._leave.push_async_callback(lane.close)
            lanes.append(lane)
        return lanes

    def engine_of(self, voice: Voice) -> str:
        """The engine that asks a model: one of this machine is simulated online."""
        if voice.engine == "vllm" and simulated(voice, self.desk.running.options):
            return "online"
        return voice.engine

    def _same(self, voice: Voice) -> str:
        """Models with the same share an engine, with its limits and its memory."""
        engine = self.engine_of(voice)
        others = {name for name in BackendParams.model_fields if engine not in engines_of(name)}
        settings = voice.settings.model_dump_json(exclude={*BESIDES, *others})
        return repr((engine, voice.terms.backend, voice.terms.model, voice.terms.endpoint, settings))

    async def opened(self, lane: Lane, leave: AsyncExitStack) -> Asking:
        voice = lane.voice
        if self.engine_of(voice) != "vllm":
            if voice.settings.distributed is not None and not simulated(voice, self.desk.running.options):
                lane.say = "starting the workers on Ray"
            return await self._online(voice, leave)
        from synth_cli.run import vllm

        running = self.desk.running

        def say(words: str) -> None:
            # once it is up, the engine itself knows what is going on, and how often it was started again
            if lane.engine is None:
                lane.say = f"starting the engine: {words}"
            running.journal.write(words)

        lane.say = "starting the engine"
        log = running.folder.path / vllm.LOG
        return await vllm.opened(voice, running.plan.folder, self.desk.environ, leave, say, log=log)

    async def _online(self, voice: Voice, leave: AsyncExitStack) -> OnlineEngine:
        desk = self.desk
        url = await self._simulator() if simulated(voice, desk.running.options) else None
        model = await self._client(voice, url, leave)
        return OnlineEngine(model, pace_of(voice.settings), clock=time.monotonic, chance=desk.chance)

    async def _client(self, voice: Voice, url: str | None, leave: AsyncExitStack) -> Client:
        """The model's client; where the spec says so, one that asks from several machines."""
        desk = self.desk
        place = endpoint(voice, desk.environ, url)
        # the simulated model is at nobody's reach but this machine's
        if voice.settings.distributed is not None and url is None:
            from synth_cli.run.spread import spread

            return await spread(place, voice.settings.distributed, desk.environ, leave, desk.running.journal.write)
        transport = None
        if not place.host.litellm:
            transport = AiohttpTransport(environ=surroundings(desk.environ, url))
            leave.push_async_callback(transport.close)
        model = client(place, transport)
        leave.push_async_callback(model.close)
        return model

    async def _simulator(self) -> str:
        """One simulated model for all lanes."""
        if self._url is None:
            self._url = asyncio.ensure_future(simulator(self._leave))
        return await asyncio.shield(self._url)


def pace_of(settings: BackendParams) -> PaceSettings:
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
